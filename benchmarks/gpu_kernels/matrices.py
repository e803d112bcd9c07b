"""Kernels that multiply with weights: dense, packed, of 8 bits, low-rank adapters, mixtures of experts."""

from __future__ import annotations

from functools import partial
from typing import Any

from .case import BYTES, Case, Setup, Trial, of_type
from .weights import GROUPS, packed_weight, weight_bytes


def _rate(type: str) -> str:
    """Float has no tensor cores here: its sums are those of the CPU."""
    return "fp32" if type == "f32" else type


def linear(shape: str, *, rows: int, n: int, k: int, weights: str = "", type: str = "bf16") -> Case:
    """x W^T; a weight without a format of its own has the type of the activations."""
    weights = weights or type

    def prepare(s: Setup) -> Trial:
        weight, dense = packed_weight(s, weights, n, k)
        x, y = s.normal(rows, k), s.output(rows, n)
        return Trial(
            partial(s.kernels.launch, "pf_linear", type, weights, GROUPS.get(weights, 0), x, weight, y, rows, n, k),
            lambda: s.difference("y", y, x.float() @ dense.float().T),
            {f"torch.matmul, {type}": lambda: x @ dense.T},
        )

    bytes_ = weight_bytes(weights, n, k) + BYTES[type] * rows * (n + k)
    kernel = f"linear, {weights} weights" if weights == type else of_type(f"linear, {weights} weights", type)
    return Case(kernel, shape, bytes_, 2 * rows * n * k, _rate(type), prepare, type=type)


def linear_8bit(shape: str, *, rows: int, n: int, k: int, type: str) -> Case:
    """Activations and weights of "e4m3" or "int8", with a scale a row of each."""

    def prepare(s: Setup) -> Trial:
        torch = s.torch
        if type == "e4m3":
            x, weight = s.normal(rows, k).to(torch.float8_e4m3fn), s.normal(n, k).to(torch.float8_e4m3fn)
        else:
            x, weight = s.whole(-127, 128, rows, k, dtype="int8"), s.whole(-127, 128, n, k, dtype="int8")
        x_scale = s.normal(rows, dtype="float32").abs() / k
        column_scale, y = s.normal(n, dtype="float32").abs(), s.output(rows, n)

        def wanted() -> Any:
            return (x.float() @ weight.float().T) * x_scale[:, None] * column_scale

        def peer() -> object:
            if type == "int8":
                return torch._int_mm(x, weight.T)
            return torch._scaled_mm(x, weight.T, x_scale[:, None], column_scale[None, :], out_dtype=torch.bfloat16)

        return Trial(
            partial(s.kernels.launch, "pf_linear_8bit", type, x, x_scale, weight, column_scale, y, rows, n, k),
            lambda: s.difference("y", y, wanted()),
            {"torch._int_mm" if type == "int8" else "torch._scaled_mm": peer},
        )

    bytes_ = n * k + rows * k + 2 * rows * n + 4 * (rows + n)
    rate, fp8 = ("fp8", True) if type == "e4m3" else ("int8", False)
    return Case(f"linear, {type} with {type}", shape, bytes_, 2 * rows * n * k, rate, prepare, True, fp8)


