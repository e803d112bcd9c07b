"""The step loop's body, without threads: plan → masks beside the native step → apply; faults are bisected.

`EngineCore` is used by one thread at a time. It owns the scheduler and, until `close`, the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..core.errors import RequestError
from ..core.plan import RowPlan, StepPlan, StepResult
from ..core.request import Request
from .sink import OutputSink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..executor import Executor
    from ..forms.grammar import Matcher
    from ..scheduler import Scheduler

FillMasks = Callable[[Sequence[tuple["Matcher", int]], "NDArray[np.uint32]"], Mapping[int, Exception]]


class EngineCore:
    """Runs requests step by step.

    `fill_masks(rows, masks)` writes the grammar mask of each (matcher, row) into `masks` [rows, ceil(vocab/32)] and
    returns the rows that failed with their errors.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        fill_masks: FillMasks | None,
        vocab_size: int,
        check_invariants: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.executor = executor
        self.steps = 0
        self.step_faults = 0
        self.mixed_steps = 0
        self.max_step_tokens = 0
        self._fill_masks = fill_masks
        self._mask_words = (vocab_size + 31) // 32
        self._check = check_invariants
        self._mask_thread: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Stops the executor and the mask thread."""
        if self._mask_thread is not None:
            self._mask_thread.shutdown()
        self.executor.stop()

    def step(self, now: float) -> bool:
        """Expires deadlines and runs one step at time `now` (seconds). False when there was nothing to run."""
        plan = self.scheduler.plan(now)
        if plan is None:
            return False
        self._run(plan, now)
        if self._check:
            self.scheduler.check_invariants()
        return True

    def _run(self, plan: StepPlan, now: float) -> None:
        try:
            result = self._execute(plan)
        except Exception as error:
            self._bisect(plan, error, now)
            return
        self._count(plan)
        self.scheduler.apply(plan, result, now)

    def _count(self, plan: StepPlan) -> None:
        sizes = [len(seq.tokens) for seq in plan.seqs]
        self.steps += 1
        self.max_step_tokens = max(self.max_step_tokens, sum(sizes))
        self.mixed_steps += min(sizes) == 1 and max(sizes) > 1

    def _bisect(self, plan: StepPlan, error: Exception, now: float) -> None:
        """A step failed: its halves run alone until the guilty request is found and finished; the others go on."""
        self.step_faults += 1
        self.scheduler.discard(plan)
        guilty = [seq.request for seq in plan.seqs]
        if len(guilty) == 1:
            self.scheduler.fail(guilty[0], error, now)
            return
        middle = len(guilty) // 2
        for half in (guilty[:middle], guilty[middle:]):
            part = self.scheduler.plan(now, only=frozenset(half))
            if part is not None:
                self._run(part, now)

    def _execute(self, plan: StepPlan) -> StepResult:
        masked = self._prepare_rows(plan)
        if not masked:
            result = self.executor.execute(plan)
        else:
            import numpy as np

            masks = np.empty((len(masked), self._mask_words), dtype=np.uint32)
            gate = self.executor.mask_gate()
            if self._mask_thread is None:
                self._mask_thread = ThreadPoolExecutor(1, thread_name_prefix="pageform-masks")
            job = self._mask_thread.submit(self._fill, masked, masks, gate)
            try:
                result = self.executor.execute(plan, masks, gate)
            finally:
                job.result()  # the array and the matchers are in use until the job ends
        if result.logits:
            self._sample_processed(plan, result, masks if masked else None)
        return result

    def _prepare_rows(self, plan: StepPlan) -> list[OutputSink]:
        """Gives each sampled row its bias, counts and mask index; returns the sinks whose masks are needed, in order."""
        masked: list[OutputSink] = []
        for seq in plan.seqs:
            for row in seq.rows:
                if row.target >= 0:
                    continue
                request, sink = self._owner(row)
                row.bias = sink.rows.bias(request.output_ids)
                row.counts = sink.rows.counts
                if sink.matcher is not None or sink.allowed is not None:
                    row.mask = len(masked)
                    masked.append(sink)
        return masked

    def _owner(self, row: RowPlan) -> tuple[Request, OutputSink]:
        request = self.scheduler.request(row.request)
        sink = request.sink
        assert isinstance(sink, OutputSink)
        return request, sink

    def _fill(self, masked: list[OutputSink], masks: NDArray[np.uint32], gate: Any) -> None:
        """Runs on the mask thread. A matcher that fails is noted in its sink, which ends its own request only."""
        try:
            grammars = [(sink.matcher, i) for i, sink in enumerate(masked) if sink.matcher is not None]
            if grammars:
                assert self._fill_masks is not None
                for i, error in self._fill_masks(grammars, masks).items():
                    masked[i].fault = error
            for i, sink in enumerate(masked):
                if sink.allowed is None:
                    continue
                if sink.matcher is None:
                    masks[i] = sink.allowed
                else:
                    masks[i] &= sink.allowed
            gate.open()
        except BaseException as error:
            gate.fail(repr(error))
            raise

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
