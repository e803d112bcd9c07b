"""What a torch reference of an op is called with: `reference(call, step, *inputs) -> tuple of outputs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .sampling import Sampled, SamplingInputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class ReferenceCall:
    """The constant part of a call. Parameters are named as in `ops/table.py`."""

    name: str
    weight: Tensor | None = None
    """[N, K] float32."""
    vector: Tensor | None = None
    """[n] float32."""
    ints: dict[str, int] = field(default_factory=dict)
    floats: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class ReferenceStep:
    """The dynamic part of a step: T tokens, S sequences, R rows of logits. Integer tensors are int64."""

    token_ids: Tensor
    """[T]"""
    positions: Tensor
    """[T]"""
    slots: Tensor
    """[T] block * block_size + offset, where this step's keys and values go."""
    query_start: Tensor
    """[S + 1] first token of each sequence."""
    seq_lens: Tensor
    """[S] context length including this step's tokens."""
    block_tables: Tensor
    """[S, max_blocks]; entries past the sequence's length mean nothing."""
    logits_rows: Tensor
    """[R] token whose hidden state makes each row of logits."""
    kv: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Keys and values of each layer, [num_blocks, block_size, kv_heads, head_dim] in the dtype of the cache; of an i8
    cache what its codes stand for, in float32."""
    kv_dtype: str = "f32"
    """"f32", "f16", "i16" or "i8"."""
    sampling: SamplingInputs | None = None
    """numpy arrays: read by `sample` only."""
    sampled: Sampled | None = None
    """numpy arrays that `sample` writes in place."""
    copy_logits: bool = False
    """Copy the raw logits of all rows to `sampled.logits`, not only those of deferred ones."""
