"""One request of a workload, and what an engine made of it. Standard library only: workers of all peers import it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Job:
    """One request: token ids of the prompt, and how many tokens to decode, exactly. With a `schema` (JSON Schema) the
    answer ends by itself and `output_tokens` is its limit. `at` is when it arrives, in seconds after the first."""

    prompt: list[int]
    output_tokens: int
    schema: dict[str, Any] | None = None
    at: float = 0.0


@dataclass(slots=True)
class Answer:
    """What became of a job. `times` are the moments at which tokens came, in seconds after the run began; tokens that
    came together share one or are counted by `count` alone. `tokens` is empty where a peer tells only the text."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    times: list[float] = field(default_factory=list)
    count: int = 0

    def add(self, tokens: list[int], time: float) -> None:
        """Takes tokens that came at `time`."""
        self.tokens += tokens
        self.times += [time] * len(tokens)
        self.count += len(tokens)
