"""What the scheduler promises, one promise a test."""

from __future__ import annotations

import itertools

import pytest
from scheduler_fakes import Bench, check_output, expected_tokens, make_request, make_requests

from pageform.cache import KVCacheManager
from pageform.core.completion import FinishReason
from pageform.core.errors import BackendError, CapacityError, IllegalTransition, ParameterError
from pageform.core.log import RequestLog, RewindEntry
from pageform.core.params import SamplingParams
from pageform.core.request import Request
from pageform.core.states import RequestState
from pageform.scheduler import Scheduler, SchedulerConfig


def bench(num_blocks: int = 64, block_size: int = 4, prefix_caching: bool = True, **config: object) -> Bench:
    defaults: dict[str, object] = {
        "max_num_seqs": 8,
        "max_num_batched_tokens": 32,
        "max_model_len": 256,
        "watermark": 0.0,
    }
    cache = KVCacheManager(num_blocks, block_size, prefix_caching=prefix_caching)
    return Bench(Scheduler(SchedulerConfig(**(defaults | config)), cache), cache)  # type: ignore[arg-type]


def prompt(length: int, first: int = 10) -> list[int]:
    return [first + i % 30 for i in range(length)]


def lasting(length: int, tokens: int, index: int = 0) -> list[int]:
    """The `index`-th of the prompts of that length whose answers don't stop before `tokens` tokens."""
    found = (
        p for first in range(10, 500) if len(expected_tokens(p := prompt(length, first), None, 0, tokens)) == tokens
    )
    return next(itertools.islice(found, index, None))


def sizes(b: Bench) -> dict[int, int]:
    """Tokens of each request in the next step, which is then executed."""
    plan = b.step()
    return {} if plan is None else {seq.request: len(seq.tokens) for seq in plan.seqs}


# --- one budget -----------------------------------------------------------------------------------------------------


def test_a_prompt_is_computed_in_chunks_within_the_budget() -> None:
    b = bench()
    request = b.add(make_request(1, prompt(70), max_tokens=3))
    plans = [b.step() for _ in range(3)]
    assert [len(plan.seqs[0].tokens) for plan in plans if plan] == [32, 32, 6]
    assert [len(plan.seqs[0].rows) for plan in plans if plan] == [0, 0, 1], "only the last known token makes a row"
    assert len(request.output_ids) == 1
    b.run()
    check_output(request)
    assert (request.finish_reason, request.detail) == (FinishReason.LENGTH, "max_tokens")


def test_prefill_chunk_limits_one_request() -> None:
    b = bench(prefill_chunk=8)
    b.add(make_request(1, prompt(20)))
    b.add(make_request(2, prompt(20, first=15)))
    assert sizes(b) == {1: 8, 2: 8}


def test_a_long_prompt_does_not_stall_those_that_decode() -> None:
    b = bench()
    decoding = [b.add(make_request(i, prompt(3, first=i), arrival=1.0)) for i in range(2, 5)]
    b.step()
    long = b.add(make_request(1, prompt(100), arrival=0.0, priority=1))
    for _ in range(2):
        before = [len(request.output_ids) for request in decoding]
        step = sizes(b)
        if long.index in step and step[long.index] > 1:
            assert sum(step.values()) == 32
        assert [len(request.output_ids) - n for request, n in zip(decoding, before, strict=True)] == [1, 1, 1]
    assert step[long.index] == 29


def test_priority_then_arrival_decides_who_is_admitted() -> None:
    b = bench(max_num_seqs=2)
    for index, priority, arrival in ((1, 0, 0.0), (2, 0, 1.0), (3, 5, 2.0), (4, 5, 1.5)):
        b.add(make_request(index, prompt(4, first=index), arrival=arrival, priority=priority, max_tokens=2))
    assert list(sizes(b)) == [4, 3]
    b.step()
    assert list(sizes(b)) == [1, 2]


def test_nobody_overtakes_a_request_that_does_not_fit_yet() -> None:
    b = bench(num_blocks=8)
    b.add(make_request(1, prompt(16), max_tokens=4))
    b.add(make_request(2, prompt(24, first=12), arrival=1.0, max_tokens=2))
    b.add(make_request(3, prompt(4, first=14), arrival=2.0, max_tokens=2))
    for _ in range(4):
        assert list(sizes(b)) == [1]
    assert sizes(b) == {2: 24, 3: 4}


# --- the prefix cache -----------------------------------------------------------------------------------------------


