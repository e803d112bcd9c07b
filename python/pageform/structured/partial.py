"""Partial objects while an answer's text arrives.

A machine reads the JSON once, byte by byte, and its events fill the value in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

from pydantic import RootModel

from .json_finder import RESTARTED, JsonFinder
from .json_machine import Event, JsonMachine
from .json_table import (
    ARRAY_CLOSED,
    ARRAY_OPENED,
    EVENTS,
    OBJECT_CLOSED,
    OBJECT_OPENED,
)
from .json_text import GrowingText, JSONError, Tape, escaped
from .part_faults import PartFault, count, total
from .record import Record
from .shape import DictOf, ListOf, Shape, Text
from .snapshots import Open, Snapshots, wrap
from .spec import Spec
from .tags import Tagged, TagSearch

__all__ = ["JSONError", "PartFault", "PartialBuilder"]

ROOT = "root"
_INVALID = object()

MAX_VALIDATED_DEPTH = 16
"""Validating an object reads its text again. Objects that stand inside more than so many others are not validated by
themselves but with the outermost of those, so that no byte is read more often, however deep a recursive type goes."""


class PartialBuilder:
    """Builds the value of a spec from pieces of its JSON text.

        builder = PartialBuilder(spec)
        for piece in pieces:
            partial = builder.feed(piece)      # None if there is nothing new to see

    A partial is an instance of the caller's own class with None or the default where nothing has arrived yet. Text,
    lists, dicts with text keys and objects grow; everything else appears when it is complete and valid, or else stays
    away. An object inside the answer is validated when it closes: its validators run, with `context`, and the validated
    object takes the place of the growing one, which stays where it is not valid. `faults` tells what was not. The
    answer as a whole is not validated here: that is for whoever takes the final value, and runs its parts' validators
    again. `Stream` options change what is shown when.

    Partials are to be read, not changed. Each is a snapshot that later ones leave alone: what is closed is shared among
    them, what is open is copied, or brought up to date in a copy that the caller has let go of, so that all of them
    together cost time in proportion to the text (`snapshots.py` says how). If the caller keeps them all, some are left
    out once open containers are wide. With `live=True` the same growing object is returned each time instead.

    `envelope`: the value is what the text's object has under this key. `skip_prose`: the text may have words and code
    fences around the JSON (see `JsonFinder`). Raises `JSONError` for text that is not JSON, after having taken in what
    came before the fault.
    """

    def __init__(
        self,
        spec: Spec[Any],
        live: bool = False,
        *,
        envelope: str | None = None,
        skip_prose: bool = False,
        validate: bool = True,
        context: Any = None,
        strict: bool | None = None,
    ) -> None:
        self.faults: list[PartFault] = []
        self._spec, self._live, self._envelope, self._validate = spec, live, envelope, validate
        self._context, self._strict = context, strict
        self._root = spec.shape
        self._machine = _finder(self._root, envelope) if skip_prose else JsonMachine()
        self._tape = Tape()
        self._handlers = [getattr(self, f"_on_{name.lower()}") for name in EVENTS]
        self._begin()

    def _begin(self) -> None:
        """Nothing of the value is known."""
        self.faults.clear()
        self._base = Open(DictOf(self._root), {})  # stands around the root, which it stores under ROOT
        self._base.key = self._envelope
        self._stack = [self._base]
        self._outside = self._envelope is not None
        self._snapshots = Snapshots()
        self._changed = False
        self._kept = 0  # how many of the open values want their text kept
        self._judged = 0  # how many of the open objects will be validated
        self._hidden = 0  # how many containers are open inside a value that does not grow
        self._whole: tuple[Shape, Any] | None = None  # the shape and place of that value; None: nobody's
        self._tag: TagSearch | None = None
        self._text: _TextAt | None = None

    @property
    def complete(self) -> bool:
        """Whether the value has been closed (a number alone: never before `finish`)."""
        return self._machine.complete

    @property
    def tolerated(self) -> list[int]:
        """Offsets of control characters that stood unescaped in strings: kept, though JSON wants them escaped."""
        return self._machine.tolerated

    def feed(self, text: str | bytes) -> Any | None:
        """Take the next piece of text; the partial value if it changed, else None."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if not self._kept and self._machine.held is not None:
            self._tape.keep(self._machine.held)
        self._tape.feed(data)
        if not self._kept:
            self._tape.release()
        self._snapshots.fed(len(data))
        try:
            events = self._machine.feed(data)
        except JSONError as error:
            self._take(error.events)
            raise
        self._take(events)
        if self._text is not None and self._text.worth_showing():
            self._put(self._stack[-1], self._text.place, self._text.wrapped())
        return self._show(must=False) if self._changed else None

    def finish(self) -> Any | None:
        """The value as far as it is known, after the last piece. A number that ended the text is complete now."""
        with contextlib.suppress(JSONError):  # it broke off
            self._take(self._machine.finish())
        if self._text is not None:
            self._put(self._stack[-1], self._text.place, self._text.wrapped())
        return self._show(must=True)

    # --- events ------------------------------------------------------------------------------------------------------

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if event[0] == RESTARTED:
                self._begin()
            elif self._hidden:
                self._pass(event)
            else:
                self._handlers[event[0]](event)

    def _on_key(self, event: Event) -> None:
        self._stack[-1].key = event[3]

    def _on_object_opened(self, event: Event) -> None:
        if self._outside:  # the envelope
            self._outside = False
            self._base.key = None
        else:
            self._open(event, "{")

    def _on_array_opened(self, event: Event) -> None:
        self._open(event, "[")

    def _open(self, event: Event, first: str) -> None:
        taken = self._next()
        form, wraps = taken[0].grown(first) if taken is not None else (None, ())
        if taken is not None and isinstance(form, (Record, ListOf, DictOf)):
            self._push(taken, form, wraps, event[1])
            return
        self._hidden = 1
        self._whole = taken
        if taken is not None:
            self._keep(event[1])
        if isinstance(form, Tagged):
            self._tag = TagSearch(form, wraps, event)

    def _on_object_closed(self, event: Event) -> None:
        if len(self._stack) > 1:
            self._close(event)

    def _on_array_closed(self, event: Event) -> None:
        self._close(event)

    def _on_string_opened(self, event: Event) -> None:
        taken = self._next()
        self._whole = None
        if taken is None:
            return
        form, wraps = taken[0].grown('"')
        if isinstance(form, Text):
            self._text = _TextAt(*taken, wraps)
            self._put(self._stack[-1], taken[1], self._text.wrapped())
        else:
            self._whole = taken
            self._keep(event[1])

    def _on_string_chunk(self, event: Event) -> None:
        if self._text is not None:
            self._text.add(event[3])

    def _on_string_closed(self, event: Event) -> None:
        text, self._text = self._text, None
        if text is None:
            self._end_whole(event)
            return
        value = text.wrapped()
        if self._validate and text.shape.is_constrained:
            value = self._judge(text.shape, text.value(), value)
        self._put(self._stack[-1], text.place, value)

    def _on_number(self, event: Event) -> None:
        taken = self._next()
        if taken is not None:
            self._put_whole(*taken, event[3].encode())

    _on_literal = _on_number

    def _pass(self, event: Event) -> None:
        """An event inside a value that does not grow."""
        kind = event[0]
        if self._tag is not None:
            record = self._tag.see(event, self._hidden)
            if record is not None:
                self._decide(self._tag, record)
                return
        if kind in (OBJECT_OPENED, ARRAY_OPENED):
            self._hidden += 1
        elif kind in (OBJECT_CLOSED, ARRAY_CLOSED):
            self._hidden -= 1
            if not self._hidden:
                self._tag = None
                self._end_whole(event)

    def _decide(self, tag: TagSearch, record: Record) -> None:
        """An object has told which record it is: it grows from here on, what was held back first."""
        assert self._whole is not None
        taken, self._whole, self._tag, self._hidden = self._whole, None, None, 0
        self._push(taken, record, tag.wraps, tag.events[0][1])
        self._unkeep()
        self._take(tag.events[1:])

    # --- what the events do ------------------------------------------------------------------------------------------

    def _next(self) -> tuple[Shape, Any] | None:
        """The shape and place of the value that begins now; None for a value that the type has no place for."""
        if self._outside:  # no envelope: the value itself
            self._outside = False
        top = self._stack[-1]
        shape = top.shape
        if isinstance(shape, Record):
            field = shape.fields.get(top.key)
            return None if field is None else (field[1], field[0])
        if isinstance(shape, ListOf):
            top.key = top.count
            top.count += 1
            return shape.item, len(top.made)
        if top is self._base:
            return (self._root, ROOT) if top.key == self._envelope else None
        return shape.value, top.key

    def _push(
        self,
        taken: tuple[Shape, Any],
        form: Record | ListOf | DictOf,
        wraps: tuple[type[RootModel[Any]], ...],
        start: int,
    ) -> None:
        parent = self._stack[-1]
        is_record = isinstance(form, Record)
        made: Any = form.new() if isinstance(form, Record) else [] if isinstance(form, ListOf) else {}
        opened = Open(form, made, wraps, *taken)
        opened.faults = len(self.faults)
        if is_record and self._validate and parent is not self._base and self._judged < MAX_VALIDATED_DEPTH:
            opened.judged = True
            self._judged += 1
            self._keep(start)
        if isinstance(form, Record) and form.wanted:
            opened.wanted = set(form.wanted)
        opened.shown = parent.shown and opened.wanted is None
        self._stack.append(opened)
        if opened.wanted is None:
            self._put(parent, opened.at, opened.wrapped())

    def _close(self, event: Event) -> None:
        closed = self._stack.pop()
        parent = self._stack[-1]
        value, changed = closed.wrapped(), closed.wanted is not None
        if closed.judged:
            assert closed.of is not None
            judged = self._judge(closed.of, self._text_of(event), value, self.faults[closed.faults :])
            changed |= judged is not value
            value = judged
            self._judged -= 1
            self._unkeep()
        if changed:
            self._put(parent, closed.at, value)
        self._changed |= parent.shown

    def _put(self, top: Open, place: Any, value: Any) -> None:
        top.store(place, value)
        self._changed |= top.shown
        if top.wanted is not None and value is not None:
            top.wanted.discard(place)
            if not top.wanted:
                self._reveal(top)

    def _reveal(self, opened: Open) -> None:
        """Show an open object that has the values it was waiting for."""
        opened.wanted = None
        at = self._stack.index(opened)
        self._put(self._stack[at - 1], opened.at, opened.wrapped())
        for outer, inner in pairwise(self._stack[at - 1 :]):
            inner.shown = outer.shown and inner.wanted is None

    def _end_whole(self, event: Event) -> None:
        if self._whole is not None:
            taken, self._whole = self._whole, None
            self._put_whole(*taken, self._text_of(event))
            self._unkeep()

    def _put_whole(self, shape: Shape, place: Any, text: bytes) -> None:
        value = self._judge(shape, text, _INVALID)
        if value is not _INVALID:
            self._put(self._stack[-1], place, value)

    def _judge(self, shape: Shape, text: bytes | str, otherwise: Any, known: Sequence[PartFault] = ()) -> Any:
        """What validation makes of a value's JSON (bytes) or content (str). If it fails: a fault, and `otherwise`.

        `known` are faults of parts of the value. Validation finds them again; they are not told twice.
        """
        try:
            if shape is self._root and isinstance(text, bytes):
                return self._spec.validate(text.decode(), context=self._context, strict=self._strict)
            adapter = shape.adapter
            if adapter is None:
                return otherwise
            if isinstance(text, str):
                return adapter.validate_python(text, context=self._context, strict=self._strict)
            return adapter.validate_json(text, context=self._context, strict=self._strict)
        except Exception as error:  # validators are the caller's code
            if not known or count(error) > total(known):
                self.faults.append(PartFault(tuple(opened.key for opened in self._stack[1:]), error))
            return otherwise

    def _text_of(self, event: Event) -> bytes:
        return escaped(self._tape.read(event[1], event[2]), event[1], self._machine.tolerated)

    def _keep(self, start: int) -> None:
        if not self._kept:
            self._tape.keep(start)
        self._kept += 1

    def _unkeep(self) -> None:
        self._kept -= 1
        if not self._kept:
            self._tape.release()

    def _show(self, must: bool) -> Any:
        path = list(takewhile(lambda opened: opened.shown, self._stack[1:]))
        as_it_is = self._live or not path
        shown = self._base.made.get(ROOT) if as_it_is else self._snapshots.take(path, must)
        self._changed = self._changed and shown is None
        return shown


def _finder(root: Shape, envelope: str | None) -> JsonFinder:
    """What finds the value of a type among words."""
    form, _ = root.grown("[")
    first = "{" if envelope is not None else root.beginnings
    return JsonFinder(first, second=form.item.beginnings) if isinstance(form, ListOf) else JsonFinder(first)


class _TextAt(GrowingText):
    """A string that grows, and where."""

    def __init__(self, shape: Shape, place: Any, wraps: tuple[type[RootModel[Any]], ...]) -> None:
        super().__init__()
        self.shape, self.place, self._wraps = shape, place, wraps

    def wrapped(self) -> Any:
        """Its value, inside the RootModels that stand around it."""
        return wrap(self.value(), self._wraps)
