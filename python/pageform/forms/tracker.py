"""Which field of its form an answer is in, token by token, and back again.

The tracker follows the text with the incremental JSON machine. It knows of every open value where it began, in bytes
and in tokens, and tells of each value that closes. Each token costs time in proportion to its text and to the nesting;
any earlier token can be gone back to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..structured.json_machine import JsonMachine, Mark
from ..structured.json_table import (
    ARRAY_CLOSED,
    ARRAY_OPENED,
    KEY,
    LITERAL,
    NUMBER,
    OBJECT_CLOSED,
    OBJECT_OPENED,
    STRING_CLOSED,
    STRING_OPENED,
)
from .checks import Check

Path = tuple[str | int, ...]


@dataclass(slots=True, eq=False)
class Open:
    """A container that is open. `members` are the keys of its values so far, with the span of each in bytes."""

    check: Check | None
    path: Path
    start: int
    first_token: int
    is_list: bool
    members: list[tuple[str, int, int]]
    key: str = ""
    count: int = 0


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


class FieldTracker:
    """Follows one answer. Used by the engine's thread. Without a `check` it only tells where values lie."""

    def __init__(self, check: Check | None) -> None:
        self.text = bytearray()
        self._root = check
        self._machine = JsonMachine()
        self.stack: list[Open] = []
        """The open containers, the answer itself first."""
        self._string = (0, 0)
        self._marks: list[tuple[Mark, tuple[tuple[Open, int, str, int], ...], tuple[int, int], int]] = []

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

    def feed(self, data: bytes) -> list[Closed]:
        """Takes the text of the next token; the values that it closes, innermost first.

        Raises `JSONError` for text that is no JSON, which no grammar of a form allows.
        """
        frames = tuple((one, len(one.members), one.key, one.count) for one in self.stack)
        self._marks.append((self._machine.mark(), frames, self._string, len(self.text)))
        token = len(self._marks) - 1
        self.text += data
        closed: list[Closed] = []
        for kind, start, end, text in self._machine.feed(data):
            if kind == KEY:
                self.stack[-1].key = text
            elif kind in (OBJECT_OPENED, ARRAY_OPENED):
                self._open(start, token, kind == ARRAY_OPENED)
            elif kind in (OBJECT_CLOSED, ARRAY_CLOSED):
                done = self.stack.pop()
                closed.append(self._close(done.check, done.start, end, done.first_token))
            elif kind == STRING_OPENED:
                self._string = (start, token)
            elif kind == STRING_CLOSED:
                closed.append(self._close(self._next(), start, end, self._string[1]))
            elif kind in (NUMBER, LITERAL):
                closed.append(self._close(self._next(), start, end, self._token_at(start)))
        return closed

    def truncate(self, num_tokens: int) -> None:
        """Forgets all but the first tokens."""
        if num_tokens >= len(self._marks):
            return
        mark, frames, self._string, size = self._marks[num_tokens]
        self._machine.reset(mark)
        self.stack = []
        for one, members, key, count in frames:
            del one.members[members:]
            one.key, one.count = key, count
            self.stack.append(one)
        del self.text[size:], self._marks[num_tokens:]

    def before(self, parent: Open) -> dict[str, bytes]:
        """The JSON of an object's closed values, by key."""
        return {key: bytes(self.text[start:end]) for key, start, end in parent.members}

    def _next(self) -> Check | None:
        """The check of the value that begins now."""
        if not self.stack:
            return self._root
        top = self.stack[-1]
        if top.check is None:
            return None
        return top.check.item() if top.is_list else top.check.field(top.key)

    def _open(self, start: int, token: int, is_list: bool) -> None:
        self.stack.append(Open(self._next(), self.innermost, start, token, is_list, []))

    def _close(self, check: Check | None, start: int, end: int, first_token: int) -> Closed:
        path = self.innermost
        parent = self.stack[-1] if self.stack else None
        if parent is not None:
            if parent.is_list:
                parent.count += 1
            else:
                parent.members.append((parent.key, start, end))
        return Closed(path, check, start, end, first_token, parent)

    def _token_at(self, offset: int) -> int:
        """The token that brought the byte at `offset`: one of the last few, since numbers are short."""
        token = len(self._marks) - 1
        while self._marks[token][3] > offset:
            token -= 1
        return token
