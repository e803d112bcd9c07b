"""The device that a model goes to: what it computes in, and how much memory it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import ParameterError
from ..platform import free_memory, library_files, resolve_device, usable_threads

if TYPE_CHECKING:
    from .. import _native
    from ..weights.base import Checkpoint
    from ..weights.config import ModelConfig

KV_FORMATS = {"float16": "f16", "float32": "f32", "bfloat16": "bf16", "int16": "i16", "int8": "i8", "fp8": "e4m3"}
"""Types of a KV cache, and what native code calls them."""

_ACTIVATIONS = {"float16": "f16", "bfloat16": "bf16"}
"""Values of `dtype` that are types of activations; with any other these are float32."""


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """A device made for one model. `native` is the CPU's where torch is the backend, and reads weights for it."""

    native: _native.Device
    dtype: str
    activations: str
    is_reference: bool
    dequantizer: _native.Device | None
    """What makes float32 of weights, where they are wanted so: the CPU, which knows every format."""

    def kv_block_bytes(self, config: ModelConfig, block_size: int, kv_dtype: str) -> int:
        """Bytes of one block: keys and values of `block_size` tokens in every layer."""
        shape = (config.num_layers, config.num_kv_heads, config.head_dim, block_size)
        return self.native.kv_block_bytes(*shape, KV_FORMATS[kv_dtype])

    def memory_for_kv(self, checkpoint: Checkpoint, max_tokens: int, max_seqs: int) -> int:
        """Bytes that a KV cache could take: what is free of a GPU's memory once weights and buffers are there; what is
        free of the host's, which a cache takes as it is written."""
        memory = self.native.memory
        if memory is None:
            return free_memory()
        element = 4 if self.activations == "f32" else 2
        needed = self._weight_bytes(checkpoint, element)
        needed += _step_bytes(checkpoint.config, max_tokens, max(max_tokens, max_seqs), element)
        return max(0, memory[0] - needed)

    def _weight_bytes(self, checkpoint: Checkpoint, element: int) -> int:
        """Of the weights on a GPU: dense ones have the type of activations, packed ones take what the file takes."""
        total = 0
        for ref in checkpoint.tensors.values():
            is_dense = self.dequantizer is not None or ref.format in ("F32", "F16", "BF16")
            elements = 1
            for size in ref.shape:
                elements *= size
            total += elements * element if is_dense else ref.nbytes
        return total


def _step_bytes(config: ModelConfig, max_tokens: int, max_rows: int, element: int) -> int:
    """About what a GPU's buffers take for the largest step: activations, and logits with the copy that is sampled."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    columns = 4 * config.hidden_size + 3 * config.intermediate_size + 3 * heads
    return max_tokens * columns * element + max_rows * config.vocab_size * 8


def open_device(
    device: str = "auto",
    *,
    threads: int | None = None,
    cores: Sequence[int] = (),
    dtype: str = "auto",
    gpu_libraries: bool = False,
) -> OpenDevice:
    """The device of that name. `cores` pins a CPU's threads, one each.

    `dtype`: "auto" keeps the weights in the file's formats and computes in float32; "float32" dequantizes them;
    "float16" and "bfloat16" are a GPU's types of activations and of the weights that are not quantized.
    `gpu_libraries` lets a GPU use its vendor's libraries; what can't be used is logged as a warning.
    ParameterError for a device that can't be used, BackendError for a type that it does not compute in.
    """
    spec = resolve_device(device)
    if gpu_libraries and spec.name in ("cpu", "reference"):
        raise ParameterError("gpu_libraries", True, f"the {spec.name} backend is no GPU's", "Leave it out.")
    count = len(cores) or threads or usable_threads()
    activations = _ACTIVATIONS.get(dtype, "f32")
    if spec.library is None:
        return OpenDevice(_cpu_device(count), dtype, activations, True, None)
    from .. import _native

    native = _native.Device(str(spec.library), count, cores=cores, index=spec.index, activations=activations)
    if gpu_libraries:
        _use_libraries(native)
    dequantizer = None
    if dtype == "float32":
        dequantizer = native if spec.name == "cpu" else _cpu_device(count)
    return OpenDevice(native, dtype, activations, False, dequantizer)


def _use_libraries(device: _native.Device) -> None:
    import json
    import logging

    device.use_library("cublaslt", library_files("cublaslt"))
    for name, found in json.loads(device.libraries()).items():
        level = logging.WARNING if "refused" in found else logging.INFO
        logging.getLogger("pageform.gpu_libraries").log(level, "%s %s", name, json.dumps(found))


def _cpu_device(threads: int) -> _native.Device:
    from .. import _native

    return _native.Device(str(resolve_device("cpu").library), threads)
