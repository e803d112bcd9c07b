"""Whether the machine had nothing else to do: engines that wait by spinning lose most when others take their cores."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

ALLOWED = 0.05
"""Share of the processors' time that other programs may take."""

_PR_SET_CHILD_SUBREAPER = 36


class Quiet:
    """Watches from construction to `others`. Counts this process and its ended children as ours. Where it can, the
    system gives this process the children of those that end before them: who ends a worker waits for these, too."""

    def __init__(self) -> None:
        if hasattr(libc := ctypes.CDLL(None), "prctl"):
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._busy, self._total = _processors()
        self._ours = _own_seconds()

    def others(self) -> float | None:
        """Share of the processors' time that other programs took; None where the system does not tell."""
        busy, total = _processors()
        if total <= self._total:
            return None
        ours = (_own_seconds() - self._ours) * os.sysconf("SC_CLK_TCK")
        return max(0.0, busy - self._busy - ours) / (total - self._total)


def _processors() -> tuple[float, float]:
    """(busy, all) clock ticks of all processors since the system started. Stolen time is busy with other machines."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0, 0.0
    user, nice, system, idle, waiting, interrupts, soft, stolen = map(int, path.read_text().split()[1:9])
    busy = user + nice + system + interrupts + soft + stolen
    return float(busy), float(busy + idle + waiting)


def _own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
