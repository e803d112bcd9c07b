"""Which field of its form an answer is in, token by token, and back again.

The tracker follows the text with the incremental JSON machine, the native one: an answer's text is read once, here. It
knows of every open value where it began, in bytes and in tokens, and tells of each value that closes. Each token costs
time in proportion to its text and to the nesting; any earlier token can be gone back to.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._native import JsonMachine
from ..structured.json_table import (
    ARRAY_CLOSED,
    ARRAY_OPENED,
    KEY,
    LITERAL,
    NUMBER,
    OBJECT_CLOSED,
    OBJECT_OPENED,
    STRING_CHUNK,
    STRING_CLOSED,
    STRING_OPENED,
)
from ..structured.json_text import JSONError
from .checks import NOT_JUDGED, Check

Path = tuple[str | int, ...]


@dataclass(slots=True, eq=False)
class Open:
    """A container that is open. `members` are the keys of its values so far, with the span of each in bytes; `values`
    are these values, where they are wanted."""

    check: Check | None
    path: Path
    start: int
    first_token: int
    is_list: bool
    members: list[tuple[str, int, int]]
    parent: Open | None
    key: str = ""
    count: int = 0
    values: list[Any] = field(default_factory=list)


class Closed(NamedTuple):
    """A value that has just closed: bytes [start, end) of the text; its first byte came with token `first_token`.

    `parent` is the container around it, None for the answer itself.
    """

    path: Path
    check: Check | None
    start: int
    end: int
    first_token: int
    parent: Open | None


class Told(NamedTuple):
    """An event of the machine (kind, start, end, text) with its place in the answer. It is known from byte `at` on:
    that a number ends shows only in what follows. `value` is what closes here."""

    kind: int
    start: int
    end: int
    text: str
    at: int
    path: Path
    value: Any


class FieldTracker:
    """Follows one answer. Used by the engine's thread.

    With `keeps_log` it notes all events of what stands, with the values that close as JSON has them.
    """

    def __init__(self, check: Check, keeps_log: bool = False) -> None:
        self.text = bytearray()
        self.root = check
        self.log: list[Told] = []
        self._keeps_log = keeps_log
        self._machine = JsonMachine()
        self.stack: list[Open] = []
        """The open containers, the answer itself first."""
        self._string = (-1, -1)  # where the open string began: byte and token
        self._marks: list[tuple[JsonMachine, tuple[tuple[Open, int, str, int], ...], tuple[int, int], int]] = []

    @property
    def num_tokens(self) -> int:
        return len(self._marks)

    @property
    def innermost(self) -> Path:
        """The path of the value that is open or comes next, as far as it is known."""
        if not self.stack:
            return ()
        top = self.stack[-1]
        return (*top.path, top.count if top.is_list else top.key)

    def start_of(self, token: int) -> int:
        """How many bytes of text came before the token of that index."""
        return self._marks[token][3] if token < len(self._marks) else len(self.text)

    def skip(self, num_tokens: int) -> None:
        """So many tokens before the answer are no part of it."""
        self._marks.extend([(self._machine.copy(), (), self._string, 0)] * num_tokens)

    def feed(self, data: bytes) -> list[Closed]:
        """Takes the text of the next token; the values that it closes, innermost first.

        Raises `JSONError` for text that is no JSON, which no grammar of a form allows.
        """
        frames = tuple((one, len(one.members), one.key, one.count) for one in self.stack)
        self._marks.append((self._machine.copy(), frames, self._string, len(self.text)))
        token = len(self._marks) - 1
        self.text += data
        closed: list[Closed] = []
        for kind, start, end, text in self._machine.feed(data):
            value: Any = None
            path = self.innermost
            if kind == KEY:
                self.stack[-1].key = text
            elif kind in (OBJECT_OPENED, ARRAY_OPENED):
                self._open(start, token, kind == ARRAY_OPENED)
            elif kind in (OBJECT_CLOSED, ARRAY_CLOSED):
                done = self.stack.pop()
                path = done.path
                if self._keeps_log:
                    keys = (key for key, _, _ in done.members)
                    value = list(done.values) if done.is_list else dict(zip(keys, done.values, strict=True))
                closed.append(self._close(done.check, done.start, end, done.first_token, value))
            elif kind == STRING_OPENED:
                self._string = (start, token)
            elif kind in (STRING_CLOSED, NUMBER, LITERAL):
                first = self._string[1] if kind == STRING_CLOSED else self.token_at(start)
                if self._keeps_log:
                    value = json.loads(self.text[start:end])
                closed.append(self._close(self.next_check, start, end, first, value))
                self._string = (-1, -1)
            if self._keeps_log:
                self.log.append(Told(kind, start, end, text, end + (kind == NUMBER), path, value))
        fault = self._machine.fault
        if fault is not None:
            raise JSONError(fault[2], fault[1])
        return closed

    def truncate(self, num_tokens: int) -> None:
        """Forgets all but the first tokens."""
        if num_tokens >= len(self._marks):
            return
        mark, frames, self._string, size = self._marks[num_tokens]
        self._machine = mark
        self.stack = []
        for one, members, key, count in frames:
            del one.members[members:], one.values[count if one.is_list else members :]
            one.key, one.count = key, count
            self.stack.append(one)
        del self.text[size:], self._marks[num_tokens:]
        while self.log and self.log[-1].at > size:
            self.log.pop()

    def put_value(self, closed: Closed, value: Any) -> None:
        """What validation made of a value takes the place of its JSON in the log."""
        if not self._keeps_log or value is NOT_JUDGED:
            return
        place = bisect_left(self.log, closed.end, key=lambda told: told.at)
        while self.log[place].start != closed.start or self.log[place].kind == STRING_CHUNK:
            place += 1
        self.log[place] = self.log[place]._replace(value=value)

    def before(self, parent: Open) -> dict[str, bytes]:
        """The JSON of an object's closed values, by key."""
        return {key: bytes(self.text[start:end]) for key, start, end in parent.members}

    @property
    def open_string(self) -> int | None:
        """Where the string began that is open."""
        return self._string[0] if self._string[0] >= 0 else None

    @property
    def next_check(self) -> Check | None:
        """The check of the value that is open or comes next."""
        if not self.stack:
            return self.root
        top = self.stack[-1]
        if top.check is None:
            return None
        return top.check.item() if top.is_list else top.check.field(top.key)

    def _open(self, start: int, token: int, is_list: bool) -> None:
        parent = self.stack[-1] if self.stack else None
        self.stack.append(Open(self.next_check, self.innermost, start, token, is_list, [], parent))

    def _close(self, check: Check | None, start: int, end: int, first_token: int, value: Any) -> Closed:
        path = self.innermost
        parent = self.stack[-1] if self.stack else None
        if parent is not None:
            if parent.is_list:
                parent.count += 1
            else:
                parent.members.append((parent.key, start, end))
            if self._keeps_log:
                parent.values.append(value)
        return Closed(path, check, start, end, first_token, parent)

    def token_at(self, offset: int) -> int:
        """The token that brought the byte at `offset`, which is mostly one of the last few."""
        token = len(self._marks) - 1
        if self._marks[max(0, token - 8)][3] > offset:
            return bisect_right(self._marks, offset, key=lambda mark: mark[3]) - 1
        while self._marks[token][3] > offset:
            token -= 1
        return token
