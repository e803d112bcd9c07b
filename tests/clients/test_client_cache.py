"""Answers from a cache, through a client: what is kept, for whom, and what hooks hear of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from people import ANN, ASK, GOOD, YOUNG, Person
from rigs import said
from scripted_server import ScriptedServer
from wire_openai_chat import OpenAIChatWire

from pageform.clients import from_openai
from pageform.core.errors import ParameterError
from pageform.structured import Mode, ValidationFailed
from pageform.structured.cache import MemoryCache
from pageform.structured.cache_disk import DiskCache

GOOD_SAID = said(Mode.TOOLS, "Person", GOOD)
YOUNG_SAID = said(Mode.TOOLS, "Person", YOUNG)
PEOPLE_SAID = said(Mode.TOOLS, "list_Person", f'{{"tasks":[{GOOD},{GOOD}]}}')
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


async def told(value: Any) -> Any:
    """What a verb gives, of a sync or an async client; of streams all they show."""
    if hasattr(value, "__aiter__"):
        return [one async for one in value]
    if hasattr(value, "__await__"):
        return await value
    return list(value) if hasattr(value, "__next__") else value


class Watched(MemoryCache):
    """Notes in which threads it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.blocking = True  # type: ignore[misc]
        self.threads: list[int] = []

    def get(self, key: str) -> str | None:
        self.threads.append(threading.get_ident())
        return super().get(key)

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        self.threads.append(threading.get_ident())
        super().set(key, value, ttl)


@BOTH
async def test_an_answer_is_asked_for_once(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, later: Any, asynchronous: bool, tmp_path: Path
) -> None:
    mine = later if asynchronous else client
    for cache in (MemoryCache(), DiskCache(tmp_path)):
        chat.say(wire.reply(GOOD_SAID))
        first = await told(mine.create_result(Person, ASK, cache=cache))
        second = await told(mine.create_result(Person, ASK, cache=cache))
        assert (first.cached, second.cached) == (False, True)
        assert first.value == second.value == await told(mine.create(Person, ASK, cache=cache)) == ANN
        assert first.value is not second.value
        assert (first.usage.total_tokens, second.usage.total_tokens) == (15, 0)
        value, response = await told(mine.create_with_completion(Person, ASK, cache=cache))
        assert response.choices[0].message.tool_calls[0].function.arguments == GOOD
        assert value == ANN


