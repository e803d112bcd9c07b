"""Ten thousand random operations: whatever happens, invariants hold, outputs are right and nothing leaks."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scheduler_fakes import Bench, OracleDrafter, check_output, make_requests

from pageform.cache import KVCacheManager
from pageform.core.completion import FinishReason
from pageform.core.errors import BackendError, CapacityError
from pageform.core.log import RequestLog, RewindEntry, TokenEntry, TokenOrigin
from pageform.core.params import SamplingParams
from pageform.core.plan import StepPlan
from pageform.core.request import Request
from pageform.core.states import RequestState
from pageform.scheduler import Scheduler, SchedulerConfig

NUM_WALKS, OPERATIONS = 25, 400


def origins(request: Request) -> list[TokenOrigin]:
    """Where each token of the output came from."""
    view: list[TokenOrigin] = []
    for entry in request.log.entries:
        if isinstance(entry, TokenEntry):
            view.append(entry.origin)
        elif isinstance(entry, RewindEntry):
            del view[entry.to :]
    return view


class Walk:
    """One random history of a small engine, checked after each operation."""

    def __init__(self, seed: int, prefix_caching: bool = True) -> None:
        self.random = draw = random.Random(seed)
        self.events: Counter[str] = Counter()
        block_size = draw.choice([1, 2, 4, 8])
        num_blocks = draw.choice([40, 60, 160]) // block_size + 2
        seqs = draw.randint(2, 8)
        self.cache = KVCacheManager(num_blocks, block_size, prefix_caching=prefix_caching)
        self.config = SchedulerConfig(
            max_num_seqs=seqs,
            max_num_batched_tokens=seqs + draw.choice([0, 2, 8, 24]),
            max_model_len=draw.choice([40, 64, 400]),
            max_queued_requests=draw.choice([None, 6]),
            max_queued_tokens=draw.choice([None, 120]),
            prefill_chunk=draw.choice([None, 3, 16]),
            watermark=draw.choice([0.0, 0.05]),
            max_draft_tokens=draw.choice([0, 1, 5, 16]),
        )
        self.bench = Bench(Scheduler(self.config, self.cache), self.cache)
        self.scheduler = self.bench.scheduler
        self.requests: list[Request] = []
        self.next_index = 0
        self.preempted_at: dict[int, tuple[int, int]] = {}  # preemptions, and tokens ever received by then
        self.cut: set[int] = set()  # lost what was computed of them, by a rewind or a failed step, since a preemption

    # --- operations -------------------------------------------------------------------------------------------------

    def add(self) -> None:
        draw = self.random
        # Few families of prompts, so that prefixes are shared, repeated whole, and branch off.
        family = draw.randint(0, 2)
        prompt = [10 + family + i % 5 for i in range(draw.randint(1, 30))]
        if draw.random() < 0.3:
            prompt.append(draw.randint(0, 49))
        params = SamplingParams(
            n=draw.choice([1, 1, 1, 2, 3]),
            max_tokens=draw.choice([1, 4, 12, 30]),
            priority=draw.choice([0, 0, 0, 1, 2]),
            cache_salt=draw.choice([None, None, "tenant"]),
            prompt_logprobs=draw.choice([None, None, None, 0]),
            queue_timeout=draw.choice([None, None, 3.0]),
            first_token_timeout=draw.choice([None, None, 8.0]),
            timeout=draw.choice([None, None, 20.0]),
            forced=draw.choice(["verify", "verify", "accept"]),
        )
        raise_at = draw.choice([-1] * 9 + [3])
        samples = make_requests(self.next_index, prompt, params, self.bench.now, raise_at)
        self.next_index += params.n
        for request in samples:
            request.drafter = draw.choice([None, OracleDrafter(draw), OracleDrafter(draw, right=0.4)])
        try:
            self.bench.add(samples[0])
        except CapacityError as error:
            self.events[f"refused {error.field}"] += 1
            assert all(request.state is RequestState.QUEUED for request in samples)
        else:
            self.requests += samples

    def step(self) -> None:
        plan = self.scheduler.plan(self.bench.now)
        if plan is None:
            return
        self.check_plan(plan)
        before = {request.index: request.num_tokens for request in self.requests}
        if self.random.random() < 0.1:
            self.abort()  # while the step runs
        result = self.bench.device.execute(plan)
        if result.rows and self.random.random() < 0.02:
            self.random.choice(result.rows).error = "logits are not finite"
            self.events["row error"] += 1
        self.scheduler.apply(plan, result, self.bench.now)
        self.events["step"] += 1
        self.events["mixed step"] += len({len(seq.tokens) > 1 for seq in plan.seqs}) == 2
        self.events["copies"] += len(plan.copies)
        grown = {r.index: r.num_tokens - before[r.index] for r in self.requests}
        self.events["several accepted"] += sum(grown[seq.request] > 2 for seq in plan.seqs if seq.num_drafts)

    def failing_step(self) -> None:
        """A step fails; sometimes it is bisected as the engine would, sometimes just tried again later."""
        plan = self.scheduler.plan(self.bench.now)
        if plan is None:
            return
        suspects = [seq.request for seq in plan.seqs]
        self._fail(plan)
        self.events["failed step"] += 1
        if self.random.random() < 0.5:
            self._bisect(suspects, self.random.choice(suspects))

    def _fail(self, plan: StepPlan) -> None:
        self.bench.device.spoil(plan)
        self.scheduler.discard(plan)
        self.cut.update(request.index for request in self.scheduler._running)
        self.check()

    def _bisect(self, suspects: list[int], guilty: int) -> None:
        middle = (len(suspects) + 1) // 2
        for half in (suspects[:middle], suspects[middle:]):
            plan = self.scheduler.plan(self.bench.now, only=frozenset(half))
            if plan is None:
                continue
            self.check_plan(plan, restricted=True)
            indices = [seq.request for seq in plan.seqs]
            assert set(indices) <= set(half)
            if guilty not in indices:
                self.scheduler.apply(plan, self.bench.device.execute(plan), self.bench.now)
                continue
            self._fail(plan)
            if len(indices) > 1:
                self._bisect(indices, guilty)
            elif (request := self.scheduler.get(guilty)) is not None:
                self.scheduler.fail(request, BackendError("guilty"), self.bench.now)
                self.events["guilty"] += 1

    def abort(self) -> None:
        live = [request for request in self.requests if not request.is_finished]
        if not live:
            return
        request = self.random.choice(live)
        in_flight = self.scheduler._in_flight is not None
        found = self.scheduler.abort(self.random.choice([request.index, request.request_id]), self.bench.now)
        assert request in found
        assert all(r.is_finished for r in found) or in_flight
        self.events["abort"] += 1

    def hold_or_resume(self) -> None:
        for request in self.requests:
            if request.state is RequestState.VALIDATING and self.random.random() < 0.7:
                self.scheduler.resume(request, self.bench.now)
            elif request.state is RequestState.RUNNING and self.random.random() < 0.1:
                self.scheduler.hold(request)
                self.events["hold"] += 1

    def rewind(self) -> None:
        states = (RequestState.RUNNING, RequestState.VALIDATING, RequestState.PREEMPTED)
        started = [request for request in self.requests if request.state in states]
        if started:
            request = self.random.choice(started)
            # Never into forced text: its beginning would then have to be forced anew.
            places = [i for i, origin in enumerate(origins(request)) if origin is TokenOrigin.SAMPLED]
            self.scheduler.rewind(request, self.random.choice([*places, len(request.output_ids)]))
            self.cut.add(request.index)
            self.events["rewind"] += 1

    def reset_prefix_cache(self) -> None:
        self.cache.reset_prefix_cache()

    def pass_time(self) -> None:
        self.bench.now += self.random.choice([0.5, 1.0, 4.0])

    # --- checks -----------------------------------------------------------------------------------------------------

    def check_plan(self, plan: StepPlan, restricted: bool = False) -> None:
        decision = self.scheduler._in_flight
        assert decision is not None
        assert decision.plan is plan
        seqs = decision.plan.seqs
        assert 0 < decision.plan.num_tokens <= self.config.max_num_batched_tokens
        assert len({seq.request for seq in seqs}) == len(seqs)
        written: set[tuple[int, int]] = set()
        for request, seq in zip(decision.requests, seqs, strict=True):
            drafts = [draft.token for draft in decision.drafts.get(request.index, ())]
            certain = len(seq.tokens) - len(drafts)
            assert seq.num_drafts == len(drafts) <= self.config.max_draft_tokens
            assert seq.tokens == request.tokens(seq.start, seq.start + certain) + drafts
            if drafts:
                assert seq.start + certain == request.num_tokens
                assert [row.offset for row in seq.rows[-len(drafts) - 1 :]] == list(range(certain - 1, len(seq.tokens)))
                assert len(request.output_ids) + len(drafts) < request.max_tokens
                self.events["drafts"] += 1
            assert len(seq.tokens) <= (self.config.prefill_chunk or len(seq.tokens))
            for position in range(seq.start, seq.start + len(seq.tokens)):
                slot = (seq.blocks[position // self.cache.block_size], position % self.cache.block_size)
                assert slot not in written, "two requests write one slot"
                written.add(slot)
        active = [r for r in self.scheduler._running if r.state is RequestState.RUNNING]
        assert not active or active[0] not in decision.preempted, "the first in order never gives way"
        assert not any(r.protected for r in decision.preempted)
        if decision.preempted:
            self.events["preemption"] += 1
            assert not decision.admitted
        if decision.admitted and not restricted:
            admitted = {r.index for r, _ in decision.admitted}
            left = [r.order for r in self.scheduler._waiting if r.index not in admitted]
            assert all(r.order < order for r, _ in decision.admitted for order in left), "somebody was overtaken"
            self.events["admitted before others"] += bool(left)

    def check(self) -> None:
        """The scheduler's own bookkeeping agrees with the requests' states and with the pool."""
        self.cache.check_invariants()
        scheduler, pool = self.scheduler, self.cache._pool
        running, waiting = list(scheduler._running), list(scheduler._waiting)
        live = {request.index for request in self.requests if not request.is_finished}
        assert set(scheduler._requests) == live
        assert sorted(r.index for samples in scheduler._samples.values() for r in samples) == sorted(live)
        assert [r.order for r in running] == sorted(r.order for r in running)
        assert [r.order for r in waiting] == sorted(r.order for r in waiting)
        assert all(r.state in (RequestState.RUNNING, RequestState.VALIDATING) for r in running)
        assert all(r.state not in (RequestState.RUNNING, RequestState.VALIDATING) for r in waiting)
        followers = [s for r in running + waiting for s in r.siblings]
        assert all(s.state is RequestState.PREPARING and s.leader is not None for s in followers)
        assert sorted(r.index for r in running + waiting + followers) == sorted(live)
        assert sum(r.num_seats for r in running) <= self.config.max_num_seqs
        assert pool.num_tables == len(running)
        for request in (r for r in self.requests if r.num_preemptions):
            received = sum(isinstance(entry, TokenEntry) for entry in request.log.entries)
            times, before = self.preempted_at.get(request.index, (0, -1))
            if request.num_preemptions > times:
                assert request.num_preemptions == times + 1
                assert received > before or request.index in self.cut, "preempted again without progress"
                self.cut.discard(request.index)
                self.preempted_at[request.index] = (times + 1, received)
                self.events["preempted again"] += times > 0
        for request in running:
            assert request.num_computed == self.cache.num_committed(request) < request.num_tokens
            held = len(self.cache.blocks(request))
            assert held <= self.cache.blocks_for(request.num_tokens), "blocks of rejected drafts are given back"
        assert scheduler._waiting.num_prompt_tokens == sum(r.num_prompt_tokens for r in waiting)

    def check_end(self) -> None:
        assert self.cache.num_free_blocks == self.cache.num_blocks
        assert not self.cache._lists
        assert not self.scheduler._samples
        for request in self.requests:
            check_output(request)
            assert RequestLog(request.log.entries).output_ids == request.output_ids
            if request.params.prompt_logprobs is not None and request.sample == 0 and request.first_token_time:
                assert len(request.sink.prompt_logprobs) == request.num_prompt_tokens - 1  # type: ignore[attr-defined]
            self.events[f"finished {request.finish_reason}"] += 1
            self.events["forced"] += origins(request).count(TokenOrigin.FORCED)
            self.events["cached"] += request.num_cached > 0
            if isinstance(request.drafter, OracleDrafter):
                self.events["drafted"] += request.drafter.proposed
                self.events["accepted"] += request.drafter.accepted
        stats = self.scheduler.stats()
        assert sum(stats.drafted.values()) == self.events["drafted"]
        assert sum(stats.accepted.values()) == self.events["accepted"]

    # --- the walk ---------------------------------------------------------------------------------------------------

    def run(self, operations: int) -> None:
        choices = (
            [self.add] * 6
            + [self.step] * 14
            + [self.failing_step, self.abort, self.hold_or_resume, self.rewind, self.pass_time]
        )
        for count in range(operations):
            operation = self.random.choice(choices) if count % 100 else self.reset_prefix_cache
            operation()
            self.check()
        self.drain()

    def drain(self) -> None:
        """Progress: with no more requests coming, the rest is done within as many steps as it has tokens."""
        for request in self.requests:
            if request.state is RequestState.VALIDATING:
                self.scheduler.resume(request, self.bench.now)
        limit = 200 + 20 * sum(r.num_prompt_tokens + r.max_tokens for r in self.requests if not r.is_finished)
        for _ in range(limit):
            if self.bench.step() is None:
                break
            self.check()
        assert not self.scheduler.has_requests, "requests are left, and there is no progress"
        self.check_end()


def test_random_operations() -> None:
    events: Counter[str] = Counter()
    for seed in range(NUM_WALKS):
        walk = Walk(seed, prefix_caching=seed % 5 != 0)
        try:
            walk.run(OPERATIONS)
        except Exception as error:
            raise AssertionError(f"walk {seed}") from error
        events += walk.events
    assert NUM_WALKS * OPERATIONS >= 10_000
    # The walks would prove little if they did not meet these.
    for event, least in {
        "step": 2000,
        "mixed step": 100,
        "preemption": 100,
        "preempted again": 20,
        "admitted before others": 100,
        "cached": 100,
        "copies": 100,
        "drafts": 500,
        "forced": 100,
        "drafted": 1000,
        "accepted": 500,
        "several accepted": 100,
        "failed step": 100,
        "guilty": 10,
        "row error": 5,
        "abort": 100,
        "hold": 50,
        "rewind": 100,
        "refused max_queued_requests": 20,
        "refused max_queued_tokens": 20,
    }.items():
        assert events[event] >= least, event
    for reason in (
        FinishReason.STOP,
        FinishReason.LENGTH,
        FinishReason.ABORT,
        FinishReason.TIMEOUT,
        FinishReason.ERROR,
    ):
        assert events[f"finished {reason}"] >= 20, reason


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.booleans())
@example(195, False)  # a rewound request wrote into a block that a failed step's copy had been made of
@example(4194304, True)  # a rewound request had given up a block and could neither go on nor give way
def test_more_random_operations(seed: int, prefix_caching: bool) -> None:
    Walk(seed, prefix_caching).run(300)


def outputs(prefix_caching: bool, num_blocks: int, batched: int) -> list[list[int]]:
    cache = KVCacheManager(num_blocks, 4, prefix_caching=prefix_caching)
    config = SchedulerConfig(max_num_seqs=6, max_num_batched_tokens=batched, max_model_len=128)
    bench = Bench(Scheduler(config, cache), cache)
    draw = random.Random(5)
    requests: list[Request] = []
    for index in range(0, 60, 3):
        prompt = [10 + draw.randint(0, 1) + i % 7 for i in range(draw.randint(4, 40))]
        params = SamplingParams(n=draw.randint(1, 3), max_tokens=20, priority=draw.randint(0, 1))
        samples = make_requests(index, prompt, params, float(index))
        bench.add(samples[0])
        requests += samples
    bench.run()
    for request in requests:
        check_output(request)
    return [request.output_ids for request in requests]


def test_cache_budget_and_pool_do_not_change_outputs() -> None:
    reference = outputs(True, 400, 64)
    for prefix_caching in (True, False):
        for num_blocks, batched in ((400, 7), (400, 300), (18, 64), (18, 9)):
            assert outputs(prefix_caching, num_blocks, batched) == reference
