"""Weights of the formats that kernels read, made at random and packed by the host's own code."""

from __future__ import annotations

from typing import Any

from .case import BYTES, Setup

GROUPS = {"int4": 32, "int8": 32, "e4m3": 0}
"""Weights that share a scale, as GGUF's Q4_0 and Q8_0 have it; 0: one scale of the tensor, which is 1 here."""


def weight_bytes(weights: str, n: int, k: int) -> int:
    """Of a weight [n, k] with its scales."""
    bits = 4 if weights == "int4" else 8 * BYTES[weights]
    return n * k * bits // 8 + (2 * n * k // GROUPS[weights] if GROUPS.get(weights) else 0)


def packed_weight(s: Setup, weights: str, n: int, k: int) -> tuple[Any, Any]:
    """A weight as the kernel reads it, and the dense one, of the activations' type, that it stands for."""
    torch = s.torch
    if weights == s.type:
        dense = s.normal(n, k, scale=k**-0.5)
        return dense, dense
    group = GROUPS[weights]
    scales = torch.empty(0, dtype=torch.float16)
    if weights == "e4m3":
        values = s.normal(n, k).cpu().to(torch.float8_e4m3fn)
        codes, exact = values.view(torch.uint8), values.float()
    else:
        low, high, offset = (0, 16, 8) if weights == "int4" else (-128, 128, 0)
        numbers = s.whole(low, high, n, k, dtype="int16").cpu()
        scales = ((s.normal(n, k // group, dtype="float32").cpu().abs() + 0.5) * k**-0.5 / (high - low)).half()
        codes = numbers.to(torch.int8).view(torch.uint8)
        exact = (numbers.float() - offset) * scales.float().repeat_interleave(group, 1)
    packed = torch.empty(s.kernels.ask("pf_packed_bytes", weights, group, n, k), dtype=torch.uint8)
    s.kernels.ask("pf_pack", weights, group, codes.contiguous(), scales, n, k, packed)
    return packed.to(s.kernels.device), s.rounded(exact).to(s.kernels.device)
