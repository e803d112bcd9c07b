"""What goes wrong in a step, or in a request, disturbs no other request."""

from __future__ import annotations

import pytest
from scheduler_fakes import bench, check_output, make_request, make_requests, prompt, sizes

from pageform.core.completion import FinishReason
from pageform.core.errors import BackendError, IllegalTransition
from pageform.core.params import SamplingParams
from pageform.core.states import RequestState


def test_a_sink_that_raises_ends_its_own_request_only() -> None:
    b = bench()
    bad = make_requests(1, prompt(6), SamplingParams(max_tokens=9), 0.0, raise_at=2)[0]
    good = make_request(2, prompt(6, first=20), max_tokens=9)
    b.add(bad)
    b.add(good)
    b.run()
    assert bad.finish_reason is FinishReason.ERROR
    assert isinstance(bad.error, RuntimeError)
    assert len(bad.output_ids) == 2
    check_output(good)


def test_a_row_with_an_error_ends_its_request_and_is_not_cached() -> None:
    b = bench()
    bad = b.add(make_request(1, prompt(8), max_tokens=9))
    good = b.add(make_request(2, prompt(6, first=20), max_tokens=9))
    plan = b.scheduler.plan(b.now)
    assert plan is not None
    result = b.device.execute(plan)
    result.rows[0].error = "logits are not finite"
    assert b.scheduler.apply(plan, result, b.now) == [bad]
    assert (bad.finish_reason, bad.detail) == (FinishReason.ERROR, "logits are not finite")
    assert isinstance(bad.error, BackendError)
    b.run()
    check_output(good)
    again = b.add(make_request(3, prompt(8), max_tokens=9))
    assert sizes(b) == {3: 8}
    b.run()
    check_output(again)


def test_what_a_guilty_request_computed_is_not_cached() -> None:
    b = bench()
    guilty = b.add(make_request(1, prompt(40)))
    b.step()
    b.scheduler.fail(guilty, BackendError("broken"), b.now)
    b.add(make_request(2, prompt(40)))
    assert sizes(b) == {2: 32}


def test_a_failed_step_is_bisected() -> None:
    b = bench()
    requests = [b.add(make_request(i, prompt(6, first=4 * i), max_tokens=6)) for i in range(1, 7)]
    guilty = requests[3]
    executed = 0

    def run(only: frozenset[int] | None) -> None:
        nonlocal executed
        plan = b.scheduler.plan(b.now, only)
        if plan is None:
            return
        indices = [seq.request for seq in plan.seqs]
        if guilty.index not in indices:
            executed += 1
            b.scheduler.apply(plan, b.device.execute(plan), b.now)
            return
        b.device.spoil(plan)
        b.scheduler.discard(plan)
        b.cache.check_invariants()
        if len(indices) == 1:
            b.scheduler.fail(guilty, BackendError("broken"), b.now)
            return
        middle = len(indices) // 2
        run(frozenset(indices[:middle]))
        run(frozenset(indices[middle:]))

    run(None)
    assert executed == 2, "the first three together, the last two together"
    assert (guilty.finish_reason, guilty.detail) == (FinishReason.ERROR, "broken")
    b.run()
    for request in requests:
        check_output(request)
        assert request is guilty or request.finish_reason is not FinishReason.ERROR


def test_who_shared_a_prefix_in_a_failed_step_computes_it_anew() -> None:
    b = bench()
    guilty, other, third = (b.add(make_request(i, [*prompt(12), i], float(i), max_tokens=6)) for i in (1, 2, 3))
    plan = b.scheduler.plan(b.now)
    assert plan is not None
    assert [len(seq.tokens) for seq in plan.seqs] == [13, 1, 1]
    b.device.spoil(plan)
    b.scheduler.discard(plan)
    b.cache.check_invariants()
    plan = b.scheduler.plan(b.now, frozenset({2, 3}))
    assert plan is not None
    assert [len(seq.tokens) for seq in plan.seqs] == [13, 1]
    b.scheduler.apply(plan, b.device.execute(plan), b.now)
    b.scheduler.fail(guilty, BackendError("broken"), b.now)
    b.run()
    check_output(other)
    check_output(third)


def test_an_error_in_a_row_leaves_those_that_share_its_prefix_alone() -> None:
    b = bench()
    bad, good = (b.add(make_request(i, [*prompt(12), i], float(i), max_tokens=6)) for i in (1, 2))
    plan = b.scheduler.plan(b.now)
    assert plan is not None
    result = b.device.execute(plan)
    result.rows[0].error = "no token is allowed"
    assert b.scheduler.apply(plan, result, b.now) == [bad]
    b.cache.check_invariants()
    b.run()
    check_output(good)


def test_discarding_a_plan_that_preempted_restores_the_victim() -> None:
    b = bench(num_blocks=10)
    old = b.add(make_request(1, prompt(12), max_tokens=20))
    young = b.add(make_request(2, prompt(12, first=20), arrival=1.0, max_tokens=20))
    while True:
        plan = b.scheduler.plan(b.now)
        assert plan is not None
        if len(plan.seqs) == 1:
            break
        b.scheduler.apply(plan, b.device.execute(plan), b.now)
    b.device.spoil(plan)
    b.scheduler.discard(plan)
    assert young.state is RequestState.RUNNING
    assert young.num_preemptions == 0
    b.cache.check_invariants()
    b.run()
    check_output(old)
    check_output(young)


def test_a_result_of_another_plan_is_refused() -> None:
    b = bench()
    request = b.add(make_request(1, prompt(6), max_tokens=3))
    plan = b.scheduler.plan(b.now)
    assert plan is not None
    for spoil in ("step", "rows", "token"):
        result = b.device.execute(plan)
        if spoil == "step":
            result.step_id += 1
        elif spoil == "rows":
            result.rows.clear()
        else:
            result.rows[0].token = -1
        with pytest.raises(BackendError):
            b.scheduler.apply(plan, result, b.now)
    with pytest.raises(IllegalTransition):
        b.scheduler.plan(b.now)
    b.scheduler.discard(plan)
    with pytest.raises(IllegalTransition):
        b.scheduler.discard(plan)
    b.run()
    check_output(request)
