"""What servers should never send: each ends in an error of its own kind, soon, and reaches no other call."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from people import ANN, ASK, GOOD, Person
from rigs import RIGS, Rig, said
from scripted_server import Cut, Gate, Reply, ScriptedServer, raw_reply, stream_reply
from wires import Called, Pieces, Said

from pageform.core.errors import PageformError
from pageform.structured import IncompleteOutput, Mode, NoToolCall, ProviderError, ValidationFailed, WrongTool

NAMES = ("anthropic", "cohere", "mistral", "google")
PAIRS = [pytest.param(RIGS[name], mode, id=f"{name}-{mode}") for name in NAMES for mode in RIGS[name].modes]
SDKS = ("anthropic", "cohere", "mistralai", "google")
pytestmark = pytest.mark.parametrize(("rig", "mode"), PAIRS)


@pytest.fixture
def server(rig: Rig) -> Iterator[ScriptedServer]:
    with rig.server() as running:
        yield running


@pytest.fixture
def client(rig: Rig, mode: Mode, server: ScriptedServer) -> Any:
    return rig.client(server.url, False, mode=mode, max_retries=0)


def typed(error: BaseException) -> bool:
    """Whether an error is of pageform or of an SDK, or rises from inside of one."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    inside = any(f"/site-packages/{sdk}/" in last for sdk in SDKS)
    return isinstance(error, PageformError) or type(error).__module__.split(".")[0] in SDKS or inside


def outcome_of(ask: Callable[[], Any]) -> Any:
    """What is given, or the error that is raised."""
    try:
        return ask()
    except Exception as error:
        return error


def call(client: Any, stream: bool) -> Any:
    return list(client.create_partial(Person, ASK))[-1] if stream else client.create(Person, ASK)


def reply(rig: Rig, mode: Mode, text: str, stream: bool) -> Reply:
    answer = said(mode, "Person", text)
    return rig.wire.stream(answer, Pieces(1000)) if stream else rig.wire.reply(answer)


@pytest.mark.parametrize("stream", [False, True])
def test_deep_nesting(rig: Rig, mode: Mode, server: ScriptedServer, client: Any, stream: bool) -> None:
    """Deeper than any parser goes. Formats that carry arguments as objects are parsed by the SDKs themselves."""
    deep = b"[" * 10_000 + b"]" * 10_000
    made = reply(rig, mode, '{"name": "deep", "age": 30}', stream)
    parts = [
        part.replace(b'\\"deep\\"', deep).replace(b'"deep"', deep) for part in made.parts if isinstance(part, bytes)
    ]
    server.say(replace(made, parts=parts))
    begun = time.monotonic()
    with pytest.raises(Exception, match=r".") as caught:
        call(client, stream)
    assert isinstance(caught.value, (ValidationFailed, ProviderError)), repr(caught.value)
    assert time.monotonic() - begun < 20


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_ten_megabytes(rig: Rig, mode: Mode, server: ScriptedServer, client: Any, stream: bool) -> None:
    name = "".join(map(str, range(1_600_000)))[:10_000_000]
    text = json.dumps({"name": name, "age": 30})
    answer = said(mode, "Person", text)
    server.say(rig.wire.stream(answer, Pieces(50_000)) if stream else rig.wire.reply(answer))
    begun = time.monotonic()
    assert call(client, stream).name == name
    assert time.monotonic() - begun < 20


def test_bytes_that_are_no_text(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    whole = rig.wire.reply(said(mode, "Person", GOOD))
    broken = [part.replace(b"Ann", b"A\xff\xfen") for part in whole.parts if isinstance(part, bytes)]
    server.say(raw_reply(*broken))
    got = outcome_of(lambda: client.create(Person, ASK))
    assert typed(got) if isinstance(got, Exception) else "�" in got.name, "some SDKs replace what they can't decode"
    server.say(rig.wire.reply(said(mode, "Person", GOOD)))
    assert client.create(Person, ASK) == ANN


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>Bad gateway</html>", b"{}"])
def test_no_answer_at_all(rig: Rig, mode: Mode, server: ScriptedServer, client: Any, body: bytes) -> None:
    server.say(raw_reply(body))
    with pytest.raises(Exception, match=r".") as caught:
        client.create(Person, ASK)
    assert typed(caught.value), repr(caught.value)


@pytest.mark.parametrize("end", [Cut(), None])
def test_streams_that_break_off(rig: Rig, mode: Mode, server: ScriptedServer, client: Any, end: Cut | None) -> None:
    text = '{"name":"Ann","age":30' + " " * 8 + "}"
    if end is None:
        server.say(rig.wire.stream(said(mode, "Person", text, finish=None), Pieces(8)))
    else:
        server.say(
            rig.wire.stream(said(mode, "Person", text), Pieces(8, {4: end} if not _at_once(rig, mode) else {1: end}))
        )
    with pytest.raises(IncompleteOutput) as caught:
        call(client, True)
    assert caught.value.partial.name == "Ann"
    assert len(server.requests) == 1


def test_an_empty_stream(rig: Rig, mode: Mode, server: ScriptedServer, client: Any) -> None:
    server.say(stream_reply([]))
    with pytest.raises(Exception, match=r".") as caught:
        call(client, True)
    assert typed(caught.value), repr(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_other_tools_and_none(rig: Rig, mode: Mode, server: ScriptedServer, client: Any, stream: bool) -> None:
    speak = rig.wire.stream if stream else rig.wire.reply
    server.say(speak(Said(calls=(Called("Animal", '{"legs": 4}'),))), speak(Said("I do not know.")))
    for error in (WrongTool, NoToolCall):
        with pytest.raises(ValidationFailed) as caught:
            call(client, stream)
        assert isinstance(caught.value.attempts[-1].error, error) is (mode is Mode.TOOLS)


def _at_once(rig: Rig, mode: Mode) -> bool:
    return rig.calls_at_once and mode is Mode.TOOLS


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_who_leaves_a_stream_hangs_up(rig: Rig, mode: Mode, server: ScriptedServer, asynchronous: bool) -> None:
    text = json.dumps([{"name": "Ann", "age": 30}, {"name": "Bob", "age": 40}])
    text = text if mode is Mode.TEXT else f'{{"tasks": {text}}}'
    calls = (Called("list_Person", text),)
    answer = Said(calls=calls) if mode is Mode.TOOLS else Said(text)
    held = rig.wire.stream(answer, Pieces(text.index("Bob"), {1: Gate()}))
    server.say(held)
    client = rig.client(server.url, asynchronous, mode=mode)
    people = client.create_iterable(Person, ASK)
    assert (await anext(people) if asynchronous else next(people)) == ANN
    await people.aclose() if asynchronous else people.close()
    assert await asyncio.to_thread(held.hung_up.wait, 10)
