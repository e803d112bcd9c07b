"""What goes with reading JSON text in pieces: its errors, the text being kept, the text of strings that grow."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any

from ..core.errors import PageformError

EAGER = 32_768
"""A growing text of up to so many characters is shown after each piece (copying it costs a few microseconds, as much as
the piece itself); a longer one whenever it has grown by a 64th, so that all copies together stay proportional to it."""


class JSONError(PageformError, ValueError):
    """The text is not JSON. `position` counts the bytes before the fault, from the start of the text.

    `events` are those of the piece of text that held the fault, up to the fault.
    """

    def __init__(self, message: str, position: int) -> None:
        self.position = position
        self.events: list[Any] = []
        super().__init__(message, position)

    def __str__(self) -> str:
        return str(self.args[0])


class NestingTooDeep(JSONError):
    """Containers are nested deeper than allowed."""


class UnexpectedEnd(JSONError):
    """The text ended within a value, or before one."""


class Tape:
    """The bytes of a stream that are still wanted, addressed by their offset from its start.

    Without `keep` it holds the newest piece alone. A stretch that is kept costs its length once.
    """

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._start = 0
        self._end = 0
        self._kept: int | None = None

    def feed(self, data: bytes) -> None:
        """The next bytes. What lies before the kept offset is forgotten."""
        if self._kept is None:
            self._data, self._start = data, self._end
        elif isinstance(self._data, bytearray):
            self._data += data
        else:
            self._data = bytearray(self._data[self._kept - self._start :]) + data
            self._start = self._kept
        self._end += len(data)

    def keep(self, offset: int) -> None:
        """Hold everything from `offset` on, until `release`."""
        self._kept = offset

    def release(self) -> None:
        """Hold nothing that is older than the next piece."""
        self._kept = None

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`."""
        return bytes(self._data[start - self._start : end - self._start])


class GrowingText:
    """A string that arrives in pieces and is shown on the way."""

    def __init__(self) -> None:
        self._shown = ""
        self._pieces: list[str] = []
        self._added = 0

    def add(self, piece: str) -> None:
        """Append."""
        self._pieces.append(piece)
        self._added += len(piece)

    def worth_showing(self) -> bool:
        """Whether there is enough new text to be shown."""
        return self._added > (0 if len(self._shown) < EAGER else len(self._shown) // 64)

    def value(self) -> str:
        """All text so far."""
        if self._pieces:
            self._shown = "".join([self._shown, *self._pieces])
            self._pieces.clear()
            self._added = 0
        return self._shown


_CONTROL = re.compile(rb"[\x00-\x1f]")


def escaped(text: bytes, start: int, tolerated: list[int]) -> bytes:
    """`text`, which began at offset `start` of the stream, with the control characters at the `tolerated` offsets
    (ascending) escaped: what a strict parser reads as the same value."""
    first = bisect_left(tolerated, start)
    last = bisect_left(tolerated, start + len(text))
    if first == last:
        return text
    pieces = []
    at = 0
    for offset in tolerated[first:last]:
        pieces += [text[at : offset - start], b"\\u%04x" % text[offset - start]]
        at = offset - start + 1
    return b"".join([*pieces, text[at:]])
