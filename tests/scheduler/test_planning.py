"""What a step computes: one budget, prefix hits, preemption, samples, prompt logprobs."""

from __future__ import annotations

import pytest
from scheduler_fakes import bench, check_output, expected_tokens, lasting, make_request, make_requests, prompt, sizes

from pageform.core.completion import FinishReason
from pageform.core.errors import CapacityError
from pageform.core.params import SamplingParams
from pageform.core.states import RequestState

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


def test_a_prefix_is_computed_once_though_all_arrive_together() -> None:
    b = bench(num_blocks=128, max_num_batched_tokens=64)
    shared = prompt(20)
    requests = [b.add(make_request(i, shared + [i] * 3, arrival=float(i), max_tokens=9)) for i in range(1, 7)]
    assert sizes(b) == {1: 23, **dict.fromkeys(range(2, 7), 3)}
    assert [request.num_cached for request in requests] == [0, *[20] * 5]
    b.run()
    for request in requests:
        check_output(request)


def test_equal_prompts_that_arrive_together_share_all_but_the_last_block() -> None:
    b = bench()
    requests = [b.add(make_request(i, prompt(16), arrival=float(i), max_tokens=9)) for i in (1, 2)]
    plan = b.step()
    assert plan is not None
    assert [len(seq.tokens) for seq in plan.seqs] == [16, 4]
    assert plan.copies == [], "a block that the step fills can't be copied before it"
    b.run()
    for request in requests:
        check_output(request)


def test_a_prefix_that_is_too_long_for_a_step_is_still_computed_once() -> None:
    b = bench(num_blocks=128)
    shared = prompt(80)
    for i in range(1, 4):
        b.add(make_request(i, shared + [i] * 3, arrival=float(i), max_tokens=9))
    assert [sizes(b) for _ in range(3)] == [{1: 32}, {1: 32}, {1: 19, 2: 3, 3: 3}]


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
