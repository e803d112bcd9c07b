"""Sequences with drawn queries, keys and values, run through `cache_write` and `attention` in steps of any make-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from harness import ProgramPair

from pageform import _native
from pageform.runtime.inputs import StepInputs
from pageform.runtime.program import Op, Program, Rows, Tensor
from pageform.runtime.reference import KvShape

Chunk = tuple[int, int]
"""(sequence, number of its next tokens to compute)."""


@dataclass(frozen=True)
class Shape:
    """An attention layer."""

    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 64
    window: int = 0
    softcap: float = 0.0
    dtype: str = "f16"
    block_size: int = 16

    def program(self) -> Program:
        """q, k, v -> o, with the cache written first."""
        program = Program(weights=[], vectors=[])
        widths = {"q": self.heads, "k": self.kv_heads, "v": self.kv_heads, "o": self.heads}
        views = {}
        for name, heads in widths.items():
            program.buffers.append((Rows.TOKENS, heads * self.head_dim))
            views[name] = Tensor(len(program.buffers) - 1, Rows.TOKENS, 0, heads * self.head_dim)
        program.inputs.update({name: views[name] for name in "qkv"})
        program.outputs["o"] = views["o"]
        program.ops.append(Op("cache_write", (views["k"], views["v"]), (), ints=(0, self.kv_heads, self.head_dim)))
        ints = (0, self.heads, self.kv_heads, self.head_dim, self.window)
        program.ops.append(
            Op("attention", (views["q"],), (views["o"],), ints=ints, floats=(self.head_dim**-0.5, self.softcap))
        )
        return program


@dataclass
class Rig:
    """Sequences of the given lengths, and a fresh cache whose blocks they own scattered."""

    shape: Shape
    lengths: Sequence[int]
    device: _native.Device
    seed: int = 0
    computed: list[int] = field(init=False)

    def __post_init__(self) -> None:
        shape, rng = self.shape, np.random.default_rng(self.seed)
        self.data = [
            {
                name: rng.standard_normal((length, heads * shape.head_dim)).astype(np.float32)
                for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads))
            }
            for length in self.lengths
        ]
        per_seq = -(-max(self.lengths) // shape.block_size)
        blocks = rng.permutation(per_seq * len(self.lengths)).astype(np.int32)
        self.tables = blocks.reshape(len(self.lengths), per_seq)
        self.computed = [0] * len(self.lengths)
        self.pair = ProgramPair(
            shape.program(),
            kv=KvShape(1, shape.kv_heads, shape.head_dim, shape.block_size, blocks.size, shape.dtype),
            device=self.device,
            max_tokens=sum(self.lengths),
            max_seqs=len(self.lengths),
            max_rows=1,
        )

    def step(self, chunks: Sequence[Chunk], reference: bool = False) -> list[np.ndarray]:
        """Computes the chunks in one step; their outputs, each [tokens, heads · head_dim]. Also fed to the reference,
        whose outputs are given back instead, if asked for."""
        spans = [(seq, self.computed[seq], self.computed[seq] + count) for seq, count in chunks]
        positions = np.concatenate([np.arange(begin, end) for _, begin, end in spans]).astype(np.int32)
        owners = np.concatenate([np.full(end - begin, seq) for seq, begin, end in spans])
        size = self.shape.block_size
        starts = np.cumsum([0] + [end - begin for _, begin, end in spans]).astype(np.int32)
        inputs = StepInputs(
            token_ids=np.zeros(len(positions), np.int32),
            positions=positions,
            slots=(self.tables[owners, positions // size] * size + positions % size).astype(np.int32),
            query_start=starts,
            seq_lens=np.array([end for _, _, end in spans], np.int32),
            block_tables=np.ascontiguousarray(self.tables[[seq for seq, _, _ in spans]]),
            logits_rows=np.zeros(0, np.int32),
        )
        runner = self.pair.reference if reference else self.pair.native
        for name in "qkv":
            runner.feed(name, np.concatenate([self.data[seq][name][begin:end] for seq, begin, end in spans]))
        runner.run(inputs)
        for seq, _, end in spans:
            self.computed[seq] = end
        return np.split(runner.fetch("o").copy(), starts[1:-1])

    def run(self, steps: Sequence[Sequence[Chunk]], reference: bool = False) -> list[np.ndarray]:
        """Runs all steps from an empty context; the outputs of each sequence's computed tokens."""
        self.computed = [0] * len(self.lengths)
        parts: list[list[np.ndarray]] = [[] for _ in self.lengths]
        for chunks in steps:
            for (seq, _), output in zip(chunks, self.step(chunks, reference), strict=True):
                parts[seq].append(output)
        return [np.concatenate(part) if part else np.zeros((0, 0), np.float32) for part in parts]


def in_chunks(seq: int, length: int, size: int) -> list[list[Chunk]]:
    """Steps that compute one sequence alone, `size` tokens at a time."""
    return [[(seq, min(size, length - begin))] for begin in range(0, length, size)]
