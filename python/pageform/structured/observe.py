"""One call's side of observability: its ids and clocks, the events it sends to hooks, and the lines it logs.

A sync driver hands its hooks to `loop.retry`, which makes an `Observer` of them. A driver that knows its provider, or
that can await handlers, makes it itself and awaits `settle` after each step of the loop:

    observer = Observer(hooks, provider="openai", asynchronous=True)
    loop = retry(payload, judge=judge, reask=reask, hooks=observer)
    ask = next(loop)
    await observer.settle()
"""

from __future__ import annotations

import inspect
import secrets
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..core.completion import Attempt, Fault, Usage
from ..core.errors import ParameterError
from .answer import Answer
from .events import CallAbandoned, Event, EventName, SpanIds
from .hooks import Hooks
from .logs import log_event, wants
from .redact import redact


class Observer:
    """Tells the hooks and the log what happens to one call. Used by one driver, and for one call only.

    `attempts` is filled by the loop: the rejected ones so far, also while an error of the transport passes through.
    """

    def __init__(
        self,
        hooks: Any = None,
        *,
        provider: str = "",
        model: str = "",
        asynchronous: bool = False,
        call_id: str | None = None,
    ) -> None:
        self.hooks = Hooks.of(hooks)
        coroutines = self.hooks.coroutines()
        if coroutines and not asynchronous:
            raise ParameterError(
                "hooks", coroutines[0], "is a coroutine function", "Use an async client, or register a plain function."
            )
        self.provider, self.model = provider, model
        self.call_id = call_id or secrets.token_hex(16)
        self.attempts: list[Attempt] = []
        self._asynchronous = asynchronous
        self._pending: list[tuple[EventName, Awaitable[Any]]] = []
        self._started, self._clock = time.time(), time.monotonic()
        self._sent = self._clock
        self._trace_id = _active_trace() or self.call_id
        self._ids = SpanIds(self._trace_id, secrets.token_hex(8))
        self._attempt = 0
        self._max_attempts: int | None = None
        self._make_kwargs: Callable[[], Mapping[str, Any]] = dict
        self._kwargs: Mapping[str, Any] | None = None
        self._answer: Answer | None = None
        self._faults: tuple[Fault, ...] = ()
        self._total = Usage()
        self._ended = self._cached = self._told = False

    async def settle(self) -> None:
        """Await what async handlers were called for since the last time, in order."""
        pending, self._pending = self._pending, []
        for name, awaitable in pending:
            try:
                await awaitable
            except Exception as error:
                _warn(name, error)

    def suspend(self) -> None:
        """The attempts will go on elsewhere: that the loop is left now is no end of the call."""
        self._ended = True

    # --- called by the loop -----------------------------------------------------------------------------------------

    def resume(self, attempts: Sequence[Attempt]) -> None:
        """The call goes on after these attempts; handlers were told of the next one when it was made."""
        self.attempts.extend(attempts)
        self._total = sum((attempt.usage for attempt in attempts), Usage())
        self._told = bool(attempts)

    def attempt(self, number: int, max_attempts: int | None, kwargs: Callable[[], Mapping[str, Any]]) -> None:
        """An attempt is handed to the driver."""
        self._attempt, self._max_attempts, self._sent = number, max_attempts, time.monotonic()
        if number > 1:
            self._ids = SpanIds(self._trace_id, secrets.token_hex(8))
        self._answer, self._faults = None, ()
        self._make_kwargs, self._kwargs = kwargs, None
        if not self._told:
            self._tell(EventName.KWARGS)
        self._told = False

    def answered(self, answer: Answer) -> None:
        """The driver brought an answer."""
        self._answer = answer
        self._total += answer.usage
        self._tell(EventName.RESPONSE)
        if answer.usage.total_tokens:
            self._tell(EventName.USAGE)

    def rejected(self, error: Exception, faults: tuple[Fault, ...], last: bool) -> None:
        """The answer was not taken; `last` says that no other attempt follows."""
        self._faults = faults
        self._tell(EventName.PARSE_ERROR, error, last=last)

    def unanswered(self, error: Exception) -> None:
        """The driver could not get an answer, or the loop failed; the call ends with that error."""
        if not self._ended:
            self._tell(EventName.COMPLETION_ERROR, error, last=True)
            self.gave_up(error)

    def gave_up(self, error: Exception) -> None:
        """No further attempt is made; the call ends with the error."""
        self._tell(EventName.LAST_ATTEMPT, error, last=True)
        self._end(error)

    def accepted(self, value: Any) -> None:
        """The call ends with a value."""
        self._end(value=value)

    def recalled(self, answer: Answer, value: Any) -> None:
        """The call ends with a value of an answer that a cache had: no attempt was made."""
        self._cached, self._attempt, self._answer = True, 1, answer
        self._tell(EventName.RESPONSE)
        self._end(value=value)

    def abandoned(self) -> None:
        """The call ends because nobody waits for it any more."""
        if not self._ended:
            self._end(CallAbandoned())

    # ----------------------------------------------------------------------------------------------------------------

    def _end(self, error: Exception | None = None, value: Any = None) -> None:
        self._ended = True
        self._tell(EventName.END, error, last=True, value=value)

    def _tell(self, name: EventName, error: Exception | None = None, *, last: bool = False, value: Any = None) -> None:
        logged = wants(name, error)
        if not logged and not self.hooks.has(name):
            return
        event = self._event(name, error, last, value)
        for handler in self.hooks.handlers(name):
            try:
                result = handler(event)
            except Exception as raised:  # a handler's fault must not become the request's
                _warn(name, raised)
            else:
                if inspect.isawaitable(result):
                    self._await_later(name, result)
        if logged:
            log_event(event)

    def _event(self, name: EventName, error: Exception | None, last: bool, value: Any) -> Event:
        now, answer = time.monotonic(), self._answer
        if self._kwargs is None:
            self._kwargs = redact(dict(self._make_kwargs()))
            model = self._kwargs.get("model")
            self.model = self.model or (model if isinstance(model, str) else "")
        response = None if answer is None else answer if answer.response is None else answer.response
        return Event(
            name=name,
            call_id=self.call_id,
            provider=self.provider,
            model=self.model,
            attempt=self._attempt,
            max_attempts=self._max_attempts,
            is_last_attempt=last or self._attempt == self._max_attempts,
            started=self._started,
            elapsed=now - self._clock,
            attempt_elapsed=now - self._sent,
            ids=self._ids,
            usage=Usage() if answer is None else answer.usage,
            total_usage=self._total,
            request_id=_request_id(response) or _request_id(error),
            finish_reason=None if answer is None else str(answer.finish_reason),
            kwargs=self._kwargs,
            response=response,
            error=error,
            faults=self._faults if error is not None else (),
            value=value,
            cached=self._cached,
        )

    def _await_later(self, name: EventName, awaitable: Awaitable[Any]) -> None:
        if self._asynchronous:
            self._pending.append((name, awaitable))
            return
        with suppress(AttributeError):
            awaitable.close()  # type: ignore[attr-defined]
        _warn(name, TypeError("it gave something to await, which only async clients do"))


def _warn(name: EventName, error: Exception) -> None:
    warnings.warn(f"a {name} hook raised {error!r}", RuntimeWarning, stacklevel=4)


def _request_id(source: Any) -> str:
    """The provider's id of a request, under the names that SDKs have for it."""
    for name in ("_request_id", "request_id", "id"):
        found = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if isinstance(found, str) and found:
            return found
    return ""


def _active_trace() -> str | None:
    """The trace id of the caller's span, if the caller uses OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else None
