"""From an answer to a value: the one place where a provider's answers, streams and batch lines are validated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core.completion import FinishReason
from .answer import Answer, Mode, ToolCall
from .errors import BrokeOff, EmptyAnswer, ManyToolCalls, NoToolCall, Refused, WrongTool
from .partial import PartialBuilder
from .spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """Which attempt is being judged, counted from 1. `max_attempts` is None where a policy doesn't know it."""

    number: int = 1
    max_attempts: int | None = None

    @property
    def is_last(self) -> bool:
        """Whether no other attempt will follow."""
        return self.number == self.max_attempts


_current: ContextVar[AttemptInfo | None] = ContextVar("pageform_attempt", default=None)


def current_attempt() -> AttemptInfo | None:
    """The attempt that is being validated, for validators; None outside of one."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class Judge(Generic[T]):
    """Validates answers as values of a spec.

    `context` and `strict` go to Pydantic. A context that is a mapping, or none at all, reaches validators with
    `attempt`, `max_attempts` and `is_last_attempt` added.
    """

    spec: Spec[T]
    mode: Mode = Mode.TEXT
    context: Any = None
    strict: bool | None = None

    def __call__(self, answer: Answer, info: AttemptInfo | None = None) -> T:
        """The value. Raises `Refused` or `BrokeOff`, which no other attempt can mend; `EmptyAnswer`, `NoToolCall`,
        `ManyToolCalls`, `WrongTool` or pydantic's `ValidationError`, which one can; and whatever a validator raises."""
        info = info or AttemptInfo()
        if answer.refusal:
            raise Refused(answer.refusal)
        if answer.finish_reason is not FinishReason.STOP:
            raise BrokeOff(answer.finish_reason)
        if not answer.tool_calls and not answer.text.strip():
            raise EmptyAnswer
        with _attempt(info):
            context = self._context(info)
            if self.mode is Mode.TOOLS:
                return self._from_tools(answer, context)
            return self.spec.validate(answer.text, context=context, strict=self.strict)

    def partial(self, answer: Answer) -> Any:
        """What an answer that broke off holds of the value; None if not even that can be read."""
        builder = PartialBuilder(self.spec)
        try:
            builder.feed(answer.payload)
            return builder.finish()
        except ValueError:
            return None

    def _from_tools(self, answer: Answer, context: Any) -> T:
        call = self._one_call(answer)
        return self.spec.validate(call.arguments, context=context, strict=self.strict)

    def _one_call(self, answer: Answer) -> ToolCall:
        if not answer.tool_calls:
            raise NoToolCall(self.spec.name)
        if len(answer.tool_calls) > 1:
            raise ManyToolCalls(self.spec.name, [call.name for call in answer.tool_calls])
        [call] = answer.tool_calls
        if call.name != self.spec.name:
            raise WrongTool(call.name, [self.spec.name])
        return call

    def _context(self, info: AttemptInfo) -> Any:
        if self.context is not None and not isinstance(self.context, Mapping):
            return self.context
        told = {"attempt": info.number, "max_attempts": info.max_attempts, "is_last_attempt": info.is_last}
        return {**told, **(self.context or {})}


@contextmanager
def _attempt(info: AttemptInfo) -> Iterator[None]:
    token = _current.set(info)
    try:
        yield
    finally:
        _current.reset(token)
