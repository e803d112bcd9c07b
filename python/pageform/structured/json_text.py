"""Reading JSON text that arrives in pieces: the content of strings, and the extent of whole values."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r'[^"\\]+')
_UNTIL_BRACKET = re.compile(r'[^"\[\]{}]+')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_EAGER = 4096
"""A growing text of up to so many characters is shown after each piece; a longer one whenever it has grown by an
eighth, since showing it means copying it."""


class JSONError(ValueError):
    """The text is not JSON."""


class StringReader:
    """The content of a JSON string, unescaped piece by piece. It starts after the opening quote."""

    def __init__(self) -> None:
        self._shown = ""
        self._pieces: list[str] = []
        self._added = 0
        self._escape = ""

    def read(self, text: str, at: int) -> tuple[int, bool]:
        """Read on from `at`; where it stopped, and whether the closing quote was passed."""
        while at < len(text):
            if self._escape:
                at = self._read_escape(text, at)
                continue
            match = _PLAIN.match(text, at)
            if match:
                self._add(match.group())
                at = match.end()
            elif text[at] == '"':
                return at + 1, True
            else:
                self._escape = "\\"
                at += 1
        return at, False

    def worth_showing(self) -> bool:
        """Whether there is enough new text to be shown."""
        return self._added > (0 if len(self._shown) < _EAGER else len(self._shown) // 8)

    def value(self) -> str:
        """All text so far."""
        if self._pieces:
            self._shown = "".join([self._shown, *self._pieces])
            self._pieces.clear()
            self._added = 0
        return self._shown

    def _add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._added += len(piece)

    def _read_escape(self, text: str, at: int) -> int:
        self._escape += text[at]
        escape = self._escape
        if escape[1] in _ESCAPES:
            self._add(_ESCAPES[escape[1]])
        elif escape[1] != "u":
            raise JSONError(f"unknown escape {escape!r}")
        elif not _complete_unicode(escape):
            return at + 1
        else:
            try:
                self._add(json.loads(f'"{escape}"').encode("utf-8").decode())
            except ValueError:  # no hexadecimal digits, or half of a surrogate pair
                raise JSONError(f"unknown escape {escape!r}") from None
        self._escape = ""
        return at + 1


class ValueReader:
    """The text of one complete JSON value, found by its brackets and quotes, from its first character on."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._depth = 0
        self._string: StringReader | None = None

    def add(self, piece: str) -> None:
        """Append text whose extent the caller knows."""
        self._pieces.append(piece)

    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def read(self, text: str, at: int) -> tuple[int, bool]:
        """Read on from `at`; where it stopped, and whether the value is complete."""
        start = at
        closed = False
        while at < len(text) and not closed:
            if self._string is not None:
                at, ended = self._string.read(text, at)
                if ended:
                    self._string = None
                    closed = self._depth == 0
                continue
            match = _UNTIL_BRACKET.match(text, at)
            if match:
                at = match.end()
                continue
            if text[at] == '"':
                self._string = StringReader()
            else:
                self._depth += 1 if text[at] in "[{" else -1
                closed = self._depth == 0
            at += 1
        self._pieces.append(text[start:at])
        return at, closed


def _complete_unicode(escape: str) -> bool:
    """Whether `\\uXXXX` is complete; the first half of a surrogate pair waits for the second."""
    if len(escape) < 6:
        return False
    alone = escape[2:4].lower() not in ("d8", "d9", "da", "db")
    return alone or len(escape) == 12 or not "\\u".startswith(escape[6:8])