def test_a_repeated_prompt_computes_only_its_last_token() -> None:
    b = bench()
    first = b.add(make_request(1, prompt(16), max_tokens=2))
    b.run()
    second = b.add(make_request(2, prompt(16), max_tokens=2))
    assert sizes(b) == {2: 1}
    assert second.num_cached == 15
    b.run()
    assert second.output_ids == first.output_ids
    assert (b.cache.stats().queries, b.cache.stats().hits) == (32, 15)


def test_a_prompt_in_use_is_shared_and_the_cut_block_copied() -> None:
    b = bench()
    first = b.add(make_request(1, prompt(16), max_tokens=30))
    b.step()
    second = b.add(make_request(2, prompt(16), max_tokens=30))
    plan = b.step()
    assert plan is not None
    mine, other = plan.seqs[1].blocks, plan.seqs[0].blocks
    assert mine[:3] == other[:3]
    assert plan.copies == [(other[3], mine[3])]
    b.run()
    check_output(first)
    check_output(second)


def test_what_others_hold_already_needs_no_room() -> None:
    b = bench(num_blocks=7)
    b.add(make_request(1, prompt(17), max_tokens=2))
    b.step()
    b.add(make_request(2, prompt(17), arrival=1.0, max_tokens=2))
    assert sizes(b) == {1: 1, 2: 1}, "five blocks, of which four are shared"


@pytest.mark.parametrize("change", [{"cache_salt": "tenant"}, {"prompt_logprobs": 0}])
def test_some_requests_do_not_read_the_cache(change: dict[str, object]) -> None:
    b = bench()
    b.add(make_request(1, prompt(16), max_tokens=2))
    b.run()
    request = b.add(make_request(2, prompt(16), max_tokens=2, **change))
    assert sizes(b) == {2: 16}
    assert request.num_cached == 0
    b.run()
    check_output(request)


def test_reset_prefix_cache_forgets() -> None:
    b = bench()
    b.add(make_request(1, prompt(16), max_tokens=2))
    b.run()
    b.cache.reset_prefix_cache()
    b.add(make_request(2, prompt(16), max_tokens=2))
    assert sizes(b) == {2: 16}


# --- preemption -----------------------------------------------------------------------------------------------------


def test_the_youngest_gives_way_and_resumes_with_the_same_tokens() -> None:
    b = bench(num_blocks=10)
    old = b.add(make_request(1, prompt(12), max_tokens=20))
    young = b.add(make_request(2, prompt(12, first=20), arrival=1.0, max_tokens=20))
    states = set()
    while b.step() is not None:
        states.add(young.state)
    assert RequestState.PREEMPTED in states
    assert young.num_preemptions > 0
    assert old.num_preemptions == 0
    check_output(old)
    check_output(young)
    assert b.cache.num_free_blocks == 10


def test_the_lowest_priority_gives_way_even_if_older() -> None:
    b = bench(num_blocks=10)
    low = b.add(make_request(1, prompt(12), arrival=0.0, max_tokens=20))
    high = b.add(make_request(2, prompt(12, first=20), arrival=1.0, max_tokens=20, priority=1))
    b.run()
    assert low.num_preemptions > 0
    assert high.num_preemptions == 0


def test_resuming_is_a_prefix_hit() -> None:
    b = bench(num_blocks=12, max_num_batched_tokens=64)
    b.add(make_request(1, prompt(12), max_tokens=17))
    young = b.add(make_request(2, prompt(12, first=20), arrival=1.0, max_tokens=40))
    while young.state is not RequestState.PREEMPTED:
        assert b.step() is not None
    known = young.num_tokens
    while young.state is RequestState.PREEMPTED:
        step = sizes(b)
    assert step[2] < known / 2, "most of it was still in the cache"


def test_a_request_is_not_preempted_again_before_it_has_progressed() -> None:
    b = bench(num_blocks=9, max_num_seqs=6)
    requests = [b.add(make_request(i, prompt(8, first=5 * i), arrival=i, max_tokens=24)) for i in range(1, 6)]
    progress = {request.index: -1 for request in requests}
    seen = dict.fromkeys(progress, 0)
    for _ in range(2000):
        if b.step() is None:
            break
        for request in requests:
            if request.num_preemptions > seen[request.index]:
                assert len(request.output_ids) > progress[request.index]
                seen[request.index], progress[request.index] = request.num_preemptions, len(request.output_ids)
    assert not b.scheduler.has_requests
    assert sum(seen.values()) > 0
    assert requests[0].num_preemptions == 0, "the oldest of the highest priority never gives way"
    for request in requests:
        check_output(request)


