"""The step loop's body with an executor that fails on purpose: faults stay with the request that caused them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pageform.cache import KVCacheManager
from pageform.core.completion import Completion, FinishReason
from pageform.core.errors import EngineClosedError
from pageform.core.params import SamplingParams
from pageform.core.plan import RowPlan, RowResult, StepPlan, StepResult
from pageform.engine.core import EngineCore
from pageform.engine.loop import EngineLoop
from pageform.engine.prepare import Preparer
from pageform.engine.ticket import Ticket
from pageform.sampling import ModelLimits
from pageform.scheduler import Scheduler, SchedulerConfig

VOCAB = 64


class Gate:
    """A gate nobody waits at."""

    failure = ""
    waited = 0.0

    def open(self) -> None: ...

    def fail(self, message: str) -> None: ...

    def wait(self) -> bool:
        return True


class FaultyExecutor:
    """Samples 3 + position for every row, and raises whenever a poisoned request is in the step."""

    def __init__(self, poisoned: set[int], only_at_output: int | None = None) -> None:
        self.poisoned, self.only_at_output = poisoned, only_at_output
        self.steps: list[list[int]] = []
        self.stopped = False

    def execute(self, plan: StepPlan, masks: Any = None, gate: Any = None) -> StepResult:
        self.steps.append([seq.request for seq in plan.seqs])
        rows = [row for seq in plan.seqs for row in seq.rows]
        for row in rows:
            if row.request in self.poisoned and self.only_at_output in (None, row.position):
                raise FloatingPointError(f"request {row.request} broke the step")
        return StepResult(plan.step_id, [RowResult(row.request, 3 + row.position) for row in rows])

    def sample(self, rows: Sequence[RowPlan], logits: np.ndarray, masks: Any = None) -> list[RowResult]:
        raise NotImplementedError

    def mask_gate(self) -> Gate:
        return Gate()

    def call(self, method: str, *args: Any) -> Any:
        raise NotImplementedError

    def health(self) -> bool:
        return not self.stopped

    def stop(self) -> None:
        self.stopped = True


def _engine(executor: FaultyExecutor) -> tuple[EngineCore, Preparer]:
    cache = KVCacheManager(64, 16)
    config = SchedulerConfig(max_num_seqs=16, max_num_batched_tokens=64, max_model_len=256)
    core = EngineCore(Scheduler(config, cache), executor, lambda rows, masks: None, VOCAB, check_invariants=True)
    preparer = Preparer(None, ModelLimits(VOCAB, 256, 16), frozenset(), None, 0, core.counters.count, core.grammar_time)
    return core, preparer


def _tickets(preparer: Preparer, count: int) -> list[Ticket]:
    params = SamplingParams(temperature=0, max_tokens=6)
    return [preparer.ticket([5, 6, 7, i], params) for i in range(count)]


@pytest.mark.parametrize("guilty", [{0}, {4}, {7}, {2, 5}, set(range(8))])
@pytest.mark.parametrize("when", [None, 0, 3])
def test_a_step_fault_is_bisected_down_to_the_guilty(guilty: set[int], when: int | None) -> None:
    executor = FaultyExecutor(guilty, when)
    core, preparer = _engine(executor)
    tickets = _tickets(preparer, 8)
    for ticket in tickets:
        core.scheduler.add(ticket.requests[0], core.clock())
    for _ in range(40):
        if not core.step():
            break
    for i, ticket in enumerate(tickets):
        completion: Completion = ticket.future.result(timeout=0)
        if i in guilty:
            assert completion.finish_reason is FinishReason.ERROR
            assert isinstance(completion.error, FloatingPointError)
            assert completion.token_ids == list(range(3, 3 + (when or 0)))
        else:
            assert completion.finish_reason is FinishReason.LENGTH
            assert completion.token_ids == [3, 4, 5, 6, 7, 8]
    assert core.counters.step_faults >= len(guilty)
    assert core.scheduler.cache.stats().num_free_blocks == 64
    assert not core.scheduler.has_requests


def test_a_defect_of_the_loop_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = FaultyExecutor(set())
    core, preparer = _engine(executor)

    def broken() -> bool:
        raise MemoryError("planned")

    monkeypatch.setattr(core, "step", broken)
    monkeypatch.setattr("threading.excepthook", lambda args: None)
    loop = EngineLoop(core)
    [ticket] = _tickets(preparer, 1)
    loop.submit(ticket)
    with pytest.raises(MemoryError, match="planned"):
        ticket.future.result(timeout=10)
    [late] = _tickets(preparer, 1)
    with pytest.raises(EngineClosedError):
        loop.submit(late)
    loop.close()
    assert executor.stopped