def test_only_valid_answers_are_kept(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    cache = MemoryCache()
    chat.say(wire.reply(YOUNG_SAID), wire.reply(said(Mode.TOOLS, "Person", GOOD, finish="length")))
    for _ in range(2):
        with pytest.raises(Exception, match=r"no valid|broke off|length"):
            client.create(Person, ASK, cache=cache, max_retries=0)
    assert len(cache) == 0
    chat.say(wire.reply(YOUNG_SAID), wire.reply(GOOD_SAID))
    assert len(client.create_result(Person, ASK, cache=cache).attempts) == 2
    again = client.create_result(Person, ASK, cache=cache)
    assert (again.value, again.cached, len(again.attempts)) == (ANN, True, 1)


def test_what_is_valid_no_longer_is_a_miss(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    from pydantic import BaseModel, ValidationInfo, field_validator

    class Guest(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def known(cls, value: str, info: ValidationInfo) -> str:
            if value not in (info.context or {})["guests"]:
                raise ValueError("no guest")
            return value

    cache = MemoryCache()
    for name in ("Ann", "Bob"):
        chat.say(wire.reply(said(Mode.TOOLS, "Guest", f'{{"name":"{name}"}}')))
        for cached in (False, True):
            outcome = client.create_result(Guest, ASK, cache=cache, context={"guests": [name]})
            assert (outcome.value.name, outcome.cached) == (name, cached)


def test_other_requests_and_other_clients_have_other_answers(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    cache = MemoryCache()

    def other(key: str, **options: Any) -> Any:
        sdk = openai.OpenAI(base_url=f"{chat.url}/v1", api_key=key, max_retries=0)
        return from_openai(sdk, model="m", cache=cache, **options)

    asks = [
        lambda: client.create_result(Person, ASK, cache=cache),
        lambda: client.create_result(Person, ASK, cache=cache, temperature=0.5),
        lambda: client.create_result(Person, [{"role": "user", "content": "Who else?"}], cache=cache),
        lambda: other("another").create_result(Person, ASK),
        lambda: other("another", cache_namespace="a").create_result(Person, ASK),
        lambda: other("another", cache_namespace="b").create_result(Person, ASK),
    ]
    chat.say(*[wire.reply(GOOD_SAID) for _ in asks])
    assert [ask().cached for ask in asks] == [False] * len(asks)
    assert [ask().cached for ask in asks] == [True] * len(asks)
    assert other("third", cache_namespace="a").create_result(Person, ASK).cached
    templates = [{"role": "user", "content": "{{ who }}"}]
    chat.say(wire.reply(GOOD_SAID), wire.reply(GOOD_SAID))
    for who in ("Ann", "Bob"):
        assert not client.create_result(Person, templates, cache=cache, context={"who": who}).cached


@BOTH
@pytest.mark.parametrize("verb", ["create_partial", "create_iterable"])
async def test_complete_streams_are_kept(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, later: Any, asynchronous: bool, verb: str
) -> None:
    cache, ask = Watched(), getattr(later if asynchronous else client, verb)
    answer = GOOD_SAID if verb == "create_partial" else PEOPLE_SAID
    chat.say(wire.stream(answer))
    left = ask(Person, ASK, cache=cache)
    await (anext(left) if asynchronous else told(next(left)))
    await told(left.close())
    assert len(cache) == 0, "a stream that was left is not kept"
    chat.say(wire.stream(answer))
    first = await told(ask(Person, ASK, cache=cache))
    stream = ask(Person, ASK, cache=cache)
    second = await told(stream)
    assert stream.outcome.cached
    assert second == ([ANN] if verb == "create_partial" else [ANN, ANN])
    assert first[-1] == second[-1]
    assert (threading.get_ident() in cache.threads) is not asynchronous


@BOTH
async def test_hooks_hear_of_cached_answers(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, later: Any, asynchronous: bool
) -> None:
    mine, events = later if asynchronous else client, []

    async def note(event: Any) -> None:
        events.append(event)

    chat.say(wire.reply(GOOD_SAID))
    hooks = {"*": note if asynchronous else events.append}
    for _ in range(2):
        await told(mine.create(Person, ASK, cache=MEMORY, hooks=hooks))
    MEMORY.clear()
    assert [str(event.name) for event in events] == ["kwargs", "response", "usage", "end", "response", "end"]
    assert [event.cached for event in events] == [False] * 4 + [True] * 2
    assert events[-1].value == ANN
    assert events[-1].total_usage.total_tokens == 0
    assert events[-2].response.id == "chatcmpl-1"
    assert events[-1].ok


MEMORY = MemoryCache()


def test_a_cached_call_is_one_span(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from pageform.structured import opentelemetry_hooks

    provider, spans, cache = TracerProvider(), InMemorySpanExporter(), MemoryCache()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    chat.say(wire.reply(GOOD_SAID))
    client.create(Person, ASK, cache=cache, hooks=opentelemetry_hooks(provider))
    spans.clear()
    client.create(Person, ASK, cache=cache, hooks=opentelemetry_hooks(provider))
    (span,) = spans.get_finished_spans()
    assert dict(span.attributes or {})["pageform.cached"] is True


def test_lifetimes_and_switching_off(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    now = [0.0]
    cache = MemoryCache(clock=lambda: now[0])
    mine = from_openai(client.client, model="m", cache=cache, cache_ttl=10)
    chat.say(*[wire.reply(GOOD_SAID) for _ in range(3)])
    seen = [mine.create_result(Person, ASK).cached, mine.create_result(Person, ASK).cached]
    seen.append(mine.create_result(Person, ASK, cache=False).cached)
    now[0] = 10.0
    seen.append(mine.create_result(Person, ASK).cached)
    assert seen == [False, True, False, False]


@BOTH
async def test_a_cache_that_fails_is_a_warning_and_a_miss(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, later: Any, asynchronous: bool
) -> None:
    class Broken:
        def get(self, key: str) -> str | None:
            raise ConnectionError("the cache is down")

        def set(self, key: str, value: str, ttl: float | None = None) -> None:
            raise ConnectionError("the cache is down")

    chat.say(wire.reply(GOOD_SAID))
    with pytest.warns(RuntimeWarning, match="the cache is down"):
        assert await told((later if asynchronous else client).create(Person, ASK, cache=Broken())) == ANN


def test_what_is_no_cache_is_refused_before_anything_is_sent(chat: ScriptedServer, client: Any) -> None:
    for wrong in (
        {"cache": True},
        {"cache": object()},
        {"cache": MemoryCache(), "cache_ttl": -1},
        {"cache": MemoryCache(), "cache_namespace": ""},
        {"cache": MemoryCache(), "extra_body": {"odd": object()}},
    ):
        with pytest.raises(ParameterError, match="cache"):
            client.create(Person, ASK, **wrong)
    assert chat.requests == []


def test_a_rejected_answer_never_enters_by_another_call(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    cache = MemoryCache()
    chat.say(wire.reply(YOUNG_SAID), wire.reply(YOUNG_SAID))
    with pytest.raises(ValidationFailed):
        client.create(Person, ASK, cache=cache, max_retries=1)
    assert len(cache) == 0
