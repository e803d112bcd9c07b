"""Calls whose answer may be in a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..core.completion import Attempt
from ..core.errors import ParameterError
from ..structured.answer import Answer
from ..structured.cache import Slot
from ..structured.drive import Do, Program, Show, beside
from ..structured.judge import AttemptInfo, Judge
from ..structured.loop import Outcome
from ..structured.observe import Observer

FROM_CACHE = "the answer came from the cache"
"""The note of an outcome that was not asked for again."""


def cached(
    program: Callable[[], Program[Outcome[Any]]],
    slot: Slot,
    judge: Judge[Any],
    info: AttemptInfo,
    observer: Observer,
    shows: Callable[[Any], Iterable[Any]],
    asynchronous: bool,
) -> Program[Outcome[Any]]:
    """The outcome from the cache, or else that of the program, kept for the next time. `shows` gives what a stream
    shows of a value that is there at once. What the cache has is judged like any answer, and is a miss if it fails."""
    waits = asynchronous and slot.blocking
    answer: Answer | None = yield beside(slot.load, waits)
    outcome = None if answer is None else _judged(answer, judge, info)
    if answer is not None and outcome is not None:
        observer.recalled(answer, outcome.value)
        if asynchronous:
            yield Do(observer.settle)
        for value in shows(outcome.value):
            yield Show(value)
        return outcome
    outcome = yield from program()
    accepted = outcome.answer
    if accepted is not None:
        yield beside(lambda: slot.store(accepted), waits)
    return outcome


def check_cache(cache: Any) -> None:
    """Raises ParameterError for what is no cache."""
    if not all(callable(getattr(cache, name, None)) for name in ("get", "set")):
        remedy = "Give a MemoryCache, a DiskCache, or an object with get(key) and set(key, value, ttl)."
        raise ParameterError("cache", cache, "is no cache", remedy)


def _judged(answer: Answer, judge: Judge[Any], info: AttemptInfo) -> Outcome[Any] | None:
    try:
        verdict = judge(answer, info)
    except Exception:  # valid no more, by a validator that may raise anything: it is asked for anew
        return None
    attempt = Attempt(info.number, answer.payload, None, answer.usage, answer.finish_reason, answer.response)
    notes = (*verdict.notes, FROM_CACHE)
    return Outcome(verdict.value, [attempt], answer.response, verdict.repairs, notes, answer, cached=True)
