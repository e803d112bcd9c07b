"""What can go wrong with a structured answer. Each error carries all attempts; all can be pickled."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import ValidationError

from ..core.completion import Attempt, FinishReason, Usage
from ..core.errors import PageformError, ParameterError
from .bounded import cut, shorten
from .diagnose import COUNTED, diagnose

_TOLD = 10
"""Attempts that `as_dict` tells of, the last ones, and faults of each."""


class EarlierRejection(PageformError):
    """Stands for the error of an attempt that another process judged; its faults are those of the `Attempt`."""


class StructuredError(PageformError):
    """No validated value came of a request. `attempts` holds every answer with the error that rejected it."""

    def __init__(self, message: str, attempts: Sequence[Attempt] = ()) -> None:
        self.message = message
        self.attempts = list(attempts)
        super().__init__(message)

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together."""
        return sum((attempt.usage for attempt in self.attempts), Usage())

    @property
    def last_text(self) -> str:
        """The last answer as it came, empty if there was none."""
        return self.attempts[-1].text if self.attempts else ""

    @property
    def response(self) -> Any:
        """What the provider sent last, as its SDK gives it; None if there was nothing or it was streamed."""
        return self.attempts[-1].response if self.attempts else None

    def errors(self) -> list[dict[str, Any]]:
        """What was wrong with the last answer: dicts with `loc`, `path`, `type`, `msg`, `input`, `expected` and
        `suggestion`, of bounded size."""
        return _faults(self.attempts[-1]) if self.attempts else []

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data of bounded size: its name, message, usage, the last attempts and their faults."""
        return {
            "error": type(self).__name__,
            "message": cut(self.message, 10_000),
            "errors": self.errors(),
            "attempts": [_told(attempt) for attempt in self.attempts[-_TOLD:]],
            "attempts_made": len(self.attempts),
            "usage": asdict(self.usage),
        }

    def json(self, indent: int | None = None) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=indent, ensure_ascii=False, default=str)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self._state()))

    def _state(self) -> dict[str, Any]:
        attempts = [
            replace(attempt, error=picklable(attempt.error), response=_kept(attempt.response))
            for attempt in self.attempts
        ]
        return {"message": self.message, "attempts": attempts}


class ValidationFailed(StructuredError):
    """The last allowed attempt gave no valid value, or a validator raised something that no answer could mend.

    `__cause__` is the error of the last attempt.
    """


class IncompleteOutput(StructuredError):
    """The answer broke off before it was complete (`max_tokens`, a deadline, an abort): it is not asked for again.

    `partial` is the part of the value that had arrived, None if nothing had.
    """

    def __init__(self, message: str, attempts: Sequence[Attempt] = (), partial: Any = None) -> None:
        self.partial = partial
        super().__init__(message, attempts)

    @property
    def partial_text(self) -> str:
        """The text that had arrived."""
        return self.last_text

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "partial": _kept(self.partial)}


class TokenBudgetExceeded(StructuredError):
    """The attempts so far used up `token_budget`; no further one was made."""


class UsageUnavailable(StructuredError):
    """A `token_budget` was given, but the provider reports no usage to count against it."""


# --- why one answer was rejected: found as `Attempt.error`, and as `__cause__` of the errors above ------------------


class Rejected(PageformError, ValueError):
    """An answer that can't be turned into a value. `mendable` says whether asking again may help."""

    mendable = True


class BrokeOff(Rejected):
    """The answer is not complete."""

    mendable = False

    def __init__(self, finish_reason: FinishReason) -> None:
        self.finish_reason = finish_reason
        super().__init__(finish_reason)

    def __str__(self) -> str:
        hint = "; raise max_tokens or shorten the answer" if self.finish_reason is FinishReason.LENGTH else ""
        return f"the answer broke off (finish reason {self.finish_reason}{hint})"


class Refused(Rejected):
    """The model or its provider declined to answer. `refusal` is what it said."""

    mendable = False

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        super().__init__(refusal)

    def __str__(self) -> str:
        return f"the model refused to answer: {shorten(self.refusal)}"


