"""What an engine is made with, checked before any work starts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.drafts import DraftSettings
from ..core.errors import ParameterError
from ..platform import usable_cores

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_FLOATS = {
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float32": "float32",
    "fp32": "float32",
    "float": "float32",
}
_DTYPES = {"auto": "auto", **_FLOATS}
_KV_DTYPES = {"auto": "auto", **_FLOATS, "int16": "int16", "int8": "int8", "fp8": "fp8", "fp8_e4m3": "fp8"}
DEFAULT_KV_SHARE = 0.25
"""Share of free memory the KV cache may take by default; pages nobody writes cost nothing, so this is a ceiling."""
DEFAULT_GPU_KV_SHARE = 0.9
"""Likewise of what weights and buffers leave of a GPU's memory, which serves nothing else."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Normalized engine parameters. `kv_cache_memory` is bytes (int), a share of free memory (float), or None."""

    model: str
    tokenizer: str | None = "auto"
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    cores: tuple[int, ...] = ()
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_model_len: int | None = None
    kv_cache_memory: int | float | None = None
    kv_cache_dtype: str = "auto"
    enable_prefix_caching: bool = True
    prefill_chunk: int | None = None
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None
    seed: int = 0
    drafts: DraftSettings = field(default_factory=DraftSettings)
    packed_cache: str | None = "auto"
    gpu_libraries: bool = False
    check_invariants: bool = False

    @staticmethod
    def make(model: str | Path, **given: Any) -> EngineConfig:
        """Checks and normalizes keyword arguments as `Engine` takes them. Raises ParameterError."""
        if not isinstance(model, (str, Path)) or not str(model):
            raise ParameterError("model", model, "is not a name or path", 'Give "smollm2", a path or a hub id.')
        tokenizer = given.get("tokenizer", "auto")
        if tokenizer is not None and not isinstance(tokenizer, (str, Path)):
            raise ParameterError(
                "tokenizer", tokenizer, "is not a path", 'Give "auto", a path, or None for token ids only.'
            )
        given["tokenizer"] = None if tokenizer is None else str(tokenizer)
        for name, low in (
            ("threads", 1),
            ("max_num_seqs", 1),
            ("max_num_batched_tokens", 1),
            ("max_model_len", 2),
            ("prefill_chunk", 1),
        ):
            value = given.get(name)
            if value is not None:
                _integer(name, value, low)
        given["cores"] = _cores(given.get("cores"), given.get("threads"))
        for name in ("max_queued_requests", "max_queued_tokens"):
            if given.get(name) is not None:
                _integer(name, given[name], 1)
        _integer("seed", given.get("seed", 0), None)
        given["packed_cache"] = _packed_cache(given.get("packed_cache", "auto"))
        if not isinstance(given.get("gpu_libraries", False), bool):
            raise ParameterError("gpu_libraries", given["gpu_libraries"], "must be True or False", "Give a bool.")
        dtype = given.get("dtype", "auto")
        if dtype not in _DTYPES:
            raise ParameterError(
                "dtype", dtype, "is not supported", 'Use "auto", "float32", or on a GPU "bfloat16" or "float16".'
            )
        given["dtype"] = _DTYPES[dtype]
        kv_dtype = given.get("kv_cache_dtype", "auto")
        if kv_dtype not in _KV_DTYPES:
            remedy = 'Use "auto", "float16", "float32", "int8", on a CPU "int16", or on a GPU "bfloat16" or "fp8".'
            raise ParameterError("kv_cache_dtype", kv_dtype, "is not supported", remedy)
        given["kv_cache_dtype"] = _KV_DTYPES[kv_dtype]
        given["kv_cache_memory"] = parse_memory("kv_cache_memory", given.get("kv_cache_memory"))
        given["drafts"] = DraftSettings.of(given.get("drafts", "auto"), given.pop("speculative_config", None))
        config = EngineConfig(model=str(model), **given)
        if config.max_num_batched_tokens < config.max_num_seqs:
            raise ParameterError(
                "max_num_batched_tokens",
                config.max_num_batched_tokens,
                f"is less than max_num_seqs={config.max_num_seqs}, so a step could not serve every running request",
                "Raise it, or lower max_num_seqs.",
            )
        return config


def parse_memory(field: str, value: Any) -> int | float | None:
    """Bytes from an int or text such as "512MB" or "1.5 GiB"; a float in (0, 1] is a share of free memory."""
    remedy = 'Give bytes, text such as "512MB", or a share of free memory such as 0.3.'
    if value is None:
        return None
    if isinstance(value, bool):
        raise ParameterError(field, value, "is not an amount of memory", remedy)
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        unit = _UNITS.get(match.group(2).lower()) if match else None
        if match is None or unit is None:
            raise ParameterError(field, value, "is not an amount of memory", remedy)
        value = int(float(match.group(1)) * unit)
    if isinstance(value, float):
        if not 0.0 < value <= 1.0 or math.isnan(value):
            raise ParameterError(field, value, "is not a share in (0, 1]", remedy)
        return value
    if not isinstance(value, int) or value <= 0:
        raise ParameterError(field, value, "is not an amount of memory", remedy)
    return value


def _cores(value: Any, threads: int | None) -> tuple[int, ...]:
    """Processors to pin one thread each to; none if `value` is None."""
    if value is None:
        return ()
    usable = usable_cores()
    if usable is None:
        raise ParameterError("cores", value, "cannot be chosen on this system", "Leave it out.")
    remedy = f"Give each thread its own of {', '.join(map(str, sorted(usable)))}, or leave it out."
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ParameterError("cores", value, "is not a list of processor numbers", remedy)
    cores = tuple(value)
    for core in cores:
        _integer("cores", core, 0)
    if not cores or len(set(cores)) < len(cores):
        raise ParameterError("cores", value, "names no processor" if not cores else "names one twice", remedy)
    if strangers := set(cores) - usable:
        raise ParameterError("cores", value, f"has {min(strangers)}, which this process may not use", remedy)
    if threads is not None and threads != len(cores):
        raise ParameterError("cores", value, f"has {len(cores)} processors for {threads} threads", remedy)
    return cores


def _packed_cache(value: Any) -> str | None:
    if value is None or value is False:
        return None
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ParameterError(
            "packed_cache", value, "is not a folder", 'Give "auto" (beside the model), a folder, or None for none.'
        )
    return str(value)


def _integer(field: str, value: Any, low: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ParameterError(field, value, "must be an integer", "Give a whole number.")
    if low is not None and value < low:
        raise ParameterError(field, value, f"must be at least {low}", "Give a larger number.")
