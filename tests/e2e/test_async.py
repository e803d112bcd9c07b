"""AsyncEngine: the same verbs, many at once, cancellation that frees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio
from pydantic import BaseModel

from pageform import AsyncEngine, Completion, Engine, ParameterError, SamplingParams
from pageform.structured import Event

SHORT = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
LONG = SHORT.with_(max_tokens=1500)


class Answer(BaseModel):
    color: Literal["red", "green", "blue"]


@pytest_asyncio.fixture
async def aengine() -> AsyncIterator[AsyncEngine]:
    async with AsyncEngine("smollm2", threads=2, kv_cache_memory="256MB", max_model_len=2048) as engine:
        yield engine


async def test_many_tasks_at_once_equal_the_blocking_engine(aengine: AsyncEngine, engine: Engine) -> None:
    prompts = [f"Number {i} is" for i in range(8)]
    results = await asyncio.gather(*(aengine.generate(p, SHORT) for p in prompts))
    assert [r.text for r in results] == [r.text for r in engine.generate(prompts, SHORT)]
    assert [r.text for r in await aengine.generate(prompts, SHORT)] == [r.text for r in results]


async def test_typed_and_chat(aengine: AsyncEngine) -> None:
    assert isinstance(await aengine.generate("The sky's color?", response_model=Answer), Answer)
    value, completion = await aengine.generate_with_completion("Grass?", Answer)
    assert isinstance(value, Answer)
    assert isinstance(completion, Completion)
    assert isinstance(await aengine.chat([{"role": "user", "content": "Hi"}], SHORT), Completion)


async def test_streams_interleave(aengine: AsyncEngine, engine: Engine) -> None:
    order: list[int] = []

    async def read(i: int) -> str:
        parts = []
        async for text in aengine.stream("Once upon a time", SHORT.with_(max_tokens=24)):
            order.append(i)
            parts.append(text)
        return "".join(parts)

    texts = await asyncio.gather(read(0), read(1))
    assert texts[0] == texts[1] == engine.generate("Once upon a time", SHORT.with_(max_tokens=24)).text
    assert order != sorted(order)
    last = None
    async for part in aengine.stream("Fire?", response_model=Answer):
        last = part
    assert type(last) is Answer


async def test_cancelling_a_task_frees_its_blocks(aengine: AsyncEngine) -> None:
    task = asyncio.create_task(aengine.generate("Count:", LONG))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stats = await aengine.stats()
    assert stats.kv_blocks_used == 0
    assert stats.requests_finished == {"abort": 1}


async def test_leaving_a_stream_frees_its_blocks(aengine: AsyncEngine) -> None:
    stream = aengine.stream("Count:", LONG)
    async for _ in stream:
        break
    await stream.aclose()
    assert (await aengine.stats()).kv_blocks_used == 0


async def test_bad_input_is_refused_before_work(aengine: AsyncEngine) -> None:
    with pytest.raises(ParameterError, match="max_tokens"):
        await aengine.generate("x", SamplingParams(max_tokens=10**6))
    assert (await aengine.stats()).steps == 0


async def test_async_hooks_are_awaited_and_refused_by_the_blocking_engine(aengine: AsyncEngine, engine: Engine) -> None:
    seen: list[tuple[str, str]] = []

    async def tell(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append((str(event.name), event.provider))

    assert isinstance(await aengine.generate("Grass?", response_model=Answer, hooks={"*": tell}), Answer)
    async for _ in aengine.stream("Sky?", response_model=Answer, hooks={"end": tell}):
        pass
    names = ("kwargs", "response", "usage", "end", "end")
    assert seen == [(name, "pageform") for name in names]
    with pytest.raises(ParameterError, match="coroutine"):
        engine.generate("Grass?", response_model=Answer, hooks={"end": tell})
