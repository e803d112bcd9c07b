"""Kernels that go through rows: embedding, norms, activations, and what quantizes them."""

from __future__ import annotations

from functools import partial
from typing import Any

from .case import BYTES, Case, Setup, Trial, of_type
from .weights import GROUPS, packed_weight, weight_bytes

E4M3_ROUNDING = 2.0**-3
"""Between neighbours; two roundings that differ in the last bit of their input may differ by as much."""


def embed(shape: str, *, tokens: int, vocab: int, cols: int, type: str = "bf16") -> Case:
    def prepare(s: Setup) -> Trial:
        weight, ids, y = s.normal(vocab, cols), s.whole(0, vocab, tokens), s.output(tokens, cols)
        return Trial(
            partial(s.kernels.launch, "pf_embed", type, weight, vocab, ids, y, tokens, cols),
            lambda: s.unequal("y", y, weight[ids.long()]),
            {"torch": lambda: s.torch.nn.functional.embedding(ids, weight)},
        )

    bytes_ = tokens * (2 * BYTES[type] * cols + 4)
    return Case(of_type("embed", type), shape, bytes_, 0, "fp32", prepare, type=type)


def embed_packed(shape: str, *, tokens: int, vocab: int, cols: int, weights: str, type: str = "bf16") -> Case:
    """Rows of a packed weight."""

    def prepare(s: Setup) -> Trial:
        weight, dense = packed_weight(s, weights, vocab, cols)
        ids, y = s.whole(0, vocab, tokens), s.output(tokens, cols)
        return Trial(
            partial(
                s.kernels.launch,
                "pf_embed_packed",
                type,
                weights,
                GROUPS[weights],
                weight,
                vocab,
                ids,
                y,
                tokens,
                cols,
            ),
            lambda: s.difference("y", y, dense[ids.long()], absolute=0.0),
        )

    bytes_ = tokens * (weight_bytes(weights, 1, cols) + BYTES[type] * cols + 4)
    return Case(
        of_type(f"embed, {weights} weights", type), shape, bytes_, 2 * tokens * cols, "fp32", prepare, type=type
    )


def gather_rows(shape: str, *, count: int, rows: int, cols: int, type: str = "bf16") -> Case:
    def prepare(s: Setup) -> Trial:
        x, ids, y = s.normal(rows, cols), s.whole(0, rows, count), s.output(count, cols)
        return Trial(
            partial(s.kernels.launch, "pf_gather_rows", type, x, ids, y, count, cols),
            lambda: s.unequal("y", y, x[ids.long()]),
            {"torch": lambda: x.index_select(0, ids)},
        )

    bytes_ = count * (2 * BYTES[type] * cols + 4)
    return Case(of_type("gather_rows", type), shape, bytes_, 0, "fp32", prepare, type=type)


def add(shape: str, *, rows: int, cols: int, type: str = "bf16") -> Case:
    def prepare(s: Setup) -> Trial:
        a, b, y = s.normal(rows, cols), s.normal(rows, cols), s.output(rows, cols)
        return Trial(
            partial(s.kernels.launch, "pf_add", type, a, b, y, rows, cols),
            lambda: s.unequal("y", y, a + b),
            {"torch": lambda: a + b},
        )

    bytes_ = 3 * BYTES[type] * rows * cols
    return Case(of_type("add", type), shape, bytes_, rows * cols, "fp32", prepare, type=type)


def silu_mul(shape: str, *, rows: int, cols: int, type: str = "bf16") -> Case:
    def prepare(s: Setup) -> Trial:
        x, y = s.normal(rows, 2 * cols), s.output(rows, cols)
        silu = s.torch.nn.functional.silu
        return Trial(
            partial(s.kernels.launch, "pf_silu_mul", type, x, y, rows, cols),
            lambda: s.difference("y", y, silu(x[:, :cols].float()) * x[:, cols:].float()),
            {"torch": lambda: silu(x[:, :cols]) * x[:, cols:], "flashinfer": lambda: flashinfer().silu_and_mul(x)},
        )

    bytes_ = 3 * BYTES[type] * rows * cols
    return Case(of_type("silu_mul", type), shape, bytes_, 5 * rows * cols, "fp32", prepare, type=type)


def gelu(shape: str, *, rows: int, cols: int, type: str = "bf16") -> Case:
    def prepare(s: Setup) -> Trial:
        x, y = s.normal(rows, cols), s.output(rows, cols)
        reference = partial(s.torch.nn.functional.gelu, approximate="tanh")
        return Trial(
            partial(s.kernels.launch, "pf_gelu", type, x, y, rows, cols),
            lambda: s.difference("y", y, reference(x.float())),
            {"torch": lambda: reference(x)},
        )

    bytes_ = 2 * BYTES[type] * rows * cols
    return Case(of_type("gelu", type), shape, bytes_, 10 * rows * cols, "fp32", prepare, type=type)


