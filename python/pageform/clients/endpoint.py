"""One method of an SDK's client: how it is called, closed, and understood when it fails."""

from __future__ import annotations

import inspect
import json
import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..structured.answer import Mode
from ..structured.attempts import Transport
from ..structured.errors import ProviderError
from ..structured.observe import Observer
from .base import Kwargs, Provider, Quirks, thawed
from .encode import Wire

Way = tuple[str, ...]
"""To an argument: its name, or that of an argument which holds it and where it is in there."""

_CUT = frozenset(
    {
        "RemoteProtocolError",  # httpx, httpx2
        "ReadError",
        "ClientPayloadError",  # aiohttp
        "ServerDisconnectedError",
        "ConnectionResetError",
        "IncompleteRead",  # http.client, urllib3
        "ChunkedEncodingError",  # requests
        "StopIteration",  # LiteLLM, of a stream that ends without a finish reason
        "StopAsyncIteration",
    }
)
"""What HTTP libraries call a connection that breaks off."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`create` answers a request as a whole; `stream` as events, if that is another method. `asynchronous` says that
    they give awaitables. `provider` is the wire format, `name` the service's name, `modes` those that it has (the
    default first), `quirks` how far it goes with the format, `wire` how it writes media. `timeout`: which argument
    bounds a request, and its units in a second. `own` takes calls without a response type, if that is another method.
    """

    name: str
    provider: Provider
    create: Callable[..., Any]
    asynchronous: bool
    modes: tuple[Mode, ...]
    stream: Callable[..., Any] | None = None
    quirks: Quirks = Quirks()  # noqa: RUF009 - frozen
    wire: Wire = Wire.OPENAI
    timeout: tuple[Way, int] = (("timeout",), 1)
    private: str = field(default_factory=lambda: os.urandom(16).hex(), compare=False, repr=False)
    """Stands for this client where its settings can't be told (`identity.cache_scope`)."""
    own: Callable[..., Any] | None = None

    def transport(self, observer: Observer, deadline: float | None = None) -> Transport[Kwargs]:
        """How the attempts of one call reach the service. No attempt is given longer than until `deadline`, a time of
        `time.monotonic`."""

        def within(kwargs: Kwargs) -> Kwargs:
            sent: Kwargs = thawed(kwargs)  # some SDKs write into what they are given, and it may be sent again
            return sent if deadline is None else self._within(sent, max(deadline - time.monotonic(), 0.001))

        opened = self.stream or self.create
        return Transport(
            send=lambda kwargs: self.create(**within(kwargs)),
            open=lambda kwargs: opened(**within(kwargs)),
            close=self._close,
            read=self.provider.read,
            read_deltas=self.provider.read_deltas,
            was_cut=was_cut,
            told=self._told,
            settle=observer.settle if self.asynchronous else None,
        )

    def plain(self, kwargs: Mapping[str, Any]) -> Any:
        """A call without a response type, as the SDK takes it."""
        if hasattr(self.provider, "plain"):
            kwargs = self.provider.plain(dict(kwargs))
        if self.stream is None:
            return self.create(**kwargs)
        given = {name: value for name, value in kwargs.items() if name != "stream"}
        return self.stream(**given) if kwargs.get("stream") else (self.own or self.create)(**given)

    def _within(self, kwargs: Kwargs, seconds: float) -> Kwargs:
        way, units = self.timeout
        bound: Kwargs = _bounded(kwargs, way, seconds if units == 1 else math.ceil(seconds * units))
        return bound

    def _close(self, events: Any) -> Any:
        if inspect.isasyncgen(events):
            return _close_all(events)
        names = ("aclose", "close") if self.asynchronous else ("close",)
        for name in names:
            if hasattr(events, name):
                return getattr(events, name)()
        return None

    def _told(self, error: Exception) -> Exception:
        """The error to raise: the SDK's own, but for those that say only that some text could not be decoded."""
        if isinstance(error, (UnicodeDecodeError, json.JSONDecodeError, RecursionError)):
            return ProviderError(self.name, f"what came can't be read ({error})")
        return error


async def _close_all(events: AsyncGenerator[Any, Any]) -> None:
    """Closes an async generator, and those that it iterates over: else they wait for the garbage collector, and the
    connection with them. (PEP 525: only exhausting them, or `aclose`, ends them at once.)"""
    chain: list[Any] = [events]
    for one in chain:
        held = () if one.ag_frame is None else one.ag_frame.f_locals.values()
        # google-genai's responses hold the generator that reads from the connection, and are held by it.
        inner = (getattr(value, "segment_iterator", value) for value in held)
        chain += [value for value in inner if inspect.isasyncgen(value) and value not in chain]
    for one in chain:
        await one.aclose()


def _bounded(holder: Any, way: Way, value: float) -> Any:
    """A copy of arguments, or of an SDK's object with options in them, with a number at the end of the way that is the
    value at most."""
    name, *rest = way
    current = holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
    if rest:
        made = _bounded({} if current is None else current, tuple(rest), value)
    else:
        made = value if current is None else min(current, value)
    return {**holder, name: made} if isinstance(holder, Mapping) else holder.model_copy(update={name: made})


def was_cut(error: BaseException | None) -> bool:
    """Whether an error of an SDK means that the connection broke off."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if type(error).__name__ in _CUT:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
