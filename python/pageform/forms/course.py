"""How far a text is from its end, byte by byte: what a `Finisher` goes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .closing import TextState
from .open_path import OpenPath
from .shortest import ShortestTexts

PLAIN_WINDOW = 128
"""How much longer the end of a text without a schema, of which nothing is known beforehand, is taken to get."""


class Course(Protocol):
    """Follows one text."""

    @property
    def is_bounded(self) -> bool:
        """Whether `lacks` is known from a schema before anything was searched."""

    @property
    def is_endless(self) -> bool:
        """Whether the text is complete and yet may go on as it pleases."""

    def feed(self, data: bytes) -> None:
        """The text goes on with these bytes."""

    def lacks(self) -> float:
        """How many tokens its shortest end has at most, as far as is known without a search."""

    def doubt(self) -> float:
        """By how much that may grow without `lacks` growing."""

    def way(self) -> Sequence[int] | None:
        """An end that needs no search, unless a character is incomplete; None where one has to be searched."""

    def state(self) -> TextState:
        """Where a search for the end begins."""


class PlainCourse:
    """Text of a grammar without a schema."""

    is_bounded = is_endless = False

    def __init__(self) -> None:
        self._state = TextState("plain")

    def feed(self, data: bytes) -> None:
        self._state = self._state.after(data)

    def lacks(self) -> float:
        return float(PLAIN_WINDOW)

    def doubt(self) -> float:
        return float(PLAIN_WINDOW)

    def way(self) -> Sequence[int] | None:
        return None

    def state(self) -> TextState:
        return self._state


class JsonCourse:
    """JSON of a planned schema."""

    is_bounded = True
    is_endless = False

    def __init__(self, texts: ShortestTexts) -> None:
        self._path = OpenPath(texts)
        self._state, self._new = TextState(), bytearray()

    def feed(self, data: bytes) -> None:
        self._path.feed(data)
        self._new += data

    def lacks(self) -> float:
        return self._path.lacks()

    def doubt(self) -> float:
        return self._path.doubt()

    def way(self) -> Sequence[int] | None:
        return None

    def state(self) -> TextState:
        self._state = self._state.after(bytes(self._new))
        self._new.clear()
        return self._state
