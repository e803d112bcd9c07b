"""What a run still has to do, how long that should take, and what is left out when its time is up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

EXPECTED: Mapping[str, Mapping[str, float]] = {
    "settings": {"llama.cpp": 30, "openvino": 30, "vllm": 200},
    "W1": {"pageform": 5, "llama.cpp": 6, "openvino": 10, "vllm": 12, "transformers": 20},
    "W2": {"pageform": 22, "llama.cpp": 45, "openvino": 45, "vllm": 60, "transformers": 75},
    "W3": {"pageform": 8, "llama.cpp": 25, "openvino": 25, "vllm": 25, "transformers": 30},
    "W4": {"pageform": 8, "llama.cpp": 20, "openvino": 20, "vllm": 15, "transformers": 20},
    "W5": {"pageform": 5, "llama.cpp": 15, "openvino": 15, "vllm": 25},
    "W6": {"pageform": 25, "llama.cpp": 50, "openvino": 50, "vllm": 50},
    "BFCL": {"pageform": 8, "llama.cpp": 20, "openvino": 20, "vllm": 25},
    "wnut17": {"pageform": 8, "llama.cpp": 20, "openvino": 20, "vllm": 25},
    "perplexity": {"pageform": 40},
    "cold start": {"pageform": 2, "llama.cpp": 3, "openvino": 15, "vllm": 50, "transformers": 15},
    "curves": {"pageform": 20, "llama.cpp": 60, "openvino": 45, "vllm": 45, "transformers": 45},
    "own programs": {"llama.cpp": 30, "openvino": 25, "vllm": 60},
}
"""Seconds on two cores, each workload with one round: a first guess, corrected by what a run's own steps take."""


class Plan:
    """Steps are expected, then done. `minutes` is what the run may take: see `fits`."""

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._budget = minutes * 60
        self._ahead: dict[str, float] = {}
        self._done = self._taken = 0.0

    def expect(self, name: str, seconds: float) -> None:
        """A step that has to be done."""
        self._ahead[name] = seconds

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Does an expected step; how it compares with what was expected corrects the rest."""
        start = self._clock()
        try:
            yield
        finally:
            self._done += self._ahead.pop(name, 0.0)
            self._taken += self._clock() - start

    @property
    def elapsed(self) -> float:
        return self._clock() - self._start

    @property
    def ahead(self) -> float:
        """Seconds that the steps ahead should take, by the pace so far."""
        pace = min(4.0, max(0.25, self._taken / self._done)) if self._done else 1.0
        return pace * sum(self._ahead.values())

    def fits(self, seconds: float) -> bool:
        """Whether there is time for something more that takes so long, all steps ahead included."""
        return self.elapsed + seconds + self.ahead <= self._budget

    @property
    def is_over(self) -> bool:
        return self.elapsed > self._budget

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        minutes, seconds = divmod(int(self.elapsed), 60)
        left = f"; about {self.ahead / 60:.0f} min to go" if self._ahead else ""
        print(f"compare: {minutes}:{seconds:02d}{left}: {text}", file=sys.stderr, flush=True)
