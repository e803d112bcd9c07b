"""What an engine counts and times while it runs."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field

from ..core.request import Request

_RECENT = 512


@dataclass(slots=True)
class Counters:
    """Counts since the engine was made. Tokens are counted when their request finishes. Times are in seconds."""

    steps: int = 0
    mixed_steps: int = 0
    max_step_tokens: int = 0
    computed_tokens: int = 0
    step_faults: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    rewound_tokens: int = 0
    cached_tokens: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    step_seconds: float = 0.0
    device_seconds: float = 0.0
    grammar_seconds: float = 0.0
    mask_seconds: float = 0.0
    recent_host_shares: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    recent_grammar_shares: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def count(self, request: Request) -> None:
        """Counts a finished request; the prompt of several samples once."""
        self.finished[str(request.finish_reason)] += 1
        self.generation_tokens += len(request.output_ids)
        self.rewound_tokens += request.num_rewound
        if request.sample == 0:
            self.prompt_tokens += request.num_prompt_tokens
            self.cached_tokens += request.num_cached

    def time_step(self, seconds: float, device: float, grammar: float) -> None:
        """A step took `seconds`: `device` of them on the device, `grammar` for grammar work that nothing hid (0 where
        it had none)."""
        self.step_seconds += seconds
        self.device_seconds += device
        self.grammar_seconds += grammar
        if seconds > 0.0:
            self.recent_host_shares.append(1.0 - device / seconds)
        if grammar > 0.0 and seconds > 0.0:
            self.recent_grammar_shares.append(grammar / seconds)

    @property
    def host_share(self) -> float:
        """Median over the last steps; 0 before the first."""
        return statistics.median(self.recent_host_shares) if self.recent_host_shares else 0.0

    @property
    def grammar_share(self) -> float:
        """Median over the last steps with a grammar; 0 before the first."""
        return statistics.median(self.recent_grammar_shares) if self.recent_grammar_shares else 0.0