def lora(shape: str, *, rows: int, adapters: int, rank: int, n: int, k: int, type: str = "bf16") -> Case:
    """Rows in as many segments as there are adapters, of sizes as equal as they can be; y is added to."""
    starts = [rows * i // adapters for i in range(adapters + 1)]

    def prepare(s: Setup) -> Trial:
        x, y = s.normal(rows, k), s.normal(rows, n)
        a, b = s.normal(adapters, rank, k, scale=k**-0.5), s.normal(adapters, rank, n, scale=rank**-0.5)
        before, scales, slots = y.clone(), s.normal(adapters, dtype="float32"), s.shuffled(adapters)
        ranks, h = s.numbers([rank] * adapters), s.output(rows, rank, dtype="float32")

        def wanted() -> Any:
            total = before.float()
            for i, slot in enumerate(slots.tolist()):
                part = slice(starts[i], starts[i + 1])
                total[part] += scales[slot] * (x[part].float() @ a[slot].float().T) @ b[slot].float()
            return total

        launch = partial(
            s.kernels.launch,
            "pf_lora",
            type,
            x,
            y,
            a,
            b,
            ranks,
            scales,
            s.numbers(starts),
            slots,
            h,
            k,
            n,
            rows,
            adapters,
        )
        return Trial(partial(launch, rank), lambda: s.difference("y", y, wanted()))

    bytes_ = BYTES[type] * (adapters * rank * (n + k) + rows * (k + 2 * n)) + 8 * rows * rank
    return Case(of_type("lora", type), shape, bytes_, 2 * rows * rank * (n + k), "fp32", prepare, type=type)


def moe_route(shape: str, *, tokens: int, experts: int, top_k: int, type: str = "bf16") -> Case:
    def prepare(s: Setup) -> Trial:
        logits = s.normal(tokens, experts)
        ids, weights = s.output(tokens, top_k, dtype="int32"), s.output(tokens, top_k, dtype="float32")

        def check() -> str:
            chosen = logits.float().topk(top_k).values  # equal logits may stand in any order
            best = chosen.softmax(-1)
            unknown = ((ids < 0) | (ids >= experts)).any()
            return (
                ("an id is none of an expert" if unknown else "")
                or s.unequal("logits of ids", logits.float().gather(1, ids.long()), chosen)
                or s.difference("weights", weights, best, relative=1e-4, absolute=1e-5)
            )

        launch = partial(s.kernels.launch, "pf_moe_route", type, logits, ids, weights, tokens, experts, top_k)
        return Trial(launch, check, {"torch": lambda: logits.float().topk(top_k).values.softmax(-1)})

    bytes_ = tokens * (BYTES[type] * experts + 8 * top_k)
    return Case(of_type("moe_route", type), shape, bytes_, 4 * tokens * experts, "fp32", prepare, type=type)


def moe(
    shape: str,
    *,
    tokens: int,
    experts: int,
    top_k: int,
    hidden: int,
    inner: int,
    weights: str = "",
    type: str = "bf16",
) -> Case:
    """Alignment, both products with SiLU·mul between them, and the weighted sum; experts are chosen evenly."""
    weights = weights or type

    def prepare(s: Setup) -> Trial:
        torch = s.torch
        x, y = s.normal(tokens, hidden), s.output(tokens, hidden)
        ids = s.torch.stack([s.shuffled(experts)[:top_k] for _ in range(tokens)])
        shares = s.normal(tokens, top_k, dtype="float32").softmax(-1)
        gate_up = [packed_weight(s, weights, 2 * inner, hidden) for _ in range(experts)]
        down = [packed_weight(s, weights, hidden, inner) for _ in range(experts)]
        packed = [torch.cat([weight.flatten() for weight, _ in both]) for both in (gate_up, down)]
        scratch = torch.empty(
            s.kernels.ask("pf_moe_scratch", type, tokens, top_k, experts, hidden, inner),
            dtype=torch.uint8,
            device=s.kernels.device,
        )

        def wanted() -> Any:
            total = torch.zeros(tokens, hidden, device=s.kernels.device)
            for expert in range(experts):
                places, ranks = (ids == expert).nonzero(as_tuple=True)
                both = x[places].float() @ gate_up[expert][1].float().T
                inside = s.rounded(torch.nn.functional.silu(both[:, 0::2]) * both[:, 1::2])
                part = s.rounded(inside.float() @ down[expert][1].float().T)
                total.index_add_(0, places, part.float() * shares[places, ranks, None])
            return total

        arguments = (type, weights, GROUPS.get(weights, 0), x, ids, shares, *packed, y, scratch)
        launch = partial(s.kernels.launch, "pf_moe", *arguments, tokens, experts, top_k, hidden, inner)
        return Trial(
            launch, lambda: s.difference("y", y, wanted(), absolute=2**-6), {"torch, expert by expert": wanted}
        )

    slots = tokens * top_k
    used = min(experts, slots)
    read = used * (weight_bytes(weights, 2 * inner, hidden) + weight_bytes(weights, hidden, inner))
    passed = BYTES[type] * (2 * tokens * hidden + 2 * slots * (inner + hidden))
    kernel = f"moe, {weights} weights" if weights == type else of_type(f"moe, {weights} weights", type)
    return Case(kernel, shape, read + passed, 6 * slots * hidden * inner, _rate(type), prepare, type=type)
