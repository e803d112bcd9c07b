"""Requests in the order in which they are served: higher priority first, then earlier arrival."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from ..core.request import Request


def _order(request: Request) -> tuple[int, float, int]:
    return request.order


class RequestQueue:
    """A sorted list. Finding a place takes O(log n) comparisons; iteration and length are those of the list."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self.num_prompt_tokens = 0
        """Prompt tokens of all requests in the queue together."""

    def add(self, request: Request) -> None:
        insort(self._requests, request, key=_order)
        self.num_prompt_tokens += request.num_prompt_tokens

    def discard(self, request: Request) -> bool:
        """Takes the request out; False if it isn't there."""
        place = bisect_left(self._requests, request.order, key=_order)
        if place == len(self._requests) or self._requests[place] is not request:
            return False
        del self._requests[place]
        self.num_prompt_tokens -= request.num_prompt_tokens
        return True

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)
