"""How requests come, wait, are held and cut back, and go."""

from __future__ import annotations

import pytest
from scheduler_fakes import bench, check_output, expected_tokens, lasting, make_request, make_requests, prompt

from pageform.core.completion import FinishReason
from pageform.core.errors import CapacityError, IllegalTransition, ParameterError
from pageform.core.log import RequestLog, RewindEntry
from pageform.core.params import SamplingParams
from pageform.core.request import Request
from pageform.scheduler import SchedulerConfig

# --- limits at the door ---------------------------------------------------------------------------------------------


def test_limits_of_the_queue() -> None:
    b = bench(max_num_seqs=1, max_queued_requests=2, max_queued_tokens=20)
    b.add(make_request(1, prompt(8)))
    with pytest.raises(CapacityError, match="max_queued_tokens=20: 8 tokens wait already and the prompt has 13"):
        b.add(make_request(2, prompt(13)))
    b.add(make_request(2, prompt(8)))
    with pytest.raises(CapacityError, match="max_queued_requests=2"):
        b.add(make_request(3, prompt(1)))
    assert b.scheduler.stats().num_rejections == 2
    b.step()
    b.add(make_request(3, prompt(8)))
    b.run()


def test_a_prompt_that_never_fits_is_refused_at_once() -> None:
    b = bench(num_blocks=4)
    with pytest.raises(CapacityError, match="kv_cache_memory='16 tokens': can't hold the 17 tokens") as refused:
        b.add(make_request(1, prompt(17)))
    assert refused.value.field == "kv_cache_memory"
    with pytest.raises(ParameterError, match="prompt='256 tokens': leaves no room"):
        b.add(make_request(1, prompt(256)))
    with pytest.raises(ParameterError, match="has no tokens"):
        b.add(make_request(1, []))
    assert not b.scheduler.has_requests


def test_a_prompt_that_just_fits_gets_its_token() -> None:
    b = bench(num_blocks=4)
    request = b.add(make_request(1, prompt(16)))
    b.run()
    assert len(request.output_ids) == 1
    assert (request.finish_reason, request.detail) == (FinishReason.LENGTH, "kv_cache_memory")


def test_the_context_ends_a_request() -> None:
    b = bench(max_model_len=20)
    request = b.add(make_request(1, lasting(15, 5)))
    b.run()
    assert request.num_tokens == 20
    assert (request.finish_reason, request.detail) == (FinishReason.LENGTH, "max_model_len")


def test_a_request_id_in_use_is_refused() -> None:
    b = bench()
    first = b.add(make_request(1, prompt(4), max_tokens=1))
    twin = make_request(2, prompt(4), max_tokens=1)
    twin.request_id = first.request_id
    with pytest.raises(ParameterError, match="request_id"):
        b.add(twin)
    b.run()
    b.add(twin)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_num_seqs", 0),
        ("max_num_batched_tokens", 3),
        ("prefill_chunk", 0),
        ("watermark", 1.0),
        ("max_model_len", -1),
    ],
)
def test_bad_limits_are_named(field: str, value: object) -> None:
    with pytest.raises(ParameterError) as error:
        SchedulerConfig(**{"max_num_seqs": 8, field: value})  # type: ignore[arg-type]
    assert error.value.field == field


# --- deadlines and aborts -------------------------------------------------------------------------------------------


def test_each_deadline_ends_its_request_and_says_so() -> None:
    b = bench(max_num_seqs=1, max_num_batched_tokens=4)
    running = b.add(make_request(1, lasting(4, 30), timeout=5.0))
    slow = b.add(make_request(2, prompt(40), arrival=0.5, first_token_timeout=4.0))
    queued = b.add(make_request(3, prompt(4), arrival=1.0, queue_timeout=2.0))
    while b.now < 20 and b.scheduler.has_requests:
        b.step()
        b.now += 1.0
    assert [r.finish_reason for r in (running, slow, queued)] == [FinishReason.TIMEOUT] * 3
    assert running.detail == "timeout: not finished within 5 s"
    assert running.finish_time == 5.0
    assert running.output_ids, "what was decoded stays"
    assert slow.detail == "first_token_timeout: no token within 4 s"
    assert queued.detail == "queue_timeout: not scheduled within 2 s"
    assert b.cache.num_free_blocks == 64
    check_output(running)


