"""Loads a model: records its program, packs the weights that the program asks for, and makes its runners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelFileError
from ..ops.sampling import Sampled, SamplingInputs
from ..platform import resolve_device, usable_threads
from ..runtime.inputs import StepInputs
from ..runtime.program import InlineVector, Program, Recorder, Rows, WeightRequest
from ..weights.rope import inv_freq
from . import record

if TYPE_CHECKING:
    from .. import _native
    from ..runtime.program import VectorRequest
    from ..runtime.runner import Gate, Runner
    from ..weights.base import Checkpoint
    from ..weights.config import ModelConfig

_KV_ELEMENTS = {"float16": ("f16", 2), "float32": ("f32", 4)}


@dataclass(slots=True)
class LoadedModel:
    """A model ready to run on one device; weights, cache and threads live as long as it.

    `runner` runs the model's steps, `sampler` only the `sample` op on logits that Python processed.
    """

    config: ModelConfig
    runner: Runner
    sampler: Runner
    block_size: int
    num_blocks: int
    kv_bytes: int
    weight_bytes: int
    description: str
    make_gate: Callable[[], Any]

    def sample(self, sampling: SamplingInputs, logits: NDArray[np.float32]) -> Sampled:
        """Samples the rows of `logits` [R, vocab] with the op that ends a step."""
        rows = len(logits)
        zeros = np.zeros(rows, np.int32)
        inputs = StepInputs(
            token_ids=zeros,
            positions=zeros,
            slots=zeros,
            query_start=np.arange(rows + 1, dtype=np.int32),
            seq_lens=np.ones(rows, np.int32),
            block_tables=np.zeros((rows, 1), np.int32),
            logits_rows=np.arange(rows, dtype=np.int32),
            sampling=sampling,
        )
        self.sampler.feed("logits", logits)
        return self.sampler.run(inputs)

    def run(self, inputs: StepInputs, gate: Gate | None = None) -> Sampled:
        """One step of the model."""
        return self.runner.run(inputs, gate)


def kv_block_bytes(config: ModelConfig, block_size: int, kv_dtype: str) -> int:
    """Bytes of one block: keys and values of `block_size` tokens in every layer."""
    element = _KV_ELEMENTS[kv_dtype][1]
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * block_size * element


def load_model(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    threads: int | None = None,
    cores: Sequence[int] = (),
    dtype: str = "auto",
    kv_dtype: str = "float16",
    num_blocks: int,
    block_size: int = 16,
    max_tokens: int = 512,
    max_seqs: int = 64,
    max_model_len: int | None = None,
) -> LoadedModel:
    """Puts `checkpoint` on `device` for steps of at most `max_tokens` tokens of `max_seqs` sequences.

    `cores` pins the threads, one each. dtype "auto" keeps the file's formats, "float32" dequantizes. The
    file's pages are given back as they are packed.
    Raises ParameterError for a device that can't be used, ModelFileError for missing or misshapen tensors.
    """
    spec = resolve_device(device)
    config = checkpoint.config
    frequencies, attention_scale = inv_freq(config.rope, max_model_len or config.max_position_embeddings)
    program = record(config, frequencies, attention_scale)
    sampler = _sampler_program(config.vocab_size)
    max_rows = max(max_tokens, max_seqs)
    vectors = [_vector(checkpoint, request) for request in program.vectors]
    kv_shape = (config.num_layers, config.num_kv_heads, config.head_dim, block_size, num_blocks)
    kv_format = _KV_ELEMENTS[kv_dtype][0]

    if spec.library is None:
        from ..runtime.reference import KvShape, ReferenceRunner

        host = _cpu_device(threads or usable_threads())
        arrays = [_pack(host, checkpoint, request, "auto", host).dequantize() for request in program.weights]
        kv = KvShape(*kv_shape, dtype=kv_format)
        return LoadedModel(
            config=config,
            runner=ReferenceRunner(program, arrays, vectors, kv),
            sampler=ReferenceRunner(sampler, [], [], None),
            block_size=block_size,
            num_blocks=num_blocks,
            kv_bytes=num_blocks * kv_block_bytes(config, block_size, kv_dtype),
            weight_bytes=sum(array.nbytes for array in arrays),
            description="reference (torch)",
            make_gate=_native_module().MaskGate,
        )

    from ..runtime.runner import NativeRunner

    native = _native_module()
    which = {"index": spec.index} if spec.index != 0 else {}
    unit = native.Device(str(spec.library), len(cores) or threads or usable_threads(), cores=cores, **which)
    # The CPU backend knows every format; where another backend wants float32, it dequantizes.
    reader = unit if spec.name == "cpu" or dtype != "float32" else _cpu_device(threads or usable_threads())
    weights = [_pack(unit, checkpoint, request, dtype, reader) for request in program.weights]
    kv_cache = unit.kv_cache(*kv_shape, kv_format)
    try:
        runner = NativeRunner(
            unit, program, weights, vectors, kv_cache, max_tokens=max_tokens, max_seqs=max_seqs, max_rows=max_rows
        )
    except ValueError as error:
        raise ModelFileError(
            str(checkpoint.path), f"the tensors do not fit the config: {error}", "Get an undamaged copy of the model."
        ) from error
    return LoadedModel(
        config=config,
        runner=runner,
        sampler=NativeRunner(unit, sampler, [], [], None, max_tokens=max_rows, max_seqs=max_rows, max_rows=max_rows),
        block_size=block_size,
        num_blocks=num_blocks,
        kv_bytes=kv_cache.bytes,
        weight_bytes=sum(weight.bytes for weight in weights),
        description=unit.describe,
        make_gate=native.MaskGate,
    )


def _native_module() -> Any:
    from .. import _native

    return _native


def _cpu_device(threads: int) -> _native.Device:
    library = resolve_device("cpu").library
    device: _native.Device = _native_module().Device(str(library), threads)
    return device


def _sampler_program(vocab_size: int) -> Program:
    recorder = Recorder()
    recorder.sample(recorder.input("logits", Rows.LOGITS, vocab_size))
    return recorder.program


def _pack(
    device: _native.Device, checkpoint: Checkpoint, request: WeightRequest, dtype: str, reader: _native.Device
) -> _native.Weight:
    """One packed weight: the request's tensors, concatenated along rows. Where `dtype` wants float32 of a
    file in another format, `reader` dequantizes it."""
    refs = [checkpoint.require(name) for name in request]
    parts = []
    for ref in refs:
        if len(ref.shape) != 2:
            raise ModelFileError(
                str(checkpoint.path),
                f"tensor {ref.name} has shape {ref.shape}, not two dimensions",
                "Get another copy.",
            )
        rows, cols = ref.shape
        parts.append((ref.buffer, ref.offset, ref.nbytes, rows, cols, ref.format.lower()))
    if dtype == "float32" and any(ref.format != "F32" for ref in refs):
        values = reader.pack(parts).dequantize()
        weight = device.pack([(values, 0, values.nbytes, *values.shape, "f32")])
    else:
        weight = device.pack(parts)
    for ref in refs:
        ref.drop()
    return weight


def _vector(checkpoint: Checkpoint, request: VectorRequest) -> NDArray[np.float32]:
    if isinstance(request, InlineVector):
        return np.array(request.values, np.float32)
    parts: Sequence[NDArray[np.float32]] = [checkpoint.numpy(name).reshape(-1) for name in request]
    return np.concatenate(parts)
