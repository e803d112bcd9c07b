"""Loads a model: records its program, packs the weights that the program asks for, and makes its runners."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelFileError
from ..ops.sampling import Sampled, SamplingInputs
from ..runtime.inputs import StepInputs
from ..runtime.program import InlineVector, Program, Recorder, Rows, WeightRequest, with_activations
from ..weights.rope import inv_freq
from . import record
from .device import KV_FORMATS, OpenDevice, open_device
from .packed_cache import PackedCache, in_background

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .. import _native
    from ..runtime.program import VectorRequest
    from ..runtime.runner import Gate, Runner
    from ..weights.base import Checkpoint, TensorRef
    from ..weights.config import ModelConfig


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
    libraries: Callable[[], str]
    """JSON of the vendor's libraries that the device may use: what was found, what it does, why it is refused."""
    make_gate: Callable[[], Any]

    def sample(self, sampling: SamplingInputs, logits: NDArray[np.float32]) -> Sampled:
        """Samples the rows of `logits` [R, vocab] with the op that ends a step."""
        import numpy as np

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


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a model is loaded for: steps of at most `max_tokens` tokens of `max_seqs` sequences, and its KV cache."""

    num_blocks: int
    block_size: int = 16
    kv_dtype: str = "float16"
    max_tokens: int = 512
    max_seqs: int = 64


class Loading:
    """A model on its way to a device. Weights that a file of the cache has are read in another thread from the moment
    this is made; `finish` waits for them, or packs the model's own.

    `is_cached` tells whether this very model was loaded before, by a process that found it sound.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        fingerprint: str,
        sizes: Sizes,
        device: OpenDevice,
        *,
        max_model_len: int | None = None,
        packed_cache: str | None = None,
    ) -> None:
        config = checkpoint.config
        frequencies, attention_scale = inv_freq(config.rope, max_model_len or config.max_position_embeddings)
        self._checkpoint, self._sizes, self._opened = checkpoint, sizes, device
        self._device = device.native
        self._program = record(config, frequencies, attention_scale)
        if device.activations != "f32":
            self._program = with_activations(self._program, device.activations)
        self._cache: PackedCache | None = None
        self._restored: Future[list[_native.Weight] | None] | None = None
        if device.is_reference:
            return
        if device.dtype == "auto" and packed_cache is not None:
            parts = [_shapes(checkpoint, request) for request in self._program.weights]
            self._cache = PackedCache.of(checkpoint, fingerprint, self._device.packed_layout, parts, packed_cache)
        file = self._cache.open() if self._cache is not None else None
        if file is not None:
            reader = ThreadPoolExecutor(1, "pageform-restore")
            self._restored = reader.submit(file.restore, self._device)
            reader.shutdown(wait=False)

    @property
    def is_cached(self) -> bool:
        return self._restored is not None

    def finish(self) -> LoadedModel:
        """The model. Raises ModelFileError for missing or misshapen tensors."""
        checkpoint, program, sizes = self._checkpoint, self._program, self._sizes
        config = checkpoint.config
        sampler = _sampler_program(config.vocab_size)
        vectors = [_vector(checkpoint, request) for request in program.vectors]
        kv_format = KV_FORMATS[sizes.kv_dtype]
        kv_shape = (config.num_layers, config.num_kv_heads, config.head_dim, sizes.block_size, sizes.num_blocks)
        if self._opened.is_reference:
            from ..runtime.reference import KvShape, ReferenceRunner

            arrays = [_pack(self._device, checkpoint, request).dequantize() for request in program.weights]
            return LoadedModel(
                config=config,
                runner=ReferenceRunner(program, arrays, vectors, KvShape(*kv_shape, dtype=kv_format)),
                sampler=ReferenceRunner(sampler, [], [], None),
                block_size=sizes.block_size,
                num_blocks=sizes.num_blocks,
                kv_bytes=sizes.num_blocks * self._opened.kv_block_bytes(config, sizes.block_size, sizes.kv_dtype),
                weight_bytes=sum(array.nbytes for array in arrays),
                description="reference (torch)",
                libraries=lambda: "{}",
                make_gate=_native_module().MaskGate,
            )

        from ..runtime.runner import NativeRunner

        unit = self._device
        kv_cache = unit.kv_cache(*kv_shape, kv_format)
        weights = self._weights()
        tokens, seqs, rows = sizes.max_tokens, sizes.max_seqs, max(sizes.max_tokens, sizes.max_seqs)
        try:
            runner = NativeRunner(
                unit, program, weights, vectors, kv_cache, max_tokens=tokens, max_seqs=seqs, max_rows=rows
            )
        except ValueError as error:
            reason = f"the tensors do not fit the config: {error}"
            raise ModelFileError(str(checkpoint.path), reason, "Get an undamaged copy of the model.") from error
        self._drop_pages()
        return LoadedModel(
            config=config,
            runner=runner,
            sampler=NativeRunner(unit, sampler, [], [], None, max_tokens=rows, max_seqs=rows, max_rows=rows),
            block_size=sizes.block_size,
            num_blocks=sizes.num_blocks,
            kv_bytes=kv_cache.bytes,
            weight_bytes=sum(weight.bytes for weight in weights),
            description=unit.describe,
            libraries=unit.libraries,
            make_gate=_native_module().MaskGate,
        )

    def _drop_pages(self) -> None:
        """Gives back what is mapped of the model's files. Reading samples of all tensors took a quarter of a small file
        into memory, since the system maps more pages than are touched."""
        refs = itertools.chain.from_iterable(_tensors(self._checkpoint, r) for r in self._program.weights)
        for buffer in {id(ref.buffer): ref.buffer for ref in refs}.values():
            buffer.drop(0, len(buffer))

    def _weights(self) -> list[_native.Weight]:
        """Out of the cache, or packed, and then kept for the next process."""
        restored = None if self._restored is None else self._restored.result()
        if restored is not None:
            return restored
        weights = [
            _pack(self._device, self._checkpoint, request, self._opened.dequantizer)
            for request in self._program.weights
        ]
        if self._cache is not None:
            in_background(partial(self._cache.keep, list(weights)))
        return weights


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
    """Puts `checkpoint` on `device` for steps of at most `max_tokens` tokens of `max_seqs` sequences, without a cache.

    `device`, `cores` and `dtype` as `open_device` takes them. The file's pages are given back as they are packed.
    Raises ParameterError for a device that can't be used, ModelFileError for missing or misshapen tensors.
    """
    sizes = Sizes(num_blocks, block_size, kv_dtype, max_tokens, max_seqs)
    opened = open_device(device, threads=threads, cores=cores, dtype=dtype)
    return Loading(checkpoint, "", sizes, opened, max_model_len=max_model_len).finish()


