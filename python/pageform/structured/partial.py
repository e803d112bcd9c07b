"""Partial objects while an answer's text arrives, in time proportional to the text.

A machine reads the JSON once, character by character, and fills one object in place; it never parses anything twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .shape import DictOf, ListOf, OneOf, Record, Root, Shape, Text, Whole, shape_of
from .spec import Spec

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\]+')
_UNTIL_BRACKET = re.compile(r'[^"\[\]{}]+')
_SCALAR = re.compile(r"[^\s,\]}]+")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_EAGER = 4096
"""A growing text of up to so many characters is shown after each piece; a longer one whenever it has grown by an eighth,
since showing it means copying it."""


class JSONError(ValueError):
    """The text is not JSON."""


@dataclass
class _Slot:
    """Where the next value goes: its shape, and what to do with it each time it can be shown."""

    shape: Shape
    put: Callable[[Any], None]


@dataclass
class _Open:
    """A container that has been opened and not closed. `slot(key)` gives the place of its next value."""

    closing: str
    slot: Callable[[str], _Slot]


class PartialBuilder:
    """Builds the value of a spec from pieces of its JSON text.

        builder = PartialBuilder(spec)
        for piece in pieces:
            partial = builder.feed(piece)      # None if there is nothing new to see

    A partial is an instance of the caller's own class with None or the default where nothing has arrived. It is *live*:
    the same object is returned again and has grown, so that the cost of a piece does not depend on the object's size.
    Take `copy.deepcopy` of it to keep a moment. No validator of a model has run; leaves are validated as their type.
    Raises `JSONError` for text that is not JSON.
    """

    def __init__(self, spec: Spec[Any]) -> None:
        self._value: Any = None
        self._changed = False
        self._position = 0
        self._stack: list[_Open] = []
        self._slot = _Slot(shape_of(spec.response_type), self._set_root)
        self._state: Callable[[str, int], int] = self._at_value
        self._key = ""
        self._text = _Text()
        self._raw = _Raw()

    @property
    def complete(self) -> bool:
        """Whether the root value has been closed (never so for a number before `finish`)."""
        return self._state == self._at_end

    def feed(self, text: str) -> Any | None:
        """Take the next piece of text; the partial value if it changed, else None."""
        self._changed = False
        at = 0
        while at < len(text):
            at = self._state(text, at)
        if self._state == self._in_text and self._text.grown():
            self._slot.put(self._text.value())
        self._position += len(text)
        return self._value if self._changed else None

    def finish(self) -> Any | None:
        """The value as far as it is known, after the last piece. A number that ended the text is complete now."""
        if self._state == self._in_scalar and not self._stack:
            self._show_raw()
        elif self._state == self._in_text:
            self._slot.put(self._text.value())
        return self._value

    # --- the states: each reads from `at` on and returns where it stopped -------------------------------------------

    def _at_value(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # the pattern matches everywhere
        if at == len(text):
            return at
        first = text[at]
        if first == "]" and self._stack and self._stack[-1].closing == "]":
            return self._close(text, at)
        self._slot = self._choose(self._slot, first)
        shape = self._slot.shape
        if first == '"' and isinstance(shape, Text):
            self._text = _Text()
            self._slot.put("")
            self._state = self._in_text
            return at + 1
        if first == "{" and isinstance(shape, (Record, DictOf)):
            self._stack.append(_Open("}", self._open_object(shape)))
            self._state = self._at_key
            return at + 1
        if first == "[" and isinstance(shape, ListOf):
            self._stack.append(_Open("]", self._open_list(shape)))
            self._next_item()
            return at + 1
        self._raw = _Raw()
        if first in '{["':
            self._state = self._in_raw
        elif first in "-0123456789tfn":
            self._state = self._in_scalar
        else:
            raise self._unexpected(text, at)
        return at

    def _at_key(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if text[at] == "}":
            return self._close(text, at)
        if text[at] != '"':
            raise self._unexpected(text, at)
        self._text = _Text()
        self._state = self._in_key
        return at + 1

    def _in_key(self, text: str, at: int) -> int:
        at, closed = self._text.read(text, at)
        if closed:
            self._key = self._text.value()
            self._state = self._at_colon
        return at

    def _at_colon(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if text[at] != ":":
            raise self._unexpected(text, at)
        self._slot = self._stack[-1].slot(self._key)
        self._state = self._at_value
        return at + 1

    def _in_text(self, text: str, at: int) -> int:
        at, closed = self._text.read(text, at)
        if closed:
            self._slot.put(self._text.value())
            self._state = self._after_value
        return at

    def _in_raw(self, text: str, at: int) -> int:
        at, closed = self._raw.read(text, at)
        if closed:
            self._show_raw()
        return at

    def _in_scalar(self, text: str, at: int) -> int:
        match = _SCALAR.match(text, at)
        if match is None:
            self._show_raw()
            return at
        self._raw.pieces.append(match.group())
        return match.end()

    def _after_value(self, text: str, at: int) -> int:
        if not self._stack:
            self._state = self._at_end
            return at
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return at
        if text[at] == self._stack[-1].closing:
            return self._close(text, at)
        if text[at] != ",":
            raise self._unexpected(text, at)
        if self._stack[-1].closing == "}":
            self._state = self._at_key
        else:
            self._next_item()
        return at + 1

    def _at_end(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at < len(text):
            raise self._unexpected(text, at)
        return at

    # --- what the states do ------------------------------------------------------------------------------------------

    def _set_root(self, value: Any) -> None:
        self._value = value
        self._changed = True

    def _next_item(self) -> None:
        self._slot = self._stack[-1].slot("")
        self._state = self._at_value

    def _close(self, text: str, at: int) -> int:
        self._stack.pop()
        self._changed = True
        self._state = self._after_value if self._stack else self._at_end
        return at + 1

    def _show_raw(self) -> None:
        shape = self._slot.shape
        if isinstance(shape, Whole):
            valid, value = shape.read("".join(self._raw.pieces))
            if valid:
                self._slot.put(value)
        self._state = self._after_value if self._stack else self._at_end

    def _choose(self, slot: _Slot, first: str) -> _Slot:
        """The slot with a shape that the value's first character settles; `Whole` where it can't."""
        shape = slot.shape
        if isinstance(shape, Root):
            return self._choose(_Slot(shape.inner, _root_model(shape, slot.put)), first)
        if isinstance(shape, OneOf):
            fitting = [option for option in shape.options if _may_open(option, first)]
            live = fitting[0] if len(fitting) == 1 and first in '{["' else shape.whole
            return self._choose(_Slot(live, slot.put), first)
        if not isinstance(shape, Whole) and not _may_open(shape, first):
            return _Slot(_ANY, slot.put)
        return slot

    def _open_object(self, shape: Record | DictOf) -> Callable[[str], _Slot]:
        if isinstance(shape, DictOf):
            made: dict[str, Any] = {}
            self._slot.put(made)
            return lambda key: _Slot(shape.value, lambda value: self._store(made.__setitem__, key, value))
        record = shape.new()
        self._slot.put(record)

        def slot(key: str) -> _Slot:
            inner = shape.fields[key][1] if key in shape.fields else _ANY
            return _Slot(inner, lambda value: self._store(lambda k, v: shape.put(record, k, v), key, value))

        return slot

    def _open_list(self, shape: ListOf) -> Callable[[str], _Slot]:
        made: list[Any] = []
        self._slot.put(made)

        def slot(_: str) -> _Slot:
            index = len(made)

            def put(value: Any) -> None:
                if len(made) == index:
                    made.append(value)
                else:
                    made[index] = value
                self._changed = True

            return _Slot(shape.item, put)

        return slot

    def _store(self, put: Callable[[str, Any], None], key: str, value: Any) -> None:
        put(key, value)
        self._changed = True

    def _unexpected(self, text: str, at: int) -> JSONError:
        return JSONError(f"unexpected {text[at]!r} at character {self._position + at} of the answer")


_ANY = Whole(Any)


def _may_open(shape: Shape, first: str) -> bool:
    """Whether a JSON value that begins with `first` can be of the shape."""
    if isinstance(shape, Text):
        return first == '"'
    if isinstance(shape, ListOf):
        return first == "["
    if isinstance(shape, (Record, DictOf)):
        return first == "{"
    if isinstance(shape, Root):
        return _may_open(shape.inner, first)
    if isinstance(shape, OneOf):
        return any(_may_open(option, first) for option in shape.options)
    return True


def _root_model(shape: Root, put: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: put(shape.cls.model_construct(value))


class _Text:
    """The content of a JSON string, unescaped piece by piece."""

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

    def grown(self) -> bool:
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
                self._add(json.loads(f'"{escape}"'))
            except ValueError:
                raise JSONError(f"unknown escape {escape!r}") from None
        self._escape = ""
        return at + 1


def _complete_unicode(escape: str) -> bool:
    """Whether `\\uXXXX` is complete; the first half of a surrogate pair waits for the second."""
    if len(escape) < 6:
        return False
    return len(escape) == 12 or escape[2:4].lower() not in ("d8", "d9", "da", "db")


class _Raw:
    """The text of one complete JSON value, found by its brackets and quotes."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._depth = 0
        self._string: _Text | None = None

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
                self._string = _Text()
            else:
                self._depth += 1 if text[at] in "[{" else -1
                closed = self._depth == 0
            at += 1
        self.pieces.append(text[start:at])
        return at, closed
