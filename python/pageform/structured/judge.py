"""From an answer to a value: the one place where a provider's answers, streams and batch lines are validated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from ..core.completion import FinishReason
from .answer import Answer, Mode, ToolCall
from .dialects import restore_text
from .errors import BrokeOff, EmptyAnswer, ManyToolCalls, NoToolCall, Refused, Rejected, WrongTool
from .faults import failed, fault, relocated
from .leniency import Leniency
from .parse import read
from .parse_errors import Invalid, ParseError
from .partial import PartialBuilder
from .spec import Spec

T = TypeVar("T")

BROKE_OFF = "the answer broke off inside its JSON; the value is what had arrived"
TEXT_INSTEAD = "the model answered with text where it had to call a tool; the text was taken for the tool's arguments"


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
class Verdict(Generic[T]):
    """A value, what was repaired of the answer to read it, and what else its reader should know."""

    value: T
    repairs: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judge(Generic[T]):
    """Validates answers as values of a spec.

    `context` and `strict` go to Pydantic. A context that is a mapping, or none at all, reaches validators with
    `attempt`, `max_attempts` and `is_last_attempt` added. `restores`: the answer follows a provider's strict schema, in
    which null may stand for what was not given. `tools_beside`: the model may also call tools that are none of ours,
    and a call of another name is one of those. `leniency` says how far from plain JSON of the type an answer may be
    (see `parse`); one that is valid as it is is never touched.
    """

    spec: Spec[T]
    mode: Mode = Mode.TEXT
    context: Any = None
    strict: bool | None = None
    restores: bool = False
    tools_beside: bool = False
    leniency: str | Leniency = "strict"

    def __call__(self, answer: Answer, info: AttemptInfo | None = None) -> Verdict[T]:
        """The value. Raises `Refused` or `BrokeOff`, which no other attempt can mend; `EmptyAnswer`, `NoToolCall`,
        `ManyToolCalls`, `WrongTool`, pydantic's `ValidationError` or a `ParseError` (what there is can't be read as one
        value), which one can; and whatever a validator raises."""
        self.check(answer)
        with self.attempt(info or AttemptInfo()) as context:
            if self.mode is Mode.TOOLS:
                return self._from_tools(answer, context)
            return self.read(answer.text, self.spec, context, enveloped=self.mode is Mode.SCHEMA)

    def check(self, answer: Answer) -> None:
        """Raises `Refused`, `BrokeOff` or `EmptyAnswer` for an answer without a value, or what rejected it before."""
        if answer.error is not None:
            raise answer.error
        if answer.refusal:
            raise Refused(answer.refusal)
        if answer.finish_reason is not FinishReason.STOP:
            raise BrokeOff(answer.finish_reason)
        if not answer.tool_calls and not answer.text.strip():
            raise EmptyAnswer

    @contextmanager
    def attempt(self, info: AttemptInfo) -> Iterator[Any]:
        """Gives the context that validators get; inside, they are told of the attempt."""
        token = _current.set(info)
        try:
            yield self.context_in(info)
        finally:
            _current.reset(token)

    def partial(self, answer: Answer) -> Any:
        """What an answer that broke off holds of the value; None if not even that can be read."""
        builder = PartialBuilder(self.spec)
        try:
            builder.feed(answer.payload)
            return builder.finish()
        except ValueError:
            return None

    # --- tools -------------------------------------------------------------------------------------------------------

    def _from_tools(self, answer: Answer, context: Any) -> Verdict[T]:
        calls, offered = answer.tool_calls, list(self.spec.members) or [self.spec.tool_name]
        if not calls:
            return self._from_text_instead(answer, context, offered)
        if self.spec.members or (self.spec.item is not None and len(calls) > 1):
            return self._from_calls(calls, context, offered)
        if len(calls) > 1:
            raise ManyToolCalls(offered[0], [call.name for call in calls])
        name, arguments = calls[0].name, calls[0].arguments
        if self.tools_beside and name not in offered:
            raise WrongTool(name, offered)
        if name in offered:
            return self.read(arguments, self.spec, context, enveloped=True)
        try:  # some models change the name of the only tool that there is
            verdict = self.read(arguments, self.spec, context, enveloped=True)
        except (ValidationError, Rejected):
            raise WrongTool(name, offered) from None
        return replace(verdict, notes=(*verdict.notes, f"the model called {name}, where only {offered[0]} was offered"))

    def _from_calls(self, calls: tuple[ToolCall, ...], context: Any, offered: list[str]) -> Verdict[T]:
        """A list from several calls: each an item of a `parallel` type, or each some items of the same list. One error
        tells the faults of all calls, each under the number of its call."""
        wrong = [call.name for call in calls if call.name not in offered]
        if wrong:
            raise WrongTool(wrong[0], offered)
        several = self.spec.members or {offered[0]: self.spec.unbounded}
        verdicts: list[Verdict[Any]] = []
        faults: list[InitErrorDetails] = []
        for number, call in enumerate(calls):
            try:
                verdicts.append(self.read(call.arguments, several[call.name], context, enveloped=True))
            except (ValidationError, ParseError) as error:
                faults += placed(error, (number,))
        if faults:
            raise failed(self.spec.name, faults)
        values = [verdict.value for verdict in verdicts]
        if not self.spec.members:
            values = [item for value in values for item in value]
        repairs = tuple(repair for verdict in verdicts for repair in verdict.repairs)
        return Verdict(self.spec.gathered(values, context), repairs)

    def _from_text_instead(self, answer: Answer, context: Any, offered: list[str]) -> Verdict[T]:
        """Some models write a tool's arguments as text. Only an object that fits is taken for that: to a lenient reader
        any words are a text."""
        reader = self if self.spec.envelope is None else replace(self, leniency="strict")
        try:
            verdict = reader.read(answer.text, self.spec, context, enveloped=True)
        except (ValidationError, Rejected):
            raise NoToolCall(" or ".join(offered)) from None
        return replace(verdict, notes=(*verdict.notes, TEXT_INSTEAD))

    # --- text --------------------------------------------------------------------------------------------------------

    def read(self, text: str, spec: Spec[Any], context: Any, enveloped: bool) -> Verdict[Any]:
        """The value of a spec that text stands for, which is in the envelope where the provider takes only objects."""
        if self.restores:
            text = restore_text(text, spec.object_schema if enveloped else spec.json_schema)
        try:
            report = read(text, spec, self.leniency, context, self.strict, enveloped)
        except Invalid as error:  # there is one reading: what is wrong with it is Pydantic's to say
            raise (error.__cause__ or error) from None
        return Verdict(report.value, report.repairs, (BROKE_OFF,) if report.truncated else ())

    def context_in(self, info: AttemptInfo) -> Any:
        """The validation context of one attempt."""
        if self.context is not None and not isinstance(self.context, Mapping):
            return self.context
        told = {"attempt": info.number, "max_attempts": info.max_attempts, "is_last_attempt": info.is_last}
        return {**told, **(self.context or {})}


def placed(error: ValidationError | ParseError, before: tuple[int | str, ...]) -> list[InitErrorDetails]:
    """The faults of an error, each at its place below `before`."""
    if isinstance(error, ValidationError):
        return relocated(error, before=before)
    return [fault(one.type, one.msg, (*before, *one.loc), one.input) for one in error.faults]
