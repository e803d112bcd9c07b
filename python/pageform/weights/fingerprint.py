"""Telling weights apart without reading them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import ModelFileError

if TYPE_CHECKING:
    from .base import Checkpoint

_SAMPLE = 256
"""Bytes read at the beginning, the middle and the end of each tensor: training changes nearly all values of a tensor,
and reading all of a large model would take as long as loading it."""


def fingerprint(checkpoint: Checkpoint) -> str:
    """A hash of names, shapes, formats and samples of all tensors that a backend can pack."""
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
    return digest.hexdigest()
