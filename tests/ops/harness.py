"""One op, alone: built into a program, run by a native device and by the torch reference, and both results given back.

    result = run_op("rms_norm", [x], out_cols=[64], vector=weight, ints={"groups": 1}, floats={"eps": 1e-6})
    np.testing.assert_allclose(result.native[0], result.reference[0], rtol=1e-5)

The suite imports this as a plain module (pytest puts the folder of a test file on the path).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from pageform import _native
from pageform.ops.sampling import Sampled, SamplingInputs
from pageform.ops.table import OPS
from pageform.platform import builtin_backends
from pageform.runtime.inputs import StepInputs
from pageform.runtime.program import InlineVector, Op, Program, Rows, Tensor
from pageform.runtime.reference import KvShape, ReferenceRunner
from pageform.runtime.runner import NativeRunner

F32 = npt.NDArray[np.float32]
ISAS = ("generic", "avx2", "avxvnni", "avx512", "avx512vnni")

_OUTPUT_ROWS = {"embed": Rows.TOKENS, "rope_angles": Rows.TOKENS, "gather_rows": Rows.LOGITS}
_INPUT_ROWS = {"sample": Rows.LOGITS}


def make_device(isa: str = "auto", threads: int = 2) -> _native.Device:
    """A CPU device; skips the test where this machine cannot run `isa`."""
    try:
        return _native.Device(str(builtin_backends()["cpu"]), threads, isa)
    except Exception as error:
        if isa != "auto" and "cannot run the instruction set" in str(error):
            pytest.skip(str(error))
        raise


@dataclass
class Sequences:
    """The sequences of a step: how many tokens each had cached and how many it computes now."""

    cached: Sequence[int]
    new: Sequence[int]
    block_size: int = 16
    num_blocks: int | None = None
    """All blocks of the cache; just enough when None."""
    shuffle: int | None = None
    """Seed that scatters the blocks; in order when None."""
    vocab: int = 1
    logits_rows: Sequence[int] | None = None
    """Default: the last token of every sequence."""

    def inputs(self, **changes: object) -> StepInputs:
        """The step's arrays; `changes` replace single fields."""
        lengths = [old + new for old, new in zip(self.cached, self.new, strict=True)]
        needed = [-(-length // self.block_size) for length in lengths]
        if self.num_blocks is not None and self.num_blocks < sum(needed):
            raise ValueError(f"the sequences need {sum(needed)} blocks, not {self.num_blocks}")
        blocks = np.arange(self.num_blocks or sum(needed), dtype=np.int32)
        if self.shuffle is not None:
            np.random.default_rng(self.shuffle).shuffle(blocks)
        tables = np.full((len(needed), max(needed)), -1, np.int32)
        taken = 0
        for row, count in enumerate(needed):
            tables[row, :count] = blocks[taken : taken + count]
            taken += count
        positions = np.concatenate([np.arange(old, end) for old, end in zip(self.cached, lengths, strict=True)])
        owner = np.repeat(np.arange(len(lengths)), self.new)
        slots = tables[owner, positions // self.block_size] * self.block_size + positions % self.block_size
        starts = np.concatenate([[0], np.cumsum(self.new)])
        rows = starts[1:] - 1 if self.logits_rows is None else self.logits_rows
        tokens = np.random.default_rng(0).integers(0, self.vocab, len(positions))
        fields: dict[str, object] = {
            "token_ids": tokens.astype(np.int32),
            "positions": positions.astype(np.int32),
            "slots": slots.astype(np.int32),
            "query_start": starts.astype(np.int32),
            "seq_lens": np.asarray(lengths, np.int32),
            "block_tables": tables,
            "logits_rows": np.asarray(rows, np.int32),
        }
        return StepInputs(**(fields | changes))  # type: ignore[arg-type]

    def kv_shape(self, kv_heads: int, head_dim: int, dtype: str = "f32", num_layers: int = 1) -> KvShape:
        """A cache that holds all of the sequences."""
        blocks = sum(-(-(old + new) // self.block_size) for old, new in zip(self.cached, self.new, strict=True))
        return KvShape(num_layers, kv_heads, head_dim, self.block_size, self.num_blocks or blocks, dtype)


def tokens(count: int, *, vocab: int = 1, rows: int | None = None) -> StepInputs:
    """A step of one sequence of `count` tokens without cache; logits rows are its first `rows` tokens (default all)."""
    return Sequences([0], [count], vocab=vocab, logits_rows=range(count if rows is None else rows)).inputs()


@dataclass
class OpResult:
    """Outputs of both runners, in the op's order, and what `sample` wrote."""

    native: list[F32]
    reference: list[F32]
    native_sampled: Sampled
    reference_sampled: Sampled


@dataclass
class ProgramPair:
    """One program on a native device and on the reference, fed and run alike."""

    program: Program
    weights: Sequence[F32] = ()
    vectors: Sequence[F32] = ()
    kv: KvShape | None = None
    device: _native.Device = field(default_factory=make_device)
    lower: bool = True
    max_tokens: int = 512
    max_seqs: int = 64
    max_rows: int = 512
    packed: Sequence[_native.Weight] | None = None
    """The native weights, where they are not the float32 of `weights` packed as f32."""

    def __post_init__(self) -> None:
        packed = self.packed or [pack_f32(self.device, weight) for weight in self.weights]
        kv = None
        if self.kv is not None:
            shape = self.kv
            kv = self.device.kv_cache(
                shape.num_layers, shape.kv_heads, shape.head_dim, shape.block_size, shape.num_blocks, shape.dtype
            )
        self.native = NativeRunner(
            self.device,
            self.program,
            packed,
            self.vectors,
            kv,
            max_tokens=self.max_tokens,
            max_seqs=self.max_seqs,
            max_rows=self.max_rows,
            lower=self.lower,
        )
        self.reference = ReferenceRunner(self.program, self.weights, self.vectors, self.kv)

    def run(self, inputs: StepInputs, fed: Mapping[str, F32] | None = None) -> OpResult:
        """Runs one step on both; outputs are in the order of the program's."""
        for name, values in (fed or {}).items():
            self.native.feed(name, values)
            self.reference.feed(name, values)
        native, reference = self.native.run(inputs).numpy(), self.reference.run(inputs)
        names = list(self.program.outputs)
        return OpResult(
            [self.native.fetch(name) for name in names],
            [self.reference.fetch(name) for name in names],
            native,
            reference,
        )


def pack_f32(device: _native.Device, weight: F32) -> _native.Weight:
    """A float32 matrix [N, K] as a native weight."""
    rows, cols = weight.shape
    return device.pack([(np.ascontiguousarray(weight, np.float32), 0, 4 * weight.size, rows, cols, "f32")])


def one_op(
    name: str,
    in_cols: Sequence[int],
    out_cols: Sequence[int],
    *,
    rows: Rows | None = None,
    weight: bool = False,
    vector: int = 0,
    ints: Mapping[str, int] | None = None,
    floats: Mapping[str, float] | None = None,
) -> Program:
    """A program of one op, inputs `in0…` and outputs `out0…`. `vector` is its length, 0 for none.

    Inputs are views that begin at column 16 of a wider buffer, so that strides differ from widths.
    """
    spec = OPS[name]
    program = Program(
        weights=[("weight",)] if weight else [], vectors=[InlineVector((0.0,) * vector)] if vector else []
    )
    in_rows = rows or _INPUT_ROWS.get(name, Rows.TOKENS)
    out_rows = _OUTPUT_ROWS.get(name, in_rows)
    for i, cols in enumerate(in_cols):
        program.buffers.append((in_rows, cols + 16))
        program.inputs[f"in{i}"] = Tensor(len(program.buffers) - 1, in_rows, 16, cols)
    for i, cols in enumerate(out_cols):
        program.buffers.append((out_rows, cols))
        program.outputs[f"out{i}"] = Tensor(len(program.buffers) - 1, out_rows, 0, cols)
    program.ops.append(
        Op(
            name,
            tuple(program.inputs.values()),
            tuple(program.outputs.values()),
            weight=0 if weight else -1,
            vector=0 if vector else -1,
            ints=tuple((ints or {})[key] for key in spec.ints),
            floats=tuple((floats or {})[key] for key in spec.floats),
        )
    )
    return program


def run_op(
    name: str,
    inputs: Sequence[F32],
    out_cols: Sequence[int],
    *,
    step: StepInputs | None = None,
    rows: Rows | None = None,
    weight: F32 | None = None,
    packed: _native.Weight | None = None,
    vector: F32 | None = None,
    ints: Mapping[str, int] | None = None,
    floats: Mapping[str, float] | None = None,
    kv: KvShape | None = None,
    sampling: SamplingInputs | None = None,
    device: _native.Device | None = None,
) -> OpResult:
    """Runs one op on a native device and on the reference.

    `inputs` are its operands; `step` defaults to one sequence of as many tokens as they have rows; an op without
    operands needs it. `packed` replaces the f32 packing of `weight` on the native side.
    """
    program = one_op(
        name,
        [x.shape[1] for x in inputs],
        out_cols,
        rows=rows,
        weight=weight is not None,
        vector=0 if vector is None else len(vector),
        ints=ints,
        floats=floats,
    )
    if step is None:
        step = tokens(len(inputs[0]))
    if sampling is not None:
        step.sampling = sampling
    pair = ProgramPair(
        program,
        weights=[] if weight is None else [weight],
        vectors=[] if vector is None else [vector],
        kv=kv,
        device=device or make_device(),
        max_tokens=len(step.token_ids),
        max_seqs=len(step.seq_lens),
        max_rows=max(1, len(step.logits_rows)),
        packed=None if packed is None else [packed],
    )
    return pair.run(step, {f"in{i}": np.ascontiguousarray(x, np.float32) for i, x in enumerate(inputs)})
