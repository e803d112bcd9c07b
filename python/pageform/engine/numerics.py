"""The numerics id of an engine: equal ids, equal bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ..core.snapshot import NumericsId
from ..platform import resolve_device
from ..weights.rope import inv_freq
from .config import EngineConfig

if TYPE_CHECKING:
    from ..text.tokenizer import Tokenizer
    from ..weights.config import ModelConfig


def weights_digest(model: ModelConfig, fingerprint: str, max_model_len: int) -> str:
    """Tells models apart, and the rotary frequencies that one has for a context of that length."""
    import hashlib

    digest = hashlib.blake2b(fingerprint.encode(), digest_size=16)
    frequencies, scale = inv_freq(model.rope, max_model_len)
    digest.update(repr(model).encode())
    digest.update(frequencies.tobytes())
    digest.update(repr(scale).encode())
    return digest.hexdigest()


def numerics_id(
    config: EngineConfig, description: str, weights: str, tokenizer: Tokenizer | None, eos_ids: frozenset[int]
) -> NumericsId:
    """The id of an engine; `description` is its device's, `weights` the digest of its model."""
    library = resolve_device(config.device).library
    kernels = f"torch {_version('torch')}" if library is None else _of_file(Path(library))
    if config.gpu_libraries:  # what is measured may turn out otherwise elsewhere, or at the next start
        kernels += f" and libraries as chosen by {uuid4().hex}"
    return NumericsId(
        backend=re.sub(r" \d+ threads?$", "", description),
        kernels=kernels,
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
