"""The engine behind a client's verbs: the same programs as over an SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from pageform import AsyncEngine, Completion, Engine, ParameterError
from pageform.clients import from_engine
from pageform.structured import Partial
from pageform.structured.errors import ClientError

ASK = [{"role": "user", "content": "Ann is 30, Bo is 41. Both feel good."}]


class Person(BaseModel):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)
    mood: Literal["good", "bad"]


def test_the_verbs_of_a_client(engine: Engine) -> None:
    client = from_engine(engine, max_tokens=200, seed=1)
    person = client.chat.completions.create(model="any", response_model=Person, messages=ASK)
    assert type(person) is Person
    value, completion = client.create_with_completion(Person, messages=ASK)
    assert value == person
    assert isinstance(completion, Completion)
    outcome = client.create_result(Person, messages=ASK)
    assert outcome.value == person
    assert outcome.usage.completion_tokens == completion.usage.completion_tokens
    assert [one.number for one in outcome.attempts] == [1]
    plain = client.create(messages=ASK, max_tokens=4)
    assert isinstance(plain, Completion)
    assert len(plain.token_ids) <= 4
    assert client.create(Person, prompt="Ann is 30.", temperature=0.5)
    assert client.tokenizer is engine.tokenizer


def test_streams_of_a_client(engine: Engine) -> None:
    client = from_engine(engine)
    partials = list(client.create_partial(Person, messages=ASK))
    assert len(partials) > 3
    assert partials[-1] == client.create(Person, messages=ASK)
    assert list(client.create(Partial[Person], messages=ASK, stream=True))[-1] == partials[-1]
    people = list(client.create_iterable(Person, messages=ASK, max_tokens=300))
    assert people == client.create(Iterable[Person], messages=ASK, max_tokens=300)
    assert all(type(one) is Person for one in people)


async def test_an_async_engine_gives_awaitables() -> None:
    async with AsyncEngine("smollm2", threads=2, kv_cache_memory="64MB", max_model_len=1024) as engine:
        client = from_engine(engine)
        one, two = await asyncio.gather(*[client.create(Person, messages=ASK) for _ in range(2)])
        assert one == two
        partials = [part async for part in client.create_partial(Person, messages=ASK)]
        assert partials[-1] == one
        items = [item async for item in client.create_iterable(Person, messages=ASK, max_tokens=300)]
        assert all(type(item) is Person for item in items)


def test_what_an_engine_does_not_know_is_refused(engine: Engine) -> None:
    client = from_engine(engine)
    for wrong in ({"messages": ASK, "tools": []}, {}, {"messages": ASK, "prompt": "both"}):
        arguments: dict[str, Any] = wrong
        with pytest.raises(ParameterError):
            client.create(Person, **arguments)
    with pytest.raises(ParameterError):
        from_engine(engine, nonsense=1)
    with pytest.raises(ClientError):
        from_engine(object())
