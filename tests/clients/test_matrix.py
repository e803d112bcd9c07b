"""Every service does everything: one set of tests for all rows of the table, in each of their modes.

The page docs/providers.md is made of what passes here (see conftest.py). A feature is a test's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from people import ANN, ASK, GOOD, YOUNG, Person, Search, Weather, names
from rigs import RIGS, Rig, said
from scripted_server import Gate, Reply, ScriptedServer
from wires import Called, Pieces, Said

from pageform.core.completion import Usage
from pageform.structured import Mode, Partial, Spec, ValidationFailed

PAIRS = [pytest.param(rig, mode, id=f"{rig.name}-{mode}") for rig in RIGS.values() for mode in rig.modes]
pytestmark = [pytest.mark.parametrize(("rig", "mode"), PAIRS)]

Client = Callable[..., Any]


@pytest.fixture
def server(rig: Rig) -> Iterator[ScriptedServer]:
    with rig.server() as running:
        yield running


@pytest.fixture
def client(rig: Rig, mode: Mode, server: ScriptedServer) -> Any:
    return rig.client(server.url, False, mode=mode)


def whole(rig: Rig, mode: Mode, response_type: Any, arguments: str, **more: Any) -> Reply:
    return rig.wire.reply(said(mode, Spec.of(response_type).tool_name, arguments, **more))


def stream(rig: Rig, mode: Mode, response_type: Any, arguments: str, pieces: Pieces = Pieces(), **more: Any) -> Reply:  # noqa: B008
    return rig.wire.stream(said(mode, Spec.of(response_type).tool_name, arguments, **more), pieces)


def listed(mode: Mode, items: list[Any]) -> str:
    """A list as the model writes it: in an envelope where only objects are taken."""
    return json.dumps(items if mode is Mode.TEXT else {"tasks": items})


def begun(rig: Rig, mode: Mode) -> tuple[str, int | None]:
    """What is known of Ann after the first eleven characters."""
    return ("Ann", 30) if rig.calls_at_once and mode is Mode.TOOLS else ("An", None)


def test_create(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    server.say(whole(rig, mode, Person, GOOD))
    assert client.chat.completions.create(response_model=Person, messages=ASK) == ANN
    server.say(*[whole(rig, mode, Person, GOOD) for _ in range(2)])
    person, response = client.create_with_completion(Person, ASK)
    assert type(person) is Person
    outcome = client.create_result(Person, ASK)
    assert (outcome.value, type(outcome.response)) == (ANN, type(response))
    server.say(whole(rig, mode, int, "7" if mode is Mode.TEXT else '{"content":7}'))
    assert client.create(int, ASK) == 7
    shown = json.dumps(server.requests[0].json)
    assert "Who is there?" in shown
    assert "age" in shown, "the model is told what to answer with"


def test_retry(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    server.say(whole(rig, mode, Person, YOUNG), whole(rig, mode, Person, "Sorry!"), whole(rig, mode, Person, GOOD))
    outcome = client.create_result(Person, ASK, max_retries=2)
    assert outcome.value == ANN
    assert len(outcome.attempts) == 3
    first, second, third = (json.dumps(request.json, ensure_ascii=False) for request in server.requests)
    assert "too young" in second
    assert "too young" not in first + third
    assert "Sorry!" in third
    server.say(*[whole(rig, mode, Person, YOUNG) for _ in range(2)])
    with pytest.raises(ValidationFailed) as caught:
        client.create(Person, ASK, max_retries=1)
    assert [fault["loc"] for fault in caught.value.errors()] == [("age",)]


def test_partial(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    gate = Gate()
    server.say(stream(rig, mode, Person, GOOD, Pieces(11, {1: gate})))
    growing = client.create_partial(Person, ASK)
    first = next(growing)
    assert (first.name, first.age) == begun(rig, mode), "shown before the rest was sent"
    gate.open()
    assert [*growing][-1] == ANN
    server.say(stream(rig, mode, Person, YOUNG), stream(rig, mode, Person, GOOD))
    shown = list(client.create(Partial[Person], ASK, stream=True))
    assert next(one.age for one in shown if one.age is not None) == 3
    assert shown[-1] == ANN


def test_iterable(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    good, bad = names(("Ann", 30), ("Bob", 40), ("Eve", 50)), names(("Ann", 30), ("Bob", 4), ("Eve", 50))
    gate = Gate()
    text = listed(mode, good)
    server.say(stream(rig, mode, list[Person], text, Pieces(text.index("Bob"), {1: gate})))
    people = client.create_iterable(Person, ASK)
    assert next(people) == ANN, "given before the rest was sent"
    gate.open()
    assert [person.name for person in people] == ["Bob", "Eve"]
    server.say(stream(rig, mode, list[Person], listed(mode, bad)), stream(rig, mode, list[Person], listed(mode, good)))
    people = client.create(Iterable[Person], ASK, stream=True)
    assert [person.age for person in people] == [30, 40, 50]
    assert "too young" in json.dumps(server.requests[-1].json)
    server.say(whole(rig, mode, list[Person], listed(mode, good)))
    assert [person.name for person in client.create(list[Person], ASK)] == ["Ann", "Bob", "Eve"]


async def test_async(rig: Rig, mode: Mode, server: ScriptedServer) -> None:
    client = rig.client(server.url, True, mode=mode)
    server.say(whole(rig, mode, Person, YOUNG), whole(rig, mode, Person, GOOD))
    assert await client.chat.completions.create(response_model=Person, messages=ASK) == ANN
    gate = Gate()
    server.say(stream(rig, mode, Person, GOOD, Pieces(11, {1: gate})))
    growing = client.create_partial(Person, ASK)
    first = await anext(growing)
    assert (first.name, first.age) == begun(rig, mode), "shown before the rest was sent"
    gate.open()
    assert [one async for one in growing][-1] == ANN
    server.say(stream(rig, mode, list[Person], listed(mode, names(("Ann", 30), ("Bob", 40)))))
    assert [one.name async for one in client.create_iterable(Person, ASK)] == ["Ann", "Bob"]
    server.say(rig.wire.error(400))
    with pytest.raises(rig.error):
        await client.create(Person, ASK)


def test_parallel(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    both: Any = Iterable[Weather | Search]
    wanted = [Weather(city="Oslo"), Search(query="rain")]
    if mode is not Mode.TOOLS:
        text = listed(mode, [one.model_dump() for one in wanted])
        server.say(rig.wire.reply(Said(text)), rig.wire.stream(Said(text)))
    else:
        calls = (Called("Weather", '{"city":"Oslo"}', "call_1"), Called("Search", '{"query":"rain"}', "call_2"))
        wrong = (calls[0], Called("Search", '{"query":null}', "call_2"))
        server.say(rig.wire.reply(Said(calls=wrong)), rig.wire.reply(Said(calls=calls)))
        assert list(client.create(both, ASK)) == wanted
        assert "Input should be a valid string" in json.dumps(server.requests[-1].json)
        server.say(rig.wire.reply(Said(calls=calls)), rig.wire.stream(Said(calls=calls)))
    assert list(client.create(both, ASK)) == wanted
    assert list(client.create_iterable(both, ASK)) == wanted


def test_usage(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    server.say(
        whole(rig, mode, Person, YOUNG, usage=(10, 5, 4)),
        whole(rig, mode, Person, GOOD, usage=(100, 7, 0)),
        stream(rig, mode, Person, GOOD, usage=(10, 5, 4)),
    )
    cached = 4 if rig.tells_cached else 0
    used = client.create_result(Person, ASK).usage
    assert (used.prompt_tokens, used.completion_tokens, used.cached_tokens) == (110, 12, cached)
    growing = client.create_partial(Person, ASK)
    list(growing)
    used = growing.outcome.usage
    assert (used.prompt_tokens, used.completion_tokens, used.cached_tokens) == (10, 5, cached)
    assert Usage() != used


def test_errors(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    seen: list[Exception] = []
    client.on("completion_error", lambda event: seen.append(event.error))
    server.say(*[rig.wire.error(400, "no such model") for _ in range(3)])
    for ask in (client.create, client.create_partial, client.create_iterable):
        with pytest.raises(rig.error, match="no such model") as caught:
            list(ask(Person, ASK))
        assert seen.pop() is caught.value, "told to the hooks and raised unchanged"
    assert len(server.requests) == 3, "an error of the provider is not asked again"
