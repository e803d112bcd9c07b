"""What a computed step means for its requests: tokens are appended, drafts are verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..cache import KVCacheManager
from ..core.completion import FinishReason
from ..core.drafts import Draft
from ..core.errors import BackendError
from ..core.plan import RowPlan, RowResult, SeqPlan
from ..core.request import Request
from ..core.states import RequestState
from .delivery import Delivery, Finish

Outcome = tuple[RowPlan, RowResult]


@dataclass(slots=True)
class DraftCounts:
    """Tokens that were drafted, and those of them that came true, by kind of draft."""

    drafted: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)

    def count(self, drafts: Sequence[Draft], accepted: int) -> None:
        self.drafted.update(str(draft.kind) for draft in drafts)
        self.accepted.update(str(draft.kind) for draft in drafts[:accepted])


class Outcomes:
    """Applies the results of steps to requests, for one scheduler.

    `find` gives a live request by index, `finish` ends one, `start` makes one run, `finish_if_full` ends one that has
    reached its length.
    """

    def __init__(
        self,
        cache: KVCacheManager,
        find: Callable[[int], Request | None],
        finish: Finish,
        finish_if_full: Callable[[Request, float], None],
        start: Callable[[Request], None],
    ) -> None:
        self.drafts = DraftCounts()
        self._cache = cache
        self._find = find
        self._finish = finish
        self._delivery = Delivery(finish, finish_if_full)
        self._start = start

    def advance(
        self, request: Request, seq: SeqPlan, outcomes: list[Outcome], drafts: Sequence[Draft], now: float
    ) -> None:
        """One request's share of a step has been computed; `drafts` are the last of its tokens."""
        if outcomes and all(result.error is not None for _, result in outcomes):
            # Nothing usable came out, so nothing of it may be shared; samples without a prompt fail alike.
            for row, result in outcomes:
                self._fail_row(row.request, result, now)
            return
        certain = len(seq.tokens) - len(drafts)
        request.num_computed = seq.start + certain
        taken_back = request.num_computed - self._cache.num_committed(request)
        if taken_back:  # by a rewind meanwhile that left the output as long as it was
            self._cache.commit(request, seq.tokens[certain - taken_back : certain])
        if request.siblings and request.num_computed == request.num_tokens:
            self._branch(request)
        after_drafts = len(outcomes) - len(drafts)
        for row, result in outcomes[:after_drafts]:
            target = self._find(row.request)
            if target is None or target.state is not RequestState.RUNNING:
                continue
            if row.target >= 0 and result.error is None:
                self._score(target, seq.start + row.offset + 1, result, now)
            else:
                self._deliver(target, result, now)
        if drafts:
            drafted = [result for _, result in outcomes[after_drafts:]]
            self._verify(request, seq.start + certain, drafts, drafted, now)

    def go_on(self, request: Request, now: float) -> None:
        """A request that was held runs again: what is certain to follow is appended."""
        self._delivery.go_on(request, now)

    def _branch(self, leader: Request) -> None:
        """The prompt is computed: the other samples get tables that share it, and run."""
        for sibling in leader.siblings:
            sibling.leader = None
            self._cache.fork(leader, sibling)
            sibling.num_computed = leader.num_computed
            sibling.num_cached = leader.num_cached
            sibling.num_scored = sibling.num_prompt_tokens  # the scores of the prompt go to the leader
            self._start(sibling)
        leader.siblings = []

    def _score(self, request: Request, position: int, result: RowResult, now: float) -> None:
        request.num_scored = position + 1
        try:
            request.sink.prompt_logprob(position, result)
        except Exception as error:
            self._finish(request, FinishReason.ERROR, now, detail=str(error), error=error)

    def _verify(
        self, request: Request, start: int, drafts: Sequence[Draft], results: Sequence[RowResult], now: float
    ) -> None:
        """Goes along the drafts as far as they are what was sampled; then what was sampled stands, the rest is waste.

        `results[i]` was sampled after `drafts[i]`. The first draft was computed at position `start`; what belongs in
        its place, and perhaps more of the output, is known by now. If that was taken back meanwhile, `num_computed` no
        longer stands there, and no draft counts.
        """
        prompt = request.num_prompt_tokens
        right, missed = 0, False
        while right < len(drafts) and request.state is RequestState.RUNNING:
            place = start + right - prompt
            if request.num_computed != start + right or place >= len(request.output_ids):
                break  # it was rewound
            missed = request.output_ids[place] != drafts[right].token
            if missed:
                break
            self._cache.commit(request, [drafts[right].token])
            request.num_computed += 1
            right += 1
            if request.num_computed == request.num_tokens:
                self._deliver(request, results[right - 1], now)
        self.drafts.count(drafts, right)
        if request.drafter is not None:
            request.drafter.settle(drafts, right, missed)
        if right < len(drafts) and not request.is_finished:
            self._cache.trim(request)

    def _deliver(self, request: Request, result: RowResult, now: float) -> None:
        if result.error is not None:
            self._fail_row(request.index, result, now)
        else:
            self._delivery.deliver(request, result, now)

    def _fail_row(self, index: int, result: RowResult, now: float) -> None:
        request = self._find(index)
        if request is not None:
            error = BackendError(result.error)
            self._finish(request, FinishReason.ERROR, now, detail=result.error, error=error, forget=True)
