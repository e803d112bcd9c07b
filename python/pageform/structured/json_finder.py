"""Finding the JSON in text that has words, code fences or a model's thoughts around it, while it arrives."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Literal

from .json_machine import Event, JsonMachine
from .json_table import ARRAY_CLOSED, ARRAY_OPENED, EVENTS, KEY, OBJECT_CLOSED, OBJECT_OPENED
from .json_text import JSONError, UnexpectedEnd

RESTARTED = len(EVENTS)
"""An event of the finder alone: what came before was not the answer, which begins now."""

_FENCE, _THOUGHT, _END_OF_THOUGHT = b"```", b"<think>", b"</think>"
_SIGN = re.compile(rb"```[\w+.-]*[ \t]*\r?\n?|<think>|[{\[]")
_SCALAR = re.compile(rb'[ \t\r\n]*(["\-0-9tfn])')
_EMPTY, _BARE, _FENCED = range(3)
"""How good a find is: an empty object or list among words, a value among words, a value inside a code fence."""


class JsonFinder:
    """A `JsonMachine` for text such as 'Here you are: ```json {…} ``` Anything else?', with the same interface.

    A value begins at a bracket out of `first` and is believed when something complete stands inside it, a number or the
    end, or a string has begun; till then its events are held back. So words in brackets are passed over, and so is what
    stands between `<think>` and `</think>`. Numbers, strings and literals are found only at the start of the text or of
    a fence. What follows a value inside a code fence is ignored. A value that stood among words is given up for a later
    one inside a fence, and an empty one for any other: `RESTARTED` says so. With `then="values"` every value counts,
    one after another. JSON that breaks after it was believed is an error.
    """

    def __init__(
        self, first: str = "{[", then: Literal["anything", "values"] = "anything", strict: bool = False
    ) -> None:
        self._first = first.encode()
        self._scalars = any(char not in "{[" for char in first)
        self._many, self._strict = then == "values", strict
        self._machine: JsonMachine | None = None  # reads the current candidate
        self._pending: list[Event] | None = None  # its events until it is believed
        self._buffer = b""  # bytes that may have to be looked at again, the first at _start
        self._start = 0
        self._offset = 0
        self._fenced = self._thinking = False
        self._fresh = True  # nothing but space since the start of the text or of a fence
        self._rank = -1
        self.tolerated: list[int] = []  # see JsonMachine

    @property
    def complete(self) -> bool:
        """Whether a value was found and none is open."""
        return self._machine is None and self._rank >= 0

    @property
    def held(self) -> int | None:
        """The offset from which on bytes may be read again; None if none may."""
        return self._start if self._buffer else None

    def feed(self, data: bytes) -> list[Event]:
        """The events of the next bytes; see `JsonMachine.feed`."""
        events: list[Event] = []
        self._offset += len(data)
        if self._machine is not None and self._pending is None:
            data = self._read(self._machine, data, events)
        data = self._buffer + data
        self._buffer = b""
        while data:
            self._start = self._offset - len(data)
            if self._machine is None:
                data = self._search(data)
            if self._machine is not None:
                data = self._try(self._machine, data, events)
        return events

    def finish(self) -> list[Event]:
        """See `JsonMachine.finish`. Raises `UnexpectedEnd` if no value was found or the last one is not complete."""
        if self._machine is not None:
            events = [*(self._pending or ()), *self._machine.finish()]
            self._machine, self._rank = None, _BARE
            return events
        if self._rank < 0:
            raise UnexpectedEnd("the text holds no JSON value of the wanted kind", self._offset)
        return []

    def _read(self, machine: JsonMachine, data: bytes, events: list[Event]) -> bytes:
        """Let the machine read on; what comes after its value."""
        try:
            events += machine.feed(data)
        except JSONError as error:
            error.events = [*events, *error.events]
            raise
        if not machine.complete:
            return b""
        self._machine = None
        return data[len(data) - (self._offset - events[-1][2]) :]

    def _try(self, machine: JsonMachine, data: bytes, events: list[Event]) -> bytes:
        """Read a candidate that is not believed yet: all of `data`, whose first byte is the candidate's own."""
        fed = machine.offset - self._start
        pending = self._pending or []
        try:
            pending += machine.feed(data[fed:])
        except JSONError as error:
            pending += error.events
            if not _is_json(pending):  # words in brackets
                self._machine = self._pending = None
                del self.tolerated[bisect_left(self.tolerated, self._start) :]
                return data[1:]
            error.events = [*events, *self._found(pending)]
            raise
        if not _is_json(pending):
            self._pending, self._buffer = pending, data
            return b""
        events += self._found(pending)
        self._pending = None
        if not machine.complete:
            return b""
        self._machine = None
        return data[pending[-1][2] - self._start :]

    def _found(self, events: list[Event]) -> list[Event]:
        """The events of a candidate that is believed now, as the reader shall see them."""
        restarted = self._rank >= 0 and not self._many
        self._rank = self._rank_of(empty=len(events) == 2 and events[1][0] in (ARRAY_CLOSED, OBJECT_CLOSED))
        return [(RESTARTED, events[0][1], events[0][1], ""), *events] if restarted else events

    def _rank_of(self, empty: bool) -> int:
        return _FENCED if self._fenced else _EMPTY if empty else _BARE

    def _search(self, data: bytes) -> bytes:
        """Look for a candidate; `data` from its first byte on, or nothing if there is none."""
        at = 0
        while at < len(data):
            if self._rank == _FENCED and not self._many:
                return b""
            if self._thinking:
                end = data.find(_END_OF_THOUGHT, at)
                if end < 0:
                    return self._hold(data, max(at, len(data) - len(_END_OF_THOUGHT) + 1))
                self._thinking = False
                at = end + len(_END_OF_THOUGHT)
                continue
            if self._fresh and self._scalars:
                match = _SCALAR.match(data, at)
                if match is not None and match[1][0] in self._kinds():
                    return self._begin(data, match.start(1))
            match = _SIGN.search(data, at)
            if match is None:
                self._fresh = self._fresh and not data[at:].strip()
                cut = max((n for n in range(1, 7) if data.endswith((_FENCE[:n], _THOUGHT[:n]))), default=0)
                return self._hold(data, max(at, len(data) - cut)) if cut else b""
            self._fresh = self._fresh and not data[at : match.start()].strip()
            at = match.end()
            if match[0].startswith(_FENCE):
                if at == len(data) and not match[0].endswith(b"\n"):
                    return self._hold(data, match.start())  # the fence's first line goes on
                self._fenced = not self._fenced
                self._fresh = self._fenced
            elif match[0] == _THOUGHT:
                self._thinking = self._rank < 0
            elif match[0][0] in self._first and (self._many or self._rank_of(empty=False) > self._rank):
                return self._begin(data, match.start())
            else:
                self._fresh = False
        return b""

    def _kinds(self) -> bytes:
        return self._first + (b"-123456789" if b"0" in self._first else b"")

    def _begin(self, data: bytes, at: int) -> bytes:
        self._start += at
        self._machine = JsonMachine(then="anything", strict=self._strict, offset=self._start)
        self._machine.tolerated = self.tolerated
        self._pending = []
        self._fresh = False
        return data[at:]

    def _hold(self, data: bytes, at: int) -> bytes:
        """Look at the bytes from `at` on again when more have come."""
        self._start += at
        self._buffer = data[at:]
        return b""


def _is_json(events: list[Event]) -> bool:
    """Whether what a candidate began with can hardly be anything else: it has a value inside, or an end."""
    return any(event[0] not in (OBJECT_OPENED, ARRAY_OPENED, KEY) for event in events)
