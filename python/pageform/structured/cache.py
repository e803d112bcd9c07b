"""Answers kept for requests that come again.

A `Slot` is one request's place in a cache. What is kept is the answer's own text, and only of an answer that was valid;
the value is made of it anew for each caller, through the caller's type, validators and context, so it is an instance of
the caller's class, shared with nobody, and never older than the type. An entry that is no longer valid is a miss.

A cache is anything with `get(key)` and `set(key, value, ttl)`; both are text. A cache's own fault is a warning and a
miss.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from ..core.completion import FinishReason
from ..core.errors import ParameterError
from .answer import Answer, ToolCall

FORMAT = 1
"""Of entries; those of another format are misses."""


class Cache(Protocol):
    """Any thread may call. If `get` and `set` may wait for something, async callers run them in a thread: a cache for
    which this is a waste says so with an attribute `blocking = False`."""

    def get(self, key: str) -> str | None:
        """What was set under this key, None if nothing was or its time is over."""

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """Keep a value, for `ttl` seconds if given."""


class MemoryCache:
    """A cache in this process: the least recently used entries go first.

    Bounded by `max_entries` and by `max_bytes` of keys and values; a value that is larger alone is not kept. `ttl`, in
    seconds, is for entries that are set without one.
    """

    blocking = False

    def __init__(
        self,
        max_entries: int = 1024,
        max_bytes: int = 64 << 20,
        ttl: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, limit in (("max_entries", max_entries), ("max_bytes", max_bytes)):
            if limit < 1:
                raise ParameterError(name, limit, "is too small", "Give a positive number.")
        self.max_entries, self.max_bytes, self.ttl = max_entries, max_bytes, check_ttl("ttl", ttl)
        self._clock, self._lock = clock, threading.Lock()
        self._entries: OrderedDict[str, tuple[str, float | None, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> str | None:
        """See `Cache.get`."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            value, expires, _ = entry
            if expires is not None and self._clock() >= expires:
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """See `Cache.set`."""
        ttl = self.ttl if ttl is None else check_ttl("ttl", ttl)
        size = len(key.encode()) + len(value.encode())
        with self._lock:
            self._drop(key)
            if size > self.max_bytes:
                return
            self._entries[key] = (value, None if ttl is None else self._clock() + ttl, size)
            self._bytes += size
            while len(self._entries) > self.max_entries or self._bytes > self.max_bytes:
                self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[2]


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one request in a cache. `key` is `cache_key`'s."""

    cache: Cache
    key: str
    ttl: float | None = None

    @property
    def blocking(self) -> bool:
        """Whether async callers should load and store in a thread."""
        return bool(getattr(self.cache, "blocking", True))

    def load(self) -> Answer | None:
        """The answer that was kept, with no usage, since it costs none. Judge it before use: it may be valid no
        longer."""
        try:
            entry = self.cache.get(self.key)
        except Exception as fault:  # a cache is the caller's code, or a server of theirs
            self._warn("get", fault)
            return None
        return None if entry is None else answer_of(entry)

    def store(self, answer: Answer) -> None:
        """Keep an answer that was found valid. One that broke off or was refused is not kept."""
        if answer.finish_reason is not FinishReason.STOP or answer.refusal or answer.error is not None:
            return
        try:
            self.cache.set(self.key, entry_of(answer), self.ttl)
        except Exception as fault:
            self._warn("set", fault)

    def _warn(self, verb: str, fault: Exception) -> None:
        text = f"the cache failed to {verb} and is left out: {type(fault).__name__}: {fault}"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def entry_of(answer: Answer) -> str:
    """An answer as the text that is kept."""
    entry = {
        "format": FORMAT,
        "text": answer.text,
        "tool_calls": [[call.name, call.arguments, call.id] for call in answer.tool_calls],
        "response": _plain(answer.response),
    }
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":"))


def answer_of(entry: Any) -> Answer | None:
    """The answer that a text stands for; None for one that no `entry_of` made. Its `response` has the fields of the
    SDK's object, but not its class."""
    try:
        fields = json.loads(entry)
        if fields["format"] != FORMAT:
            return None
        calls = tuple(
            ToolCall(_text(name), _text(arguments), _text(id)) for name, arguments, id in fields["tool_calls"]
        )
        return Answer(text=_text(fields["text"]), tool_calls=calls, response=_objects(fields["response"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def check_ttl(name: str, ttl: float | None) -> float | None:
    """A lifetime in seconds, or None. Raises ParameterError for what is neither."""
    if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not ttl > 0):
        raise ParameterError(name, ttl, "must be a positive number of seconds", "Leave it out for no limit.")
    return ttl


def _plain(response: Any) -> Any:
    """The JSON of an SDK's response, None for what has none: it is a courtesy, not the value."""
    dump = getattr(response, "model_dump_json", None)
    try:
        return json.loads(dump()) if callable(dump) else None
    except Exception:  # whatever an SDK's serializer raises
        return None


def _objects(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _objects(item) for key, item in value.items()})
    return [_objects(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
