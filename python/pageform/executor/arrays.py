"""Step plans as the arrays that the native runner takes, and its outputs as row results."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from .. import _native
from ..core.plan import RowPlan, RowResult, RowSampling, StepPlan
from ..ops.sampling import Sampled, SamplingInputs
from ..runtime.inputs import StepInputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
            self._arrays = {name: _column(constants, field, code) for name, (field, code) in _CONSTANTS.items()}
            if any(c.weigh for c in constants):
                self._arrays["weigh"] = _column(constants, "weigh", _U8)
            self._of = constants
        return self._arrays


_I32, _U32, _U64, _F32, _U8 = "i", "I", "Q", "f", "B"
"""Type codes of the standard library's arrays: NumPy takes longer to import than a small model to load."""

_CONSTANTS: dict[str, tuple[str, str]] = {
    "temperature": ("temperature", _F32),
    "top_p": ("top_p", _F32),
    "min_p": ("min_p", _F32),
    "top_k": ("top_k", _I32),
    "repetition": ("repetition_penalty", _F32),
    "presence": ("presence_penalty", _F32),
    "frequency": ("frequency_penalty", _F32),
    "seed": ("seed", _U64),
    "num_logprobs": ("num_logprobs", _I32),
}
"""Fields of SamplingInputs, those of RowSampling that they hold, and their types."""


def _column(constants: Sequence[RowSampling], field: str, code: str) -> array[Any]:
    return array(code, [getattr(c, field) for c in constants])


class BlockTables:
    """The array of block tables, kept from step to step: a step allocates nothing that grows with its contexts."""

    def __init__(self) -> None:
        self._columns = 1
        self._array = _table(1, self._columns)

    def fill(self, lists: list[list[int]]) -> memoryview:
        """[lists, at least the longest]; what stands past the end of a list means nothing."""
        rows, columns = len(self._array), self._columns
        longest = max(map(len, lists))
        if len(lists) > rows or longest > columns:
            self._columns = max(columns, 2 * longest)
            self._array = _table(max(rows, 2 * len(lists)), self._columns)
        table = self._array[: len(lists)]
        _native.fill_block_tables(table, lists)
        return table


def _table(rows: int, columns: int) -> memoryview:
    return memoryview(bytearray(4 * rows * columns)).cast("i", (rows, columns))


@dataclass(frozen=True, slots=True)
class KeptArrays:
    """What one executor keeps of a step's arrays for the next."""

    tables: BlockTables = field(default_factory=BlockTables)
    constants: RowConstants = field(default_factory=RowConstants)


def build_inputs(plan: StepPlan, block_size: int, masks: NDArray[np.uint32] | None, kept: KeptArrays) -> StepInputs:
    """Arrays of one step: T tokens over S sequences with R rows of logits."""
    seqs = plan.seqs
    lengths = [len(seq.tokens) for seq in seqs]
    query_start = list(accumulate(lengths, initial=0))
    token_ids, positions, slots = array(_I32), array(_I32), array(_I32)
    for seq, length in zip(seqs, lengths, strict=True):
        token_ids.extend(seq.tokens)
        places = range(seq.start, seq.start + length)
        positions.extend(places)
        blocks = seq.blocks
        slots.extend([blocks[place // block_size] * block_size + place % block_size for place in places])
    rows = [row for seq in seqs for row in seq.rows]
    return StepInputs(
        token_ids=token_ids,
        positions=positions,
        slots=slots,
        query_start=array(_I32, query_start),
        seq_lens=array(_I32, [seq.start + length for seq, length in zip(seqs, lengths, strict=True)]),
        block_tables=kept.tables.fill([seq.blocks for seq in seqs]),
        logits_rows=array(_I32, [query_start[i] + row.offset for i, seq in enumerate(seqs) for row in seq.rows]),
        prompt_lens=array(_I32, [seq.prompt_len for seq in seqs]),
        copy_src=array(_I32, [source for source, _ in plan.copies]),
        copy_dst=array(_I32, [target for _, target in plan.copies]),
        sampling=build_sampling(rows, masks, kept.constants),
    )


def build_sampling(
    rows: Sequence[RowPlan], masks: NDArray[np.uint32] | None, row_constants: RowConstants
) -> SamplingInputs:
    """The sampling arrays of `rows`, see PfSampling."""
    constants = [row.sampling for row in rows]
    bias = _ragged([row.bias for row in rows], _F32)
    counts = _ragged([row.counts if row.sampling.needs_counts else None for row in rows], _I32)
    return SamplingInputs(
        **row_constants.arrays(constants),
        stream=array(_U32, [row.stream for row in rows]),
        position=array(_U32, [row.position for row in rows]),
        target=array(_I32, [row.target for row in rows]),
        defer=array(_U8, [c.defer and row.target < 0 for c, row in zip(constants, rows, strict=True)]),
        mask_row=None if masks is None else array(_I32, [row.mask for row in rows]),
        masks=masks,
        bias_start=bias[0],
        bias_tokens=bias[1],
        bias_values=bias[2],
        count_start=counts[0],
        count_tokens=counts[1],
        count_values=counts[2],
    )


def _ragged(
    maps: Sequence[dict[int, Any] | None], code: str
) -> tuple[array[int] | None, array[int] | None, array[Any] | None]:
    """Per-row {token: value} maps as (start [rows + 1], tokens, values); all None when every map is empty."""
    if not any(maps):
        return None, None, None
    start = array(_I32, accumulate((len(m) if m else 0 for m in maps), initial=0))
    tokens = array(_I32, [token for m in maps if m for token in m])
    values: array[Any] = array(code, [value for m in maps if m for value in m.values()])
    return start, tokens, values


def read_rows(rows: Sequence[RowPlan], out: Sampled) -> list[RowResult]:
    """Row results from the runner's output arrays (see PfSampled)."""
    ids, logprobs, ranks, status = out.ids.tolist(), out.logprobs.tolist(), out.ranks.tolist(), out.status.tolist()
    log_allowed, allowed = out.log_allowed.tolist(), out.allowed_logprobs.tolist()
    wants_top = any(row.sampling.num_logprobs > 0 for row in rows)
    top_ids, top_logprobs = (out.top_ids.tolist(), out.top_logprobs.tolist()) if wants_top else ([], [])
    results: list[RowResult] = []
    for i, row in enumerate(rows):
        wanted = row.sampling.num_logprobs
        top = None
        if wanted > 0:
            top = list(zip(top_ids[i][:wanted], top_logprobs[i][:wanted], strict=True))
        error = ROW_ERRORS[status[i]] if status[i] else None
        results.append(RowResult(row.request, ids[i], logprobs[i], ranks[i], top, error, log_allowed[i], allowed[i]))
    return results
