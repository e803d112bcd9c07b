"""Partial objects of an answer some of which may be taken back."""

from __future__ import annotations

from typing import Any

from ..forms.verdicts import Board
from ..structured.revocable import RevocablePartial
from ..structured.spec import Spec
from .feed import Change, Piece, Retraction


class GrowingAnswer:
    """Builds partial objects from what a `FieldFeed` tells. Field events are passed on as they are.

    Slow validators are not called: `board` knows what they said. `whole`: a partial is given for values that are
    complete, not for text that grows.
    """

    def __init__(
        self, spec: Spec[Any], board: Board, context: Any = None, strict: bool | None = None, whole: bool = False
    ) -> None:
        self._builder = RevocablePartial(spec, context=context, strict=strict)
        self._board, self._whole = board, whole

    def feed(self, change: Change) -> Any | None:
        """Takes a change; the partial value if there is something new to see, or the event."""
        if isinstance(change, Piece):
            with self._board.answering(run=False):
                partial = self._builder.take(change.data, change.events)
            return partial if change.closes or not self._whole else None
        if isinstance(change, Retraction):
            return self._builder.retract(*change)
        return change
