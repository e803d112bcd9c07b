"""Time on a GPU, by its own events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .library import Kernels

WARM_UP = 3
FLUSH_BYTES = 256 * 2**20
"""Written before every launch: more than any GPU's cache holds, so that nothing is read from there."""


def measure(kernels: Kernels, work: Callable[[], object], count: int) -> list[float]:
    """Microseconds of each of `count` runs of what is launched in the kernels' stream; torch's own goes there as well.

    The write before each run keeps the GPU busy while the host gets ahead, so no gap of the host is in the time.
    """
    import torch

    stream: Any = torch.cuda.ExternalStream(kernels.stream, device=kernels.device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=kernels.device)
        for _ in range(WARM_UP):
            work()
        pairs = []
        for _ in range(count):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            flush.zero_()
            begin.record(stream)
            work()
            end.record(stream)
            pairs.append((begin, end))
        stream.synchronize()
    return [1000 * begin.elapsed_time(end) for begin, end in pairs]
