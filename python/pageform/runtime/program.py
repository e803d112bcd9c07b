"""Programs: the flat list of ops that one step of a model executes, as plain data, and how it is recorded.

A model's Python code calls one method of a `Recorder` an op, once; the `Program` that comes out knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from ..ops.table import OPS


class Rows(StrEnum):
    """What the rows of a buffer stand for; their number is known at each step only."""

    TOKENS = "T"
    SEQS = "S"
    LOGITS = "R"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A range of columns of a buffer: [rows, cols]."""

    buffer: int
    rows: Rows
    col: int
    cols: int

    def split(self, sizes: list[int]) -> list[Tensor]:
        """Neighbouring ranges of the given widths, which must add up to `cols`."""
        if sum(sizes) != self.cols or min(sizes, default=0) < 1:
            raise ValueError(f"cannot split {self.cols} columns into {sizes}")
        parts, col = [], self.col
        for size in sizes:
            parts.append(Tensor(self.buffer, self.rows, col, size))
            col += size
        return parts

    def __str__(self) -> str:
        return f"%{self.buffer}[{self.rows}, {self.col}:{self.col + self.cols}]"


WeightRequest = tuple[str, ...]
"""Names of matrices in the checkpoint, concatenated along rows into one weight."""


@dataclass(frozen=True, slots=True)
class InlineVector:
    """A vector that the recording itself computed, such as rotary frequencies."""

    values: tuple[float, ...]


VectorRequest = tuple[str, ...] | InlineVector
"""Names of vectors in the checkpoint, concatenated; or the numbers themselves."""


@dataclass(frozen=True, slots=True)
class Op:
    """One op. `weight` and `vector` index the program's requests, -1 is none; `ints`, `floats` as in `ops/table.py`."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weight: int = -1
    vector: int = -1
    ints: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()


@dataclass(slots=True)
class Program:
    """What `Recorder` made: ops over buffers, the weights and vectors they refer to, and what is fed and fetched."""

    buffers: list[tuple[Rows, int]] = field(default_factory=list)
    """(rows, cols) of each."""
    dtypes: dict[int, str] = field(default_factory=dict)
    """Types of the buffers that are not "f32": "f16" or "bf16"; see `with_activations`."""
    ops: list[Op] = field(default_factory=list)
    weights: list[WeightRequest] = field(default_factory=list)
    vectors: list[VectorRequest] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The program as `_native.Runner` takes it."""
        return {
            "buffers": [(rows.value, cols) for rows, cols in self.buffers],
            "dtypes": self.dtypes,
            "ops": [
                (
                    op.name,
                    [_view(tensor) for tensor in op.inputs],
                    [_view(tensor) for tensor in op.outputs],
                    op.weight,
                    op.vector,
                    list(op.ints),
                    list(op.floats),
                )
                for op in self.ops
            ],
            "inputs": {name: _view(tensor) for name, tensor in self.inputs.items()},
            "outputs": {name: _view(tensor) for name, tensor in self.outputs.items()},
        }

    def __str__(self) -> str:
        lines = [f"input {name} = {tensor}" for name, tensor in self.inputs.items()]
        lines += [self._line(op) for op in self.ops]
        lines += [f"output {name} = {tensor}" for name, tensor in self.outputs.items()]
        return "\n".join(lines)

    def _line(self, op: Op) -> str:
        spec = OPS[op.name]
        arguments = [str(tensor) for tensor in op.inputs]
        if op.weight >= 0:
            arguments.append("+".join(self.weights[op.weight]))
        if op.vector >= 0:
            vector = self.vectors[op.vector]
            shown = f"[{len(vector.values)} numbers]" if isinstance(vector, InlineVector) else "+".join(vector)
            arguments.append(shown)
        arguments += [f"{name}={value}" for name, value in zip(spec.ints, op.ints, strict=True)]
        arguments += [f"{name}={value:g}" for name, value in zip(spec.floats, op.floats, strict=True)]
        call = f"{op.name}({', '.join(arguments)})"
        return f"{', '.join(map(str, op.outputs))} = {call}" if op.outputs else call