def test_a_deadline_met_does_not_count() -> None:
    b = bench()
    request = b.add(make_request(1, prompt(4), max_tokens=5, queue_timeout=1.0, first_token_timeout=1.0))
    b.step()
    b.now = 2.0
    b.run()
    check_output(request)
    assert b.scheduler.next_deadline is None


def test_deadlines_of_finished_requests_are_not_kept() -> None:
    b = bench()
    for index in range(300):
        b.add(make_request(index, prompt(2), max_tokens=1, timeout=1e9))
        b.run()
    assert len(b.scheduler._deadlines) <= 1


def test_abort_frees_blocks_in_the_same_call() -> None:
    b = bench()
    request = b.add(make_request(1, prompt(30)))
    b.step()
    assert b.cache.num_free_blocks < 64
    assert b.scheduler.abort("r1", b.now) == [request]
    assert b.cache.num_free_blocks == 64
    assert request.finish_reason is FinishReason.ABORT
    assert b.scheduler.abort("r1", b.now) == []
    assert b.scheduler.plan(b.now) is None


@pytest.mark.parametrize("outcome", ["apply", "discard"])
def test_abort_while_a_step_is_in_flight_takes_effect_with_it(outcome: str) -> None:
    b = bench()
    request = b.add(make_request(1, prompt(30)))
    other = b.add(make_request(2, prompt(2, first=20), max_tokens=4))
    plan = b.scheduler.plan(b.now)
    assert plan is not None
    assert b.scheduler.abort(1, b.now) == [request]
    assert not request.is_finished
    if outcome == "apply":
        b.scheduler.apply(plan, b.device.execute(plan), b.now)
        assert request.output_ids == []
    else:
        b.device.spoil(plan)
        b.scheduler.discard(plan)
    assert request.finish_reason is FinishReason.ABORT
    b.run()
    check_output(other)
    assert b.cache.num_free_blocks == 64


# --- verdicts and rewind --------------------------------------------------------------------------------------------


def test_a_held_request_keeps_its_blocks_and_is_not_scheduled() -> None:
    b = bench()
    request = b.add(make_request(1, prompt(6, first=11), max_tokens=9))
    b.step()
    held = b.cache.num_free_blocks
    b.scheduler.hold(request)
    assert b.scheduler.plan(b.now) is None
    assert b.cache.num_free_blocks == held
    b.scheduler.resume(request, b.now)
    b.run()
    check_output(request)


def test_rewind_moves_log_blocks_and_count_together() -> None:
    b = bench()
    request = b.add(make_request(1, lasting(6, 12), max_tokens=12))
    for _ in range(8):
        b.step()
    assert len(request.output_ids) == 8
    b.scheduler.rewind(request, 3, path="items[0]", banned="x", attempt=1)
    assert len(request.output_ids) == 3
    assert request.num_computed == b.cache.num_committed(request) == 6 + 2
    assert len(b.cache.blocks(request)) == 2
    assert request.log.entries[-1] == RewindEntry(3, "items[0]", "x", 1)
    b.run()
    check_output(request)
    assert RequestLog(request.log.entries).output_ids == request.output_ids
    with pytest.raises(IllegalTransition):
        b.scheduler.rewind(request, 0)


def test_a_rewind_out_of_range_changes_nothing() -> None:
    b = bench()
    request = b.add(make_request(1, prompt(6, first=11), max_tokens=12))
    b.step()
    with pytest.raises(ValueError, match="can't rewind an output of 1 tokens to 2"):
        b.scheduler.rewind(request, 2)
    assert len(request.log.entries) == 1
    b.run()
    check_output(request)


