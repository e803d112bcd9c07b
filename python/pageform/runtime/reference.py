"""The reference runner: interprets a program op by op with torch, on any device torch has. The oracle of all tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.errors import BackendError
from ..ops.reference_types import ReferenceCall, ReferenceStep
from ..ops.sampling import F32, I32, Sampled
from ..ops.table import OPS
from .inputs import StepInputs
from .program import Op, Program, Rows
from .program import Tensor as View
from .runner import Gate

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class KvShape:
    """Shape of a paged cache; `dtype` is "f32", "f16", "i16" or "i8"."""

    num_layers: int
    kv_heads: int
    head_dim: int
    block_size: int
    num_blocks: int
    dtype: str = "f32"


class ReferenceRunner:
    """Runs a program with torch.

    `weights` ([N, K]) and `vectors` ([n]) answer the program's requests in order, as float32. It owns its KV cache,
    which is `kv` when given. Inputs are trusted: a bad plan raises whatever torch raises.
    """

    def __init__(
        self,
        program: Program,
        weights: Sequence[Tensor | npt.NDArray[np.float32]],
        vectors: Sequence[F32],
        kv: KvShape | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        import torch

        from ..ops.reference import REFERENCE

        if program.dtypes:
            raise BackendError("the reference backend computes in float32 alone")
        missing = sorted({op.name for op in program.ops} - REFERENCE.keys())
        if missing:
            raise BackendError(f"the reference backend has no op {missing[0]!r}, which the program needs")
        self._functions = REFERENCE
        self._program = program
        self._device = torch.device(device)
        self._weights = [self._to_device(weight) for weight in weights]
        self._vectors = [self._to_device(vector) for vector in vectors]
        self._kv = [] if kv is None else self._new_cache(kv)
        self._kv_dtype = "f32" if kv is None else kv.dtype
        self._fed: dict[str, Tensor] = {}
        self._fetched: dict[str, F32] = {}

    @property
    def kv(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer, [num_blocks, block_size, kv_heads, head_dim]; of codes as float32."""
        return self._kv

    def run(self, inputs: StepInputs, gate: Gate | None = None) -> Sampled:
        """Runs one step; waits at the gate before the first op that samples."""
        import torch

        step, sampled = self._step(inputs)
        self._copy_blocks(inputs)
        sizes = {
            Rows.TOKENS: len(inputs.token_ids),
            Rows.SEQS: len(inputs.seq_lens),
            Rows.LOGITS: len(inputs.logits_rows),
        }
        buffers = [
            torch.full((sizes[rows], cols), torch.nan, dtype=torch.float32, device=self._device)
            for rows, cols in self._program.buffers
        ]
        for name, view in self._program.inputs.items():
            if name not in self._fed:
                raise ValueError(f"input {name!r} was not fed")
            _columns(buffers, view).copy_(self._fed[name])
        waiting = gate
        with torch.inference_mode():
            for op in self._program.ops:
                if op.name == "sample" and waiting is not None:
                    if not waiting.wait():
                        raise BackendError(f"the grammar masks of the step failed: {waiting.failure}")
                    waiting = None
                if op.name == "sample" and step.sampling is None:
                    continue  # no row of this step is sampled
                results = self._functions[op.name](
                    self._call(op), step, *(_columns(buffers, view) for view in op.inputs)
                )
                for view, result in zip(op.outputs, results, strict=True):
                    _columns(buffers, view).copy_(result)
        self._fetched = {name: _columns(buffers, view).cpu().numpy() for name, view in self._program.outputs.items()}
        return sampled

    def feed(self, name: str, values: F32) -> None:
        """Sets an external input for the following runs."""
        if name not in self._program.inputs:
            raise ValueError(f"the program has no input {name!r}")
        self._fed[name] = self._to_device(values)

    def fetch(self, name: str) -> F32:
        """An external output of the last run."""
        if name not in self._program.outputs:
            raise ValueError(f"the program has no output {name!r}")
        return self._fetched[name]

    # --- parts -------------------------------------------------------------------------------------------------------

    def _call(self, op: Op) -> ReferenceCall:
        spec = OPS[op.name]
        return ReferenceCall(
            name=op.name,
            weight=self._weights[op.weight] if op.weight >= 0 else None,
            vector=self._vectors[op.vector] if op.vector >= 0 else None,
            ints=dict(zip(spec.ints, op.ints, strict=True)),
            floats=dict(zip(spec.floats, op.floats, strict=True)),
        )

    def _step(self, inputs: StepInputs) -> tuple[ReferenceStep, Sampled]:
        rows = len(inputs.logits_rows)
        sampling = inputs.sampling.numpy() if rows and inputs.sampling is not None else None
        vocab = self._vocab(inputs)
        if sampling is not None and sampling.vocab == 0:
            sampling.vocab = vocab
        with_logits = inputs.copy_logits or (sampling is not None and any(sampling.defer))
        sampled = Sampled.empty(rows, 0 if sampling is None else sampling.max_logprobs, vocab, with_logits)
        step = ReferenceStep(
            token_ids=self._indices(inputs.token_ids),
            positions=self._indices(inputs.positions),
            slots=self._indices(inputs.slots),
            query_start=self._indices(inputs.query_start),
            seq_lens=self._indices(inputs.seq_lens),
            block_tables=self._indices(inputs.block_tables),
            logits_rows=self._indices(inputs.logits_rows),
            kv=self._kv,
            kv_dtype=self._kv_dtype,
            sampling=sampling,
            sampled=sampled,
            copy_logits=inputs.copy_logits,
        )
        return step, sampled

    def _vocab(self, inputs: StepInputs) -> int:
        if inputs.sampling is not None and inputs.sampling.vocab:
            return inputs.sampling.vocab
        return max((op.inputs[0].cols for op in self._program.ops if op.name == "sample"), default=0)

    def _copy_blocks(self, inputs: StepInputs) -> None:
        if inputs.copy_src is None or inputs.copy_dst is None:
            return
        for source, target in zip(inputs.copy_src, inputs.copy_dst, strict=True):
            for keys, values in self._kv:
                keys[target] = keys[source]
                values[target] = values[source]

    def _new_cache(self, kv: KvShape) -> list[tuple[Tensor, Tensor]]:
        import torch

        dtype = torch.float16 if kv.dtype == "f16" else torch.float32
        shape = (kv.num_blocks, kv.block_size, kv.kv_heads, kv.head_dim)
        return [
            (
                torch.zeros(shape, dtype=dtype, device=self._device),
                torch.zeros(shape, dtype=dtype, device=self._device),
            )
            for _ in range(kv.num_layers)
        ]

    def _to_device(self, values: F32) -> Tensor:
        import torch

        values = values if isinstance(values, torch.Tensor) else np.asarray(values)
        return torch.as_tensor(values).to(self._device, torch.float32)

    def _indices(self, values: I32) -> Tensor:
        import torch

        return torch.from_numpy(np.asarray(values, np.int64)).to(self._device)


def _columns(buffers: list[Tensor], view: View) -> Tensor:
    return buffers[view.buffer][:, view.col : view.col + view.cols]
