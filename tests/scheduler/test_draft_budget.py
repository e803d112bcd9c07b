"""How many drafts a step takes."""

from __future__ import annotations

import random

import pytest
from scheduler_fakes import OracleDrafter, bench, check_output, lasting, make_request

from pageform.core.drafts import Draft, DraftKind
from pageform.scheduler.draft_budget import StepCost, choose


def drafts(*chances: float) -> list[Draft]:
    return [Draft(1, chance, DraftKind.NGRAM) for chance in chances]


def learned(fixed: float, per_token: float, sizes: list[int], noise: float = 0.0) -> StepCost:
    cost, draw = StepCost(), random.Random(1)
    for size in sizes:
        cost.observe(size, (fixed + per_token * size) * (1.0 + noise * draw.uniform(-1.0, 1.0)))
    return cost


def test_the_cost_of_a_step_is_learned_from_steps() -> None:
    cost = learned(4.0, 0.5, [1, 200, 1, 1, 8, 40] * 10, noise=0.05)
    for size in (1, 4, 16, 64, 200):
        assert cost(size) == pytest.approx(4.0 + 0.5 * size, rel=0.1)


def test_steps_of_one_size_leave_the_ratio_to_the_prior() -> None:
    cost = learned(4.0, 0.5, [1] * 50)
    assert cost(1) == pytest.approx(4.5, rel=0.01)
    assert 0.02 < cost.worth(1, 1.0) < 0.3


def test_disturbed_steps_count_little() -> None:
    cost = learned(4.0, 0.5, [1, 9] * 40)
    cost.observe(1, 500.0)
    assert cost(1) == pytest.approx(4.5, rel=0.05)


def test_a_memory_bound_step_takes_poor_guesses_and_one_bound_by_arithmetic_only_certain_ones() -> None:
    cost = learned(4.0, 0.5, [1, 2, 8, 64] * 10)
    poor, sure = drafts(0.3, 0.3), drafts(0.999, 0.999, 0.999)
    assert choose([poor], cost, 1, 1, 10) == [1]
    assert choose([poor, sure], cost, 64, 64, 10) == [0, 3]
    assert choose([sure], learned(0.01, 1.0, [1, 4, 64] * 10), 1, 1, 10) == [3]


def test_the_likeliest_go_first_and_the_budget_holds() -> None:
    cost = StepCost()
    cost.fixed, cost.per_token = 1000.0, 1.0
    assert choose([drafts(0.5, 0.9), drafts(0.9, 0.9, 0.9)], cost, 2, 2, 3) == [0, 3]
    assert choose([drafts(0.5, 0.9), drafts(0.9, 0.9, 0.9)], cost, 2, 2, 4) == [1, 3]
    assert choose([[], drafts(0.9)], cost, 2, 2, 0) == [0, 0]


def test_drafts_take_neither_tokens_nor_blocks_that_others_need() -> None:
    b = bench(num_blocks=12, block_size=4, max_num_batched_tokens=10, max_num_seqs=3)
    draw = random.Random(0)
    requests = [make_request(i, lasting(8, 20, i), max_tokens=20) for i in range(4)]
    plain = bench(num_blocks=12, block_size=4, max_num_batched_tokens=10, max_num_seqs=3)
    plain_requests = [make_request(i, lasting(8, 20, i), max_tokens=20) for i in range(4)]
    for request, other in zip(requests, plain_requests, strict=True):
        request.drafter = OracleDrafter(draw, right=1.0)
        b.add(request)
        plain.add(other)
    steps = b.run()
    assert steps < plain.run()
    for request, other in zip(requests, plain_requests, strict=True):
        check_output(request)
        assert request.output_ids == other.output_ids
    assert b.cache.num_free_blocks == 12


def test_no_drafts_beyond_the_length_of_an_answer_and_none_while_samples_wait_for_the_prompt() -> None:
    b = bench()
    request = make_request(1, lasting(6, 9), max_tokens=9)
    request.drafter = OracleDrafter(random.Random(3), right=1.0)
    b.add(request)
    sizes = []
    while (plan := b.step()) is not None:
        sizes.append([(len(seq.tokens), seq.num_drafts) for seq in plan.seqs])
    assert len(request.output_ids) == 9
    assert sum(drafted for [(_, drafted)] in sizes) >= 4
    assert sum(tokens for [(tokens, _)] in sizes) == 6 + 8, "right drafts are computed once, the last token never"


def test_a_drafter_that_fails_is_asked_no_more_and_disturbs_nobody() -> None:
    class Broken:
        def propose(self, request: object, limit: int, worth: float) -> list[Draft]:
            raise RuntimeError("planned")

        def settle(self, drafts: object, accepted: int, missed: bool) -> None: ...

    b = bench()
    broken, sound = make_request(1, lasting(6, 9), max_tokens=9), make_request(2, lasting(6, 9, 1), max_tokens=9)
    broken.drafter = Broken()
    b.add(broken)
    b.add(sound)
    b.run()
    check_output(broken)
    check_output(sound)
    assert broken.drafter is None


def test_a_step_with_nothing_to_compute_is_no_step_even_where_steps_seemed_to_cost_nothing_by_themselves() -> None:
    b = bench()
    b.scheduler._cost.fixed, b.scheduler._cost.per_token = 0.0, 1.0
    assert b.step() is None
