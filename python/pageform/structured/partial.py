"""Partial objects while an answer's text arrives.

A machine reads the JSON once, character by character, and fills the value in place; nothing is ever parsed twice.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import RootModel

from .json_text import JSONError, StringReader, ValueReader
from .shape import DictOf, ListOf, OneOf, Record, Root, Shape, Text, Whole
from .spec import Spec

__all__ = ["JSONError", "PartialBuilder"]

_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^\s,\]}]+")
_ANYTHING = Whole(Any)


@dataclass
class _Open:
    """A container that has been opened and not closed, and the key of the value inside it that was shown last."""

    shape: Record | ListOf | DictOf
    made: Any
    slot: _Slot
    key: Any = None

    def put(self, key: Any, value: Any) -> None:
        self.key = key
        _store(self.shape, self.made, key, value)

    def next_slot(self, key: str) -> _Slot:
        """The place of the next value: the next index of a list, `key` of anything else."""
        if isinstance(self.shape, ListOf):
            return _Slot(self.shape.item, self, len(self.made))
        if isinstance(self.shape, DictOf):
            return _Slot(self.shape.value, self, key)
        return _Slot(self.shape.fields[key][1] if key in self.shape.fields else _ANYTHING, self, key)


@dataclass
class _Slot:
    """Where a value goes: into `parent` under `key` (the root has none), wrapped in the RootModels of `wraps`."""

    shape: Shape
    parent: _Open | None = None
    key: Any = None
    wraps: tuple[type[RootModel[Any]], ...] = field(default=())

    def wrapped(self, value: Any) -> Any:
        for cls in reversed(self.wraps):
            value = cls.model_construct(value)
        return value


class PartialBuilder:
    """Builds the value of a spec from pieces of its JSON text.

        builder = PartialBuilder(spec)
        for piece in pieces:
            partial = builder.feed(piece)      # None if there is nothing new to see

    A partial is an instance of the caller's own class with None or the default where nothing has arrived yet. Numbers,
    enums, literals, dates and the like appear when they are complete, validated as their type; models' validators have
    not run. Each partial is a snapshot: what is still open (the path from the root to the newest value) is copied,
    what is closed is shared. With `live=True` the same growing object is returned each time instead, and a piece costs
    the same however wide the open lists and objects are. Raises `JSONError` for text that is not JSON.
    """

    def __init__(self, spec: Spec[Any], live: bool = False) -> None:
        self._live = live
        self._value: Any = None
        self._changed = False
        self._position = 0
        self._stack: list[_Open] = []
        self._slot = _Slot(spec.shape)
        self._state: Callable[[str, int], int] = self._at_value
        self._key = ""
        self._string = StringReader()
        self._whole = ValueReader()

    @property
    def complete(self) -> bool:
        """Whether the root value has been closed (for a number: never before `finish`)."""
        return self._state == self._at_end

    def feed(self, text: str) -> Any | None:
        """Take the next piece of text; the partial value if it changed, else None."""
        self._changed = False
        at = 0
        while at < len(text):
            at = self._state(text, at)
        if self._state == self._in_text and self._string.worth_showing():
            self._put(self._string.value())
        self._position += len(text)
        return self._snapshot() if self._changed else None

    def finish(self) -> Any | None:
        """The value as far as it is known, after the last piece. A number that ended the text is complete now."""
        if self._state == self._in_scalar and not self._stack:
            self._put_whole()
        elif self._state == self._in_text:
            self._put(self._string.value())
        return self._snapshot()

    # --- the states: each reads from `at` on and returns where it stopped -------------------------------------------

    def _at_value(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        first = text[at]
        if first == "]" and self._stack and isinstance(self._stack[-1].shape, ListOf):
            return self._close(at)
        self._slot = _settled(self._slot, first)
        shape = self._slot.shape
        if isinstance(shape, Text):
            self._string = StringReader()
            self._put("")
            self._state = self._in_text
            return at + 1
        if isinstance(shape, (Record, DictOf, ListOf)):
            return self._open(shape, at)
        self._whole = ValueReader()
        if first in '{["':
            self._state = self._in_whole
        elif first in "-0123456789tfn":
            self._state = self._in_scalar
        else:
            raise self._unexpected(text, at)
        return at

    def _at_key(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        if text[at] == "}":
            return self._close(at)
        if text[at] != '"':
            raise self._unexpected(text, at)
        self._string = StringReader()
        self._state = self._in_key
        return at + 1

    def _in_key(self, text: str, at: int) -> int:
        at, closed = self._string.read(text, at)
        if closed:
            self._key = self._string.value()
            self._state = self._at_colon
        return at

    def _at_colon(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            raise self._unexpected(text, at)
        self._slot = self._stack[-1].next_slot(self._key)
        self._state = self._at_value
        return at + 1

    def _in_text(self, text: str, at: int) -> int:
        at, closed = self._string.read(text, at)
        if closed:
            self._put(self._string.value())
            self._state = self._after_value
        return at

    def _in_whole(self, text: str, at: int) -> int:
        at, closed = self._whole.read(text, at)
        if closed:
            self._put_whole()
        return at

    def _in_scalar(self, text: str, at: int) -> int:
        match = _SCALAR.match(text, at)
        if match is None:
            self._put_whole()
            return at
        self._whole.add(match.group())
        return match.end()

    def _after_value(self, text: str, at: int) -> int:
        if not self._stack:
            self._state = self._at_end
            return at
        at = _skip_space(text, at)
        if at == len(text):
            return at
        listed = isinstance(self._stack[-1].shape, ListOf)
        if text[at] == ("]" if listed else "}"):
            return self._close(at)
        if text[at] != ",":
            raise self._unexpected(text, at)
        if listed:
            self._slot = self._stack[-1].next_slot("")
        self._state = self._at_value if listed else self._at_key
        return at + 1

    def _at_end(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at < len(text):
            raise self._unexpected(text, at)
        return at

    # --- what the states do ------------------------------------------------------------------------------------------

    def _open(self, shape: Record | ListOf | DictOf, at: int) -> int:
        made: Any = [] if isinstance(shape, ListOf) else {} if isinstance(shape, DictOf) else shape.new()
        self._put(made)
        opened = _Open(shape, made, self._slot)
        self._stack.append(opened)
        if isinstance(shape, ListOf):
            self._slot = opened.next_slot("")
        self._state = self._at_value if isinstance(shape, ListOf) else self._at_key
        return at + 1

    def _close(self, at: int) -> int:
        self._stack.pop()
        self._changed = True
        self._state = self._after_value if self._stack else self._at_end
        return at + 1

    def _put(self, value: Any) -> None:
        value = self._slot.wrapped(value)
        if self._slot.parent is None:
            self._value = value
        else:
            self._slot.parent.put(self._slot.key, value)
        self._changed = True

    def _put_whole(self) -> None:
        shape = self._slot.shape
        if isinstance(shape, Whole):
            valid, value = shape.read(self._whole.text())
            if valid:
                self._put(value)
        self._state = self._after_value if self._stack else self._at_end

    def _snapshot(self) -> Any:
        """The root with the containers that are still open copied."""
        if self._live or not self._stack:
            return self._value
        inner: Any = None
        for depth, opened in enumerate(reversed(self._stack)):
            made = copy.copy(opened.made)
            if depth:
                _store(opened.shape, made, opened.key, inner)
            inner = opened.slot.wrapped(made)
        return inner

    def _unexpected(self, text: str, at: int) -> JSONError:
        return JSONError(f"unexpected {text[at]!r} at character {self._position + at} of the answer")


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _store(shape: Record | ListOf | DictOf, made: Any, key: Any, value: Any) -> None:
    if isinstance(shape, Record):
        shape.put(made, key, value)
    elif isinstance(shape, DictOf) or key < len(made):
        made[key] = value
    else:
        made.append(value)


def _settled(slot: _Slot, first: str) -> _Slot:
    """The slot with the shape that a value beginning with `first` has; what can't be told yet is shown when whole."""
    shape = slot.shape
    if isinstance(shape, Root):
        return _settled(replace(slot, shape=shape.inner, wraps=(*slot.wraps, shape.cls)), first)
    if isinstance(shape, OneOf):
        fitting = [option for option in shape.options if _may_begin(option, first)]
        one = fitting[0] if len(fitting) == 1 and first != "n" else shape.whole
        return _settled(replace(slot, shape=one), first)
    if not _may_begin(shape, first):  # not what the type says: let validation judge it
        return replace(slot, shape=_ANYTHING)
    return slot


def _may_begin(shape: Shape, first: str) -> bool:
    """Whether a JSON value of the shape can begin with `first`."""
    if isinstance(shape, Text):
        return first == '"'
    if isinstance(shape, ListOf):
        return first == "["
    if isinstance(shape, (Record, DictOf)):
        return first == "{"
    if isinstance(shape, Root):
        return _may_begin(shape.inner, first)
    if isinstance(shape, OneOf):
        return any(_may_begin(option, first) for option in shape.options)
    return True
