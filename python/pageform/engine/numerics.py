"""The numerics id of an engine: equal ids, equal bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ModelFileError
from ..core.snapshot import NumericsId
from ..platform import resolve_device
from ..weights.rope import inv_freq
from .config import EngineConfig

if TYPE_CHECKING:
    from ..text.tokenizer import Tokenizer
    from ..weights.base import Checkpoint

_SAMPLE = 256
"""Bytes read at the beginning, the middle and the end of each tensor: training changes nearly all values of a tensor,
and reading all of a large model would take as long as loading it."""


def weights_digest(checkpoint: Checkpoint, max_model_len: int) -> str:
    """Tells models apart, and the rotary frequencies that one has for a context of that length."""
    import hashlib

    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(checkpoint.tensors):
        try:
            ref = checkpoint.require(name)
        except ModelFileError:  # in a format that nobody reads, so it is none of the model's own
            continue
        digest.update(f"{name} {ref.shape} {ref.format} {ref.nbytes}\n".encode())
        data = memoryview(ref.buffer)[ref.offset : ref.offset + ref.nbytes]
        for start in (0, ref.nbytes // 2, max(0, ref.nbytes - _SAMPLE)):
            digest.update(data[start : start + _SAMPLE])
    frequencies, scale = inv_freq(checkpoint.config.rope, max_model_len)
    digest.update(repr(checkpoint.config).encode())
    digest.update(frequencies.tobytes())
    digest.update(repr(scale).encode())
    return digest.hexdigest()


def numerics_id(
    config: EngineConfig, description: str, weights: str, tokenizer: Tokenizer | None, eos_ids: frozenset[int]
) -> NumericsId:
    """The id of an engine; `description` is its device's, `weights` the digest of its model."""
    library = resolve_device(config.device).library
    return NumericsId(
        backend=re.sub(r" \d+ threads?$", "", description),
        kernels=f"torch {_version('torch')}" if library is None else _of_file(Path(library)),
        weights=weights,
        dtype=config.dtype,
        kv_dtype=config.kv_cache_dtype,
        tokenizer="" if tokenizer is None else _of_text(f"{sorted(eos_ids)}{tokenizer.to_json()}"),
        grammar=f"llguidance {_version('llguidance')}",
    )


def _of_file(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _of_text(text: str) -> str:
    import hashlib

    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
