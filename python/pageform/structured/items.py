"""Lists of values, item by item while the text arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from .bounded import shorten
from .diagnose import diagnose, summary
from .diagnose import path as written
from .errors import StructuredError, picklable
from .json_finder import JsonFinder
from .json_machine import Event, JsonMachine
from .json_table import (
    ARRAY_CLOSED,
    ARRAY_OPENED,
    KEY,
    LITERAL,
    NUMBER,
    OBJECT_CLOSED,
    OBJECT_OPENED,
    STRING_CHUNK,
    STRING_CLOSED,
)
from .json_text import JSONError, Tape, UnexpectedEnd, escaped
from .spec import Spec

T = TypeVar("T")

_OPENED = (OBJECT_OPENED, ARRAY_OPENED)
_CLOSED = (OBJECT_CLOSED, ARRAY_CLOSED)


class ItemFailed(StructuredError):
    """An item of a list is not valid. `index` counts all items from 0, `path` says where it stands, `text` is its JSON.

    `__cause__` is what validation raised; `errors()` gives its faults with `path` before each location.
    """

    def __init__(self, message: str, index: int, path: tuple[str | int, ...], text: str, cause: Exception) -> None:
        super().__init__(message)
        self.index, self.path, self.text = index, path, text
        self.__cause__ = cause

    def errors(self) -> list[dict[str, Any]]:
        """What was wrong with the item, as `StructuredError.errors` tells it, with places seen from the root."""
        before = written(self.path)
        told = []
        for fault in diagnose(self.__cause__):
            between = "." if before and fault.path and not fault.path.startswith("[") else ""
            moved = replace(fault, loc=(*self.path, *fault.loc), path=f"{before}{between}{fault.path}")
            told.append(moved.as_dict())
        return told

    def __reduce__(self) -> tuple[Any, ...]:
        return (ItemFailed, (self.message, self.index, self.path, self.text, picklable(self.__cause__)))


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One complete item: its value, or the error that it failed with. `text` is its JSON."""

    index: int
    path: tuple[str | int, ...]
    text: str
    value: T | None = None
    error: ItemFailed | None = None

    def result(self) -> T:
        """The value. Raises `ItemFailed` if there is none."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class ItemReader(Generic[T]):
    """Gives each item of a list as soon as it is complete, validated; the time for a byte does not depend on the list.

        reader = ItemReader(Spec.of(User), envelope="tasks")
        for piece in pieces:
            for item in reader.feed(piece):
                use(item.result())
        for item in reader.finish(): ...

    The items may stand in an array, under the key `envelope` of an object, or one after another with space or commas
    between (JSON lines), or several of these in a row; a lone value is one item. Items that are arrays themselves can
    stand alone only with `layout="lines"`, which takes every value of the text as an item. `skip_prose` looks for the
    JSON among words and code fences. Every item comes once, in order, valid or not. Raises `JSONError` for text that is
    not JSON and for items that broke off, once all items before have been given.
    """

    def __init__(
        self,
        spec: Spec[T],
        *,
        envelope: str | None = None,
        layout: Literal["auto", "lines"] = "auto",
        skip_prose: bool = False,
        context: Any = None,
        strict: bool | None = None,
    ) -> None:
        self.count = 0
        self._spec, self._envelope, self._lines = spec, envelope, layout == "lines"
        self._context, self._strict = context, strict
        self._machine = self._finder() if skip_prose else JsonMachine(then="values")
        self._tape = Tape()
        self._depth = 0  # how many containers are open
        self._list: int | None = None  # how many are while items of an array begin; None: outside of such an array
        self._number = 0  # of the next item in its array
        self._open: tuple[int, int] | None = None  # start of the item that has begun, and the depth outside of it
        self._wrapper: int | None = None  # start of an object that is the envelope, or an item if it lacks the key
        self._enveloped = False  # whether it is the envelope
        self._key = ""
        self._lone = 0  # items outside of arrays
        self._empty = True
        self._items: list[Item[T]] = []
        self._error: JSONError | None = None

    def _finder(self) -> JsonFinder:
        """What finds items among words."""
        beginnings = self._spec.shape.beginnings
        if self._lines:
            return JsonFinder("".join(first for first in "{[" if first in beginnings), "values")
        objects = self._envelope is not None or "{" in beginnings
        return JsonFinder("{[" if objects else "[", "values", second=beginnings)

    @property
    def complete(self) -> bool:
        """Whether no value is open."""
        return self._machine.complete

    def feed(self, text: str | bytes) -> list[Item[T]]:
        """The items that the next piece of text completes."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        keeps = self._open is not None or (self._wrapper is not None and not self._enveloped)
        if not keeps and self._machine.held is not None:
            self._tape.keep(self._machine.held)
        self._tape.feed(data)
        if not keeps:
            self._tape.release()
        return self._take(lambda: self._machine.feed(data))

    def finish(self) -> list[Item[T]]:
        """The last items: a number that ended the text is complete now. A text without any value is an error too."""
        items = self._take(self._machine.finish)
        if self._empty:
            raise UnexpectedEnd("the text ends before any value", 0)
        return items

    def _take(self, read: Callable[[], list[Event]]) -> list[Item[T]]:
        if self._error is not None:
            raise self._error
        try:
            events = read()
        except JSONError as error:
            self._error, events = error, error.events
        self._empty = self._empty and not events
        for event in events:
            self._see(event)
        items, self._items = self._items, []
        if self._error is not None and not items:
            raise self._error
        return items

    def _see(self, event: Event) -> None:
        kind = event[0]
        if self._open is not None:
            self._depth += (kind in _OPENED) - (kind in _CLOSED)
            if self._depth == self._open[1] and (kind in _CLOSED or kind == STRING_CLOSED):
                (start, depth), self._open = self._open, None
                self._end(depth, self._text(start, event[2]))
        elif kind in _CLOSED:
            self._depth -= 1
            if self._list is not None and self._depth < self._list:
                self._list = None
            if self._wrapper is not None and self._depth == 0:
                start, self._wrapper = self._wrapper, None
                if not self._enveloped:
                    self._end(0, self._text(start, event[2]))
        elif kind == KEY:
            if self._depth == 1:
                self._key = event[3]
        elif kind not in (STRING_CHUNK, STRING_CLOSED):
            self._begin(event)

    def _begin(self, event: Event) -> None:
        """A value begins that is not inside an item."""
        kind, start = event[0], event[1]
        opens = kind in _OPENED
        in_envelope = self._wrapper is not None and self._depth == 1 and self._key == self._envelope
        if in_envelope and not self._enveloped:
            self._enveloped = True
            self._tape.release()
        if kind == ARRAY_OPENED and not self._lines and (in_envelope or self._depth == 0):
            self._list, self._number = self._depth + 1, 0
        elif kind == OBJECT_OPENED and self._depth == 0 and self._envelope is not None and not self._lines:
            self._wrapper, self._enveloped = start, False
            self._tape.keep(start)
        elif in_envelope and event[3] == "null":
            return
        elif in_envelope or self._depth in (0, self._list):
            if kind in (NUMBER, LITERAL):
                self._end(self._depth, event[3])
            else:
                self._open = (start, self._depth)
                self._tape.keep(start)
        self._depth += opens

    def _text(self, start: int, end: int) -> str:
        text = escaped(self._tape.read(start, end), start, self._machine.tolerated)
        self._tape.release()
        return text.decode()

    def _end(self, depth: int, text: str) -> None:
        """An item is complete that stood `depth` containers deep."""
        prefix: tuple[str | int, ...] = (self._envelope,) if self._enveloped and self._envelope is not None else ()
        if self._list is not None and depth == self._list:
            path, self._number = (*prefix, self._number), self._number + 1
        elif depth == 1:
            path = prefix
        else:
            path, self._lone = (self._lone,), self._lone + 1
        self._items.append(self._judged(path, text))
        self.count += 1

    def _judged(self, path: tuple[str | int, ...], text: str) -> Item[T]:
        try:
            value = self._spec.validate(text, context=self._context, strict=self._strict)
        except Exception as error:  # validators are the caller's code
            message = f"item {self.count} is no valid {self._spec.name}:\n{summary(error)}\nIts text is {shorten(text)}"
            return Item(self.count, path, text, None, ItemFailed(message, self.count, path, text, error))
        return Item(self.count, path, text, value)
