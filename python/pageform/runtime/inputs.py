"""Everything dynamic of one step, as arrays at fixed addresses. Mirrors `PfStep` of csrc/runtime/backend.h."""

from __future__ import annotations

from dataclasses import dataclass

from ..ops.sampling import I32, SamplingInputs


@dataclass(slots=True)
class StepInputs:
    """T tokens of S sequences, each sequence's side by side; R rows of logits. All arrays are C-contiguous."""

    token_ids: I32
    """[T]"""
    positions: I32
    """[T] absolute position in its sequence."""
    slots: I32
    """[T] cache slot that the token's keys and values go to: block · block_size + offset."""
    query_start: I32
    """[S + 1] first token of each sequence; T last."""
    seq_lens: I32
    """[S] context length including this step's tokens."""
    block_tables: I32
    """[S, max_blocks]; entries past the sequence's last block are not read. A sequence may read blocks that another one
    of the same step fills: in each layer all keys and values are written before any are read."""
    logits_rows: I32
    """[R] token whose hidden state makes each row of logits."""
    prompt_lens: I32 | None = None
    """[S] positions below are the sequence's prompt, which a GPU computes by a kernel of its own; None: none are."""
    sampling: SamplingInputs | None = None
    """May be None where R is 0 or the program samples nothing."""
    copy_src: I32 | None = None
    """[C] cache blocks copied to `copy_dst`, in order, before anything else."""
    copy_dst: I32 | None = None
    copy_logits: bool = False
    """Give back the raw logits of all rows, not only of deferred ones."""
