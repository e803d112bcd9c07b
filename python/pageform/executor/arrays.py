"""Step plans as the arrays that the native runner takes, and its outputs as row results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.plan import RowPlan, RowResult, StepPlan
from ..ops.sampling import Sampled, SamplingInputs
from ..runtime.inputs import StepInputs

ROW_ERRORS = {
    1: "the logits are not finite (damaged weights, or an activation overflow)",
    2: "no token is allowed: grammar, allowed_token_ids, bad_words and min_tokens together exclude every one",
}
"""What a row status other than 0 (see PfRowStatus) means to the request."""


def build_inputs(plan: StepPlan, block_size: int, masks: NDArray[np.uint32] | None) -> StepInputs:
    """Arrays of one step: T tokens over S sequences with R rows of logits."""
    seqs = plan.seqs
    lengths = np.fromiter((len(seq.tokens) for seq in seqs), np.int32, len(seqs))
    starts = np.fromiter((seq.start for seq in seqs), np.int32, len(seqs))
    query_start = np.zeros(len(seqs) + 1, np.int32)
    np.cumsum(lengths, out=query_start[1:])
    total = int(query_start[-1])

    tables = np.zeros((len(seqs), max(len(seq.blocks) for seq in seqs)), np.int32)
    for i, seq in enumerate(seqs):
        tables[i, : len(seq.blocks)] = seq.blocks
    owner = np.repeat(np.arange(len(seqs), dtype=np.int32), lengths)
    positions = np.arange(total, dtype=np.int32) - query_start[owner] + starts[owner]
    slots = tables[owner, positions // block_size] * block_size + positions % block_size

    rows = [row for seq in seqs for row in seq.rows]
    logits_rows = [int(query_start[i]) + row.offset for i, seq in enumerate(seqs) for row in seq.rows]
    copies = np.array(plan.copies, np.int32).reshape(-1, 2)
    return StepInputs(
        token_ids=np.fromiter((token for seq in seqs for token in seq.tokens), np.int32, total),
        positions=positions,
        slots=slots,
        query_start=query_start,
        seq_lens=starts + lengths,
        block_tables=tables,
        logits_rows=np.array(logits_rows, np.int32),
        copy_src=np.ascontiguousarray(copies[:, 0]),
        copy_dst=np.ascontiguousarray(copies[:, 1]),
        sampling=build_sampling(rows, masks),
    )


def build_sampling(rows: Sequence[RowPlan], masks: NDArray[np.uint32] | None) -> SamplingInputs:
    """The sampling arrays of `rows`, see PfSampling."""
    n = len(rows)
    constants = [row.sampling for row in rows]

    def column(values: Any, dtype: type) -> NDArray[Any]:
        return np.fromiter(values, dtype, n)

    bias = _ragged([row.bias for row in rows], np.float32)
    counts = _ragged([row.counts if row.sampling.needs_counts else None for row in rows], np.int32)
    return SamplingInputs(
        temperature=column((c.temperature for c in constants), np.float32),
        top_p=column((c.top_p for c in constants), np.float32),
        min_p=column((c.min_p for c in constants), np.float32),
        top_k=column((c.top_k for c in constants), np.int32),
        repetition=column((c.repetition_penalty for c in constants), np.float32),
        presence=column((c.presence_penalty for c in constants), np.float32),
        frequency=column((c.frequency_penalty for c in constants), np.float32),
        seed=column((c.seed for c in constants), np.uint64),
        stream=column((row.stream for row in rows), np.uint32),
        position=column((row.position for row in rows), np.uint32),
        num_logprobs=column((c.num_logprobs for c in constants), np.int32),
        target=column((row.target for row in rows), np.int32),
        defer=column((c.defer and row.target < 0 for c, row in zip(constants, rows, strict=True)), np.uint8),
        weigh=column((c.weigh for c in constants), np.uint8) if any(c.weigh for c in constants) else None,
        mask_row=None if masks is None else column((row.mask for row in rows), np.int32),
        masks=masks,
        bias_start=bias[0],
        bias_tokens=bias[1],
        bias_values=bias[2],
        count_start=counts[0],
        count_tokens=counts[1],
        count_values=counts[2],
    )


def _ragged(
    maps: Sequence[dict[int, Any] | None], dtype: type
) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None, NDArray[Any] | None]:
    """Per-row {token: value} maps as (start [rows + 1], tokens, values); all None when every map is empty."""
    if not any(maps):
        return None, None, None
    start = np.zeros(len(maps) + 1, np.int32)
    np.cumsum([len(m) if m else 0 for m in maps], out=start[1:])
    tokens = np.fromiter((token for m in maps if m for token in m), np.int32, int(start[-1]))
    values: NDArray[Any] = np.fromiter((value for m in maps if m for value in m.values()), dtype, int(start[-1]))
    return start, tokens, values


def read_rows(rows: Sequence[RowPlan], out: Sampled) -> list[RowResult]:
    """Row results from the runner's output arrays (see PfSampled)."""
    ids, logprobs, ranks, status = out.ids.tolist(), out.logprobs.tolist(), out.ranks.tolist(), out.status.tolist()
    log_allowed, allowed = out.log_allowed.tolist(), out.allowed_logprobs.tolist()
    results: list[RowResult] = []
    for i, row in enumerate(rows):
        wanted = row.sampling.num_logprobs
        top = None
        if wanted > 0:
            top = list(zip(out.top_ids[i, :wanted].tolist(), out.top_logprobs[i, :wanted].tolist(), strict=True))
        error = ROW_ERRORS[status[i]] if status[i] else None
        results.append(RowResult(row.request, ids[i], logprobs[i], ranks[i], top, error, log_allowed[i], allowed[i]))
    return results
