"""The contract of a checkpoint: a model's config and where its tensors lie, whatever the file format."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelFileError
from .config import ModelConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .._native import MappedFile

FORMATS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")
"""Storage formats a backend can pack (`PfFormat` in csrc/runtime/backend.h)."""


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where a tensor's bytes lie: `buffer[offset : offset + nbytes]`, row-major, blocks along the last dimension.

    `name` is the Hugging Face name, `shape` is in torch order: (rows, columns) of a weight matrix, (size,) of a vector.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    buffer: MappedFile
    offset: int
    nbytes: int

    def drop(self) -> None:
        """Gives the pages back to the system once the tensor was packed elsewhere; it can still be read again."""
        self.buffer.drop(self.offset, self.nbytes)


class TensorTable(Mapping[str, TensorRef]):
    """Tensors by Hugging Face name. Looking up one whose format no backend can pack raises ModelFileError."""

    def __init__(self, path: str, refs: Mapping[str, TensorRef]) -> None:
        self._path = path
        self._refs = refs

    def __getitem__(self, name: str) -> TensorRef:
        ref = self._refs[name]
        if ref.format not in FORMATS:
            supported = ", ".join(FORMATS)
            reason = f"tensor {name} is stored as {ref.format}, which is not supported"
            raise ModelFileError(self._path, reason, f"Get the model in one of {supported}.")
        return ref

    def __iter__(self) -> Iterator[str]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, name: object) -> bool:
        return name in self._refs


class Checkpoint(ABC):
    """An opened model file or folder. Read-only, thread-safe; holds its files mapped for as long as it lives.

    `path` is the file or folder, `config` the model's shape, `metadata` the raw metadata (GGUF keys, or the object of
    config.json), `generation_config` the object of generation_config.json (empty when there is none), `tensors` a
    mapping from Hugging Face names. Everything is checked on construction, so that later reads can't fail because of a
    damaged file; ModelFileError says what is wrong.
    """

    path: Path
    config: ModelConfig
    metadata: Mapping[str, Any]
    generation_config: Mapping[str, Any] = MappingProxyType({})
    tensors: Mapping[str, TensorRef]

    @property
    @abstractmethod
    def kind(self) -> str:
        """ "gguf" or "safetensors"."""

    def require(self, name: str, shape: tuple[int, ...] | None = None) -> TensorRef:
        """The tensor `name`. Raises ModelFileError when it is missing or its shape is not `shape`."""
        if name not in self.tensors:
            raise ModelFileError(str(self.path), f"tensor {name} is missing", "Get a complete copy of the model.")
        ref = self.tensors[name]
        if shape is not None and ref.shape != shape:
            reason = f"tensor {name} has the shape {ref.shape}, but the config needs {shape}"
            raise ModelFileError(str(self.path), reason, "Get an undamaged copy of the model.")
        return ref

    def numpy(self, name: str) -> NDArray[np.float32]:
        """A copy of an unquantized tensor (a norm weight, a bias) as float32. Raises ModelFileError for others."""
        import numpy as np

        return np.array(self.floats(name), np.float32).reshape(self.tensors[name].shape)

    def floats(self, name: str) -> array[float]:
        """The same as a flat array of the standard library, which NumPy need not be imported for."""
        return read_float32(str(self.path), self.require(name))


def read_float32(path: str, ref: TensorRef) -> array[float]:
    """Values of a tensor stored as F32, F16 or BF16, as float32."""
    if ref.format not in ("F32", "F16", "BF16"):
        reason = f"tensor {ref.name} is stored as {ref.format}, but is needed unquantized"
        raise ModelFileError(path, reason, "Get a copy with this tensor in F32, F16 or BF16.")
    data = memoryview(ref.buffer)[ref.offset : ref.offset + ref.nbytes]
    if ref.format == "F16":
        return array("f", struct.unpack(f"<{len(data) // 2}e", data))
    values = array("f")
    if ref.format == "F32":
        values.frombytes(data)
    else:  # BF16: the upper half of a float32
        widened = bytearray(2 * len(data))
        widened[2::4], widened[3::4] = data[0::2], data[1::2]
        values.frombytes(widened)
    return values
