"""Step plans as the arrays that the native runner takes, and its outputs as row results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..core.plan import RowPlan, RowResult, RowSampling, StepPlan
from ..ops.sampling import Sampled, SamplingInputs
from ..runtime.inputs import StepInputs

ROW_ERRORS = {
    1: "the logits are not finite (damaged weights, or an activation overflow)",
    2: "no token is allowed: grammar, allowed_token_ids, bad_words and min_tokens together exclude every one",
}
"""What a row status other than 0 (see PfRowStatus) means to the request."""


class RowConstants:
    """What of the sampling arrays is the same in every step of the same requests: made anew only for other rows."""

    def __init__(self) -> None:
        self._of: list[RowSampling] | None = None
        self._arrays: dict[str, Any] = {}

    def arrays(self, constants: list[RowSampling]) -> dict[str, Any]:
        """Fields of SamplingInputs for rows with these constants."""
        if constants != self._of:
            self._arrays = {name: _column(constants, field, dtype) for name, (field, dtype) in _CONSTANTS.items()}
            if any(c.weigh for c in constants):
                self._arrays["weigh"] = _column(constants, "weigh", np.uint8)
            self._of = constants
        return self._arrays


_CONSTANTS: dict[str, tuple[str, type]] = {
    "temperature": ("temperature", np.float32),
    "top_p": ("top_p", np.float32),
    "min_p": ("min_p", np.float32),
    "top_k": ("top_k", np.int32),
    "repetition": ("repetition_penalty", np.float32),
    "presence": ("presence_penalty", np.float32),
    "frequency": ("frequency_penalty", np.float32),
    "seed": ("seed", np.uint64),
    "num_logprobs": ("num_logprobs", np.int32),
}
"""Fields of SamplingInputs, those of RowSampling that they hold, and their types."""


def _column(constants: Sequence[RowSampling], field: str, dtype: type) -> NDArray[Any]:
    return np.fromiter((getattr(c, field) for c in constants), dtype, len(constants))


class BlockTables:
    """The array of block tables, kept from step to step: a step allocates nothing that grows with its contexts."""

    def __init__(self) -> None:
        self._array = np.zeros((1, 1), np.int32)

    def fill(self, lists: list[list[int]]) -> NDArray[np.int32]:
        """[lists, at least the longest]; what stands past the end of a list means nothing."""
        rows, columns = self._array.shape
        longest = max(map(len, lists))
        if len(lists) > rows or longest > columns:
            self._array = np.zeros((max(rows, 2 * len(lists)), max(columns, 2 * longest)), np.int32)
        array = self._array[: len(lists)]
        _native.fill_block_tables(array, lists)
        return array


@dataclass(frozen=True, slots=True)
class KeptArrays:
    """What one executor keeps of a step's arrays for the next."""

    tables: BlockTables = field(default_factory=BlockTables)
    constants: RowConstants = field(default_factory=RowConstants)


def build_inputs(plan: StepPlan, block_size: int, masks: NDArray[np.uint32] | None, kept: KeptArrays) -> StepInputs:
    """Arrays of one step: T tokens over S sequences with R rows of logits."""
    seqs = plan.seqs
    lengths = np.fromiter((len(seq.tokens) for seq in seqs), np.int32, len(seqs))
    starts = np.fromiter((seq.start for seq in seqs), np.int32, len(seqs))
    query_start = np.zeros(len(seqs) + 1, np.int32)
    np.cumsum(lengths, out=query_start[1:])
    total = int(query_start[-1])

    tables = kept.tables.fill([seq.blocks for seq in seqs])
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
        prompt_lens=np.fromiter((seq.prompt_len for seq in seqs), np.int32, len(seqs)),
        copy_src=np.ascontiguousarray(copies[:, 0]),
        copy_dst=np.ascontiguousarray(copies[:, 1]),
        sampling=build_sampling(rows, masks, kept.constants),
    )


def build_sampling(
    rows: Sequence[RowPlan], masks: NDArray[np.uint32] | None, row_constants: RowConstants
) -> SamplingInputs:
    """The sampling arrays of `rows`, see PfSampling."""
    n = len(rows)
    constants = [row.sampling for row in rows]

    def column(values: Any, dtype: type) -> NDArray[Any]:
        return np.fromiter(values, dtype, n)

    bias = _ragged([row.bias for row in rows], np.float32)
    counts = _ragged([row.counts if row.sampling.needs_counts else None for row in rows], np.int32)
    return SamplingInputs(
        **row_constants.arrays(constants),
        stream=column((row.stream for row in rows), np.uint32),
        position=column((row.position for row in rows), np.uint32),
        target=column((row.target for row in rows), np.int32),
        defer=column((c.defer and row.target < 0 for c, row in zip(constants, rows, strict=True)), np.uint8),
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
