"""Partial objects of an answer some of whose text may be taken back."""

from __future__ import annotations

from typing import Any

from ..structured.partial import PartialBuilder
from ..structured.spec import Spec


class GrowingAnswer:
    """Feeds a `PartialBuilder`; after a retraction, a new one with what is left of the text."""

    def __init__(self, spec: Spec[Any]) -> None:
        self._spec = spec
        self._pieces: list[str] = []
        self._builder = PartialBuilder(spec)

    def feed(self, change: str | int) -> Any | None:
        """Takes new text, or the number of characters that are taken back; the partial value if it changed."""
        if isinstance(change, str):
            self._pieces.append(change)
            return self._builder.feed(change)
        text = "".join(self._pieces)
        text = text[: len(text) - change]
        self._pieces = [text]
        self._builder = PartialBuilder(self._spec)
        return self._builder.feed(text)
