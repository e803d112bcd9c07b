"""A call whose answer may be known already: looked for before anything is sent, kept once it was found valid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..core.completion import Attempt
from ..core.errors import ParameterError
from ..structured.answer import Answer, Mode
from ..structured.cache import Slot, check_ttl
from ..structured.cache_key import cache_key
from ..structured.drive import Do, Program, Show
from ..structured.judge import AttemptInfo, Judge, Verdict
from ..structured.loop import Outcome
from ..structured.observe import Observer
from ..structured.spec import Spec
from .base import Kwargs
from .endpoint import Endpoint
from .identity import cache_scope
from .options import Options


def slot_of(options: Options, endpoint: Endpoint, spec: Spec[Any], mode: Mode, request: Kwargs) -> Slot | None:
    """The place of a request in the cache of its options, None without one. Raises ParameterError for a cache that is
    none, and for a request that has no stable content."""
    cache = options.cache
    if cache is None or cache is False:
        return None
    if not all(callable(getattr(cache, name, None)) for name in ("get", "set")):
        remedy = "Give MemoryCache(), DiskCache() or what has get(key) and set(key, value, ttl); False for none."
        raise ParameterError("cache", cache, "is no cache", remedy)
    scope = cache_scope(endpoint.owner, endpoint.name, options.cache_namespace, endpoint.private)
    key = cache_key(request, spec=spec, mode=mode, provider=endpoint.name, scope=scope)
    return Slot(cache, key, check_ttl("cache_ttl", options.cache_ttl))


def through(
    slot: Slot,
    program: Program[Outcome[Any]],
    *,
    judge: Judge[Any],
    info: AttemptInfo,
    observer: Observer,
    settle: Callable[[], Any] | None,
    in_thread: Callable[[Callable[[], Any]], Callable[[], Any]],
    show: Callable[[Any], Iterable[Any]],
) -> Program[Outcome[Any]]:
    """The outcome that the slot has an answer for, or else that of `program`, whose last answer is then kept.

    An answer that is valid no longer is a miss. Of one that is, `show` gives what a stream shows. `in_thread` makes of a
    function that may wait one that async callers can await.
    """
    patient = in_thread if slot.blocking else lambda function: function
    answer: Answer | None = yield Do(patient(slot.load))
    verdict = None if answer is None else _still_valid(judge, answer, info)
    if answer is None or verdict is None:
        outcome = yield from program
        if observer.answer is not None:
            yield Do(patient(partial(slot.store, observer.answer)))
        return outcome
    program.close()
    observer.recalled(answer, verdict.value)
    if settle is not None:
        yield Do(settle)
    for value in show(verdict.value):
        yield Show(value)
    attempt = Attempt(info.number, answer.payload, None, answer.usage, answer.finish_reason, answer.response)
    return Outcome(verdict.value, [attempt], answer.response, verdict.repairs, verdict.notes, cached=True)


def _still_valid(judge: Judge[Any], answer: Answer, info: AttemptInfo) -> Verdict[Any] | None:
    try:
        return judge(answer, info)
    except Exception:  # validators are the caller's code: anything may come out
        return None
