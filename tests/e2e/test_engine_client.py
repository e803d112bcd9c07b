"""The engine behind a client's verbs: programs written for a provider's client run on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from pageform import AsyncEngine, Completion, Engine, ParameterError, SamplingParams, ToolCall
from pageform.clients import from_engine
from pageform.structured import Outcome, Partial, ValidationFailed
from pageform.structured.errors import ClientError

ASK = [{"role": "user", "content": "Ann Smith is 30 years old. Bob Jones is 41."}]


class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)


class People(BaseModel):
    people: list[Person] = Field(max_length=3)


@pytest.fixture(scope="module")
def client(engine: Engine) -> Any:
    return from_engine(engine)


def test_values_results_and_completions(client: Any) -> None:
    person = client.chat.completions.create(response_model=Person, messages=ASK, model="any", max_tokens=60)
    assert type(person) is Person
    same, completion = client.create_with_completion(Person, ASK, max_tokens=60)
    assert (same, type(completion)) == (person, Completion)
    outcome = client.messages.create_result(Person, ASK, max_completion_tokens=60)
    assert isinstance(outcome, Outcome)
    assert outcome.value == person
    assert outcome.usage == completion.usage
    assert outcome.usage.completion_tokens > 5


def test_what_streams_is_what_is_given_at_once(client: Any) -> None:
    person = client.create(Person, ASK, max_tokens=60)
    stream = client.create_partial(Person, ASK, max_tokens=60)
    shown = list(stream)
    assert len(shown) > 3
    assert shown[-1] == stream.outcome.value == person
    assert list(client.create(Partial[Person], ASK, max_tokens=60, stream=True))[-1] == person
    several: Any = list[Person]
    wanted = client.create(several, ASK, sampling=SamplingParams(max_tokens=150, temperature=0))
    assert list(client.create_iterable(Person, ASK, max_tokens=150)) == wanted
    assert list(client.create(Iterable[Person], ASK, max_tokens=150, stream=True)) == wanted


def test_tools_and_thoughts_pass_through(client: Any) -> None:
    options: Any = {"tools": [Person], "tool_choice": {"type": "function", "function": {"name": "Person"}}}
    completion = client.create(messages=ASK, max_tokens=70, reasoning=True, thinking_token_budget=3, **options)
    [call] = completion.tool_calls
    assert type(call.arguments) is Person
    assert completion.usage.details == {"reasoning_tokens": 3}
    parts = list(client.chat.completions.create(messages=ASK, max_tokens=70, stream=True, **options))
    assert [part.name for part in parts if isinstance(part, ToolCall)] == ["Person"]
    shown = list(client.create_partial(Person, ASK, max_tokens=70, reasoning=True, thinking_token_budget=3))
    assert {type(one).__name__ for one in shown} <= {"Person", "PartialPerson"}
    assert type(shown[-1]) is Person
    with pytest.raises(ParameterError, match="besides a response_model"):
        client.create(Person, ASK, **options)


def test_leaving_a_stream_aborts_the_request(client: Any, engine: Engine) -> None:
    with client.create_partial(People, ASK, max_tokens=150) as stream:
        next(stream)
    assert engine.generate("1", SamplingParams(max_tokens=1)).text is not None


def test_without_a_type_it_is_the_engines_own(client: Any, engine: Engine) -> None:
    completion = client.chat.completions.create(messages=ASK, max_tokens=4)
    assert isinstance(completion, Completion)
    assert completion.usage.completion_tokens == 4
    assert client.tokenizer is engine.tokenizer
    assert isinstance(client.chat(ASK, SamplingParams(max_tokens=2)), Completion)
    assert "".join(client.create(messages=ASK, max_tokens=4, temperature=0, stream=True))


def test_hooks_and_retries(client: Any) -> None:
    seen: list[str] = []
    client.on("end", lambda event: seen.append(str(event.name)))
    client.create(Person, ASK, max_tokens=60)
    client.clear()
    assert seen == ["end"]

    class Never(BaseModel):
        age: int = Field(ge=0, le=9)

        def model_post_init(self, context: Any) -> None:
            raise ValueError("never")

    with pytest.raises(ValidationFailed, match="never"):
        client.create(Never, ASK, max_retries=1, max_tokens=20, on_invalid="reask")


def test_what_the_engine_does_not_know_is_refused(client: Any) -> None:
    for match, ask in (
        ("tools", lambda: client.create(Person, ASK, tools=[])),
        ("given besides sampling", lambda: client.create(Person, ASK, sampling=SamplingParams(), top_p=0.5)),
        ("messages", lambda: client.create(Person)),
        ("needs one", lambda: client.create_result(None, ASK)),
        ("needs a response_model", lambda: client.create(messages=ASK, context={})),
        ("neither Partial nor Iterable", lambda: client.create(Person, ASK, stream=True)),
        ("temperature", lambda: client.create(Person, ASK, temperature=-1)),
    ):
        with pytest.raises(ParameterError, match=match):
            ask()
    with pytest.raises(ClientError):
        from_engine(object())
    with pytest.raises(AttributeError):
        _ = client.nothing


async def test_the_async_engine(engine: Engine) -> None:
    async with AsyncEngine("smollm2", threads=2, kv_cache_memory="64MB", max_model_len=2048) as other:
        client = from_engine(other, max_tokens=60)
        person = await client.create(Person, ASK)
        assert person == from_engine(engine).create(Person, ASK, max_tokens=60)
        assert [one async for one in client.create_partial(Person, ASK)][-1] == person
        wanted = await client.create(list[Person], ASK, max_tokens=150)
        assert [one async for one in client.create_iterable(Person, ASK, max_tokens=150)] == wanted
        stream = await client.create(Iterable[Person], ASK, max_tokens=150, stream=True)
        await anext(stream)
        await stream.aclose()
