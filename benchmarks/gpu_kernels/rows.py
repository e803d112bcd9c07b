"""Kernels that go through rows: embedding, norms, activations, and what quantizes them."""

from __future__ import annotations

from functools import partial
from typing import Any

from .case import Case, Setup, Trial
from .weights import GROUPS, packed_weight, weight_bytes

E4M3_ROUNDING = 2.0**-3
"""Between neighbours; two roundings that differ in the last bit of their input may differ by as much."""


def embed(shape: str, *, tokens: int, vocab: int, cols: int) -> Case:
    def prepare(s: Setup) -> Trial:
        weight, ids, y = s.normal(vocab, cols), s.whole(0, vocab, tokens), s.output(tokens, cols)
        return Trial(
            partial(s.kernels.launch, "pf_embed", weight, vocab, ids, y, tokens, cols),
            lambda: s.unequal("y", y, weight[ids.long()]),
            {"torch": lambda: s.torch.nn.functional.embedding(ids, weight)},
        )

    return Case("embed", shape, tokens * (4 * cols + 4), 0, "fp32", prepare)


def embed_packed(shape: str, *, tokens: int, vocab: int, cols: int, weights: str) -> Case:
    """Rows of a packed weight, as floats."""

    def prepare(s: Setup) -> Trial:
        weight, dense = packed_weight(s, weights, vocab, cols)
        ids, y = s.whole(0, vocab, tokens), s.output(tokens, cols, dtype="float32")
        return Trial(
            partial(
                s.kernels.launch,
                "pf_embed_packed",
                weights,
                GROUPS[weights],
                weight,
                vocab,
                ids,
                y,
                tokens,
                cols,
            ),
            lambda: s.difference("y", y, dense[ids.long()].float(), absolute=0.0),
        )

    bytes_ = tokens * (weight_bytes(weights, 1, cols) + 4 * cols + 4)
    return Case(f"embed, {weights} weights", shape, bytes_, 2 * tokens * cols, "fp32", prepare)


def gather_rows(shape: str, *, count: int, rows: int, cols: int) -> Case:
    def prepare(s: Setup) -> Trial:
        x, ids, y = s.normal(rows, cols), s.whole(0, rows, count), s.output(count, cols)
        return Trial(
            partial(s.kernels.launch, "pf_gather_rows", x, ids, y, count, cols),
            lambda: s.unequal("y", y, x[ids.long()]),
            {"torch": lambda: x.index_select(0, ids)},
        )

    return Case("gather_rows", shape, count * (4 * cols + 4), 0, "fp32", prepare)


def add(shape: str, *, rows: int, cols: int) -> Case:
    def prepare(s: Setup) -> Trial:
        a, b, y = s.normal(rows, cols), s.normal(rows, cols), s.output(rows, cols)
        return Trial(
            partial(s.kernels.launch, "pf_add", a, b, y, rows, cols),
            lambda: s.unequal("y", y, a + b),
            {"torch": lambda: a + b},
        )

    return Case("add", shape, 6 * rows * cols, rows * cols, "fp32", prepare)


def silu_mul(shape: str, *, rows: int, cols: int) -> Case:
    def prepare(s: Setup) -> Trial:
        x, y = s.normal(rows, 2 * cols), s.output(rows, cols)
        silu = s.torch.nn.functional.silu
        return Trial(
            partial(s.kernels.launch, "pf_silu_mul", x, y, rows, cols),
            lambda: s.difference("y", y, silu(x[:, :cols].float()) * x[:, cols:].float()),
            {"torch": lambda: silu(x[:, :cols]) * x[:, cols:], "flashinfer": lambda: flashinfer().silu_and_mul(x)},
        )

    return Case("silu_mul", shape, 6 * rows * cols, 5 * rows * cols, "fp32", prepare)