def test_samples_that_share_everything_can_still_make_room() -> None:
    b = bench(num_blocks=4, max_num_seqs=4)
    leader, *others = make_requests(1, prompt(14), SamplingParams(n=3, max_tokens=2), 0.0)
    b.add(leader)
    b.run()
    for request in (leader, *others):
        check_output(request)


def test_the_first_in_order_waits_rather_than_gives_way() -> None:
    b = bench(num_blocks=6)
    first = b.add(make_request(1, lasting(12, 9), max_tokens=9))
    held = b.add(make_request(2, lasting(12, 9, 1), arrival=1.0, max_tokens=9))
    b.step()
    b.scheduler.hold(held)
    assert b.scheduler.plan(b.now) is None
    assert first.state is RequestState.RUNNING
    b.scheduler.resume(held, b.now)
    b.run()
    assert first.num_preemptions == 0
    check_output(first)
    check_output(held)


# --- n > 1 ----------------------------------------------------------------------------------------------------------


def test_samples_share_the_prompt_and_differ_in_stream() -> None:
    b = bench()
    leader, *others = make_requests(1, prompt(14), SamplingParams(n=3, max_tokens=9), 0.0)
    b.add(leader)
    assert [r.state for r in others] == [RequestState.PREPARING] * 2
    plan = b.step()
    assert plan is not None
    assert len(plan.seqs) == 1
    assert [(row.request, row.stream, row.offset) for row in plan.seqs[0].rows] == [(1, 0, 13), (2, 1, 13), (3, 2, 13)]
    plan = b.step()
    assert plan is not None
    assert len(plan.copies) == 2, "the last one keeps the original"
    assert b.cache.num_free_blocks == 64 - 4 - 2
    b.run()
    outputs = [tuple(request.output_ids) for request in (leader, *others)]
    for request in (leader, *others):
        check_output(request)
    assert len(set(outputs)) == 3


def test_admission_reserves_seats_for_all_samples() -> None:
    b = bench(max_num_seqs=4)
    b.add(make_request(1, prompt(5), max_tokens=3))
    b.add(make_requests(2, prompt(40, first=12), SamplingParams(n=4, max_tokens=2), 1.0)[0])
    assert sizes(b) == {1: 5}
    b.run()
    with pytest.raises(CapacityError, match=r"n=5: only 4 sequences"):
        b.add(make_requests(10, prompt(4), SamplingParams(n=5), 0.0)[0])


@pytest.mark.parametrize("when", ["waiting", "computing"])
def test_when_the_leader_goes_the_next_sample_leads(when: str) -> None:
    b = bench()
    leader, second, third = make_requests(1, prompt(40), SamplingParams(n=3, max_tokens=5), 0.0)
    b.add(leader)
    if when == "computing":
        b.step()
    b.scheduler.abort(1, b.now)
    assert leader.finish_reason is FinishReason.ABORT
    assert second.siblings == [third]
    b.run()
    check_output(second)
    check_output(third)
    assert len(third.output_ids) == len(expected_tokens(prompt(40), None, 2, 5))


def test_a_sample_may_go_while_it_waits() -> None:
    b = bench()
    leader, second, third = make_requests(1, prompt(40), SamplingParams(n=3, max_tokens=5), 0.0)
    b.add(leader)
    b.step()
    b.scheduler.abort(2, b.now)
    assert leader.siblings == [third]
    b.run()
    assert second.output_ids == []
    check_output(third)


# --- prompt logprobs ------------------------------------------------------------------------------------------------


def test_prompt_logprobs_come_once_each_over_chunks_and_preemptions() -> None:
    b = bench(num_blocks=12, max_num_batched_tokens=8, prefill_chunk=2)
    b.add(make_request(1, lasting(16, 24), max_tokens=24))
    for _ in range(10):
        b.step()
    scored = b.add(make_request(2, prompt(24, first=20), arrival=1.0, max_tokens=12, prompt_logprobs=1))
    while not scored.num_preemptions:
        b.step()
    assert 1 < scored.num_scored < 24, "in the middle of the prompt"
    b.run()
    alone = bench(max_num_batched_tokens=64)
    reference = alone.add(make_request(2, prompt(24, first=20), max_tokens=12, prompt_logprobs=1))
    alone.run()
    assert scored.num_preemptions > 0
    assert list(scored.sink.prompt_logprobs) == list(range(1, 24))  # type: ignore[attr-defined]
    assert scored.sink.prompt_logprobs == reference.sink.prompt_logprobs  # type: ignore[attr-defined]
    check_output(scored)


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


# --- faults ---------------------------------------------------------------------------------------------------------


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
