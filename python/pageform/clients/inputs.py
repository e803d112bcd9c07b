"""What becomes of a call's messages before a provider sees them: media are detected, templates rendered, media spelled.

In this order, so that what a template puts in is never taken for a file to read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

from ..media.detect import detect_messages
from ..media.guard import Guard
from ..structured.drive import Do, Effect
from ..templating.messages import CONVERSATION, render_kwargs
from .base import Kwargs
from .encode import Wire, encode_kwargs, fetches


def rendered(kwargs: Mapping[str, Any], context: Any, strict: bool | None, detects: bool | None) -> Kwargs:
    """The kwargs with templates rendered and, if wished, media detected. Reads local files, fetches nothing."""
    found = dict(kwargs)
    for name in CONVERSATION if detects else ():
        if isinstance(found.get(name), (list, tuple)):
            found[name] = detect_messages(found[name])
    return render_kwargs(found, context, strict=strict is not False)


def encoded(
    kwargs: Kwargs, wire: Wire, guard: Guard | None, asynchronous: bool
) -> Kwargs | Generator[Effect, Any, Kwargs]:
    """The kwargs with media spelled for the provider; where something must be fetched for that, a program that gives
    them."""
    if not fetches(kwargs, wire):
        return encode_kwargs(kwargs, wire, guard)
    return _fetching(partial(encode_kwargs, kwargs, wire, guard), asynchronous)


def in_thread(function: Callable[[], Any], asynchronous: bool) -> Do:
    """Calls what blocks; beside the event loop in async."""
    return Do(partial(_to_thread, function) if asynchronous else function)


def _fetching(encode: Callable[[], Kwargs], asynchronous: bool) -> Generator[Effect, Any, Kwargs]:
    kwargs: Kwargs = yield in_thread(encode, asynchronous)
    return kwargs


def _to_thread(function: Callable[[], Any]) -> Any:
    import asyncio  # whoever awaits this has loaded it

    return asyncio.to_thread(function)
