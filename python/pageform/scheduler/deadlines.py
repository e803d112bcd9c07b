"""Which deadlines have passed, without looking at every request at every step."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from ..core.request import Request

_QUEUE, _FIRST_TOKEN, _TOTAL = range(3)


class Deadlines:
    """A heap of the deadlines of live requests. Entries of finished ones are swept out before they are half of it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Request]] = []
        self._num_stale = 0

    def add(self, request: Request) -> None:
        for kind, time in enumerate(_times(request)):
            if time is not None:
                heappush(self._heap, (time, request.index, kind, request))

    def forget(self, request: Request) -> None:
        """The request has finished."""
        self._num_stale += sum(time is not None for time in _times(request))
        if 2 * self._num_stale > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[3].is_finished]
            heapify(self._heap)
            self._num_stale = 0

    def next(self) -> float | None:
        """The earliest time at which `missed` may have something to tell."""
        return self._heap[0][0] if self._heap else None

    def missed(self, now: float) -> Iterator[tuple[Request, str]]:
        """Requests that missed a deadline by `now`, in the order of the deadlines, with an account of which."""
        while self._heap and self._heap[0][0] <= now:
            _, _, kind, request = heappop(self._heap)
            params = request.params
            if request.is_finished:
                continue
            if kind == _QUEUE and request.first_scheduled_time is None:
                yield request, f"queue_timeout: not scheduled within {params.queue_timeout:g} s"
            elif kind == _FIRST_TOKEN and request.first_token_time is None:
                yield request, f"first_token_timeout: no token within {params.first_token_timeout:g} s"
            elif kind == _TOTAL:
                yield request, f"timeout: not finished within {params.timeout:g} s"

    def __len__(self) -> int:
        return len(self._heap)


def _times(request: Request) -> tuple[float | None, float | None, float | None]:
    return request.queue_deadline, request.first_token_deadline, request.deadline
