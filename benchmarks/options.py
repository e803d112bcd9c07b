"""What every benchmark is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """`smoke` makes every benchmark a short check that it works; its timings mean nothing then and are not judged."""

    model: str = "smollm2"
    threads: int = 2
    data: Path | None = None
    full: bool = False
    smoke: bool = False
    seed: int = 0
    minutes: float | None = None
    peers: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ("W1", "W2", "W3", "W4", "W5", "W6")
    peers_dir: Path | None = None
    rounds: int | None = None
    device: str | None = None
