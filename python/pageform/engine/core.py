"""The step loop's body, without threads: plan → masks beside the native step → apply; faults are bisected.

`EngineCore` is used by one thread at a time. It owns the scheduler and, until `close`, the executor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import RequestError
from ..core.plan import RowPlan, StepPlan, StepResult
from ..core.request import Request
from ..core.stopwatch import Stopwatch
from .counters import Counters
from .sink import OutputSink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..executor import Executor, MaskGate
    from ..forms.grammar import Matcher
    from ..scheduler import Scheduler

FillMasks = Callable[[Sequence[tuple["Matcher", int, Sequence[int]]], "NDArray[np.uint32]"], None]


@dataclass(frozen=True, slots=True)
class MaskedRows:
    """Rows of masks from `first` on: one for a request's next token, and one after each of its `drafts`."""

    sink: OutputSink
    first: int
    drafts: list[int]

    @property
    def end(self) -> int:
        return self.first + 1 + len(self.drafts)


class EngineCore:
    """Runs requests step by step.

    `fill_masks(rows, masks)` writes grammar masks into `masks` [rows, ceil(vocab/32)], see `forms.grammar.fill_masks`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        fill_masks: FillMasks,
        vocab_size: int,
        check_invariants: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scheduler = scheduler
        self.executor = executor
        self.counters = Counters()
        self.grammar_time = Stopwatch()
        """What grammar work takes of the step loop's own time: what the matchers of its requests and the care for their
        ends add, and waiting for masks."""
        self._fill_masks = fill_masks
        self._mask_words = (vocab_size + 31) // 32
        self._check = check_invariants
        self.clock = clock
        self._mask_thread: ThreadPoolExecutor | None = None
        self._masks: NDArray[np.uint32] | None = None
        self._device_seconds = 0.0  # of the step under way

    def close(self) -> None:
        """Stops the executor and the mask thread."""
        if self._mask_thread is not None:
            self._mask_thread.shutdown()
        self.executor.stop()

    def step(self) -> bool:
        """Expires deadlines and runs one step. False when there was nothing to run."""
        start, grammar = time.perf_counter(), self.grammar_time.seconds
        self._device_seconds = 0.0
        plan = self.scheduler.plan(self.clock())
        if plan is None:
            return False
        self._run(plan)
        seconds, grammar = time.perf_counter() - start, self.grammar_time.seconds - grammar
        self.counters.time_step(seconds, self._device_seconds, grammar)
        if self._check:
            self.scheduler.cache.check_invariants()
        return True

    def _run(self, plan: StepPlan) -> None:
        try:
            result = self._execute(plan)
        except Exception as error:
            self._bisect(plan, error)
            return
        self._device_seconds += result.seconds
        self._count(plan)
        self.scheduler.apply(plan, result, self.clock())

    def _count(self, plan: StepPlan) -> None:
        sizes = [len(seq.tokens) - seq.num_drafts for seq in plan.seqs]
        self.counters.steps += 1
        self.counters.computed_tokens += plan.num_tokens
        self.counters.max_step_tokens = max(self.counters.max_step_tokens, plan.num_tokens)
        self.counters.mixed_steps += min(sizes) == 1 and max(sizes) > 1

    def _bisect(self, plan: StepPlan, error: Exception) -> None:
        """A step failed: its halves run alone until the guilty request is found and finished; the others go on."""
        self.counters.step_faults += 1
        self.scheduler.discard(plan)
        suspects = [seq.request for seq in plan.seqs]
        if len(suspects) == 1:
            guilty = self.scheduler.get(suspects[0])
            if guilty is not None:
                self.scheduler.fail(guilty, error, self.clock())
            return
        middle = len(suspects) // 2
        for half in (suspects[:middle], suspects[middle:]):
            part = self.scheduler.plan(self.clock(), only=frozenset(half))
            if part is not None:
                self._run(part)

    def _execute(self, plan: StepPlan) -> StepResult:
        masked = self._prepare_rows(plan)
        masks = None
        if not masked:
            result = self.executor.execute(plan)
        else:
            with self.grammar_time:
                masks, gate, job = self._start_filling(masked)
            try:
                result = self.executor.execute(plan, masks, gate)
            finally:
                with self.grammar_time:
                    job.result()  # the array and the matchers are in use until the job ends
                self.grammar_time.seconds += gate.waited
        if result.logits:
            self._sample_processed(plan, result, masks)
        return result

    def _start_filling(self, masked: list[MaskedRows]) -> tuple[NDArray[np.uint32], MaskGate, Future[None]]:
        """Masks that are being written on the mask thread, and the gate that opens when they are."""
        import numpy as np

        count = masked[-1].end
        if (
            self._masks is None or len(self._masks) < count
        ):  # kept, since fresh pages cost a step more than filling them
            self._masks = np.empty((2 * count, self._mask_words), dtype=np.uint32)
        masks = self._masks[:count]
        gate = self.executor.mask_gate()
        if self._mask_thread is None:
            self._mask_thread = ThreadPoolExecutor(1, thread_name_prefix="pageform-masks")
        return masks, gate, self._mask_thread.submit(self._fill, masked, masks, gate)

    def _prepare_rows(self, plan: StepPlan) -> list[MaskedRows]:
        """Gives each sampled row its bias, counts and mask index; returns what the masks are of, in order."""
        masked: list[MaskedRows] = []
        for seq in plan.seqs:
            certain = len(seq.tokens) - seq.num_drafts
            drafts = seq.tokens[certain:]
            for row in seq.rows:
                if row.target >= 0:
                    continue
                request, sink = self._owner(row)
                ahead = drafts[: row.offset - certain + 1]
                row.bias = sink.rows.bias(request.output_ids, ahead)
                row.counts = sink.rows.counts(ahead)
                if sink.matcher is None and sink.allowed is None:
                    continue
                if not ahead:
                    masked.append(MaskedRows(sink, masked[-1].end if masked else 0, drafts))
                row.mask = masked[-1].first + len(ahead)
        return masked

    def _owner(self, row: RowPlan) -> tuple[Request, OutputSink]:
        request = self.scheduler.get(row.request)
        assert request is not None
        sink = request.sink
        assert isinstance(sink, OutputSink)
        return request, sink

    def _fill(self, masked: list[MaskedRows], masks: NDArray[np.uint32], gate: Any) -> None:
        """Runs on the mask thread. A matcher that fails empties its own rows, and its request ends with the error."""
        start = time.perf_counter()
        try:
            grammars = [(m.sink.matcher, m.first, m.drafts) for m in masked if m.sink.matcher is not None]
            try:
                self._fill_masks(grammars, masks)
            except Exception:
                self._fill_singly(masked, masks)
            for rows in masked:
                if rows.sink.allowed is None:
                    continue
                if rows.sink.matcher is None:
                    masks[rows.first : rows.end] = rows.sink.allowed
                else:
                    masks[rows.first : rows.end] &= rows.sink.allowed
            self.counters.mask_seconds += time.perf_counter() - start
            gate.open()
        except BaseException as error:
            gate.fail(repr(error))
            raise

    def _fill_singly(self, masked: list[MaskedRows], masks: NDArray[np.uint32]) -> None:
        for rows in masked:
            if rows.sink.matcher is None:
                continue
            try:
                self._fill_masks([(rows.sink.matcher, rows.first, rows.drafts)], masks)
            except Exception as error:
                masks[rows.first : rows.end] = 0
                rows.sink.fault = error

    def _sample_processed(self, plan: StepPlan, result: StepResult, masks: NDArray[np.uint32] | None) -> None:
        """Runs Python logits processors over the deferred rows, then samples them. A fault stays with its request."""
        import numpy as np

        assert result.logits is not None
        rows = [row for seq in plan.seqs for row in seq.rows]
        ready: list[tuple[int, NDArray[np.float32]]] = []
        for index, logits in sorted(result.logits.items()):
            request, sink = self._owner(rows[index])
            try:
                for processor in sink.params.logits_processors:
                    logits = _checked(processor(list(request.output_ids), logits), logits.shape)
            except Exception as error:
                sink.fault = error
                result.rows[index].error = f"a logits processor raised {type(error).__name__}: {error}"
                continue
            ready.append((index, logits))
        if not ready:
            return
        sampled = self.executor.sample([rows[i] for i, _ in ready], np.stack([logits for _, logits in ready]), masks)
        for (index, _), row in zip(ready, sampled, strict=True):
            result.rows[index] = row


def _checked(logits: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    import numpy as np

    array = np.asarray(logits, dtype=np.float32)
    if array.shape != shape:
        raise RequestError(f"a logits processor returned shape {array.shape}, expected {shape}")
    return array
