"""Ending a model's thoughts when they have used up their tokens.

A token of thoughts is taken if the budget holds it together with what its last character lacks; otherwise the end tag
comes instead. So the thoughts never have more tokens than the budget, and an incomplete character is always completed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .segmenter import Segmenter

if TYPE_CHECKING:
    pass

Spell = Callable[[bytes], Sequence[int]]


class ThinkingLimit:
    """Watches over the thoughts of one answer. `spell` gives the tokens of a piece of the end tag."""

    def __init__(
        self, budget: int, segmenter: Segmenter, spell: Spell, complete: Callable[[Sequence[int]], Sequence[int]]
    ) -> None:
        self.rest: Sequence[int] = ()
        """Tokens that end the thoughts, once that has been decided."""
        self._budget, self._segmenter, self._spell, self._complete = budget, segmenter, spell, complete

    def choose(self, token: int) -> int:
        """The token to append where `token` was sampled: that, or the first one of the end tag."""
        segmenter = self._segmenter
        if not segmenter.is_thinking:
            return token
        count, ended = segmenter.after(token)
        if count + (0 if ended else segmenter.lacking(token)) <= self._budget:
            return token
        closing = self._closing()
        self.rest = closing
        segmenter.is_closing = True
        return closing[0]

    def take(self, token: int) -> None:
        """A token was appended."""
        self.rest = self.rest[1:]

    def drop(self) -> None:
        """Something else decides how the answer goes on."""
        self.rest = ()

    def _closing(self) -> Sequence[int]:
        """The rest of a tag that has begun, or if that takes fewer tokens, all of it."""
        end = self._segmenter.layout.end
        assert end is not None
        whole = self._spell(end)
        held = len(self._segmenter.held_tag)
        rest = self._spell(end[held:]) if held else whole
        return self._complete(rest if len(rest) <= len(whole) else whole)
