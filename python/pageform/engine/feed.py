"""What a stream is told of an answer: its text, as far as it may be shown, with the events of the JSON machine.

    {"name":"Ann","age":412        nothing of `age` is told before its validators have agreed
                 ↑ told so far     a rewind to a place before that is told as a `Retraction`

Told is told by bytes: where a rewind puts back what stood before a value, in whatever tokens, nothing is told twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..forms.events import FieldClosed, FieldDelta, FieldEvent, FieldOpened, FieldRetracted
from ..forms.segmenter import Part
from ..structured.json_table import (
    ARRAY_CLOSED,
    ARRAY_OPENED,
    LITERAL,
    NUMBER,
    OBJECT_CLOSED,
    OBJECT_OPENED,
    STRING_CHUNK,
    STRING_CLOSED,
    STRING_OPENED,
)

if TYPE_CHECKING:
    from ..forms.checks import Check
    from ..forms.form import Form
    from ..forms.rewind import Rewinder
    from ..forms.tracker import Closed, FieldTracker, Path, Told

_OPENS = frozenset({OBJECT_OPENED, ARRAY_OPENED, STRING_OPENED, NUMBER, LITERAL})
_CLOSES = frozenset({OBJECT_CLOSED, ARRAY_CLOSED, STRING_CLOSED, NUMBER, LITERAL})


class Piece(NamedTuple):
    """The next text, with what it says."""

    data: bytes
    events: list[Told]

    @property
    def closes(self) -> bool:
        """Whether a value is complete now."""
        return any(told.kind in _CLOSES for told in self.events)


class Retraction(NamedTuple):
    """All but the first events and the first bytes are taken back."""

    num_events: int
    size: int


Change = Piece | Retraction | FieldEvent | Part


@dataclass(slots=True)
class FeedOptions:
    """`put` takes changes, in the engine's thread: field events, or else text with the machine's events.

    `stable`: nothing that is told is taken back. `whole`: a string is told when it is complete. `told` counts the bytes
    that were told; an attempt that begins with some that an earlier one told goes on from there.
    """

    form: Form[Any]
    put: Callable[[Change], None]
    events: bool = False
    stable: bool = False
    whole: bool = False
    told: int = 0


class FieldFeed:
    """Tells of one answer. Belongs to its sink; used by the engine's thread. `rewinder` judges it, if anybody does."""

    def __init__(self, options: FeedOptions, tracker: FieldTracker, rewinder: Rewinder | None) -> None:
        self._options, self._tracker, self._rewinder = options, tracker, rewinder
        self._told: list[Told] = []
        root = tracker.root
        unenforced = options.form.plan.unenforced
        self._all_can_fail = bool(unenforced)
        self._root_can_fail = root.can_fail_as_whole or any(not one.path for one in unenforced)
        self._starts: list[int] = []  # of the values of the outermost container that are complete
        self._doubtful: list[int] = []  # of those of them that nobody has judged

    def see(self, closed: list[Closed]) -> None:
        """A token has come that closes values, and nobody found fault with them."""
        for one in closed if self._options.stable else ():
            if len(one.path) == 1 and (not self._starts or one.start > self._starts[-1]):
                self._starts.append(one.start)
                judged = self._rewinder is not None and self._rewinder.mends and one.check is not None
                if not judged and self._can_fail(one.check):
                    self._doubtful.append(one.start)

    def tell(self) -> None:
        """Tells what may be shown and was not told yet."""
        options, start, size = self._options, self._options.told, self._limit()
        if size <= start:
            return
        log = self._tracker.log
        first, end = (bisect_right(log, at, key=_at) for at in (start, size))
        told, options.told = log[first:end], size
        self._told += told
        if not options.events:
            options.put(Piece(bytes(self._tracker.text[start:size]), told))
            return
        for one in told:
            for event in self._events(one) if one.path else ():
                options.put(event)

    def cut(self, size: int) -> None:
        """The answer was cut back to so many bytes."""
        options = self._options
        for starts in (self._starts, self._doubtful):
            while starts and starts[-1] >= size:
                starts.pop()
        before = options.told
        if size >= before:
            return
        gone: list[Told] = []
        while self._told and self._told[-1].at > size:
            gone.append(self._told.pop())
        if gone and gone[-1].kind in (STRING_CHUNK, STRING_CLOSED):  # a string is told anew from its start
            while gone[-1].kind != STRING_OPENED:
                gone.append(self._told.pop())
            size = gone[-1].start
        options.told = size
        if not options.events:
            options.put(Retraction(len(self._told), size))
            return
        ends: dict[Path, int] = {}
        for one in gone:
            if one.kind == STRING_CHUNK or one.kind in _CLOSES:
                ends.setdefault(one.path, one.end)
            is_open = one.start < size
            if one.path and (one.kind in _OPENS or (is_open and one.kind in _CLOSES)):
                options.put(FieldRetracted(one.path, (one.start, ends.get(one.path, before)), is_open))

    def _limit(self) -> int:
        """How many bytes may be shown."""
        tracker, options = self._tracker, self._options
        limit = len(tracker.text)
        awaited = None if self._rewinder is None else self._rewinder.awaited
        if awaited is not None:
            limit = min(limit, awaited.end - 1)
        string = tracker.open_string
        if options.whole and string is not None:
            limit = min(limit, string)
        if not options.stable:
            return limit
        if self._root_can_fail:
            return 0
        if self._doubtful:
            limit = min(limit, self._doubtful[0])
        if len(tracker.stack) > 1:
            top = tracker.stack[1]
            if self._can_fail(top.check):
                limit = min(limit, top.start)
        elif string is not None and tracker.stack and self._can_fail(tracker.next_check):
            limit = min(limit, string)
        if awaited is not None:
            around = bisect_right(self._starts, awaited.start) - 1
            if around >= 0 and len(awaited.path) > 0:
                limit = min(limit, self._starts[around])
        return limit

    def _can_fail(self, check: Check | None) -> bool:
        return self._all_can_fail or (check or self._tracker.root).can_fail

    def _events(self, one: Told) -> list[FieldEvent]:
        tracker = self._tracker
        span = (one.start, one.end)
        tokens = (tracker.token_at(one.start), tracker.token_at(max(one.start, one.end - 1)) + 1)
        found: list[FieldEvent] = []
        if one.kind in _OPENS:
            found.append(FieldOpened(one.path, (one.start, one.start + 1), (tokens[0], tokens[0] + 1)))
        if one.kind == STRING_CHUNK:
            found.append(FieldDelta(one.path, span, tokens, one.text))
        if one.kind in _CLOSES:
            found.append(FieldClosed(one.path, span, tokens, one.value))
        return found


def _at(told: Told) -> int:
    return told.at
