"""The retry loop, without I/O: a generator that says what to send and is told what came back.

    loop = retry(spec, prompt, max_retries=2)
    ask = next(loop)                          # what to send first
    while True:
        answer = ...                          # send ask.prompt however you like
        try:
            ask = loop.send(answer)           # rejected: what to send next
        except StopIteration as stop:
            return stop.value                 # Outcome(value, attempts)

The same generator serves sync, async, streaming and batch drivers, and any source of text.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from ..core.completion import Attempt, FinishReason, Usage
from ..core.errors import ParameterError
from .errors import IncompleteOutput, ValidationFailed, shorten, summary
from .hooks import Hooks
from .partial import PartialBuilder
from .prompt import reask
from .spec import Spec

T = TypeVar("T")

Prompt = str | Sequence[Mapping[str, Any]] | None
"""A completion's text, a chat's messages, or None where the driver keeps the prompt to itself."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One attempt to make. `number` counts from 1.

    `prompt` is the original one, extended by the last answer and what was wrong with it; the first attempt has it as it
    was given. `extension` is that addition alone, for a driver that works on token ids: text to be appended.
    """

    number: int
    prompt: Prompt
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one `Ask`. `response` is handed to the `completion:response` hooks."""

    text: str
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = field(default_factory=Usage)
    response: Any = None


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """A validated value and the attempts that it took; the last attempt is the accepted one."""

    value: T
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together."""
        return sum((attempt.usage for attempt in self.attempts), Usage())


def retry(
    spec: Spec[T],
    prompt: Prompt = None,
    *,
    max_retries: int = 3,
    context: Any = None,
    strict: bool | None = None,
    hooks: Any = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Generator[Ask, Answer, Outcome[T]]:
    """Ask up to `max_retries + 1` times until an answer validates.

    Only an answer that does not parse or validate is asked for again. Raises `IncompleteOutput` for one that broke off,
    and `ValidationFailed` when the attempts are spent or at once when a validator raises anything but a `ValueError` or
    an `AssertionError` (with the original as `__cause__`). `context` and `strict` go to Pydantic; `kwargs` is what the
    `completion:kwargs` hooks see.
    """
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
        raise ParameterError("max_retries", max_retries, "must be an integer of at least 0", "Give 0 for one attempt.")
    return _attempts(spec, prompt, max_retries + 1, context, strict, Hooks.of(hooks), dict(kwargs or {}))


def _attempts(
    spec: Spec[T],
    prompt: Prompt,
    max_attempts: int,
    context: Any,
    strict: bool | None,
    hooks: Hooks,
    kwargs: dict[str, Any],
) -> Generator[Ask, Answer, Outcome[T]]:
    attempts: list[Attempt] = []
    ask = Ask(1, prompt)
    while True:
        details = {
            "attempt_number": ask.number,
            "max_attempts": max_attempts,
            "is_last_attempt": ask.number == max_attempts,
        }
        hooks.emit("completion:kwargs", **{**kwargs, _prompt_name(prompt): ask.prompt})
        try:
            answer = yield ask
        except Exception as fault:  # the driver could not get an answer: tell the hooks, the fault stays the driver's
            hooks.emit("completion:error", fault, **details)
            raise
        hooks.emit("completion:response", answer if answer.response is None else answer.response)

        error = _unfinished(answer)
        if error is None:
            try:
                value = spec.validate(answer.text, context=context, strict=strict)
            except Exception as raised:  # validators are the caller's code: anything may come out
                error = raised
            else:
                return Outcome(value, [*attempts, _attempt(ask, answer, None)])
        attempts.append(_attempt(ask, answer, error))
        hooks.emit("parse:error", error, **details)

        if isinstance(error, _BrokeOff):
            final: Exception = IncompleteOutput(
                f"{error}: {shorten(answer.text)}", attempts, _partial(spec, answer.text)
            )
        elif not isinstance(error, ValidationError):
            final = ValidationFailed(_odd_message(spec, error), attempts)
        elif ask.number == max_attempts:
            final = ValidationFailed(_spent_message(spec, attempts, error), attempts)
        else:
            ask = _next(ask, prompt, answer.text, error)
            continue
        hooks.emit("completion:last_attempt", final, **{**details, "is_last_attempt": True})
        raise final from (None if isinstance(error, _BrokeOff) else error)


class _BrokeOff(Exception):
    """Marks an attempt whose answer is not complete."""


def _unfinished(answer: Answer) -> Exception | None:
    if answer.finish_reason is FinishReason.STOP:
        return None
    hint = "; raise max_tokens or shorten the answer" if answer.finish_reason is FinishReason.LENGTH else ""
    return _BrokeOff(f"the answer broke off (finish reason {answer.finish_reason}{hint})")


def _next(ask: Ask, original: Prompt, text: str, error: Exception) -> Ask:
    """The next attempt: the original prompt with the last answer and its faults.

    Earlier answers are dropped, so that the prompt does not grow with each attempt.
    """
    complaint = reask(error)
    extension = f"{text}\n\n{complaint}\n\nJSON:\n"
    extended: Prompt
    if original is None:
        extended = None
    elif isinstance(original, str):
        extended = original + extension
    else:
        turns = [{"role": "assistant", "content": text}, {"role": "user", "content": complaint}]
        extended = [*(dict(message) for message in original), *turns]
    return Ask(ask.number + 1, extended, extension)


def _attempt(ask: Ask, answer: Answer, error: Exception | None) -> Attempt:
    return Attempt(ask.number, answer.text, error, answer.usage, answer.finish_reason)


def _partial(spec: Spec[Any], text: str) -> Any:
    """What a broken-off text holds of the value; None if not even that can be read."""
    builder = PartialBuilder(spec)
    try:
        builder.feed(text)
        return builder.finish()
    except ValueError:
        return None


def _prompt_name(prompt: Prompt) -> str:
    return "prompt" if prompt is None or isinstance(prompt, str) else "messages"


def _odd_message(spec: Spec[Any], error: BaseException) -> str:
    return (
        f"validating {spec.name} raised {type(error).__name__}: {error}. Validators should raise ValueError or "
        "AssertionError for values that the model may correct"
    )


def _spent_message(spec: Spec[Any], attempts: list[Attempt], error: BaseException) -> str:
    tries = "1 attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"
    return f"no valid {spec.name} after {tries}:\n{summary(error)}\nThe last answer was {shorten(attempts[-1].text)}"
