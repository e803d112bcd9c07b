"""The workers of a run: most live as long as a workload, those that take long to start for the whole run."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from ..peers.worker import Variant, Worker


class Pool:
    """Close it, or stopped workers wait for ever."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._kept: list[Worker] = []

    @contextlib.contextmanager
    def worker(self, variant: Variant) -> Iterator[Worker]:
        """A worker, not started yet unless it was kept. It is ended afterwards, or kept, stopped, if its variant says
        so and it still lives."""
        worker = next((kept for kept in self._kept if kept.variant == variant), None)
        if worker is not None:
            self._kept.remove(worker)
            worker.resume()
        else:
            worker = Worker(variant, self.log(variant))
        try:
            yield worker
        finally:
            if variant.keeps and worker.is_ready:
                worker.pause()
                self._kept.append(worker)
            else:
                worker.close()

    def drop(self, peer: str, but: Collection[Variant] = ()) -> None:
        """Ends kept workers of a peer."""
        for worker in [kept for kept in self._kept if kept.variant.peer == peer and kept.variant not in but]:
            self._kept.remove(worker)
            worker.close()

    def close(self) -> None:
        while self._kept:
            self._kept.pop().close()

    def log(self, variant: Variant) -> Path:
        return self._logs / f"{variant.name.replace(' ', '-').replace(',', '')}.log"
