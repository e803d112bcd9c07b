"""What a worker and its master say to each other: a line of JSON each way, over the worker's stdin and stdout.

    {"do": "start", "settings": {...}}   → {"seconds": 1.2, "self": true}    loads the model
    {"do": "run", "jobs": [...]}         → {"seconds": 3.4, "answers": [...]}
    {"do": "stop"}                       → the worker ends

`self` says whether the worker's own process is part of the engine (its memory counts) or only drives one. A failure is
answered by {"error": "..."}, after which the worker goes on listening.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from ..job import Answer, Job


class Peer(Protocol):
    """An engine with its model loaded."""

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        """Runs the jobs, each submitted when its `at` has come; greedy; `clock` counts seconds from the run's start."""

    def close(self) -> None:
        """Frees everything, child processes too."""


def serve(make: Callable[..., Peer], is_engine: bool = True) -> None:
    """A worker's main loop. `make(**settings)` loads the model."""
    # Whatever libraries print to stdout, their child processes included, must not get between the lines.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    peer: Peer | None = None
    try:
        for line in sys.stdin:
            message = json.loads(line)
            if message["do"] == "stop":
                break
            start = time.perf_counter()
            try:
                if message["do"] == "start":
                    peer = make(**message["settings"])
                    reply: dict[str, Any] = {"seconds": time.perf_counter() - start, "self": is_engine}
                elif peer is None:
                    raise RuntimeError("run before start")
                else:
                    jobs = [Job(**job) for job in message["jobs"]]
                    start = time.perf_counter()
                    answers = peer.run(jobs, lambda start=start: time.perf_counter() - start)  # type: ignore[misc]
                    reply = {"seconds": time.perf_counter() - start, "answers": [asdict(a) for a in answers]}
            except Exception as error:
                traceback.print_exc()
                reply = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(reply), file=lines, flush=True)
    finally:
        if peer is not None:
            peer.close()


def wait_until(at: float, clock: Callable[[], float]) -> None:
    """Sleeps until the clock shows `at`."""
    while (left := at - clock()) > 0:
        time.sleep(left)