class EmptyAnswer(Rejected):
    """The answer has no content at all."""

    def __str__(self) -> str:
        return "the answer is empty"


class NoToolCall(Rejected):
    """The answer calls no tool, though it had to call `tool`."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        super().__init__(tool)

    def __str__(self) -> str:
        return f"the answer calls no tool; it must call {self.tool}"


class ManyToolCalls(Rejected):
    """The answer calls several tools where one value was asked for."""

    def __init__(self, tool: str, called: Sequence[str]) -> None:
        self.tool, self.called = tool, list(called)
        super().__init__(tool, self.called)

    def __str__(self) -> str:
        return f"the answer calls {len(self.called)} tools ({', '.join(self.called)}); it must call {self.tool} once"


class WrongTool(Rejected):
    """The answer calls a tool that was not offered."""

    def __init__(self, called: str, offered: Sequence[str]) -> None:
        self.called, self.offered = called, list(offered)
        super().__init__(called, self.offered)

    def __str__(self) -> str:
        return f"the answer calls {self.called}, which is not among the offered tools: {', '.join(self.offered)}"


# --- what keeps a client from working ------------------------------------------------------------------------------


class ConfigurationError(ParameterError):
    """A client can't be set up: an unknown provider, an SDK that is not installed, a missing key."""


class ModeError(ConfigurationError):
    """The provider does not have that mode."""


class ClientError(ConfigurationError):
    """The object given as a client is none that is known."""


class ProviderError(PageformError):
    """What a provider sent can't be read: it is not of the form that its SDK documents. `response` is what came."""

    def __init__(self, provider: str, reason: str, response: Any = None) -> None:
        self.provider, self.reason, self.response = provider, reason, response
        super().__init__(provider, reason, response)

    def __str__(self) -> str:
        return f"{self.provider}: {self.reason}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.provider, self.reason, _kept(self.response)))


class ModelRetry(ValueError):
    """Raise it in a validator to have the model answer again: the message is what it is told."""


class BatchFailed(PageformError):
    """Some requests of a list failed, the others did not.

    `results` holds, in the order of the list, a value or the exception; `errors` the exceptions by index.
    """

    def __init__(self, results: Sequence[Any], errors: Mapping[int, Exception]) -> None:
        self.results = list(results)
        self.errors = dict(errors)
        first = min(self.errors, default=None)
        tail = "" if first is None else f"; the first, number {first}: {self.errors[first]}"
        super().__init__(f"{len(self.errors)} of {len(self.results)} requests failed{tail}")

    def __reduce__(self) -> tuple[Any, ...]:
        errors = {index: picklable(error) for index, error in self.errors.items()}
        return (BatchFailed, ([errors.get(index, value) for index, value in enumerate(self.results)], errors))


class UnpicklableError(PageformError):
    """Stands for an exception that could not be pickled; its message is the original's type and text."""


def picklable(error: Any) -> Any:
    """The exception itself if it survives pickling, else an `UnpicklableError` that names it."""
    if isinstance(error, ValidationError) and error.error_count() > COUNTED:
        return UnpicklableError(f"{error.error_count()} values of {error.title} are not valid")
    return error if _pickles(error) else UnpicklableError(cut(f"{type(error).__qualname__}: {error}", 2_000))


def _faults(attempt: Attempt) -> list[dict[str, Any]]:
    return [fault.as_dict() for fault in attempt.faults or diagnose(attempt.error)]


def _told(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "text": cut(attempt.text, 2_000),
        "finish_reason": attempt.finish_reason,
        "errors": _faults(attempt)[:_TOLD],
        "usage": asdict(attempt.usage),
    }


def _kept(value: Any) -> Any:
    """The value if it survives pickling, else None."""
    return value if value is None or _pickles(value) else None


def _pickles(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:  # pickle, and the object's own hooks, may raise anything
        return False
    return True


def _rebuild(cls: type[StructuredError], state: dict[str, Any]) -> StructuredError:
    return cls(**state)
