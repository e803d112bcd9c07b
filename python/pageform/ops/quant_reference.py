"""`linear` with a quantized weight, in torch: the int8 activations that csrc/ops/linear/linear.h defines.

The plain reference (`reference.linear`) multiplies with float32 activations; native kernels of quantized weights differ
from it by the rounding of activations and from this one by float32 summation only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 32
"""Consecutive k that share a scale."""


@dataclass(frozen=True, slots=True)
class QuantizedActivations:
    """x[M, K] as codes and scales."""

    codes: Tensor
    """int8 [M, K], within [-127, 127]."""
    scales: Tensor
    """float32 [M, K / 32]; NaN where a group holds a value that is not finite."""

    def dequantize(self) -> Tensor:
        """codes * scales as float64 [M, K], exact."""
        return self.codes.double() * self.scales.double().repeat_interleave(GROUP, dim=1)


def quantize_activations(x: Tensor) -> QuantizedActivations:
    """Rounds float32 x[M, K] to int8 in groups of 32: scale = max|x| / 127, code = round_half_even(x * (1 / scale)).

    Groups whose scale is below the smallest normal float32 become zeros. ValueError unless K is a multiple of 32.
    """
    if x.shape[1] % GROUP != 0:
        raise ValueError(f"x has {x.shape[1]} columns, must be a multiple of {GROUP}")
    groups = x.float().view(x.shape[0], -1, GROUP)
    scales = groups.abs().amax(dim=-1) / 127
    finite = groups.isfinite().all(dim=-1)
    kept = finite & (scales >= torch.finfo(torch.float32).tiny)
    inverse = torch.where(kept, 1 / scales, 0.0)
    codes = torch.round(torch.where(kept[..., None], groups, 0.0) * inverse[..., None]).to(torch.int8)
    scales = torch.where(finite, torch.where(kept, scales, 0.0), torch.nan)
    return QuantizedActivations(codes.view(x.shape), scales)


def quantized_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x[M, K] · weightᵀ (+ bias) with int8 activations and the dequantized weight [N, K]; float32 [M, N].

    Summed in float64, so that the error of a float32 kernel is its own.
    """
    y = quantize_activations(x).dequantize() @ weight.double().T
    return (y if bias is None else y + bias.double()).float()
