"""What hooks are told: one `Event` a happening, with everything that is known about the call at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..core.completion import Fault, Usage
from ..core.errors import PageformError


class EventName(StrEnum):
    """What happened. A call gives for each attempt `kwargs`, then `response`, `usage`, and `parse_error` if the answer
    was rejected, or `completion_error` if none came; `last_attempt` when it gives up; and `end` once, always. A call
    that a cache answers gives `response` and `end`, both `cached`: nothing is sent and nothing used."""

    KWARGS = "kwargs"
    RESPONSE = "response"
    USAGE = "usage"
    PARSE_ERROR = "parse_error"
    COMPLETION_ERROR = "completion_error"
    LAST_ATTEMPT = "last_attempt"
    END = "end"


class HookName(StrEnum):
    """Instructor's names, whose handlers are called with Instructor's arguments."""

    COMPLETION_KWARGS = "completion:kwargs"
    COMPLETION_RESPONSE = "completion:response"
    COMPLETION_USAGE = "completion:usage"
    COMPLETION_ERROR = "completion:error"
    COMPLETION_LAST_ATTEMPT = "completion:last_attempt"
    PARSE_ERROR = "parse:error"


EVENT_OF = {
    HookName.COMPLETION_KWARGS: EventName.KWARGS,
    HookName.COMPLETION_RESPONSE: EventName.RESPONSE,
    HookName.COMPLETION_USAGE: EventName.USAGE,
    HookName.COMPLETION_ERROR: EventName.COMPLETION_ERROR,
    HookName.COMPLETION_LAST_ATTEMPT: EventName.LAST_ATTEMPT,
    HookName.PARSE_ERROR: EventName.PARSE_ERROR,
}


class CallAbandoned(PageformError):
    """The caller stopped waiting (a stream was left, a task cancelled) before the call had an answer."""

    def __str__(self) -> str:
        return "the caller left before the answer came"


@dataclass(slots=True)
class SpanIds:
    """Identifiers of one attempt as tracing has them: 32 and 16 hexadecimal digits. An adapter that makes real spans
    writes theirs into it, so that later events and log lines name them."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Event:
    """One happening of one call.

    `call_id` is the same for all attempts of a call. `request_id` is the provider's, once something came back.
    `started` is the time of the call's start in seconds since 1970, `elapsed` seconds since then and `attempt_elapsed`
    since this attempt was handed out. `usage` is this attempt's, `total_usage` that of all so far. `kwargs` is a copy
    of what is sent, without secrets. `response` is the SDK's object (for a stream, the assembled `Answer`). `error` is
    the exception of the event, `faults` what it finds wrong with the answer. `value` is the validated value, at `end`
    only. `cached`: the answer was kept from an earlier call.
    """

    name: EventName
    call_id: str
    provider: str
    model: str
    attempt: int
    max_attempts: int | None
    is_last_attempt: bool
    started: float
    elapsed: float
    attempt_elapsed: float
    ids: SpanIds
    usage: Usage
    total_usage: Usage
    request_id: str = ""
    finish_reason: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    response: Any = None
    error: Exception | None = None
    faults: tuple[Fault, ...] = ()
    value: Any = None
    cached: bool = False

    @property
    def trace_id(self) -> str:
        """The trace that the attempt belongs to."""
        return self.ids.trace_id

    @property
    def span_id(self) -> str:
        """The span of the attempt."""
        return self.ids.span_id

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong."""
        return self.error is None
