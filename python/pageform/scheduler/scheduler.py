"""The life of requests between the engine's `add` and their finish."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from ..cache import KVCacheManager
from ..core.completion import FinishReason
from ..core.errors import CapacityError, IllegalTransition, ParameterError
from ..core.log import RewindEntry
from ..core.plan import StepPlan, StepResult
from ..core.request import Request
from ..core.states import RequestState
from .admission import check_acceptable
from .config import SchedulerConfig
from .deadlines import Deadlines
from .draft_budget import StepCost
from .outcomes import Outcomes
from .plan import Decision, check_result, decide
from .queue import RequestQueue


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Requests now; the rest counts from the start."""

    num_running: int
    num_waiting: int
    num_steps: int
    num_preemptions: int
    num_rejections: int
    drafted: dict[str, int]
    accepted: dict[str, int]


class Scheduler:
    """Decides what each step computes, and who has finished.

    scheduler.add(request, now)
    while plan := scheduler.plan(now):
        try:
            result = execute(plan)
        except Exception:
            scheduler.discard(plan)        # then scheduler.plan(now, only=half of its requests), and so on;
            …                              # scheduler.fail(request, error) ends the guilty one
        else:
            scheduler.apply(plan, result, now)
    """

    def __init__(self, config: SchedulerConfig, cache: KVCacheManager) -> None:
        self.config = config
        self.cache = cache
        self._waiting = RequestQueue()  # QUEUED, PREEMPTED, and PREPARING once the leader has gone
        self._running = RequestQueue()  # RUNNING and VALIDATING: those that hold blocks
        self._requests: dict[int, Request] = {}
        self._samples: dict[str, list[Request]] = {}  # live requests by id: all samples of a prompt have the same
        self._deadlines = Deadlines()
        self._in_flight: Decision | None = None
        self._aborted: list[tuple[Request, float, str | None]] = []  # while a step was in flight
        self._finished: list[Request] | None = None  # while a step is applied
        self._num_steps = self._num_preemptions = self._num_rejections = 0
        self._cost = StepCost()
        self._outcomes = Outcomes(cache, self.get, self._finish, self._finish_if_full, self._run)

    # --- requests come and go ---------------------------------------------------------------------------------------

    def add(self, request: Request, now: float) -> None:
        """Queues a request, with its `siblings` as further samples of the same prompt.

        Raises ParameterError or CapacityError, and holds nothing of it, if it can't be served or the queue is full.
        """
        self._register(request, [request, *request.siblings])
        for sibling in request.siblings:
            sibling.leader = request
            sibling.to(RequestState.PREPARING)
        self._waiting.add(request)

    def readmit(self, samples: Sequence[Request]) -> None:
        """Queues samples of one prompt that were preempted in another engine. Raises like `add`."""
        self._register(samples[0], list(samples))
        for sample in samples:
            self._waiting.add(sample)

    def _register(self, request: Request, samples: list[Request]) -> None:
        if request.request_id in self._samples:
            raise ParameterError(
                "request_id", request.request_id, "is in use", "Give each live request an id of its own."
            )
        try:
            check_acceptable(self.config, self.cache, self._waiting, request)
        except CapacityError:
            self._num_rejections += 1
            raise
        self._samples[request.request_id] = samples
        for sample in samples:
            self._requests[sample.index] = sample
            self._deadlines.add(sample)

    def abort(self, which: int | str, now: float, detail: str | None = None) -> list[Request]:
        """Ends a request by index, or all samples by request id, and frees their blocks.

        At once, or while a step is in flight as soon as it is applied or discarded. Returns the requests; none if the
        name is unknown (it may have just finished).
        """
        if isinstance(which, int):
            found = [self._requests[which]] if which in self._requests else []
        else:
            found = list(self._samples.get(which, ()))
        if self._in_flight is not None:
            self._aborted.extend((request, now, detail) for request in found)
        else:
            for request in found:
                self._finish(request, FinishReason.ABORT, now, detail=detail)
        return found

    def fail(self, request: Request, error: BaseException, now: float) -> None:
        """Ends a request that made a step fail. What it computed is not trusted as cached content."""
        self._require_no_step("fail")
        self._finish(request, FinishReason.ERROR, now, detail=str(error), error=error, forget=True)

    def expire(self, now: float) -> list[Request]:
        """Ends requests that missed a deadline; what they decoded stays. `plan` does this first."""
        self._require_no_step("expire")
        missed = list(self._deadlines.missed(now))
        for request, account in missed:
            self._finish(request, FinishReason.TIMEOUT, now, detail=account)
        return [request for request, _ in missed]

    # --- steps ------------------------------------------------------------------------------------------------------

    def plan(self, now: float, only: Container[int] | None = None) -> StepPlan | None:
        """What to compute next, of the requests with an index in `only` if given; None if there is nothing.

        The plan is in flight until `apply` or `discard`.
        """
        self._require_no_step("plan")
        self.expire(now)
        while True:
            self.cache.begin()
            decision = decide(
                self.config,
                self.cache,
                self._running,
                self._waiting,
                step_id=self._num_steps,
                now=now,
                cost=self._cost,
                only=only,
            )
            self._num_steps += 1
            if decision.plan.seqs:
                self._in_flight = decision
                return decision.plan
            # Nothing can be computed; but where requests gave way in vain, there may be room for others now.
            self.cache.keep()
            self._preempt(decision)
            if not decision.preempted:
                return None

    def discard(self, plan: StepPlan) -> None:
        """Takes a plan back, as if it had not been made, after its step failed.

        Requests stay as they were, but cache content that the failed step may have overwritten is computed again.
        """
        self._expect(plan)
        self._in_flight = None
        self.cache.rollback()
        written = self._written(plan)
        for request in self._running:
            known = min(request.num_computed, self.cache.num_committed(request))
            # A block may be shared again whose other holder took a copy in the failed step, and which a rewound one
            # then wrote to in place.
            for number, block in enumerate(self.cache.blocks(request)):
                known = min(known, number * self.cache.block_size + written.get(block, self.cache.block_size))
            if known < self.cache.num_committed(request):
                self.cache.truncate(request, known)
            request.num_computed = known
            self._check_protection(request)
        self._finish_aborted()

    def _written(self, plan: StepPlan) -> dict[int, int]:
        """The blocks that a step writes to, and the first place in each of them."""
        first: dict[int, int] = {}
        for seq in plan.seqs:
            for position in range(seq.start, seq.start + len(seq.tokens)):
                number, place = divmod(position, self.cache.block_size)
                first[seq.blocks[number]] = min(place, first.get(seq.blocks[number], place))
        return first

    def apply(self, plan: StepPlan, result: StepResult, now: float) -> list[Request]:
        """Makes the step's outcome true; returns the requests that finished meanwhile.

        Raises BackendError, with the plan still in flight, if the result isn't one of this plan.
        """
        decision = self._expect(plan)
        check_result(plan, result)
        self._in_flight = None
        self.cache.keep()
        finished: list[Request] = []
        self._finished = finished
        self._preempt(decision)
        self._start(decision)
        self._finish_aborted()
        self._cost.observe(plan.num_tokens, now - decision.now)
        rows = iter(result.rows)
        for request, seq in zip(decision.requests, plan.seqs, strict=True):
            outcomes = [(row, next(rows)) for row in seq.rows]
            # A sink may have ended or rewound other requests meanwhile: their outcomes mean nothing any more.
            if request.state is RequestState.RUNNING and request.num_computed == seq.start:
                self._outcomes.advance(request, seq, outcomes, decision.drafts.get(request.index, ()), now)
        self._finished = None
        return finished

    def _expect(self, plan: StepPlan) -> Decision:
        decision = self._in_flight
        if decision is None or decision.plan is not plan:
            raise IllegalTransition(f"step {plan.step_id} is not in flight")
        return decision

    def _preempt(self, decision: Decision) -> None:
        for request in decision.preempted:
            request.to(RequestState.PREEMPTED)
            request.num_computed = 0
            request.num_preemptions += 1
            self._num_preemptions += 1
            self._running.discard(request)
            self._waiting.add(request)

    def _run(self, request: Request) -> None:
        request.to(RequestState.RUNNING)
        self._running.add(request)

    def _start(self, decision: Decision) -> None:
        for request, num_computed in decision.admitted:
            request.num_computed = num_computed
            if request.num_preemptions:
                request.protected = True
            else:
                request.num_cached = num_computed
            for sample in (request, *request.siblings):
                if sample.first_scheduled_time is None:
                    sample.first_scheduled_time = decision.now
            self._waiting.discard(request)
            self._run(request)

    # --- the course of one request ----------------------------------------------------------------------------------

    def hold(self, request: Request) -> None:
        """The request awaits a verdict: it keeps its blocks and is not scheduled until `resume`."""
        self._require_no_step("hold")
        request.to(RequestState.VALIDATING)

    def resume(self, request: Request, now: float, reason: FinishReason | None = None) -> None:
        """The verdict is there: the request ends for a `reason`, or goes on, unless it has reached its length."""
        self._require_no_step("resume")
        request.to(RequestState.RUNNING)
        if reason is not None:
            self._finish(request, reason, now)
            return
        self._outcomes.go_on(request, now)
        if request.state is RequestState.RUNNING:
            self._finish_if_full(request, now)

    def rewind(
        self, request: Request, to_output_length: int, *, path: str = "", banned: Any = None, attempt: int = 0
    ) -> None:
        """Cuts the output of a running, held or preempted request back to its first `to_output_length` tokens.

        Log, block table and `num_computed` move together; what follows is sampled anew. Also from within a sink's call.
        """
        self._require_no_step("rewind")
        if request.state not in (RequestState.RUNNING, RequestState.VALIDATING, RequestState.PREEMPTED):
            raise IllegalTransition(f"request {request.request_id} is {request.state} and can't be rewound")
        request.cut(RewindEntry(to_output_length, path, banned, attempt))
        if request.state is not RequestState.PREEMPTED:
            self.cache.truncate(request, request.num_computed)
            self._check_protection(request)

    def _check_protection(self, request: Request) -> None:
        """Who has given back blocks that admission had set aside may wait for others, and so must give way again."""
        if len(self.cache.blocks(request)) < self.cache.blocks_for(request.num_tokens):
            request.protected = False

    def _finish_if_full(self, request: Request, now: float) -> None:
        if len(request.output_ids) >= request.max_tokens:
            self._finish(request, FinishReason.LENGTH, now, detail="max_tokens")
        elif request.num_tokens >= self.config.max_model_len:
            self._finish(request, FinishReason.LENGTH, now, detail="max_model_len")
        elif request.num_tokens > self.cache.capacity:  # the newest token has no place, even with the cache to itself
            self._finish(request, FinishReason.LENGTH, now, detail="kv_cache_memory")

    def _finish_aborted(self) -> None:
        aborted, self._aborted = self._aborted, []
        for request, when, detail in aborted:
            self._finish(request, FinishReason.ABORT, when, detail=detail)

    def _finish(
        self,
        request: Request,
        reason: FinishReason,
        now: float,
        *,
        detail: str | None = None,
        error: BaseException | None = None,
        forget: bool = False,
    ) -> None:
        """The one way out. Does nothing for a request that has finished."""
        if request.is_finished:
            return
        request.finish(reason, now, detail, error)
        self.cache.release(request, forget=forget)
        self._running.discard(request)
        self._waiting.discard(request)
        self._deadlines.forget(request)
        del self._requests[request.index]
        samples = self._samples[request.request_id]
        samples.remove(request)
        if not samples:
            del self._samples[request.request_id]
        self._part(request)
        if self._finished is not None:
            self._finished.append(request)
        try:
            request.sink.finished(request)
        except Exception as sink_error:  # whoever listens badly disturbs nobody
            request.error = request.error or sink_error

    def _part(self, request: Request) -> None:
        """Parts a finished request from samples that waited with it or for it; the next of these leads."""
        if request.leader is not None:
            request.leader.siblings.remove(request)
            request.leader = None
        elif request.siblings:
            heir, *others = request.siblings
            request.siblings = []
            heir.leader = None
            heir.siblings = others
            for other in others:
                other.leader = heir
            self._waiting.add(heir)

    # --- looking in -------------------------------------------------------------------------------------------------

    @property
    def has_requests(self) -> bool:
        """Some request is not finished."""
        return bool(self._requests)

    @property
    def next_deadline(self) -> float | None:
        """When `expire` may next have something to do."""
        return self._deadlines.next()

    def get(self, index: int) -> Request | None:
        """The live request of that index."""
        return self._requests.get(index)

    def stats(self) -> SchedulerStats:
        return SchedulerStats(
            len(self._running),
            len(self._waiting),
            self._num_steps,
            self._num_preemptions,
            self._num_rejections,
            dict(self._outcomes.drafts.drafted),
            dict(self._outcomes.drafts.accepted),
        )

    def _require_no_step(self, what: str) -> None:
        if self._in_flight is not None:
            step = self._in_flight.plan.step_id
            raise IllegalTransition(f"{what}: step {step} is in flight; apply or discard it first")
