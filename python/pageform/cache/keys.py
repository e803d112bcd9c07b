"""Interning of cache keys: what keys and values depend on beside tokens becomes a number that the pool compares."""

from __future__ import annotations

from collections import OrderedDict

from ..core.request import CacheKey

MAX_KEYS = 4096
"""Bound of the table. Past it the least recently used key is forgotten: its content isn't found again and ages out."""


class KeyTable:
    """Maps sets of tagged tuples to numbers above 0. A number is never given to a second key."""

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._numbers: OrderedDict[frozenset[CacheKey], int] = OrderedDict()
        self._last = 0

    def intern(self, keys: frozenset[CacheKey]) -> int:
        number = self._numbers.get(keys)
        if number is None:
            self._last += 1
            number = self._numbers[keys] = self._last
            if len(self._numbers) > self._max_keys:
                self._numbers.popitem(last=False)
        else:
            self._numbers.move_to_end(keys)
        return number

    def __len__(self) -> int:
        return len(self._numbers)
