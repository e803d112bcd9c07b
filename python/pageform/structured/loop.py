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

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import ValidationError

from ..core.completion import Attempt, Usage
from ..core.errors import ParameterError
from .answer import Answer
from .errors import (
    BrokeOff,
    IncompleteOutput,
    ModelRetry,
    Rejected,
    StructuredError,
    TokenBudgetExceeded,
    UsageUnavailable,
    ValidationFailed,
    describe,
    shorten,
    summary,
    tell,
)
from .hooks import Hooks
from .judge import AttemptInfo, Judge
from .policy import CountedPolicy, Limits, Policy
from .prompt import REPEAT_CALL, tool_complaint

T = TypeVar("T")
P = TypeVar("P")

Accumulate = Literal["last", "all", "summary"]
"""What the model is shown of its earlier answers: the last; all of them; or the last, with the faults of all."""


@dataclass(frozen=True, slots=True)
class Ask(Generic[P]):
    """One attempt to make, after `delay` seconds. `number` counts from 1; the first payload is the caller's own."""

    number: int
    payload: P
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an answer was not taken: `error`, and `text`, which says so to the model."""

    error: Exception
    text: str

    def results(self, answer: Answer) -> list[str]:
        """What the model is told of each of its tool calls. Where the faults are those of single calls, the others are
        only told to be made again."""
        number = len(answer.tool_calls)
        if number < 2 or not isinstance(self.error, ValidationError):
            return [tool_complaint(self.text)] * number
        faults: dict[int, list[dict[str, Any]]] = {}
        for fault in describe(self.error):
            where = fault["loc"][0] if fault["loc"] else None
            if not isinstance(where, int) or where >= number:
                return [tool_complaint(self.text)] * number
            faults.setdefault(where, []).append({**fault, "loc": fault["loc"][1:]})
        return [tool_complaint(tell(faults[one])) if one in faults else REPEAT_CALL for one in range(number)]


Reask = Callable[[P, Answer, Rejection], P]
"""Makes the payload that asks again of one that was answered wrongly. Pure: it never changes its arguments."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """A validated value and how it came about. The last of `attempts` is the accepted one; `response` is what the
    provider sent for it, `repairs` what was changed to read it, `notes` what else happened that the caller should know
    (a constraint that the provider does not enforce, text where a tool call was due)."""

    value: T
    attempts: list[Attempt] = field(default_factory=list)
    response: Any = None
    repairs: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together."""
        return _total(self.attempts)


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
) -> Generator[Ask[P], Answer, Outcome[T]]:
    """Ask until an answer validates or the policy gives up.

    Only an answer that does not parse or validate is asked for again. Raises `IncompleteOutput` for one that broke off;
    `ValidationFailed` when the attempts are spent, or at once for a refusal and when a validator raises anything but a
    `ValueError` or an `AssertionError` (with the original as `__cause__`); `TokenBudgetExceeded`. `kwargs` gives what
    the `completion:kwargs` hooks see of a payload.
    """
    if accumulate not in ("last", "all", "summary"):
        raise ParameterError("accumulate", accumulate, "is unknown", 'Use "last", "all" or "summary".')
    loop = _Loop(judge, reask, policy or CountedPolicy(), limits or Limits(), accumulate, Hooks.of(hooks))
    return loop.run(payload, kwargs or (lambda _: {}))


class _Loop(Generic[P, T]):
    def __init__(
        self, judge: Judge[T], reask: Reask[P], policy: Policy, limits: Limits, accumulate: Accumulate, hooks: Hooks
    ) -> None:
        self.judge, self.reask, self.policy, self.limits = judge, reask, policy, limits
        self.accumulate, self.hooks = accumulate, hooks
        self.attempts: list[Attempt] = []
        self.started = limits.clock()

    def run(self, original: P, kwargs: Callable[[P], Mapping[str, Any]]) -> Generator[Ask[P], Answer, Outcome[T]]:
        ask = Ask(1, original)
        while True:
            details = self._details(ask.number)
            self.hooks.emit("completion:kwargs", **kwargs(ask.payload))
            try:
                answer = yield ask
            except Exception as fault:  # the driver could not get an answer: tell the hooks, the fault stays its own
                self.hooks.emit("completion:error", fault, **details)
                raise
            self.hooks.emit("completion:response", answer if answer.response is None else answer.response)
            try:
                verdict = self.judge(answer, AttemptInfo(ask.number, self.policy.max_attempts))
            except Exception as raised:  # validators are the caller's code: anything may come out
                error = raised
            else:
                self._note(ask, answer, None)
                return Outcome(verdict.value, self.attempts, answer.response, verdict.repairs, verdict.notes)
            self._note(ask, answer, error)
            self.hooks.emit("parse:error", error, **details)
            following = self._next(ask, original, answer, error)
            if isinstance(following, Exception):
                self.hooks.emit("completion:last_attempt", following, **{**details, "is_last_attempt": True})
                raise following from (None if isinstance(error, BrokeOff) else error)
            ask = following

    def _note(self, ask: Ask[P], answer: Answer, error: Exception | None) -> None:
        made = Attempt(ask.number, answer.payload, error, answer.usage, answer.finish_reason, answer.response)
        self.attempts.append(made)

    def _details(self, number: int) -> dict[str, Any]:
        limit = self.policy.max_attempts
        return {"attempt_number": number, "max_attempts": limit, "is_last_attempt": number == limit}

    def _next(self, ask: Ask[P], original: P, answer: Answer, error: Exception) -> Ask[P] | StructuredError:
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
            return ValidationFailed(_spent_message(spec.name, self.attempts, error), self.attempts)
        text = summary(error)
        if self.accumulate == "summary":
            text = "\n".join(dict.fromkeys(summary(attempt.error) for attempt in self.attempts))
        base = ask.payload if self.accumulate == "all" else original
        return Ask(ask.number + 1, self.reask(base, answer, Rejection(error, text)), delay)

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
        f"validating {name} raised {type(error).__name__}: {error}. Validators should raise ValueError or "
        "AssertionError for values that the model may correct"
    )


def _spent_message(name: str, attempts: list[Attempt], error: BaseException) -> str:
    tries = "1 attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"
    return f"no valid {name} after {tries}:\n{summary(error)}\nThe last answer was {shorten(attempts[-1].text)}"
