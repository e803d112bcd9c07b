"""Programs run in both ways: the same effects, the same outcome, and a clean end however they are left."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pageform.structured.drive import END, AsyncStream, Do, Left, Program, Pull, Show, Stream, Wait, run, run_async


class Events:
    """An iterator of either kind."""

    def __init__(self, *events: Any) -> None:
        self.events = list(events)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self.events:
            raise StopIteration
        return self.events.pop(0)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        if not self.events:
            raise StopAsyncIteration
        return self.events.pop(0)


def summing(events: Events, seen: list[str]) -> Program[int]:
    """Shows each event, and gives their sum. Notes what happens to it."""
    total = 0
    try:
        yield Wait(0.001)
        while (event := (yield Pull(events))) is not END:
            total += event
            yield Show(event)
        return total
    except ValueError as error:
        seen.append(f"caught {error}")
        raise
    except Left:
        seen.append("left")
        raise
    finally:
        seen.append((yield Do(lambda: "closed")))


async def both(events: list[Any], leave_after: int | None = None) -> list[tuple[list[Any], Any, list[str]]]:
    """What was shown, the outcome and what was seen, sync and async."""
    results = []
    seen: list[str] = []
    stream: Stream[int] = Stream(summing(Events(*events), seen))
    shown = []
    for value in stream:
        shown.append(value)
        if len(shown) == leave_after:
            stream.close()
    results.append((shown, getattr(stream, "outcome", None), seen))
    seen, shown = [], []
    later: AsyncStream[int] = AsyncStream(summing(Events(*events), seen))
    async for value in await later:
        shown.append(value)
        if len(shown) == leave_after:
            await later.aclose()
    results.append((shown, getattr(later, "outcome", None), seen))
    return results


async def test_a_program_shows_and_gives_its_outcome() -> None:
    sync, later = await both([1, 2, 3])
    assert sync == later == ([1, 2, 3], 6, ["closed"])
    assert run(summing(Events(1, 2), [])) == await run_async(summing(Events(1, 2), [])) == 3


async def test_leaving_closes_what_is_open() -> None:
    sync, later = await both([1, 2, 3], leave_after=2)
    assert sync == later == ([1, 2], None, ["left", "closed"])


async def test_leaving_by_with_or_by_dropping_the_stream_closes_too() -> None:
    seen: list[str] = []
    with Stream(summing(Events(1, 2), seen)) as stream:
        next(stream)
    async with AsyncStream(summing(Events(1, 2), seen)) as later:
        await anext(later)
    assert seen == ["left", "closed"] * 2
    next(Stream(summing(Events(1, 2), seen)))
    gc.collect()
    assert seen == ["left", "closed"] * 3
    Stream(summing(Events(1), seen)).close()
    assert len(seen) == 6, "what was never begun has nothing to close"


@pytest.mark.parametrize("where", ["sync", "async"])
async def test_faults_of_effects_are_the_programs_to_handle(where: str) -> None:
    def failing() -> Program[str]:
        try:
            yield Do(lambda: int("x"))
        except ValueError:
            return "mended"
        return "no fault"

    assert (run(failing()) if where == "sync" else await run_async(failing())) == "mended"

    def not_mending(seen: list[str]) -> Program[None]:
        try:
            yield Do(lambda: int("x"))
        finally:
            seen.append((yield Do(lambda: "closed")))

    seen: list[str] = []
    with pytest.raises(ValueError, match="invalid literal"):
        run(not_mending(seen)) if where == "sync" else await run_async(not_mending(seen))
    assert seen == ["closed"]


async def test_a_cancelled_task_closes_what_is_open() -> None:
    seen: list[str] = []

    def waiting() -> Program[None]:
        try:
            yield Wait(60)
        finally:
            seen.append((yield Do(lambda: "closed")))

    task = asyncio.create_task(run_async(waiting()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["closed"]


async def test_awaitables_are_awaited_only_in_async() -> None:
    async def answer() -> int:
        return 42

    def asking() -> Program[int]:
        return (yield Do(answer))

    assert await run_async(asking()) == 42
    coroutine = run(asking())
    assert await coroutine == 42  # type: ignore[misc]