def test_a_sink_may_rewind_or_abort_from_within_its_call() -> None:
    b = bench()
    rewinding = make_request(1, lasting(6, 9), max_tokens=9)
    aborting = make_request(2, lasting(6, 9, 1), max_tokens=9)
    victim = make_request(3, prompt(6, first=16), max_tokens=9)
    told = []

    class Rewinds:
        def token(self, token_id: int, row: object) -> None:
            told.append(token_id)
            if len(told) == 5:
                b.scheduler.rewind(rewinding, 2)

        def choose(self, token_id: int) -> int:
            return token_id

        def forced(self) -> list[int]:
            return []

        def prompt_logprob(self, position: int, row: object) -> None: ...
        def finished(self, request: Request) -> None: ...

    class Aborts(Rewinds):
        def token(self, token_id: int, row: object) -> None:
            b.scheduler.abort(victim.index, b.now)

    rewinding.sink, aborting.sink = Rewinds(), Aborts()
    for request in (rewinding, aborting, victim):
        b.add(request)
    b.run()
    assert victim.output_ids == []
    assert len(told) == len(rewinding.output_ids) + 3
    assert told[:2] + told[5:] == rewinding.output_ids
    assert told[5:8] == told[2:5], "the same noise gives the same tokens again"
    assert b.cache.num_free_blocks == 64


def test_a_row_of_a_request_rewound_by_another_means_nothing() -> None:
    b = bench()
    meddler = make_request(1, lasting(6, 9), max_tokens=9)
    other = make_request(2, lasting(6, 9, 1), max_tokens=9)

    class Meddles:
        def token(self, token_id: int, row: object) -> None:
            if len(meddler.output_ids) == 4:
                b.scheduler.rewind(other, 1)

        def choose(self, token_id: int) -> int:
            return token_id

        def forced(self) -> list[int]:
            return []

        def prompt_logprob(self, position: int, row: object) -> None: ...
        def finished(self, request: Request) -> None: ...

    meddler.sink = Meddles()
    b.add(meddler)
    b.add(other)
    for _ in range(4):
        b.step()
    assert (len(meddler.output_ids), len(other.output_ids)) == (4, 1)
    b.run()
    assert other.output_ids == expected_tokens(list(other.prompt_ids), None, 0, 9)


def test_hold_rewind_and_fail_wait_for_the_step() -> None:
    b = bench()
    request = b.add(make_request(1, prompt(6)))
    b.step()
    plan = b.scheduler.plan(b.now)
    assert plan is not None
    for call in (
        lambda: b.scheduler.hold(request),
        lambda: b.scheduler.rewind(request, 0),
        lambda: b.scheduler.fail(request, ValueError(), b.now),
        lambda: b.scheduler.expire(b.now),
    ):
        with pytest.raises(IllegalTransition, match="is in flight"):
            call()
    b.scheduler.apply(plan, b.device.execute(plan), b.now)


# --- housekeeping ---------------------------------------------------------------------------------------------------


def test_nothing_is_kept_of_finished_requests() -> None:
    b = bench()
    for index in range(0, 40, 2):
        b.add(make_requests(index, prompt(9, first=index), SamplingParams(n=2, max_tokens=6, timeout=99.0), 0.0)[0])
    b.run()
    scheduler = b.scheduler
    assert not any((scheduler._requests, scheduler._samples, scheduler._aborted, scheduler._finished))
    assert len(scheduler._running) == len(scheduler._waiting) == scheduler._waiting.num_prompt_tokens == 0
    assert not b.cache._lists
    assert b.cache._pool.num_tables == 0
    assert b.cache.stats().usage == 0.0


def test_plans_are_deterministic() -> None:
    def trace() -> list[object]:
        b = bench(num_blocks=14, max_num_seqs=5)
        for i in range(8):
            params = SamplingParams(n=1 + i % 2, max_tokens=8 + i, priority=i % 3)
            b.add(make_requests(10 * i, prompt(5 + 3 * i, first=i), params, float(i % 4))[0])
        plans = []
        while (plan := b.step()) is not None:
            plans.append(plan)
        return plans

    first, second = trace(), trace()
    assert len(first) > 20
    assert first == second
