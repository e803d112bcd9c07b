"""One prompt being answered: what was asked, how far it has come, who hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .completion import FinishReason
from .drafts import Drafter
from .log import FinishEntry, RequestLog, RewindEntry, TokenEntry, TokenOrigin
from .params import SamplingParams
from .plan import RowResult, RowSampling
from .states import RequestState, check_transition


class TokenSink(Protocol):
    """Hears what becomes of a request, within the call that makes it so. The request is up to date by then."""

    def token(self, token_id: int, row: RowResult | None) -> FinishReason | None:
        """A token was appended to the output: sampled, or forced where there is no `row`. A reason ends the request.

        An exception ends it with reason `error` and `request.error` set; no other request notices.
        """

    def choose(self, token_id: int) -> int:
        """The token to append where this one was sampled. Another one only where the answer must come to its end."""

    def forced(self) -> Sequence[int]:
        """Tokens to append after the last one without asking the model. Each is passed to `token`."""

    def prompt_logprob(self, position: int, row: RowResult) -> None:
        """Prompt token `position` (1 or more) was scored. Positions come in order, each once."""

    def finished(self, request: Request) -> None:
        """The request has ended and holds nothing any more. Called once."""


CacheKey = tuple[Any, ...]
"""Tagged, what cached content depends on beside tokens: ("salt", s), ("lora", id, version), ("weights", epoch) …"""


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One sample of one prompt. Made by the engine, changed only by the scheduler that it was added to.

    `index` is unique within an engine and never reused. Times are seconds on the clock that the engine passes to the
    scheduler. There is no prefill or decode phase: the first `num_computed` tokens of prompt and output are in the
    cache, and a step catches up towards `num_tokens`.
    """

    index: int
    request_id: str
    prompt_ids: Sequence[int]
    params: SamplingParams
    sampling: RowSampling
    max_tokens: int
    """Resolved: `params.max_tokens`, or the rest of the context."""
    sink: TokenSink
    arrival: float
    cache_keys: tuple[CacheKey, ...] = ()
    sample: int = 0
    siblings: list[Request] = field(default_factory=list)
    """With n > 1, the other samples as long as they wait for this one to compute the prompt that all share."""
    leader: Request | None = None
    """The sample whose prompt this one waits for."""
    is_follow_up: bool = False
    """Belongs to a request that was let in: no bound of the queue keeps it out."""
    drafter: Drafter | None = None
    """Guesses its next tokens, if anybody may."""

    log: RequestLog = field(default_factory=RequestLog)
    output_ids: list[int] = field(init=False)
    """The log's view of the output, the same list throughout. Not to be changed by others."""
    state: RequestState = RequestState.QUEUED
    num_computed: int = 0
    num_cached: int = 0
    """Prompt tokens that the first admission found in the prefix cache."""
    num_scored: int = 1
    """Prompt logprobs are delivered up to this position."""
    attempt: int = 0
    """Counts the attempts at a value that is being decoded again; 0 otherwise."""
    num_preemptions: int = 0
    num_rewound: int = 0
    """Output tokens that were cut off again."""
    protected: bool = False
    """Resumed after a preemption and without a new token since: not to be preempted again."""
    first_scheduled_time: float | None = None
    first_token_time: float | None = None
    finish_time: float | None = None
    finish_reason: FinishReason | None = None
    detail: str | None = None
    error: BaseException | None = None

    order: tuple[int, float, int] = field(init=False)
    """Sorts requests in the order in which they are served."""
    queue_deadline: float | None = field(init=False)
    first_token_deadline: float | None = field(init=False)
    deadline: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.output_ids = self.log.output_ids
        self.order = (-self.params.priority, self.arrival, self.index)
        self.queue_deadline = self._after_arrival(self.params.queue_timeout)
        self.first_token_deadline = self._after_arrival(self.params.first_token_timeout)
        self.deadline = self._after_arrival(self.params.timeout)

    def _after_arrival(self, seconds: float | None) -> float | None:
        return None if seconds is None else self.arrival + seconds

    @property
    def priority(self) -> int:
        return self.params.priority

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_ids)

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def num_seats(self) -> int:
        """Seats that admitting this request takes: its own and those of the samples waiting for it."""
        return 1 + len(self.siblings)

    @property
    def stream(self) -> int:
        """Which noise the request's samples are drawn with, together with seed and position."""
        return self.sample + (self.attempt << 16)

    @property
    def is_finished(self) -> bool:
        return self.state is RequestState.FINISHED

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Some prompt logprobs are still to be delivered."""
        return self.params.prompt_logprobs is not None and self.num_scored < len(self.prompt_ids)

    def tokens(self, start: int, end: int) -> list[int]:
        """Tokens at positions [start, end) of prompt and output."""
        num_prompt = len(self.prompt_ids)
        if start >= num_prompt:
            return self.output_ids[start - num_prompt : end - num_prompt]
        if end <= num_prompt:
            return list(self.prompt_ids[start:end])
        return [*self.prompt_ids[start:], *self.output_ids[: end - num_prompt]]

    def to(self, state: RequestState) -> None:
        """Enters a state. Raises `IllegalTransition`."""
        check_transition(self.request_id, self.state, state)
        self.state = state

    def append(self, token_id: int, origin: TokenOrigin = TokenOrigin.SAMPLED, row: RowResult | None = None) -> None:
        """Appends a token to the output. `row` is what the model gave in its place, if it gave anything."""
        is_telling = row is not None and (
            row.token != token_id or self.sampling.num_logprobs >= 0 or self.sampling.weigh
        )
        self.log.append(TokenEntry(token_id, origin, row if is_telling else None))

    def cut(self, entry: RewindEntry) -> None:
        """Cuts the output back. The last kept token must be computed again: what it predicts is to be sampled anew."""
        self.num_rewound += len(self.output_ids) - entry.to
        self.log.append(entry)
        self.num_computed = min(self.num_computed, self.num_tokens - 1)

    def finish(self, reason: FinishReason, now: float, detail: str | None, error: BaseException | None) -> None:
        """Enters FINISHED. The first error and the sink's own detail stay."""
        self.to(RequestState.FINISHED)
        self.finish_reason = reason
        self.finish_time = now
        self.detail = self.detail if detail is None else detail
        self.error = self.error or error
        self.log.append(FinishEntry(reason, self.detail))
