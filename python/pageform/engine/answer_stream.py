"""What `stream` gives: an iterator that has the completion in the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from ..core.completion import Completion
from ..core.errors import RequestError
from .base import outcome
from .ticket import Ticket

if TYPE_CHECKING:
    from .typed import TypedCall

Ending = Callable[[], Completion | None]
"""The completion of an answer that has ended."""


def ending_of(source: TypedCall[Any] | Ticket) -> Ending:
    """How an answer ends: a typed one with its last attempt, a text with its only request."""
    if isinstance(source, Ticket):
        return lambda: outcome(source) if source.future.done() else None
    return lambda: getattr(source, "completion", None)


class _Stream:
    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    @property
    def completion(self) -> Completion:
        """The completion of the answer, as `generate_with_completion` gives it: when the last part has come. Before
        that, or if the stream was left early, RequestError."""
        completion = self._ending()
        if completion is None:
            raise RequestError("the stream has no completion: it has not come to its end")
        return completion


class AnswerStream(_Stream, Iterator[Any]):
    """The parts of one answer. Closing it early, or dropping it, aborts the request."""

    def __init__(self, parts: Generator[Any, None, None], ending: Ending) -> None:
        super().__init__(ending)
        self._parts = parts

    def __next__(self) -> Any:
        return next(self._parts)

    def close(self) -> None:
        """Aborts the request, unless it has ended."""
        self._parts.close()


class AsyncAnswerStream(_Stream, AsyncIterator[Any]):
    """`AnswerStream` for asyncio."""

    def __init__(self, parts: AsyncGenerator[Any, None], ending: Ending) -> None:
        super().__init__(ending)
        self._parts = parts

    async def __anext__(self) -> Any:
        return await anext(self._parts)

    async def aclose(self) -> None:
        """Aborts the request, unless it has ended."""
        await self._parts.aclose()