def gelu(shape: str, *, rows: int, cols: int) -> Case:
    def prepare(s: Setup) -> Trial:
        x, y = s.normal(rows, cols), s.output(rows, cols)
        reference = partial(s.torch.nn.functional.gelu, approximate="tanh")
        return Trial(
            partial(s.kernels.launch, "pf_gelu", x, y, rows, cols),
            lambda: s.difference("y", y, reference(x.float())),
            {"torch": lambda: reference(x)},
        )

    return Case("gelu", shape, 4 * rows * cols, 10 * rows * cols, "fp32", prepare)


def _rms_norm(s: Setup, x: Any, weight: Any) -> Any:
    x = x.float()
    return x * s.torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def rms_norm(shape: str, *, rows: int, width: int) -> Case:
    """With the residual added before."""

    def prepare(s: Setup) -> Trial:
        a, b, weight = s.normal(rows, width), s.normal(rows, width), s.normal(width, dtype="float32")
        total, y = s.output(rows, width), s.output(rows, width)
        x, residual, half = a.clone(), b.clone(), weight.bfloat16()
        return Trial(
            partial(s.kernels.launch, "pf_rms_norm", a, b, weight, total, y, rows, width),
            lambda: s.unequal("sum", total, a + b) or s.difference("y", y, _rms_norm(s, a + b, weight)),
            {
                "torch": lambda: s.torch.nn.functional.rms_norm(a + b, (width,), half, 1e-5),
                "flashinfer": lambda: flashinfer().fused_add_rmsnorm(x, residual, half, 1e-5),
            },
        )

    return Case("add + rms_norm", shape, 8 * rows * width + 4 * width, 5 * rows * width, "fp32", prepare)


def layer_norm(shape: str, *, rows: int, width: int) -> Case:
    """With the residual added before."""

    def prepare(s: Setup) -> Trial:
        a, b = s.normal(rows, width), s.normal(rows, width)
        weight, bias = s.normal(width, dtype="float32"), s.normal(width, dtype="float32")
        total, y = s.output(rows, width), s.output(rows, width)
        norm = s.torch.nn.functional.layer_norm
        return Trial(
            partial(s.kernels.launch, "pf_layer_norm", a, b, weight, bias, total, y, rows, width),
            lambda: (
                s.unequal("sum", total, a + b)
                or s.difference("y", y, norm((a + b).float(), (width,), weight, bias, 1e-5))
            ),
            {"torch": lambda: norm(a + b, (width,), weight.bfloat16(), bias.bfloat16(), 1e-5)},
        )

    return Case("add + layer_norm", shape, 8 * rows * width + 8 * width, 7 * rows * width, "fp32", prepare)


def norm_quantize(shape: str, *, rows: int, width: int, to: str) -> Case:
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

        launch = partial(s.kernels.launch, "pf_norm_quantize", to, a, b, weight, total, q, scales, rows, width)
        return Trial(launch, check)

    bytes_ = 7 * rows * width + 4 * width + 4 * rows
    return Case(f"add + rms_norm to {to}", shape, bytes_, 7 * rows * width, "fp32", prepare)


def quantize_rows(shape: str, *, rows: int, cols: int) -> Case:
    def prepare(s: Setup) -> Trial:
        x, y = s.normal(rows, cols), s.output(rows, cols, dtype="float8_e4m3fn")
        scale = s.output(rows, dtype="float32")

        def check() -> str:
            wanted = x.float().abs().amax(-1) / 448
            exact = (x.float() / wanted[:, None]).to(s.torch.float8_e4m3fn)
            return s.difference("scale", scale, wanted, relative=1e-6) or s.difference(
                "y", y.float(), exact.float(), E4M3_ROUNDING
            )

        return Trial(partial(s.kernels.launch, "pf_quantize_rows", x, y, scale, rows, cols), check)

    return Case("quantize to e4m3", shape, rows * (3 * cols + 4), 2 * rows * cols, "fp32", prepare)


def flashinfer() -> Any:
    """The library, which not every machine has."""
    import importlib

    return importlib.import_module("flashinfer")
