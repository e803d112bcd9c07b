"""Snapshots of what is still growing, at a cost that does not depend on how wide it is.

A partial object must not change under its reader's hands, and copying every open list and object for each piece of
text would cost the square of their length. So copies are used again: a copy that nobody holds any more is brought up to
date with what changed since it was made. A reader who looks at one partial after the other lets go of them, and two or
three copies serve the whole stream. A reader who keeps them all gets fresh copies, as many as the text has paid for.

                the stream's own          copy 1 (held by the reader)     copy 2 (free: next to be handed out)
    open list   [a, b, c, {d…}]           [a, b, {c…}]                    [a, {b…}]  ← b, c, and a copy of {d…}
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pydantic import RootModel

from .record import MISSING, Record
from .shape import DictOf, ListOf, Shape

_KEPT = 3
"""Copies that wait to become free: the reader holds the last one while the next is made, a buffer perhaps another."""

_GIFT = 256
_CREDIT = 16
"""Values that may be copied for each piece of text, and for each byte of it, where no free copy serves: enough for a
copy a piece of everyday objects, and a bound of 16 copied values a byte on what keeping all partials costs."""

# Whether someone else holds an object is read from its reference count, where there is one to rely on.
_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


class Open:
    """A container that has been opened and not closed, beside what the stream keeps about it.

    `made` is the stream's own value, not handed out while it grows. `key` is the JSON key or index of the value that
    came last inside it, `place` the attribute name, dict key or index where it is stored, None while nothing is.
    """

    __slots__ = (
        *("shape", "made", "wraps", "of", "at", "key", "place", "count", "changes"),
        *("shown", "wanted", "judged", "faults"),
    )

    def __init__(
        self,
        shape: Record | ListOf | DictOf,
        made: Any,
        wraps: tuple[type[RootModel[Any]], ...] = (),
        of: Shape | None = None,
        at: Any = None,
    ) -> None:
        self.shape, self.made, self.wraps = shape, made, wraps
        self.of, self.at = of, at  # the type that it was opened for, and its place in what is around it
        self.key: Any = None
        self.place: Any = None
        self.count = 0  # of items that began
        self.changes: list[Any] = []  # the places that were stored to, in order; a list needs none
        self.shown = True
        self.wanted: set[str] | None = None  # the fields without which it is not shown
        self.judged = False  # whether it will be validated
        self.faults = 0  # how many the builder had when it opened

    def wrapped(self) -> Any:
        """The value inside the RootModels that stand around it."""
        return wrap(self.made, self.wraps)

    def store(self, place: Any, value: Any) -> None:
        """Put a value, and note that the place changed."""
        self.place = place
        if not isinstance(self.shape, ListOf) and (not self.changes or self.changes[-1] != place):
            self.changes.append(place)
        put(self.shape, self.made, place, value)

    def peek(self, place: Any) -> Any:
        """What is at a place, as `restore` takes it."""
        if isinstance(self.shape, Record):
            return self.shape.peek(self.made, place)
        if isinstance(self.shape, ListOf):
            return self.made[place] if place < len(self.made) else MISSING
        return self.made.get(place, MISSING)

    def restore(self, place: Any, was: Any) -> None:
        """Put back what `peek` found at a place; what came after it in a list has been taken out before."""
        if isinstance(self.shape, Record):
            self.shape.restore(self.made, place, was)
        elif was is not MISSING:
            self.made[place] = was
        elif isinstance(self.shape, ListOf):
            del self.made[place:]
        else:
            del self.made[place]
        if not isinstance(self.shape, ListOf):
            self.changes.append(place)

    def part(self) -> None:
        """Leave `made` to whoever holds it, and go on with a copy."""
        self.made = self.shape.copy(self.made) if isinstance(self.shape, Record) else self.made.copy()

    @property
    def width(self) -> int:
        """How many values a copy copies."""
        return self.shape.size if isinstance(self.shape, Record) else len(self.made)


def wrap(value: Any, wraps: tuple[type[RootModel[Any]], ...]) -> Any:
    """A value inside RootModels, the outermost named first."""
    for cls in reversed(wraps):
        value = cls.model_construct(value)
    return value


def put(shape: Record | ListOf | DictOf, made: Any, place: Any, value: Any) -> None:
    """Store a value in a container: at the end of a list where `place` is its length."""
    if isinstance(shape, Record):
        shape.put(made, place, value)
    elif isinstance(shape, DictOf) or place < len(made):
        made[place] = value
    else:
        made.append(value)


class Snapshots:
    """Makes the snapshots of one stream."""

    def __init__(self) -> None:
        self._chains: list[
            list[_Copy]
        ] = []  # newest first; a chain holds a copy of each open container, outermost first
        self._credit = 0
        self._made = 0  # snapshots; the first ones need no credit

    def fed(self, size: int) -> None:
        """A piece of text of `size` bytes came."""
        self._credit += _GIFT + _CREDIT * size

    def take(self, path: Sequence[Open], must: bool) -> Any:
        """A copy of the outermost of the open containers, with copies of the others inside.

        None, unless it `must` be made, where too much would have to be copied for what has come.
        """
        free, at = self._free(path)
        cost = sum(opened.width for opened in path[len(free) :])
        if cost > self._credit and not must and self._made >= _KEPT:
            return None
        self._credit = max(0, self._credit - cost)
        self._made += 1
        if free:
            del self._chains[at]
        chain = [*free, *(_Copy(opened) for opened in path[len(free) :])]
        inner = None
        for copied, opened in zip(reversed(chain), reversed(path), strict=True):
            copied.catch_up()
            if inner is not None:
                put(opened.shape, copied.value, opened.place, inner)
            inner = copied.parts[0]
        self._chains = [chain, *self._chains[: _KEPT - 1]]
        inner = None
        for copied in chain:
            copied.count()
        return chain[0].parts[0]

    def undone(self, opened: Open) -> None:
        """Something was taken out of an open container. Copies of lists and objects follow; others keep an order."""
        if isinstance(opened.shape, ListOf):
            for copied in (copied for chain in self._chains for copied in chain if copied.of is opened):
                copied.shorten()
        elif isinstance(opened.shape, DictOf) or opened.shape.is_dict:
            self._chains = [chain for chain in self._chains if all(copied.of is not opened for copied in chain)]

    def _free(self, path: Sequence[Open]) -> tuple[list[_Copy], int]:
        """The copies of the outermost containers that nobody else holds, from the chain that has most of them."""
        best: list[_Copy] = []
        at = 0
        for number, chain in enumerate(self._chains if _COUNTS else ()):
            free: list[_Copy] = []
            for copied, opened in zip(chain, path, strict=False):
                if copied.of is not opened or not copied.is_free():
                    break  # what is inside a copy that someone holds, they hold too
                free.append(copied)
            if len(free) > len(best):
                best, at = free, number
        return best, at


class _Copy:
    """A copy of one open container. `parts` are the objects that it consists of, the outermost first."""

    __slots__ = ("_counts", "_done", "of", "parts", "value")

    def __init__(self, opened: Open) -> None:
        self.of = opened
        shape = opened.shape
        self.value = shape.copy(opened.made) if isinstance(shape, Record) else opened.made.copy()
        self.parts = shape.parts(self.value) if isinstance(shape, Record) else [self.value]
        for cls in reversed(opened.wraps):
            self.parts.insert(0, cls.model_construct(self.parts[0]))
        self._done = max(len(opened.made if isinstance(shape, ListOf) else opened.changes) - 1, 0)
        self._counts: list[int] = []

    def catch_up(self) -> None:
        """Take over what changed since. The newest place is taken over each time: its value may still be growing."""
        opened, done = self.of, self._done
        if isinstance(opened.shape, ListOf):
            self.value[done:] = opened.made[done:]
            self._done = max(len(opened.made) - 1, 0)
            return
        if isinstance(opened.shape, Record):
            opened.shape.tidy(self.value)
        for place in opened.changes[done:]:
            if isinstance(opened.shape, Record):
                opened.shape.restore(self.value, place, opened.shape.peek(opened.made, place))
            elif place in opened.made:  # it may have been taken out
                self.value[place] = opened.made[place]
        self._done = max(len(opened.changes) - 1, 0)

    def shorten(self) -> None:
        """The list has lost its end."""
        self._done = min(self._done, max(len(self.of.made) - 1, 0))

    def count(self) -> None:
        """Note how often each part is held while the stream alone holds it."""
        self._counts = [sys.getrefcount(part) for part in self.parts] if _COUNTS else []

    def is_free(self) -> bool:
        """Whether the stream alone holds it now."""
        return self._counts == [sys.getrefcount(part) for part in self.parts]
