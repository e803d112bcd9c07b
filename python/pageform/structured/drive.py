"""Running programs: the one place where sync and async differ.

A program is a generator that yields what is to be done outside of it and is sent what came of it. It knows neither
threads nor event loops; the same program is run here in either way.

    run(program)                 its result
    await run_async(program)     its result
    Stream(program)              iterates over what it shows; AsyncStream likewise
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")

END: Any = object()
"""What a `Pull` gives once there is no further event."""


@dataclass(frozen=True, slots=True)
class Do:
    """Call `function`; in async an awaitable result is awaited. Sent back: the result."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Pull:
    """Sent back: the next of `events`, an iterator (in async an async one), or `END`."""

    events: Any


@dataclass(frozen=True, slots=True)
class Show:
    """Give a value to whoever iterates. If they leave, `Left` is thrown in."""

    value: Any


class Left(BaseException):
    """Whoever iterated has left. (`GeneratorExit` itself would end a program without letting it close anything.)"""


def beside(function: Callable[[], Any], asynchronous: bool) -> Do:
    """Calls a function that takes its time: in async in a thread, beside the event loop."""
    return Do((lambda: in_thread(function)) if asynchronous else function)


async def in_thread(function: Callable[[], T]) -> T:
    """The result of a function that ran in a thread."""
    import asyncio  # whoever awaits this has loaded it

    return await asyncio.to_thread(function)


Effect = Do | Wait | Pull | Show
Program = Generator[Effect, Any, T]


def run(program: Program[T]) -> T:
    """The result of a program; what it shows is dropped."""
    stream = Stream(program)
    for _ in stream:
        pass
    return stream.outcome


async def run_async(program: Program[T]) -> T:
    """Like `run`, in an event loop."""
    stream = AsyncStream(program)
    async for _ in stream:
        pass
    return stream.outcome


class Stream(Generic[T]):
    """An iterator over what a program shows; its result is `outcome` then. To leave early: `close`, or `with`."""

    def __init__(self, program: Program[T]) -> None:
        self._outcome: list[T] = []
        # No method of this object: without a cycle, a stream that is dropped is closed at once.
        self._values = _steps(program, self._outcome)

    @property
    def outcome(self) -> T:
        """What the program gave; there is none before its end."""
        return _last(self._outcome)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._values)

    def close(self) -> None:
        """Stop the program; it closes what it has open."""
        self._values.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream(Generic[T]):
    """The async twin of `Stream`. Awaiting it gives it itself, so `async for x in await f()` works as without await."""

    def __init__(self, program: Program[T]) -> None:
        self._outcome: list[T] = []
        self._values = _async_steps(program, self._outcome)

    @property
    def outcome(self) -> T:
        """What the program gave; there is none before its end."""
        return _last(self._outcome)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._values)

    def __await__(self) -> Generator[Any, None, Self]:
        return self
        yield

    async def aclose(self) -> None:
        """Stop the program; it closes what it has open."""
        await self._values.aclose()

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _last(outcome: list[T]) -> T:
    if not outcome:
        raise AttributeError("the stream has no outcome before it has ended")
    return outcome[0]


def _steps(program: Program[T], outcome: list[T]) -> Generator[Any, None, None]:
    try:
        effect = next(program)
        while True:
            try:
                done = (yield effect.value) if isinstance(effect, Show) else _perform(effect)
            except GeneratorExit:
                effect = program.throw(Left())
            except BaseException as error:  # whatever it is, it is the program's to handle
                effect = program.throw(error)
            else:
                effect = program.send(done)
    except StopIteration as stop:
        outcome.append(stop.value)
    except Left:
        return


async def _async_steps(program: Program[T], outcome: list[T]) -> AsyncGenerator[Any, None]:
    try:
        effect = next(program)
        while True:
            try:
                done = (yield effect.value) if isinstance(effect, Show) else await _perform_async(effect)
            except GeneratorExit:
                effect = program.throw(Left())
            except BaseException as error:
                effect = program.throw(error)
            else:
                effect = program.send(done)
    except StopIteration as stop:
        outcome.append(stop.value)
    except Left:
        return


def _perform(effect: Effect) -> Any:
    if isinstance(effect, Do):
        return effect.function()
    if isinstance(effect, Pull):
        return next(effect.events, END)
    assert isinstance(effect, Wait)
    return time.sleep(effect.seconds)


async def _perform_async(effect: Effect) -> Any:
    if isinstance(effect, Do):
        result = effect.function()
        return await result if inspect.isawaitable(result) else result
    if isinstance(effect, Pull):
        return await anext(effect.events, END)
    import asyncio  # whoever awaits this has loaded it

    assert isinstance(effect, Wait)
    return await asyncio.sleep(effect.seconds)
