"""Which types an engine computes and caches in: what "auto" means, and which types a device has no kernels for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.errors import ParameterError
from ..platform import resolve_device

if TYPE_CHECKING:
    from ..weights.base import Checkpoint
    from .config import EngineConfig

_HALVES = {"BF16": "bfloat16", "F16": "float16"}
_CPU_CACHES = ("int16", "float16", "float32", "int8")
_GPU_CACHES = {
    "float32": ("float32", "float16", "int8"),
    "float16": ("float16",),
    "bfloat16": ("bfloat16", "fp8", "int8"),
}
"""Types of the KV cache that kernels take beside activations of a type."""


def with_types(config: EngineConfig, checkpoint: Checkpoint) -> EngineConfig:
    """The configuration with `dtype` and `kv_cache_dtype` decided. ParameterError for what the device can't do.

    On a GPU "auto" is the checkpoint's 16-bit type, and the cache has the type of the activations. On a CPU the
    activations are float32, "auto" keeps the weights as they are stored, and the cache is int16.
    """
    name = resolve_device(config.device).name
    dtype, kv_dtype = config.dtype, config.kv_cache_dtype
    if name in ("cpu", "reference"):
        if dtype not in ("auto", "float32"):
            raise ParameterError(
                "dtype", dtype, f"is not what the {name} backend computes in", 'Use "auto" or "float32"; a GPU has it.'
            )
        caches: tuple[str, ...]
        beside, caches = f"on the {name} backend", _CPU_CACHES
        kv_dtype = "int16" if kv_dtype == "auto" else kv_dtype
    else:
        dtype = _stored(checkpoint) if dtype == "auto" else dtype
        beside, caches = f"on a GPU with dtype={dtype!r}", _GPU_CACHES[dtype]
        if kv_dtype == "auto":
            kv_dtype = "float16" if dtype == "float32" else dtype
    if kv_dtype not in caches:
        remedy = f'Use one of {", ".join(map(repr, caches))}, or "auto".'
        raise ParameterError("kv_cache_dtype", kv_dtype, f"is not supported {beside}", remedy)
    return replace(config, dtype=dtype, kv_cache_dtype=kv_dtype)


def _stored(checkpoint: Checkpoint) -> str:
    """The 16-bit type of most of the checkpoint's numbers, or what its config names. Otherwise (float32, quantized)
    bfloat16: it holds whatever float32 does, while activations of some models leave float16's range."""
    size = dict.fromkeys(_HALVES.values(), 0)
    for ref in checkpoint.tensors.values():
        if ref.format in _HALVES:
            size[_HALVES[ref.format]] += ref.nbytes
    largest = max(size, key=lambda dtype: size[dtype])
    if size[largest] > 0:
        return largest
    named = checkpoint.metadata.get("dtype") or checkpoint.metadata.get("torch_dtype")
    return named if isinstance(named, str) and named in size else "bfloat16"
