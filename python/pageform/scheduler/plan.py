"""Deciding what a step computes. Pure: apart from the pool's transaction nothing changes until the plan is applied."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from ..cache import KVCacheManager
from ..core.drafts import Draft
from ..core.errors import BackendError
from ..core.plan import RowPlan, RowSampling, SeqPlan, StepPlan, StepResult
from ..core.request import Request
from ..core.states import RequestState
from .admission import admit
from .config import SchedulerConfig
from .draft_budget import StepCost, choose
from .preemption import choose_victim
from .queue import RequestQueue


@dataclass(slots=True)
class Decision:
    """A plan, and what applying it will change."""

    plan: StepPlan
    now: float
    requests: list[Request] = field(default_factory=list)
    """Those of `plan.seqs`, in the same order."""
    admitted: list[tuple[Request, int]] = field(default_factory=list)
    """Requests to start, with the number of tokens found in the cache."""
    preempted: list[Request] = field(default_factory=list)
    drafts: dict[int, list[Draft]] = field(default_factory=dict)
    """The drafts at the end of a request's tokens, by the request's index."""


def decide(
    config: SchedulerConfig,
    cache: KVCacheManager,
    running: RequestQueue,
    waiting: RequestQueue,
    *,
    step_id: int,
    now: float,
    cost: StepCost,
    only: Container[int] | None = None,
) -> Decision:
    """The next step: running requests in order, then waiting ones, within one budget of tokens; drafts take what is
    left of it as far as they pay by `cost`.

    With `only`, requests of other indices get nothing, though they may have to give way, and nobody drafts.
    """
    decision = Decision(StepPlan(step_id, []), now)
    budget = _continue_running(config, cache, running, decision, only)
    if not decision.preempted:  # whoever has just given way must not find its blocks with a newcomer
        budget = _admit_waiting(config, cache, running, waiting, decision, budget, only)
        if only is None:
            _add_drafts(config, cache, decision, cost, budget)
    decision.plan.copies = cache.take_copies()
    return decision


def _continue_running(
    config: SchedulerConfig,
    cache: KVCacheManager,
    running: RequestQueue,
    decision: Decision,
    only: Container[int] | None,
) -> int:
    budget = config.max_num_batched_tokens
    active = [request for request in running if request.state is RequestState.RUNNING]
    place = 0
    while place < len(active):
        request = active[place]
        if only is None or request.index in only:
            # One token is kept for each request behind, so that a long prompt never stalls those that decode.
            end = _chunk_end(config, request, request.num_computed, budget - (len(active) - place - 1))
            if _make_room(cache, active, place, end, decision):
                budget -= end - request.num_computed
                _schedule(cache, request, request.num_computed, end, decision)
        if place < len(active) and active[place] is request:
            place += 1
    return budget


def _make_room(cache: KVCacheManager, active: list[Request], place: int, end: int, decision: Decision) -> bool:
    """Preempts until `active[place]` has blocks for `end` tokens. Victims leave `active`; False if it became one."""
    request = active[place]
    while not cache.ensure(request, end):
        victim = choose_victim(active, place, cache)
        if victim is None:
            return False
        cache.release(active[victim])
        decision.preempted.append(active.pop(victim))
        if victim == place:
            return False
    return True


def _admit_waiting(
    config: SchedulerConfig,
    cache: KVCacheManager,
    running: RequestQueue,
    waiting: RequestQueue,
    decision: Decision,
    budget: int,
    only: Container[int] | None,
) -> int:
    seats = config.max_num_seqs - sum(request.num_seats for request in running)
    for request in waiting:
        if only is not None and request.index not in only:
            continue
        # The first that must wait ends admission: nobody overtakes.
        if budget <= 0 or request.num_seats > seats:
            break
        num_computed = admit(config, cache, request, alone=not running and not decision.admitted)
        if num_computed is None:
            break
        decision.admitted.append((request, num_computed))
        seats -= request.num_seats
        end = _chunk_end(config, request, num_computed, budget)
        budget -= end - num_computed
        _schedule(cache, request, num_computed, end, decision)
    return budget


def _add_drafts(
    config: SchedulerConfig, cache: KVCacheManager, decision: Decision, cost: StepCost, budget: int
) -> None:
    """Lengthens the chunks of requests that sample in this step by guesses at what comes next.

    They take only what nobody else wanted: no token of the budget that another request could use, no block for which
    one would have to give way.
    """
    plan = decision.plan
    if not plan.seqs:
        return
    num_tokens, num_rows = plan.num_tokens, sum(len(seq.rows) for seq in plan.seqs)
    worth = cost.worth(num_tokens, num_rows)
    if worth >= 1.0:
        return
    places, proposals = [], []
    for place, (request, seq) in enumerate(zip(decision.requests, plan.seqs, strict=True)):
        if request.drafter is None:
            continue
        limit = min(budget, _draft_limit(config, cache, request, seq))
        drafts = _proposal(request, limit, worth)
        if drafts:
            places.append(place)
            proposals.append(drafts)
    taken = choose(proposals, cost, num_tokens, num_rows, budget)
    for place, drafts, count in zip(places, proposals, taken, strict=True):
        if count:
            _lengthen(cache, decision.requests[place], plan.seqs[place], drafts[:count], decision)


def _proposal(request: Request, limit: int, worth: float) -> list[Draft]:
    if request.drafter is None or limit <= 0:
        return []
    try:
        return request.drafter.propose(request, limit, worth)
    except Exception:  # a request does without drafts rather than end for their sake
        request.drafter = None
        return []


def _draft_limit(config: SchedulerConfig, cache: KVCacheManager, request: Request, seq: SeqPlan) -> int:
    """Drafts that may follow a chunk: none unless it ends in a sampled row, and none that could not be kept."""
    if seq.start + len(seq.tokens) < request.num_tokens or request.siblings:
        return 0
    chunk = config.prefill_chunk
    return min(
        config.max_draft_tokens,
        request.max_tokens - len(request.output_ids) - 1,
        min(config.max_model_len, cache.capacity) - request.num_tokens - 1,
        config.max_draft_tokens if chunk is None else chunk - len(seq.tokens),
    )


def _lengthen(cache: KVCacheManager, request: Request, seq: SeqPlan, drafts: list[Draft], decision: Decision) -> None:
    end = seq.start + len(seq.tokens)
    if not cache.ensure(request, end + len(drafts)):
        return
    first = len(seq.tokens)
    seq.blocks = cache.blocks(request)
    seq.tokens = [*seq.tokens, *(draft.token for draft in drafts)]
    seq.num_drafts = len(drafts)
    position = len(request.output_ids) + 1
    seq.rows.extend(
        RowPlan(request.index, first + i, request.sampling, position + i, request.stream) for i in range(len(drafts))
    )
    decision.drafts[request.index] = drafts


def _chunk_end(config: SchedulerConfig, request: Request, start: int, budget: int) -> int:
    limit = budget if config.prefill_chunk is None else min(budget, config.prefill_chunk)
    return min(request.num_tokens, start + limit)


def _schedule(cache: KVCacheManager, request: Request, start: int, end: int, decision: Decision) -> None:
    """Gives the request tokens [start, end) of the step. Who comes after it in the same step may share them already:
    in each layer a step writes all keys and values before it reads any."""
    tokens = request.tokens(start, end)
    cache.commit(request, tokens)
    decision.requests.append(request)
    rows, prompt = _rows(request, start, end), request.num_prompt_tokens
    decision.plan.seqs.append(SeqPlan(request.index, start, tokens, cache.blocks(request), rows, prompt_len=prompt))


def _rows(request: Request, start: int, end: int) -> list[RowPlan]:
    """Rows of logits of tokens [start, end): prompt tokens to score, then at the last known token one row a sample."""
    rows = _prompt_rows(request, start, end) if request.wants_prompt_logprobs else []
    if end == request.num_tokens:
        position, offset = len(request.output_ids), end - start - 1
        rows.append(RowPlan(request.index, offset, request.sampling, position, request.stream))
        rows.extend(RowPlan(s.index, offset, s.sampling, position, s.stream) for s in request.siblings)
    return rows


def _prompt_rows(request: Request, start: int, end: int) -> list[RowPlan]:
    """The hidden state of position p scores prompt token p + 1."""
    scoring = RowSampling(num_logprobs=request.params.prompt_logprobs or 0)
    first, last = max(start + 1, request.num_scored), min(end, request.num_prompt_tokens - 1)
    return [
        RowPlan(request.index, position - 1 - start, scoring, target=request.prompt_ids[position])
        for position in range(first, last + 1)
    ]


def check_result(plan: StepPlan, result: StepResult) -> None:
    """Raises BackendError unless `result` has the shape of an answer to `plan`."""
    if result.step_id != plan.step_id:
        raise BackendError(f"result of step {result.step_id} came for step {plan.step_id}")
    expected = [row.request for seq in plan.seqs for row in seq.rows]
    if [row.request for row in result.rows] != expected:
        raise BackendError(f"step {plan.step_id} returned rows of other requests than were planned")
    for row in result.rows:
        if row.token < 0 and row.error is None:
            raise BackendError(f"step {plan.step_id} returned no token and no error for request {row.request}")
