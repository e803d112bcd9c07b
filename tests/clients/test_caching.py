"""Cached answers, through real SDKs to scripted servers: what is asked again and what is not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from people import ANN, ASK, GOOD, YOUNG, Person, Search, Weather
from rigs import RIGS, Rig, said
from scripted_server import ScriptedServer
from wires import Called, Said

from pageform.clients.cached import FROM_CACHE
from pageform.core.completion import Usage
from pageform.core.errors import ParameterError
from pageform.structured import IncompleteOutput, Mode, ValidationFailed
from pageform.structured.cache import MemoryCache
from pageform.structured.cache_disk import DiskCache

OTHER = [{"role": "user", "content": "And who is there?"}]


def says(rig: Rig, *texts: str, stream: bool = False) -> list[Any]:
    make = rig.wire.stream if stream else rig.wire.reply
    return [make(said(rig.modes[0], "Person", text)) for text in texts]


@pytest.mark.parametrize("rig", RIGS.values(), ids=RIGS.keys())
def test_the_same_request_is_sent_once(rig: Rig, tmp_path: Path) -> None:
    with rig.server() as server:
        server.say(*says(rig, YOUNG, GOOD))
        client = rig.client(server.url, False, cache=DiskCache(tmp_path))
        first, second = (client.create_result(Person, ASK) for _ in range(2))
        assert len(server.requests) == 2  # of the first call: it took two attempts
        assert first.value == second.value == ANN
        assert first.value is not second.value
        assert type(second.value) is Person
        assert FROM_CACHE in second.notes
        assert FROM_CACHE not in first.notes
        assert first.usage.total_tokens > 0
        assert second.usage == Usage()
        assert [attempt.error for attempt in second.attempts] == [None]
        server.say(*says(rig, GOOD))
        assert client.create(Person, OTHER) == ANN
        assert len(server.requests) == 3


async def test_async_clients_share_with_sync_ones(tmp_path: Path) -> None:
    rig = RIGS["openai"]
    for cache in (MemoryCache(), DiskCache(tmp_path)):
        with rig.server() as server:
            server.say(*says(rig, GOOD))
            assert rig.client(server.url, False, cache=cache).create(Person, ASK) == ANN
            later = rig.client(server.url, True, cache=cache)
            assert await later.create(Person, ASK) == ANN
            assert [one async for one in later.create_partial(Person, ASK)] == [ANN]
            assert len(server.requests) == 1


def test_streams_are_kept_when_they_are_complete(chat: ScriptedServer, wire: Any) -> None:
    cache = MemoryCache()
    client = RIGS["openai"].client(chat.url, False, cache=cache)
    good = said(client.modes[0], "Person", GOOD)
    chat.say(wire.stream(good))
    stream = client.create_partial(Person, ASK)
    next(stream)
    stream.close()
    assert len(cache) == 0
    chat.say(wire.stream(good))
    shown = list(client.create_partial(Person, ASK))
    assert len(shown) > 1
    assert len(cache) == 1
    stream = client.create_partial(Person, ASK)
    assert list(stream) == [ANN]
    assert FROM_CACHE in stream.outcome.notes
    assert client.create(Person, ASK) == ANN  # an answer is an answer, streamed or not
    assert len(chat.requests) == 2


def test_items_come_one_by_one_from_the_cache_too(chat: ScriptedServer, wire: Any) -> None:
    client = RIGS["openai"].client(chat.url, False, cache=MemoryCache(), mode="text")
    people = '[{"name":"Ann","age":30},{"name":"Bo","age":40}]'
    chat.say(wire.stream(Said(people)))
    first, second = (list(client.create_iterable(Person, ASK)) for _ in range(2))
    assert first == second == [ANN, Person(name="Bo", age=40)]
    assert client.create(Iterable[Person], ASK) == first
    assert len(chat.requests) == 1


def test_parallel_calls_are_kept_whole(chat: ScriptedServer, wire: Any) -> None:
    client = RIGS["openai"].client(chat.url, False, cache=MemoryCache())
    calls = (Called("Weather", '{"city":"Rome"}', "1"), Called("Search", '{"query":"cats"}', "2"))
    chat.say(wire.reply(Said(calls=calls)))
    for _ in range(2):
        assert client.create(Iterable[Weather | Search], ASK) == [Weather(city="Rome"), Search(query="cats")]
    assert len(chat.requests) == 1


def test_the_response_has_its_fields(chat: ScriptedServer, wire: Any) -> None:
    client = RIGS["openai"].client(chat.url, False, cache=MemoryCache())
    chat.say(wire.reply(said(client.modes[0], "Person", GOOD)))
    (_, first), (_, second) = (client.create_with_completion(Person, ASK) for _ in range(2))
    assert second.id == first.id
    assert second.choices[0].message.tool_calls[0].function.arguments == GOOD
    assert second.usage.prompt_tokens == first.usage.prompt_tokens


def test_what_failed_is_not_kept(chat: ScriptedServer, wire: Any) -> None:
    cache = MemoryCache()
    client = RIGS["openai"].client(chat.url, False, cache=cache, max_retries=0)
    mode = client.modes[0]
    for bad, error in (
        (said(mode, "Person", YOUNG), ValidationFailed),
        (said(mode, "Person", GOOD[:-3], finish="length"), IncompleteOutput),
        (Said(refusal="no"), ValidationFailed),
    ):
        chat.say(wire.reply(bad))
        with pytest.raises(error):
            client.create(Person, ASK)
    assert len(cache) == 0


def test_whatever_changes_the_request_or_the_caller_asks_anew(chat: ScriptedServer, wire: Any) -> None:
    cache, rig = MemoryCache(), RIGS["openai"]

    class Other(Person):
        pass

    def ask(
        response_model: Any = Person, messages: Any = ASK, url: str = chat.url, key: str = "key", **options: Any
    ) -> None:
        import openai

        from pageform.clients import from_openai

        sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        before = len(chat.requests)
        mode = Mode(options.get("mode", rig.modes[0]))
        name = response_model.__name__
        chat.say(wire.reply(said(mode, name, GOOD)))
        from_openai(sdk, model="m", cache=cache).create(response_model, messages, **options)
        assert len(chat.requests) == before + 1

    ask()
    ask(messages=OTHER)
    ask(Other)
    ask(key="another key")
    ask(temperature=0.5)
    ask(mode="text")
    ask(cache_namespace="tenant a")
    ask(cache_namespace="tenant b")
    ask(context={"n": 1}, messages=[{"role": "user", "content": "{{ n }}"}])
    ask(context={"n": 2}, messages=[{"role": "user", "content": "{{ n }}"}])
    ask(cache=False)
    assert len(cache) == 10


def test_a_namespace_is_shared_over_keys(chat: ScriptedServer, wire: Any) -> None:
    import openai

    from pageform.clients import from_openai

    cache = MemoryCache()
    chat.say(wire.reply(said(RIGS["openai"].modes[0], "Person", GOOD)))
    for key in ("one", "two"):
        sdk = openai.OpenAI(base_url=f"{chat.url}/v1", api_key=key, max_retries=0)
        assert from_openai(sdk, model="m", cache=cache, cache_namespace="us").create(Person, ASK) == ANN
    assert len(chat.requests) == 1


def test_clients_without_visible_keys_share_with_nobody() -> None:
    rig, cache = RIGS["litellm"], MemoryCache()
    with rig.server() as server:
        server.say(*says(rig, GOOD, GOOD))
        one, two = (rig.client(server.url, False, cache=cache) for _ in range(2))
        for _ in range(2):
            assert one.create(Person, ASK) == two.create(Person, ASK) == ANN
        assert len(server.requests) == 2


def test_an_answer_that_is_no_longer_valid_is_asked_for_again(chat: ScriptedServer, wire: Any) -> None:
    from pydantic import BaseModel, ValidationInfo, field_validator

    class Guest(BaseModel):
        name: str
        age: int

        @field_validator("age")
        @classmethod
        def old_enough(cls, value: int, info: ValidationInfo) -> int:
            if value < (info.context or {}).get("least", 0):
                raise ValueError("too young")
            return value

    client = RIGS["openai"].client(chat.url, False, cache=MemoryCache())
    answers = [said(client.modes[0], "Guest", f'{{"name":"Ann","age":{age}}}') for age in (20, 50)]
    chat.say(*map(wire.reply, answers))
    assert client.create(Guest, ASK).age == 20
    assert client.create(Guest, ASK, context={"least": 10}).age == 20
    assert client.create(Guest, ASK, context={"least": 40}).age == 50
    assert client.create(Guest, ASK).age == 50
    assert len(chat.requests) == 2


def test_lifetimes(chat: ScriptedServer, wire: Any) -> None:
    now = [0.0]
    client = RIGS["openai"].client(chat.url, False, cache=MemoryCache(clock=lambda: now[0]), cache_ttl=10)
    chat.say(*[wire.reply(said(client.modes[0], "Person", GOOD)) for _ in range(2)])
    for second, requests in ((0, 1), (9, 1), (10, 2), (19, 2)):
        now[0] = second
        client.create(Person, ASK)
        assert len(chat.requests) == requests


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"cache": object()}, "cache"),
        ({"cache": "folder"}, "cache"),
        ({"cache": MemoryCache(), "cache_ttl": 0}, "cache_ttl"),
        ({"cache": MemoryCache(), "cache_namespace": ""}, "cache_namespace"),
        ({"cache": MemoryCache(), "extra_headers": {"x": object()}}, "cache"),
    ],
)
def test_odd_options_are_errors_before_anything_is_sent(
    chat: ScriptedServer, client: Any, options: Any, field: str
) -> None:
    for verb in (client.create, client.create_partial, client.create_iterable):
        with pytest.raises(ParameterError) as caught:
            verb(Person, ASK, **options)
        assert caught.value.field == field
    assert chat.requests == []


class Broken:
    def get(self, key: str) -> str:
        raise ConnectionError("down")

    set = get


def test_a_cache_that_fails_costs_a_warning(chat: ScriptedServer, wire: Any) -> None:
    client = RIGS["openai"].client(chat.url, False, cache=Broken())
    chat.say(wire.reply(said(client.modes[0], "Person", GOOD)))
    with pytest.warns(RuntimeWarning, match="cache failed"):
        assert client.create(Person, ASK) == ANN


class Slow(MemoryCache):
    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def get(self, key: str) -> str | None:
        self.threads.append(threading.get_ident())
        time.sleep(0.3)
        return super().get(key)


async def test_a_slow_cache_does_not_hold_up_the_event_loop(chat: ScriptedServer, wire: Any) -> None:
    cache = Slow()
    client = RIGS["openai"].client(chat.url, True, cache=cache)
    chat.say(wire.reply(said(client.modes[0], "Person", GOOD)))
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not done:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - before)

    watching = asyncio.create_task(watch())
    assert [await client.create(Person, ASK) for _ in range(2)] == [ANN, ANN]
    done = True
    await watching
    assert longest < 0.25
    assert threading.get_ident() not in cache.threads
    assert len(chat.requests) == 1
