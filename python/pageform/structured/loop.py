"""The retry loop, without I/O: a generator that says what to send and is told what came back.

    loop = retry(payload, judge=Judge(spec), reask=reask_prompt, policy=CountedPolicy(2))
    ask = next(loop)                          # what to send first
    while True:
        answer = ...                          # wait ask.delay seconds, send ask.payload however you like
        try:
            ask = loop.send(answer)           # rejected: what to send next
        except StopIteration as stop:
            return stop.value                 # Outcome(value, attempts)

The same generator serves sync, async, streaming and batch drivers, any provider, and the engine: a payload is whatever
the driver sends, and `reask` makes the next one of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from pydantic import ValidationError

from ..core.completion import Attempt, Fault, Usage
from ..core.errors import ParameterError
from .answer import Answer
from .bounded import cut, shorten
from .diagnose import diagnose, summary
from .errors import (
    BrokeOff,
    IncompleteOutput,
    ModelRetry,
    Rejected,
    StructuredError,
    TokenBudgetExceeded,
    UsageUnavailable,
    ValidationFailed,
)
from .judge import AttemptInfo, Judge
from .observe import Observer
from .policy import CountedPolicy, Limits, Policy
from .prompt import REPEAT_CALL, tool_complaint

T = TypeVar("T")
P = TypeVar("P")

Accumulate = Literal["last", "all", "summary"]
"""What the model is shown of its earlier answers: the last; all of them; or the last, with the faults of all. All of
them too where an answer is `anchored` to them."""


@dataclass(frozen=True, slots=True)
class Ask(Generic[P]):
    """One attempt to make, after `delay` seconds. `number` counts from 1; the first payload is the caller's own."""

    number: int
    payload: P
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an answer was not taken: `error`, and `text`, which says so to the model; `faults` are those of `error`."""

    error: Exception
    text: str
    faults: tuple[Fault, ...] = ()

    def results(self, answer: Answer) -> list[str]:
        """What the model is told of each of its tool calls. Where the faults are those of single calls, the others are
        only told to be made again."""
        number = len(answer.tool_calls)
        if number < 2 or not isinstance(self.error, ValidationError):
            return [tool_complaint(self.text)] * number
        faults: dict[int, list[Fault]] = {}
        for fault in self.faults or diagnose(self.error):
            where = fault.loc[0] if fault.loc else None
            if not isinstance(where, int) or where >= number:
                return [tool_complaint(self.text)] * number
            faults.setdefault(where, []).append(fault.below())
        return [tool_complaint(summary(faults[one])) if one in faults else REPEAT_CALL for one in range(number)]


Reask = Callable[[P, Answer, Rejection], P]
"""Makes the payload that asks again of one that was answered wrongly. Pure: it never changes its arguments."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """A validated value and how it came about. The last of `attempts` is the accepted one; `response` is what the
    provider sent for it, `repairs` what was changed to read it, `notes` what else happened that the caller should know
    (a constraint that the provider does not enforce, text where a tool call was due), `answer` the accepted answer.
    `cached`: nothing was sent, since the answer was kept from an earlier call; its response has the fields of the
    provider's, but not its class."""

    value: T
    attempts: list[Attempt] = field(default_factory=list)
    response: Any = None
    repairs: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()
    answer: Answer | None = field(default=None, compare=False, repr=False)
    cached: bool = False

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together."""
        return _total(self.attempts)


@dataclass(frozen=True, slots=True)
class Earlier(Generic[P]):
    """Attempts that were made before, perhaps by another process: with what they started, and how they went."""

    original: P
    attempts: Sequence[Attempt]


def retry(
    payload: P,
    *,
    judge: Judge[T],
    reask: Reask[P],
    policy: Policy | None = None,
    limits: Limits | None = None,
    accumulate: Accumulate = "last",
    hooks: Any = None,
    kwargs: Callable[[P], Mapping[str, Any]] | None = None,
    earlier: Earlier[P] | None = None,
) -> Generator[Ask[P], Answer, Outcome[T]]:
    """Ask until an answer validates or the policy gives up.

    Only an answer that does not parse or validate is asked for again. Raises `IncompleteOutput` for one that broke off;
    `ValidationFailed` when the attempts are spent, or at once for a refusal and when a validator raises anything but a
    `ValueError` or an `AssertionError` (with the original as `__cause__`); `TokenBudgetExceeded`. `hooks` are `Hooks`,
    a mapping from event to handlers, or the driver's `Observer`; `kwargs` gives what they see of a payload. With
    `earlier`, the payload is that of the attempt after those.
    """
    if accumulate not in ("last", "all", "summary"):
        raise ParameterError("accumulate", accumulate, "is unknown", 'Use "last", "all" or "summary".')
    observer = hooks if isinstance(hooks, Observer) else Observer(hooks)
    loop = _Loop(judge, reask, policy or CountedPolicy(), limits or Limits(), accumulate, observer)
    if earlier is not None:
        observer.resume(earlier.attempts)
    first = Ask(1 if earlier is None else len(earlier.attempts) + 1, payload)
    return loop.run(first, payload if earlier is None else earlier.original, kwargs or (lambda _: {}))


class _Loop(Generic[P, T]):
    def __init__(
        self,
        judge: Judge[T],
        reask: Reask[P],
        policy: Policy,
        limits: Limits,
        accumulate: Accumulate,
        observer: Observer,
    ) -> None:
        self.judge, self.reask, self.policy, self.limits = judge, reask, policy, limits
        self.accumulate, self.observer = accumulate, observer
        self.attempts = observer.attempts
        self.started = limits.clock()

    def run(
        self, first: Ask[P], original: P, kwargs: Callable[[P], Mapping[str, Any]]
    ) -> Generator[Ask[P], Answer, Outcome[T]]:
        try:
            return (yield from self._attempts(first, original, kwargs))
        except GeneratorExit:
            self.observer.abandoned()
            raise
        except Exception as fault:  # also one that the driver throws in because it got no answer: it stays its own
            self.observer.unanswered(fault)
            raise

    def _attempts(
        self, ask: Ask[P], original: P, kwargs: Callable[[P], Mapping[str, Any]]
    ) -> Generator[Ask[P], Answer, Outcome[T]]:
        limit = self.policy.max_attempts
        while True:
            self.observer.attempt(ask.number, limit, partial(kwargs, ask.payload))
            answer = yield ask
            self.observer.answered(answer)
            try:
                verdict = self.judge(answer, AttemptInfo(ask.number, limit))
            except Exception as raised:  # validators are the caller's code: anything may come out
                error = raised
            else:
                self._note(ask, answer, None, ())
                self.observer.accepted(verdict.value)
                return Outcome(verdict.value, self.attempts, answer.response, verdict.repairs, verdict.notes, answer)
            faults = diagnose(error, self.judge.spec)
            self._note(ask, answer, error, faults)
            following = self._next(ask, original, answer, error, faults)
            self.observer.rejected(error, faults, last=isinstance(following, Exception))
            if isinstance(following, Exception):
                following.__cause__ = None if isinstance(error, BrokeOff) else error
                self.observer.gave_up(following)
                raise following
            ask = following

    def _note(self, ask: Ask[P], answer: Answer, error: Exception | None, faults: tuple[Fault, ...]) -> None:
        self.attempts.append(
            Attempt(ask.number, answer.payload, error, answer.usage, answer.finish_reason, answer.response, faults)
        )

    def _next(
        self, ask: Ask[P], original: P, answer: Answer, error: Exception, faults: tuple[Fault, ...]
    ) -> Ask[P] | StructuredError:
        """The next attempt, or the error that ends them."""
        spec = self.judge.spec
        if isinstance(error, BrokeOff):
            message = f"{error}: {shorten(answer.payload)}"
            return IncompleteOutput(message, self.attempts, self.judge.partial(answer))
        if isinstance(error, Rejected) and not error.mendable:
            return ValidationFailed(str(error), self.attempts)
        if not isinstance(error, (ValidationError, Rejected, ModelRetry)):
            return ValidationFailed(_odd_message(spec.name, error), self.attempts)
        spent = self._budget_error()
        if spent is not None:
            return spent
        delay = self.policy.delay(ask.number, error, self.started)
        if delay is None or self.limits.passed(self.started, delay):
            return ValidationFailed(_spent_message(spec.name, self.attempts), self.attempts)
        text = summary(faults)
        if self.accumulate == "summary":
            text = "\n".join(dict.fromkeys(summary(attempt.faults) for attempt in self.attempts))
        base = ask.payload if self.accumulate == "all" or answer.anchored else original
        return Ask(ask.number + 1, self.reask(base, answer, Rejection(error, text, faults)), delay)

    def _budget_error(self) -> StructuredError | None:
        budget = self.limits.token_budget
        if budget is None:
            return None
        total = _total(self.attempts)
        if total.total_tokens == 0:
            return UsageUnavailable("token_budget was given, but the provider reports no usage", self.attempts)
        if not self.limits.spent(total):
            return None
        message = f"{total.total_tokens} tokens of the budget of {budget} are used and no valid answer came"
        return TokenBudgetExceeded(message, self.attempts)


def _total(attempts: list[Attempt]) -> Usage:
    return sum((attempt.usage for attempt in attempts), Usage())


def _odd_message(name: str, error: BaseException) -> str:
    return (
        f"validating {name} raised {type(error).__name__}: {cut(str(error))}. Validators should raise ValueError or "
        "AssertionError for values that the model may correct"
    )


def _spent_message(name: str, attempts: list[Attempt]) -> str:
    tries = "1 attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"
    last = attempts[-1]
    return f"no valid {name} after {tries}:\n{summary(last.faults)}\nThe last answer was {shorten(last.text)}"
