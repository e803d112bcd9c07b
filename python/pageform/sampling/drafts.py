"""Drafts of one request: text that its grammar forces, and what followed the same tokens before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..core.drafts import Draft, DraftKind, DraftSettings
from ..core.log import RewindEntry, TokenEntry
from ..core.request import Request
from .ngram import NgramIndex

_FORCED = 0
_PRIOR = (
    (0.99, 8.0),
    (0.2, 4.0),
    (0.35, 4.0),
    (0.5, 4.0),
    (0.6, 4.0),
    (0.7, 4.0),
    (0.75, 4.0),
    (0.8, 4.0),
    (0.85, 4.0),
)
"""Of each class of guesses: the share that is assumed to be right at first, and for how many guesses that counts.
Forced text is class 0; what follows a match of n tokens is class n, longer matches belong to the last."""
_MEMORY = 64.0
"""Guesses of one class that are remembered; older ones fade."""
_RETRY_AFTER = 48
"""A class that has stopped paying is tried again after so many chances."""


class Grammar(Protocol):
    """The part of a matcher that drafting needs."""

    def forced(self) -> list[int]: ...

    def advance(self, tokens: Sequence[int]) -> int: ...

    def rollback(self, count: int) -> None: ...


class Odds:
    """How often guesses of each class were right. A new one starts from what `parent` knows, which learns too."""

    def __init__(self, parent: Odds | None = None) -> None:
        self._parent = parent
        if parent is None:
            self._right = [share * weight for share, weight in _PRIOR]
            self._tried = [weight for _, weight in _PRIOR]
        else:
            self._tried = [weight for _, weight in _PRIOR]
            self._right = [parent.chance(i) * weight for i, (_, weight) in enumerate(_PRIOR)]

    def chance(self, number: int) -> float:
        """Share of guesses of a class that were right, recent ones weighing more."""
        return self._right[number] / self._tried[number]

    def count(self, number: int, right: bool) -> None:
        """A guess of a class was right or wrong."""
        if self._tried[number] >= _MEMORY:
            self._tried[number] /= 2
            self._right[number] /= 2
        self._tried[number] += 1.0
        self._right[number] += right
        if self._parent is not None:
            self._parent.count(number, right)


class RequestDrafter:
    """Implements `core.drafts.Drafter` for one request: forced text first, then n-grams, then forced text again.

    `grammar` is the request's own matcher, which is where it was when `propose` returns. Tokens of `never` are not
    drafted. With `forced` the text that the grammar forces is drafted, with `ngram` what matches say.
    """

    def __init__(
        self,
        settings: DraftSettings,
        odds: Odds,
        *,
        grammar: Grammar | None = None,
        forced: bool = True,
        ngram: bool = True,
        never: frozenset[int] = frozenset(),
        normal: Callable[[int], int] | None = None,
    ) -> None:
        self._settings = settings
        self._odds = Odds(odds)
        self._grammar = grammar
        self._forced = forced and grammar is not None
        self._index = NgramIndex(settings.longest, normal) if ngram else None
        self._shortest = 1 if grammar is not None else settings.shortest
        self._never = never
        self._followed = -1  # entries of the request's log; -1 before the prompt was read
        self._unused = 0  # matches that did not pay, since one was last tried

    def propose(self, request: Request, limit: int, worth: float) -> list[Draft]:
        """See `Drafter.propose`. Takes a few microseconds a token."""
        limit = min(limit, self._settings.num_tokens)
        drafts: list[Draft] = []
        if self._index is not None:
            self._follow(request)
        known = len(self._index) if self._index is not None else 0
        chance = 1.0
        try:
            while len(drafts) < limit:
                found = self._more_forced(limit - len(drafts)) or self._more_ngrams(limit - len(drafts), chance, worth)
                if not found:
                    break
                drafts += found
                for draft in found:
                    chance *= draft.chance
                    if self._index is not None:
                        self._index.push(draft.token)
        finally:
            if self._grammar is not None and drafts:
                self._grammar.rollback(len(drafts))
            if self._index is not None:
                self._index.truncate(known)
        return drafts

    def settle(self, drafts: Sequence[Draft], accepted: int, missed: bool) -> None:
        """See `Drafter.settle`."""
        for draft in drafts[:accepted]:
            self._odds.count(draft.odds, True)
        if missed:
            self._odds.count(drafts[accepted].odds, False)

    def _follow(self, request: Request) -> None:
        """Brings the index up to date with the request's log."""
        index, entries = self._index, request.log.entries
        assert index is not None
        if self._followed < 0:
            for token in request.prompt_ids:
                index.push(token)
            self._followed = 0
        for entry in entries[self._followed :]:
            if isinstance(entry, TokenEntry):
                index.push(entry.id)
            elif isinstance(entry, RewindEntry):
                index.truncate(request.num_prompt_tokens + entry.to)
        self._followed = len(entries)

    def _more_forced(self, limit: int) -> list[Draft]:
        """What the grammar forces next; the grammar advances over it."""
        if not self._forced or self._grammar is None:
            return []
        tokens = self._grammar.forced()[:limit]
        if not tokens:
            return []
        count = self._grammar.advance(tokens)
        chance = self._odds.chance(_FORCED)
        return [Draft(token, chance, DraftKind.FORCED, _FORCED) for token in tokens[:count]]

    def _more_ngrams(self, limit: int, chance: float, worth: float) -> list[Draft]:
        """What followed the last tokens before, as far as it pays and the grammar allows; the grammar advances."""
        index = self._index
        match = None if index is None else index.match()
        if index is None or match is None or match.length < self._shortest:
            return []
        period = len(index) - match.next  # a copy that reaches the end of the text goes on with its own beginning
        drafts: list[Draft] = []
        for i in range(limit):
            number = min(match.length + i, len(_PRIOR) - 1)
            odds = self._odds.chance(number)
            chance *= odds
            tried_again = chance <= worth and i == 0 and self._is_due(worth)
            token = index.tokens[match.next + i % period]
            if token in self._never or (chance <= worth and not tried_again):
                break
            drafts.append(Draft(token, 1.0 if tried_again else odds, DraftKind.NGRAM, number))
            if tried_again:
                break
        if self._grammar is None or not drafts:
            return drafts
        return drafts[: self._grammar.advance([draft.token for draft in drafts])]

    def _is_due(self, worth: float) -> bool:
        """Whether a guess that should not pay is made nevertheless, to learn of better times. Never in costly steps."""
        self._unused += 1
        if self._unused < _RETRY_AFTER or worth > 0.5:
            return False
        self._unused = 0
        return True
