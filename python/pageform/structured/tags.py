"""Records that one key tells apart: which of them an object is, found out while it arrives."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from .json_machine import Event
from .json_table import ARRAY_OPENED, KEY, LITERAL, NUMBER, OBJECT_OPENED, STRING_CHUNK, STRING_CLOSED
from .record import Record


@dataclass(frozen=True)
class Tagged:
    """One of several records, told by the value under one key."""

    key: str
    options: dict[Any, Record]


def tagged(records: Sequence[Record]) -> Tagged | None:
    """Records that one key tells apart: each takes only values under it that no other takes."""
    tags = [_tags(record) for record in records]
    for key in tags[0]:
        values = [value for tag in tags for value in tag.get(key, ())]
        if all(key in tag for tag in tags) and len(values) == len(set(values)):
            return Tagged(key, {value: record for record, tag in zip(records, tags, strict=True) for value in tag[key]})
    return None


def _tags(record: Record) -> dict[str, list[Any]]:
    """JSON key → the few values that the record allows there, for the keys where they are few."""
    found: dict[str, list[Any]] = {}
    for key, (_, shape) in record.fields.items():
        if get_origin(shape.bare) is Literal:
            values = list(get_args(shape.bare))
        elif isinstance(shape.bare, type) and issubclass(shape.bare, enum.Enum):
            values = [member.value for member in shape.bare]
        else:
            continue
        found[key] = [value.value if isinstance(value, enum.Enum) else value for value in values]
    return found


class TagSearch:
    """Holds back the events of an object until its tag tells which record it is."""

    def __init__(self, form: Tagged, wraps: tuple[Any, ...], first: Event) -> None:
        self.wraps, self.events = wraps, [first]
        self._form = form
        self._next = False
        self._pieces: list[str] = []

    def see(self, event: Event, depth: int) -> Record | None:
        """Takes the next event, `depth` containers deep; the record, if this was the end of the tag."""
        self.events.append(event)
        kind, text = event[0], event[3]
        if depth > 1 or kind in (OBJECT_OPENED, ARRAY_OPENED):
            self._next = False
        elif kind == KEY:
            self._next = text == self._form.key
        elif self._next and kind == STRING_CHUNK:
            self._pieces.append(text)
        elif self._next and kind in (STRING_CLOSED, NUMBER, LITERAL):
            self._next = False
            return self._form.options.get("".join(self._pieces) if kind == STRING_CLOSED else json.loads(text))
        return None

    def mark(self) -> tuple[Any, ...]:
        """Where the search stands, for `reset`."""
        return len(self.events), self._next, tuple(self._pieces)

    def reset(self, mark: tuple[Any, ...]) -> None:
        """Forget what came after a mark."""
        count, self._next, pieces = mark
        del self.events[count:]
        self._pieces = list(pieces)
