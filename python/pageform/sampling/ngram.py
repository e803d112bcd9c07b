"""Where the last tokens of a text occurred before: the index behind n-gram drafts (prompt lookup)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

_CHAIN = 4
"""Earlier places of the last three tokens that are compared for the longest match."""


class Match(NamedTuple):
    """The text's last `length` tokens occurred before; `next` is the index of the token that followed there."""

    next: int
    length: int


class NgramIndex:
    """An index over a growing list of tokens: what its last one, two and three tokens followed before.

    `push`, `match` and, a token, `truncate` take constant time. Tokens that `normal` maps to the same number count as
    equal in a match (such as a word with and without the space before it).
    """

    __slots__ = ("_keys", "_last", "_normal", "_previous", "longest", "tokens")

    def __init__(self, longest: int = 12, normal: Callable[[int], int] | None = None) -> None:
        self.tokens: list[int] = []
        self.longest = longest
        self._normal = normal
        self._keys: list[int] = []
        # Of the n-grams of each length: where one occurred last, and for each place where its own occurred before.
        self._last: tuple[dict[int, int], dict[tuple[int, int], int], dict[tuple[int, int, int], int]] = ({}, {}, {})
        self._previous: tuple[list[int], list[int], list[int]] = ([], [], [])

    def __len__(self) -> int:
        return len(self.tokens)

    def push(self, token: int) -> None:
        """Appends a token."""
        keys, place = self._keys, len(self.tokens)
        self.tokens.append(token)
        key = token if self._normal is None else self._normal(token)
        keys.append(key)
        ones, twos, threes = self._last
        before_one, before_two, before_three = self._previous
        before_one.append(ones.get(key, -1))
        ones[key] = place
        if place >= 1:
            two = (keys[place - 1], key)
            before_two.append(twos.get(two, -1))
            twos[two] = place
        else:
            before_two.append(-1)
        if place >= 2:
            three = (keys[place - 2], keys[place - 1], key)
            before_three.append(threes.get(three, -1))
            threes[three] = place
        else:
            before_three.append(-1)

    def truncate(self, length: int) -> None:
        """Forgets all but the first `length` tokens."""
        while len(self.tokens) > length:
            self._pop()

    def _pop(self) -> None:
        keys, place = self._keys, len(self.tokens) - 1
        _restore(self._last[0], keys[place], self._previous[0].pop())
        before_two, before_three = self._previous[1].pop(), self._previous[2].pop()
        if place >= 1:
            _restore(self._last[1], (keys[place - 1], keys[place]), before_two)
        if place >= 2:
            _restore(self._last[2], (keys[place - 2], keys[place - 1], keys[place]), before_three)
        keys.pop()
        self.tokens.pop()

    def match(self) -> Match | None:
        """The longest of the latest earlier occurrences of the last tokens; None if the last one is new."""
        place = len(self.tokens) - 1
        if place < 0:
            return None
        one, two, three = (before[place] for before in self._previous)
        if three >= 0:
            best, length = three, self._length(three, place)
            for _ in range(_CHAIN - 1):
                three = self._previous[2][three]
                if three < 0 or length >= self.longest:
                    break
                other = self._length(three, place)
                if other > length:
                    best, length = three, other
            return Match(best + 1, length)
        if two >= 0:
            return Match(two + 1, 2)
        return Match(one + 1, 1) if one >= 0 else None

    def _length(self, earlier: int, place: int) -> int:
        """How many tokens that end at `earlier` equal those that end at `place`; at least three do."""
        keys = self._keys
        length, most = 3, min(self.longest, earlier + 1)
        while length < most and keys[earlier - length] == keys[place - length]:
            length += 1
        return length


def _restore(last: dict[Any, int], key: Any, before: int) -> None:
    if before < 0:
        del last[key]
    else:
        last[key] = before