def _view(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.buffer, tensor.col, tensor.cols


_Request = TypeVar("_Request")


class Recorder:
    """Records ops into `program`.

    Tensors are [T tokens or R rows of logits, cols], float32 unless `with_activations` says otherwise. Weights and
    vectors are asked for by their names in the checkpoint; several names are concatenated along rows, and the same
    request twice is one weight, so that an output layer tied to the embedding shares its memory. Shapes are checked
    where they are known here (ValueError); those of weights when the program meets them.
    """

    def __init__(self) -> None:
        self.program = Program()

    # --- what comes from and goes to the outside ---------------------------------------------------------------------

    def input(self, name: str, rows: Rows, cols: int) -> Tensor:
        """A tensor that is fed before each run."""
        self._unused(name, self.program.inputs, "input")
        tensor = self._buffer(rows, cols)
        self.program.inputs[name] = tensor
        return tensor

    def output(self, name: str, tensor: Tensor) -> None:
        """Keeps `tensor` readable after each run."""
        self._unused(name, self.program.outputs, "output")
        self.program.outputs[name] = tensor

    # --- ops ---------------------------------------------------------------------------------------------------------

    def embed(self, weight: str, cols: int, scale: float = 1.0) -> Tensor:
        """Rows `token_ids` of the matrix [vocab, cols], times `scale`."""
        out = self._buffer(Rows.TOKENS, cols)
        self._op("embed", (), (out,), weight=self._weight((weight,)), floats=(scale,))
        return out

    def rope_angles(self, inv_freq: Sequence[float], attention_scale: float = 1.0) -> Tensor:
        """[T, 2·len(inv_freq)]: cosines, then sines of position · frequency, times `attention_scale`."""
        out = self._buffer(Rows.TOKENS, 2 * len(inv_freq))
        vector = self._vector(InlineVector(tuple(float(f) for f in inv_freq)))
        self._op("rope_angles", (), (out,), vector=vector, floats=(attention_scale,))
        return out

    def rms_norm(self, x: Tensor, weight: str, eps: float, groups: int = 1) -> Tensor:
        """Root-mean-square norm of each of `groups` equal runs of columns, times the vector `weight` [cols/groups]."""
        if groups < 1 or x.cols % groups:
            raise ValueError(f"rms_norm: {x.cols} columns are not {groups} equal groups")
        out = self._like(x)
        self._op("rms_norm", (x,), (out,), vector=self._vector((weight,)), ints=(groups,), floats=(eps,))
        return out

    def linear(
        self,
        x: Tensor,
        weights: str | Sequence[str],
        out_features: int,
        bias: str | Sequence[str] | None = None,
    ) -> Tensor:
        """x · Wᵀ (+ bias): W is [out_features, x.cols], the named matrices stacked along rows."""
        out = self._buffer(x.rows, out_features)
        vector = -1 if bias is None else self._vector(_names(bias))
        self._op("linear", (x,), (out,), weight=self._weight(_names(weights)), vector=vector)
        return out

    def rope(self, x: Tensor, cs: Tensor, heads: int, head_dim: int, rot_dim: int, interleaved: bool = False) -> Tensor:
        """Rotates the first `rot_dim` channels of every head by the angles `cs`; pairs are neighbours or halves."""
        self._columns("rope", x, heads * head_dim)
        self._columns("rope", cs, rot_dim)
        if rot_dim % 2 or rot_dim > head_dim:
            raise ValueError(f"rope: rot_dim={rot_dim} must be even and at most head_dim={head_dim}")
        out = self._like(x)
        self._op("rope", (x, cs), (out,), ints=(heads, head_dim, rot_dim, int(interleaved)))
        return out

    def cache_write(self, k: Tensor, v: Tensor, layer: int, kv_heads: int, head_dim: int) -> None:
        """Stores this step's keys and values in the cache of `layer`."""
        self._columns("cache_write", k, kv_heads * head_dim)
        self._columns("cache_write", v, kv_heads * head_dim)
        self._op("cache_write", (k, v), (), ints=(layer, kv_heads, head_dim))

    def attention(
        self,
        q: Tensor,
        layer: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
    ) -> Tensor:
        """Causal attention of q [T, heads·head_dim] over the cache of `layer`; 0 turns `window` and `softcap` off."""
        self._columns("attention", q, heads * head_dim)
        if heads % kv_heads:
            raise ValueError(f"attention: heads={heads} must be a multiple of kv_heads={kv_heads}")
        out = self._like(q)
        self._op("attention", (q,), (out,), ints=(layer, heads, kv_heads, head_dim, window), floats=(scale, softcap))
        return out

    def silu_mul(self, x: Tensor) -> Tensor:
        """silu(left half of the columns) · right half."""
        if x.cols % 2:
            raise ValueError(f"silu_mul: {x.cols} columns are not two halves")
        out = self._buffer(x.rows, x.cols // 2)
        self._op("silu_mul", (x,), (out,))
        return out

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """a + b."""
        if (a.rows, a.cols) != (b.rows, b.cols):
            raise ValueError(f"add: shapes [{a.rows}, {a.cols}] and [{b.rows}, {b.cols}] differ")
        out = self._like(a)
        self._op("add", (a, b), (out,))
        return out

    def gather_rows(self, x: Tensor) -> Tensor:
        """Rows `logits_rows` of x [T, cols], as [R, cols]."""
        out = self._buffer(Rows.LOGITS, x.cols)
        self._op("gather_rows", (x,), (out,))
        return out

    def mixture(
        self,
        x: Tensor,
        logits: Tensor,
        gate_up: Sequence[str],
        down: Sequence[str],
        inner: int,
        top_k: int,
        renormalize: bool,
    ) -> Tensor:
        """Each row of x through the `top_k` experts of its largest `logits` [rows, experts], and their weighted sum.

        `gate_up` names the matrices [inner, x.cols] of all experts, gate and up in turn, `down` those [x.cols, inner].
        """
        if not 1 <= top_k <= logits.cols:
            raise ValueError(f"mixture: top_k={top_k} of {logits.cols} experts")
        hidden = self._buffer(x.rows, top_k * inner)
        self._op("moe_gate_up", (x, logits), (hidden,), weight=self._weight(_names(gate_up)), ints=(top_k,))
        out = self._like(x)
        ints = (top_k, int(renormalize))
        self._op("moe_down", (hidden, logits), (out,), weight=self._weight(_names(down)), ints=ints)
        return out

    def sample(self, logits: Tensor) -> None:
        """Samples the step's rows from logits [R, vocab]."""
        self._op("sample", (logits,), ())

    # --- parts -------------------------------------------------------------------------------------------------------

    def _buffer(self, rows: Rows, cols: int) -> Tensor:
        if cols < 1:
            raise ValueError(f"a tensor needs at least one column, not {cols}")
        self.program.buffers.append((rows, cols))
        return Tensor(len(self.program.buffers) - 1, rows, 0, cols)

    def _like(self, x: Tensor) -> Tensor:
        return self._buffer(x.rows, x.cols)

    def _op(
        self,
        name: str,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        *,
        weight: int = -1,
        vector: int = -1,
        ints: tuple[int, ...] = (),
        floats: tuple[float, ...] = (),
    ) -> None:
        spec = OPS[name]
        assert (len(inputs), len(outputs)) == (spec.inputs, spec.outputs)
        assert (len(ints), len(floats)) == (len(spec.ints), len(spec.floats))
        self.program.ops.append(Op(name, inputs, outputs, weight, vector, ints, floats))

    def _weight(self, request: WeightRequest) -> int:
        return _index(self.program.weights, request)

    def _vector(self, request: VectorRequest) -> int:
        return _index(self.program.vectors, request)

    @staticmethod
    def _columns(op: str, tensor: Tensor, wanted: int) -> None:
        if tensor.cols != wanted:
            raise ValueError(f"{op}: {tensor} has {tensor.cols} columns, expected {wanted}")

    @staticmethod
    def _unused(name: str, taken: dict[str, Tensor], kind: str) -> None:
        if name in taken:
            raise ValueError(f"the program already has an {kind} {name!r}")


def with_activations(program: Program, dtype: str) -> Program:
    """The program with its buffers in "f16" or "bf16", but for what ops want in float32: angles, and logits."""
    floats = {op.outputs[0].buffer for op in program.ops if op.name == "rope_angles"}
    floats |= {op.inputs[0].buffer for op in program.ops if op.name == "sample"}
    dtypes = {buffer: dtype for buffer in range(len(program.buffers)) if buffer not in floats}
    return replace(program, dtypes=dtypes)


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _index(requests: list[_Request], request: _Request) -> int:
    """The place of `request` in the list, appended where it is new."""
    if request not in requests:
        requests.append(request)
    return requests.index(request)
