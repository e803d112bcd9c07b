"""Finding the JSON in text that has words, code fences or a model's thoughts around it, while it arrives."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Literal

from .json_machine import Event, JsonMachine
from .json_table import (
    ARRAY_CLOSED,
    ARRAY_OPENED,
    EVENTS,
    KEY,
    LITERAL,
    NUMBER,
    OBJECT_CLOSED,
    OBJECT_OPENED,
    STRING_OPENED,
)
from .json_text import JSONError, NestingTooDeep, UnexpectedEnd

RESTARTED = len(EVENTS)
"""An event of the finder alone: what came before was not the answer, which begins now."""

_FENCE, _THOUGHT, _END_OF_THOUGHT = b"```", b"<think>", b"</think>"
_SIGN = re.compile(rb"```[\w+.-]*[ \t]*\r?\n?|<think>|[{\[]")
_SCALAR = re.compile(rb'[ \t\r\n]*(["\-0-9tfn])')
_BEGINNINGS = {OBJECT_OPENED: "{", ARRAY_OPENED: "[", STRING_OPENED: '"', NUMBER: "0"}
_LONG = 4096
"""Bytes after which a candidate is believed for want of a fault: none is read again that goes on for longer."""
_EMPTY, _BARE, _FENCED = range(3)
"""How good a find is: an empty object or list among words, a value among words, a value inside a code fence."""


class JsonFinder:
    """A `JsonMachine` for text such as 'Here you are: ```json {…} ``` Anything else?', with the same interface.

    A value begins at a bracket out of `first`; for an array `second` says how its first item may begin. It is believed
    when something complete stands inside it, a number or the end, or a string has begun; till then its events are held
    back, unless nothing stands before it. So words in brackets are passed over, and so is what stands between `<think>`
    and `</think>`. Numbers, strings and literals are found only at the start of the text or of a fence. What follows a
    value inside a code fence is ignored. A value that stood among words is given up for a later one inside a fence, and
    an empty one for any other: `RESTARTED` says so. With `then="values"` every value counts, one after another. JSON
    that breaks after it was believed is an error.
    """

    def __init__(
        self,
        first: str = "{[",
        then: Literal["anything", "values"] = "anything",
        second: str = '{["0tfnNI',
        strict: bool = False,
    ) -> None:
        self._first, self._second = first.encode(), second
        self._kinds = self._first + (b"-123456789" if "0" in first else b"")
        self._scalars = any(char not in "{[" for char in first)
        self._many, self._strict = then == "values", strict
        self._machine: JsonMachine | None = None  # reads the current candidate
        self._pending: list[Event] | None = None  # its events until it is believed
        self._eager = False  # whether they are told all the same
        self._start = 0  # offset of the candidate
        self._offset = 0  # of the next byte
        self._buffer = b""  # the last bytes, where they may have to be looked at again
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
        return self._offset - len(self._buffer) if self._buffer else None

    def feed(self, data: bytes) -> list[Event]:
        """The events of the next bytes; see `JsonMachine.feed`."""
        events: list[Event] = []
        base = self._offset - len(self._buffer)
        self._offset += len(data)
        data, self._buffer = self._buffer + data, b""
        at = 0
        while at < len(data):
            at = (
                self._search(data, at, base) if self._machine is None else self._read(self._machine, data, base, events)
            )
        if self._pending is not None:
            self._buffer = data[self._start - base :]
        return events

    def finish(self) -> list[Event]:
        """See `JsonMachine.finish`. Raises `UnexpectedEnd` if no value was found or the last one is not complete."""
        if self._machine is not None:
            last = self._machine.finish()  # a number: whatever else is open has no end
            events = last
            if self._pending is not None:
                events = self._news([*self._pending, *last], len(self._pending))
            self._machine, self._rank = None, max(self._rank, _BARE)
            return events
        if self._rank < 0:
            raise UnexpectedEnd("the text holds no JSON value of the wanted kind", self._offset)
        return []

    def _read(self, machine: JsonMachine, data: bytes, base: int, events: list[Event]) -> int:
        """Let the machine read on, for a while. Where to go on in `data`, which begins at offset `base`."""
        at = machine.offset - base
        piece = data[at : at + _LONG]
        fault: JSONError | None = None
        try:
            new = machine.feed(piece)
        except JSONError as error:
            fault, new = error, error.events
        if self._pending is None:
            events += new
        else:
            known = len(self._pending)
            self._pending += new
            if not self._believes(self._pending, fault):
                if fault is not None or not self._fits(self._pending):  # words in brackets
                    if self._eager and known:
                        events.append((RESTARTED, self._start, self._start, ""))
                    self._machine = self._pending = None
                    del self.tolerated[bisect_left(self.tolerated, self._start) :]
                    return self._start + 1 - base
                if self._eager:
                    events += new
                return at + len(piece)
            events += self._news(self._pending, known)
            self._rank = self._rank_of(empty=_is_empty(self._pending))
            self._pending = None
        if fault is not None:
            fault.events = events
            raise fault
        if not machine.complete:
            return at + len(piece)
        self._machine = None
        return new[-1][2] - base

    def _believes(self, events: list[Event], fault: JSONError | None) -> bool:
        """Whether a candidate that has begun with these events is JSON, faulty perhaps."""
        if isinstance(fault, NestingTooDeep):
            return True
        goes_on = fault is None and self._machine is not None and self._machine.offset - self._start > _LONG
        return self._fits(events) and (goes_on or _is_json(events))

    def _news(self, events: list[Event], known: int) -> list[Event]:
        """The events of a candidate that is believed now, as far as they were not told, and `RESTARTED` before them if
        others have to be forgotten."""
        if self._rank >= 0 and not self._many:
            return [(RESTARTED, self._start, self._start, ""), *events]
        return events[known:] if self._eager else events

    def _fits(self, events: list[Event]) -> bool:
        """Whether a candidate holds what an array of the wanted kind may begin with, as far as it goes."""
        if len(events) < 2 or events[0][0] != ARRAY_OPENED or events[1][0] == ARRAY_CLOSED:
            return True
        kind, text = events[1][0], events[1][3]
        return (text.lstrip("-")[0] if kind == LITERAL else _BEGINNINGS[kind]) in self._second

    def _rank_of(self, empty: bool) -> int:
        return _FENCED if self._fenced else _EMPTY if empty else _BARE

    def _search(self, data: bytes, at: int, base: int) -> int:
        """Look for a candidate from `at` on; where it begins, or the end of the data if there is none."""
        size = len(data)
        while at < size:
            if self._rank == _FENCED and not self._many:
                break
            if self._thinking:
                end = data.find(_END_OF_THOUGHT, at)
                if end < 0:
                    return self._hold(data, max(at, size - len(_END_OF_THOUGHT) + 1))
                self._thinking = False
                at = end + len(_END_OF_THOUGHT)
                continue
            if self._fresh and self._scalars:
                match = _SCALAR.match(data, at)
                if match is not None and match[1][0] in self._kinds:
                    return self._begin(match.start(1), base)
            match = _SIGN.search(data, at)
            if match is None:
                self._fresh = self._fresh and not data[at:].strip()
                cut = max((n for n in range(1, 7) if data.endswith((_FENCE[:n], _THOUGHT[:n]))), default=0)
                return self._hold(data, max(at, size - cut)) if cut else size
            self._fresh = self._fresh and not data[at : match.start()].strip()
            at = match.end()
            if match[0].startswith(_FENCE):
                if at == size and not match[0].endswith(b"\n"):
                    return self._hold(data, match.start())  # the fence's first line goes on
                self._fenced = not self._fenced
                self._fresh = self._fenced
            elif match[0] == _THOUGHT:
                self._thinking = self._rank < 0
            elif match[0][0] in self._first and (self._many or self._rank_of(empty=False) > self._rank):
                return self._begin(match.start(), base)
            else:
                self._fresh = False
        return size

    def _begin(self, at: int, base: int) -> int:
        """A candidate begins at `at`."""
        self._start = base + at
        self._machine = JsonMachine(then="anything", strict=self._strict, offset=self._start)
        self._machine.tolerated = self.tolerated
        self._pending = []
        self._eager = self._fresh and self._rank < 0 and not self._many
        self._fresh = False
        return at

    def _hold(self, data: bytes, at: int) -> int:
        """Look at the bytes from `at` on again when more have come."""
        self._buffer = data[at:]
        return len(data)


def _is_empty(events: list[Event]) -> bool:
    return len(events) == 2 and events[1][0] in (ARRAY_CLOSED, OBJECT_CLOSED)


def _is_json(events: list[Event]) -> bool:
    """Whether what a candidate began with can hardly be anything else: it has a value inside, or an end."""
    return any(event[0] not in (OBJECT_OPENED, ARRAY_OPENED, KEY) for event in events)
