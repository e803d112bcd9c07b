"""Field events: what becomes of each value of an answer while it is decoded.

A value is told when it opens, when its text grows, and when it has closed and is valid. Numbers, booleans and null open
and close at once, since only what follows shows that they are complete. The answer as a whole has no events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..structured.diagnose import path as written

Span = tuple[int, int]
"""From … to before …"""


@dataclass(frozen=True, slots=True)
class FieldEvent:
    """`loc` is the value's place as Pydantic gives it, `path` the same as it is written in Python: `items[2].price`.

    Spans count from the start of the answer, `byte_span` in the UTF-8 of its text, `token_span` in the tokens that
    brought these bytes, of which the first and last may hold bytes of their neighbours.
    """

    loc: tuple[str | int, ...]
    byte_span: Span

    @property
    def path(self) -> str:
        """`loc` as it is written in Python."""
        return written(self.loc)


@dataclass(frozen=True, slots=True)
class FieldOpened(FieldEvent):
    """A value begins."""

    token_span: Span


@dataclass(frozen=True, slots=True)
class FieldDelta(FieldEvent):
    """A string grows by `text`."""

    token_span: Span
    text: str


@dataclass(frozen=True, slots=True)
class FieldClosed(FieldEvent):
    """A value is complete. `value` is what its validators made of it; where it was not judged by itself (it is inside a
    union, a dict, a tuple or a set, or `on_invalid` is not "rewind"), it is the value as JSON has it."""

    token_span: Span
    value: Any


@dataclass(frozen=True, slots=True)
class FieldRetracted(FieldEvent):
    """What was told of a value holds no longer: it is decoded again. `byte_span` is what was told of it.

    Those inside a value are told before it, the last one first. `is_open`: only its end is taken back, what it holds so
    far stands. With an empty `loc` all of the answer is gone, and another attempt begins.
    """

    is_open: bool = False