def _rms_norm(s: Setup, x: Any, weight: Any) -> Any:
    x = x.float()
    return x * s.torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def rms_norm(shape: str, *, rows: int, width: int, type: str = "bf16") -> Case:
    """With the residual added before."""

    def prepare(s: Setup) -> Trial:
        a, b, weight = s.normal(rows, width), s.normal(rows, width), s.normal(width, dtype="float32")
        total, y = s.output(rows, width), s.output(rows, width)
        x, residual, half = a.clone(), b.clone(), s.rounded(weight)
        return Trial(
            partial(s.kernels.launch, "pf_rms_norm", type, a, b, weight, total, y, rows, width),
            lambda: s.unequal("sum", total, a + b) or s.difference("y", y, _rms_norm(s, a + b, weight)),
            {
                "torch": lambda: s.torch.nn.functional.rms_norm(a + b, (width,), half, 1e-5),
                "flashinfer": lambda: flashinfer().fused_add_rmsnorm(x, residual, half, 1e-5),
            },
        )

    bytes_ = 4 * BYTES[type] * rows * width + 4 * width
    return Case(of_type("add + rms_norm", type), shape, bytes_, 5 * rows * width, "fp32", prepare, type=type)


def layer_norm(shape: str, *, rows: int, width: int, type: str = "bf16") -> Case:
    """With the residual added before."""

    def prepare(s: Setup) -> Trial:
        a, b = s.normal(rows, width), s.normal(rows, width)
        weight, bias = s.normal(width, dtype="float32"), s.normal(width, dtype="float32")
        total, y = s.output(rows, width), s.output(rows, width)
        norm = s.torch.nn.functional.layer_norm
        return Trial(
            partial(s.kernels.launch, "pf_layer_norm", type, a, b, weight, bias, total, y, rows, width),
            lambda: (
                s.unequal("sum", total, a + b)
                or s.difference("y", y, norm((a + b).float(), (width,), weight, bias, 1e-5))
            ),
            {"torch": lambda: norm(a + b, (width,), s.rounded(weight), s.rounded(bias), 1e-5)},
        )

    bytes_ = 4 * BYTES[type] * rows * width + 8 * width
    return Case(of_type("add + layer_norm", type), shape, bytes_, 7 * rows * width, "fp32", prepare, type=type)


def norm_quantize(shape: str, *, rows: int, width: int, to: str, type: str = "bf16") -> Case:
    """The residual added, RMS norm, and quantized to "e4m3" or "int8" with a scale a row."""
    dtype, largest = ("float8_e4m3fn", 448.0) if to == "e4m3" else ("int8", 127.0)

    def prepare(s: Setup) -> Trial:
        a, b, weight = s.normal(rows, width), s.normal(rows, width), s.normal(width, dtype="float32")
        total, q, scales = s.output(rows, width), s.output(rows, width, dtype=dtype), s.output(rows, dtype="float32")

        def check() -> str:
            wanted = _rms_norm(s, a + b, weight)
            scale = wanted.abs().amax(-1) / largest
            exact = wanted / scale[:, None]
            return (
                s.unequal("sum", total, a + b)
                or s.difference("scale", scales, scale, relative=1e-5)
                or (
                    s.difference("q", q.float(), exact, E4M3_ROUNDING / 2)
                    if to == "e4m3"
                    else s.difference("q", q.float(), exact, 0.0, 0.0, units=0.51)
                )
            )

        launch = partial(s.kernels.launch, "pf_norm_quantize", type, to, a, b, weight, total, q, scales, rows, width)
        return Trial(launch, check)

    bytes_ = (3 * BYTES[type] + 1) * rows * width + 4 * width + 4 * rows
    return Case(of_type(f"add + rms_norm to {to}", type), shape, bytes_, 7 * rows * width, "fp32", prepare, type=type)


def quantize_rows(shape: str, *, rows: int, cols: int, type: str = "bf16") -> Case:
    def prepare(s: Setup) -> Trial:
        x, y = s.normal(rows, cols), s.output(rows, cols, dtype="float8_e4m3fn")
        scale = s.output(rows, dtype="float32")

        def check() -> str:
            wanted = x.float().abs().amax(-1) / 448
            exact = (x.float() / wanted[:, None]).to(s.torch.float8_e4m3fn)
            return s.difference("scale", scale, wanted, relative=1e-6) or s.difference(
                "y", y.float(), exact.float(), E4M3_ROUNDING
            )

        return Trial(partial(s.kernels.launch, "pf_quantize_rows", type, x, y, scale, rows, cols), check)

    bytes_ = rows * ((BYTES[type] + 1) * cols + 4)
    return Case(of_type("quantize to e4m3", type), shape, bytes_, 2 * rows * cols, "fp32", prepare, type=type)


def flashinfer() -> Any:
    """The library, which not every machine has."""
    import importlib

    return importlib.import_module("flashinfer")
