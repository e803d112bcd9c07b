"""A sum of seconds that several places add to."""

from __future__ import annotations

import time


class Stopwatch:
    """`with watch:` adds the time that the block takes to `seconds`. For one thread, and not nested."""

    __slots__ = ("_start", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start
