"""Partial objects of an answer whose end may be taken back.

Someone else reads the text and tells the machine's events. Going back costs time in proportion to what is taken back
and to the nesting, not to what stays: each change of the growing value is noted beside what was there before.

    {"name":"Ann","cats":[{"name":"Tom"},{"na     the end is taken back to the mark before the second cat
    {"name":"Ann","cats":[{"name":"Tom"},
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .json_table import ARRAY_CLOSED, ARRAY_OPENED, LITERAL, NUMBER, OBJECT_CLOSED, OBJECT_OPENED, STRING_OPENED
from .json_text import Tape
from .partial import PartialBuilder
from .shape import Shape
from .snapshots import Open
from .spec import Spec
from .tags import TagSearch

_MARKED = frozenset({OBJECT_OPENED, ARRAY_OPENED, STRING_OPENED, NUMBER, LITERAL, OBJECT_CLOSED, ARRAY_CLOSED})
"""Events before which a value can be gone back to: where one begins, and where a container is about to close."""


class _Mark(NamedTuple):
    """A state of the builder. `events` came before it; `noted` is the length of the journal."""

    events: int
    noted: int
    frames: tuple[tuple[Any, ...], ...]
    faults: int
    outside: bool
    kept: int
    judged: int
    hidden: int
    whole: tuple[Shape, Any] | None
    tag: TagSearch | None
    tag_mark: tuple[Any, ...] | None


class RevocablePartial(PartialBuilder):
    """A `PartialBuilder` that is fed with events.

    builder.take(b'{"age":41,', events)     # the partial if it changed
    builder.retract(2, 7)                   # all but the first two events and seven bytes are taken back
    """

    def __init__(self, spec: Spec[Any], *, context: Any = None, strict: bool | None = None) -> None:
        super().__init__(spec, context=context, strict=strict)
        self._tape: _WholeTape = _WholeTape()

    def _begin(self) -> None:
        super()._begin()
        self._journal: list[tuple[Open, Any, Any]] = []
        self._marks: list[_Mark] = []
        self._events = 0

    def take(self, data: bytes, events: Sequence[Any]) -> Any | None:
        """Takes the next text with its events (see `JsonMachine`, there may be more in each); the partial value if it
        changed, else None."""
        self._tape.feed(data)
        self._snapshots.fed(len(data))
        for event in events:
            if event[0] in _MARKED:
                self._marks.append(self._mark())
            self._events += 1
            self._take([event])
        if self._text is not None and self._text.worth_showing():
            self._put(self._stack[-1], self._text.place, self._text.wrapped())
        return self._show(must=False) if self._changed else None

    def retract(self, num_events: int, size: int) -> Any | None:
        """Takes back all but the first events and the first `size` bytes; the partial value if there still is one.

        A string that was cut is taken back as a whole: `num_events` are never those up to its middle.
        """
        self._events = num_events
        self._tape.cut(size)
        mark = None
        while self._marks and self._marks[-1].events >= num_events:
            mark = self._marks.pop()
        if mark is None:
            return None
        self._reset(mark)
        self._changed = True
        return self._show(must=False)

    def _put(self, top: Open, place: Any, value: Any) -> None:
        if not self._journal or self._journal[-1][0] is not top or self._journal[-1][1] != place:
            self._journal.append((top, place, top.peek(place)))  # what grows is noted once
        super()._put(top, place, value)

    def _mark(self) -> _Mark:
        frames = tuple(
            (one, one.key, one.place, one.count, one.shown, None if one.wanted is None else frozenset(one.wanted))
            for one in self._stack
        )
        return _Mark(
            self._events,
            len(self._journal),
            frames,
            len(self.faults),
            self._outside,
            self._kept,
            self._judged,
            self._hidden,
            self._whole,
            self._tag,
            None if self._tag is None else self._tag.mark(),
        )

    def _reset(self, mark: _Mark) -> None:
        still_open = {id(one) for one in self._stack}
        reopened = {id(frame[0]) for frame in mark.frames} - still_open
        for one, *_ in mark.frames:
            if id(one) in reopened:
                one.part()  # it was closed, and a reader may hold it
        self._undo(mark)
        self._stack = [frame[0] for frame in mark.frames]
        for one, key, place, count, shown, wanted in mark.frames:
            one.key, one.place, one.count, one.shown = key, place, count, shown
            one.wanted = None if wanted is None else set(wanted)
        for outer, inner in pairwise(self._stack):
            if id(inner) in reopened and inner.wanted is None:
                outer.store(inner.at, inner.wrapped())
        del self.faults[mark.faults :]
        self._outside, self._kept, self._judged, self._hidden = mark.outside, mark.kept, mark.judged, mark.hidden
        self._whole, self._tag, self._text = mark.whole, mark.tag, None
        if mark.tag is not None and mark.tag_mark is not None:
            mark.tag.reset(mark.tag_mark)

    def _undo(self, mark: _Mark) -> None:
        """Takes back what was noted since a mark, in containers that stay. Others are left to whoever holds them."""
        stay = {id(frame[0]): frame[0] for frame in mark.frames}
        changed: set[int] = set()
        while len(self._journal) > mark.noted:
            one, place, was = self._journal.pop()
            if id(one) in stay:
                one.restore(place, was)
                changed.add(id(one))
        for number in changed:
            self._snapshots.undone(stay[number])


class _WholeTape(Tape):
    """A tape that forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        super().keep(0)

    def keep(self, offset: int) -> None:
        """Everything is kept."""

    def release(self) -> None:
        """Nothing is forgotten."""

    def cut(self, size: int) -> None:
        """Forget all but the first bytes."""
        if isinstance(self._data, bytearray):
            del self._data[size:]
        self._end = size