def _native_module() -> Any:
    from .. import _native

    return _native


def _sampler_program(vocab_size: int) -> Program:
    recorder = Recorder()
    recorder.sample(recorder.input("logits", Rows.LOGITS, vocab_size))
    return recorder.program


def _tensors(checkpoint: Checkpoint, request: WeightRequest) -> list[TensorRef]:
    """The request's tensors, which are matrices."""
    refs = [checkpoint.require(name) for name in request]
    for ref in refs:
        if len(ref.shape) != 2:
            reason = f"tensor {ref.name} has shape {ref.shape}, not two dimensions"
            raise ModelFileError(str(checkpoint.path), reason, "Get another copy.")
    return refs


def _shapes(checkpoint: Checkpoint, request: WeightRequest) -> list[tuple[int, int, str]]:
    """(rows, columns, format) of each of the request's tensors."""
    return [(ref.shape[0], ref.shape[1], ref.format.lower()) for ref in _tensors(checkpoint, request)]


def _pack(
    device: _native.Device, checkpoint: Checkpoint, request: WeightRequest, dequantizer: _native.Device | None = None
) -> _native.Weight:
    """One packed weight: the request's tensors, concatenated along rows, in float32 where there is a `dequantizer`."""
    refs = _tensors(checkpoint, request)
    parts: Any = [(ref.buffer, ref.offset, ref.nbytes, *ref.shape, ref.format.lower()) for ref in refs]
    if dequantizer is not None and any(ref.format != "F32" for ref in refs):
        values = dequantizer.pack(parts).dequantize()
        weight = device.pack(_float_parts(values, [ref.shape[0] for ref in refs]))
    else:
        weight = device.pack(parts)
    for ref in refs:
        ref.drop()
    return weight


def _float_parts(values: NDArray[np.float32], rows: list[int]) -> Any:
    """The matrix as parts of so many rows each, as the file has them."""
    width = values.shape[1]
    firsts = itertools.accumulate(rows, initial=0)
    return [
        (values, 4 * width * first, 4 * width * count, count, width, "f32")
        for first, count in zip(firsts, rows, strict=False)
    ]


def _vector(checkpoint: Checkpoint, request: VectorRequest) -> array[float]:
    if isinstance(request, InlineVector):
        return array("f", request.values)
    return array("f", itertools.chain.from_iterable(checkpoint.floats(name) for name in request))
