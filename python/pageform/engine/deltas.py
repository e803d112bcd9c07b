"""What is told of a request, on its way from the engine's thread to who iterates."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

D = TypeVar("D")
_END = object()


class Deltas(Generic[D]):
    """What is told of a request, on its way from the engine's thread to an iterating caller, once a request."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, delta: D) -> None:
        """Takes something to be yielded; called in the engine's thread."""
        self._queue.put(delta)

    def put_text(self, text: Any, token_id: int) -> None:
        """Takes the text of one token; called in the engine's thread."""
        if text:
            self._queue.put(text)

    def end(self) -> None:
        """No more will come."""
        self._queue.put(_END)

    def __iter__(self) -> Iterator[D]:
        while (delta := self._queue.get()) is not _END:
            yield delta
