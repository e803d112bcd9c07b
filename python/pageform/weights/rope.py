"""Rotary position embeddings: what a checkpoint says about them, and the inverse frequencies that follow.

Position p turns the pair of dimensions i by the angle p · inv_freq[i]; cosines and sines are multiplied by an
attention scale. Plain RoPE has inv_freq[i] = theta^(-2i / rot_dim) (Su et al. 2021, arXiv:2104.09864). The scalings
below stretch that to contexts longer than the model was trained on. All of them are static here: angles depend on the
position only, so keys in the cache stay valid and a request's tokens don't depend on how long it grows.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Position interpolation: all frequencies divided by `factor` (Chen et al. 2023, arXiv:2306.15595)."""

    factor: float


@dataclass(frozen=True, slots=True)
class DynamicNtkScaling:
    """NTK-aware scaling of theta for a context of `factor` × `original_context` tokens.

    The name comes from recomputing theta as a sequence grows. As in vLLM, theta is instead fixed once for the longest
    context: angles that changed while a sequence grows would not fit the keys already in the cache.
    """

    factor: float
    original_context: int


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """YaRN: interpolates low frequencies and keeps high ones (Peng et al. 2023, arXiv:2309.00071).

    `attention_factor` is used as it is when given; otherwise it follows from `factor`, `mscale` and `mscale_all_dim`.
    """

    factor: float
    original_context: int
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3.1: long wavelengths divided by `factor`, short ones kept, a linear blend of both between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True, slots=True)
class LongRopeScaling:
    """LongRoPE: one divisor a frequency, in a short and a long set (Ding et al. 2024, arXiv:2402.13753).

    The long set serves engines whose `max_model_len` exceeds `original_context`, the short set all others.
    """

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_context: int
    attention_factor: float


@dataclass(frozen=True, slots=True)
class FrequencyFactors:
    """One divisor a frequency, as computed by whoever wrote the file (`rope_freqs.weight` of a GGUF)."""

    factors: tuple[float, ...]


MIN_FACTOR = 1e-6
"""Smaller divisors of frequencies are taken for damage; they would leave the range of float32."""

RopeScaling = LinearScaling | DynamicNtkScaling | YarnScaling | Llama3Scaling | LongRopeScaling | FrequencyFactors


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """`rot_dim` of each head's dimensions are rotated, from the first on.

    `interleaved` tells which dimensions form pair i: 2i and 2i + 1 when true (GGUF files of architecture llama, whose
    query and key rows are permuted for it), i and i + rot_dim / 2 when false (all others).
    """

    theta: float
    rot_dim: int
    interleaved: bool = False
    scaling: RopeScaling | None = None


def inv_freq(rope: RopeConfig, max_model_len: int) -> tuple[array[float], float]:
    """Inverse frequencies [rot_dim / 2], as float32, and the attention scale for contexts of up to `max_model_len`
    tokens."""
    plain = _powers(rope, rope.theta)
    scale = 1.0
    match rope.scaling:
        case None:
            scaled = plain
        case LinearScaling(factor):
            scaled = [f / factor for f in plain]
        case DynamicNtkScaling(factor, original_context):
            scaled = _powers(rope, _dynamic_theta(rope, factor, original_context, max_model_len))
        case YarnScaling() as yarn:
            scaled, scale = _yarn(yarn, rope, plain), _yarn_attention_scale(yarn)
        case Llama3Scaling() as llama3:
            scaled = _llama3(llama3, plain)
        case LongRopeScaling() as longrope:
            is_long = max_model_len > longrope.original_context
            scaled = _divided(plain, longrope.long_factors if is_long else longrope.short_factors)
            scale = longrope.attention_factor
        case FrequencyFactors(factors):
            scaled = _divided(plain, factors)
    return array("f", scaled), scale


def _powers(rope: RopeConfig, theta: float) -> list[float]:
    return [theta ** -(i / rope.rot_dim) for i in range(0, rope.rot_dim, 2)]


def _divided(plain: Sequence[float], factors: Sequence[float]) -> list[float]:
    return [f / factor for f, factor in zip(plain, factors, strict=True)]


def _dynamic_theta(rope: RopeConfig, factor: float, original_context: int, max_model_len: int) -> float:
    longest = max(original_context * factor, max_model_len)
    stretch = factor * longest / original_context - (factor - 1)
    return float(rope.theta * stretch ** (rope.rot_dim / (rope.rot_dim - 2)))


def _yarn(yarn: YarnScaling, rope: RopeConfig, plain: Sequence[float]) -> list[float]:
    def dimension_of(rotations: float) -> float:
        """The (fractional) pair that turns `rotations` times within the original context."""
        wavelength = yarn.original_context / (rotations * 2 * math.pi)
        return rope.rot_dim * math.log(wavelength) / (2 * math.log(rope.theta))

    low, high = dimension_of(yarn.beta_fast), dimension_of(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.rot_dim - 1)
    if low == high:
        high += 0.001  # a ramp needs some width
    ramps = [_clip((i - low) / (high - low)) for i in range(rope.rot_dim // 2)]
    return [f * (1 - ramp) + f / yarn.factor * ramp for f, ramp in zip(plain, ramps, strict=True)]


def _clip(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _yarn_attention_scale(yarn: YarnScaling) -> float:
    def mscale(weight: float) -> float:
        return 1.0 if yarn.factor <= 1 else 0.1 * weight * math.log(yarn.factor) + 1.0

    if yarn.attention_factor is not None:
        return yarn.attention_factor
    if yarn.mscale and yarn.mscale_all_dim:
        return mscale(yarn.mscale) / mscale(yarn.mscale_all_dim)
    return mscale(1.0)


def _llama3(llama3: Llama3Scaling, plain: Sequence[float]) -> list[float]:
    scaled = []
    for f in plain:
        turns = llama3.original_context / (2 * math.pi / f)
        kept = _clip((turns - llama3.low_freq_factor) / (llama3.high_freq_factor - llama3.low_freq_factor))
        scaled.append(f * kept + f / llama3.factor * (1 - kept))
    return scaled
