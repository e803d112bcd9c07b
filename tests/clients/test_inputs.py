"""Media and templates in messages, through real SDKs to scripted servers, which check requests by the SDKs' types."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import time
from typing import Any

import pytest
from hostile_server import INTERNET, answer, guard, serving
from media_samples import pdf, png, wav
from people import ANN, GOOD, YOUNG, Person
from rigs import RIGS, Rig, said
from scripted_server import ScriptedServer
from wires import Said

from pageform.clients.encode import UnsupportedMedia
from pageform.media import PDF, Audio, FetchRefused, Guard, Image

PNG = png()
IMAGE = Image.from_bytes(PNG)
SEEN = base64.b64encode(PNG).decode()
LOOK = [{"role": "user", "content": ["Who is this?", IMAGE]}]


def reply(rig: Rig, server: ScriptedServer, *texts: str) -> Any:
    mode = rig.modes[0]
    server.say(*[rig.wire.reply(said(mode, "Person", text)) for text in texts])
    return rig.client(server.url, False)


def sent(server: ScriptedServer, number: int = -1) -> str:
    return json.dumps(server.requests[number].json)


def pictures(server: ScriptedServer, number: int) -> int:
    """How often a request holds the picture; Google's SDK writes base64 for URLs."""
    return sent(server, number).replace("-", "+").replace("_", "/").count(SEEN)


@pytest.mark.parametrize("rig", RIGS.values(), ids=RIGS.keys())
def test_an_image_reaches_every_provider_and_stays_when_it_is_asked_again(rig: Rig) -> None:
    if rig.name == "cohere-v1":
        pytest.skip("version 1 has no parts in messages")
    messages = copy.deepcopy(LOOK)
    with rig.server() as server:
        client = reply(rig, server, YOUNG, GOOD)
        assert client.create(Person, messages) == ANN
        assert messages == LOOK
        for number in (0, 1):
            assert pictures(server, number) == 1
            assert "Who is this?" in sent(server, number)


@pytest.mark.parametrize("name", ["openai", "anthropic", "cohere", "mistral", "google"])
async def test_an_image_in_async_and_in_streams(name: str) -> None:
    rig = RIGS[name]
    with rig.server() as server:
        mode = rig.modes[0]
        server.say(rig.wire.reply(said(mode, "Person", GOOD)), rig.wire.stream(said(mode, "Person", GOOD)))
        client = rig.client(server.url, True)
        assert await client.create(Person, LOOK) == ANN
        assert [one async for one in client.create_partial(Person, LOOK)][-1] == ANN
        assert all(pictures(server, number) == 1 for number in (0, 1))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("anthropic", Audio.from_bytes(wav())),
        ("cohere", Audio.from_bytes(wav())),
        ("cohere", PDF.from_bytes(pdf())),
        ("google", Image.from_bytes(b"GIF89a\x01\0\x01\0\0\0\0;")),
    ],
)
def test_what_a_provider_cannot_take_is_not_sent(name: str, part: Any) -> None:
    rig = RIGS[name]
    with rig.server() as server:
        client = reply(rig, server)
        with pytest.raises(UnsupportedMedia) as caught:
            client.create(Person, [{"role": "user", "content": ["Hi", part]}])
        assert caught.value.field == "messages[0].content[1]"
        assert server.requests == []


def test_documents_and_recordings(chat: ScriptedServer, wire: Any, client: Any) -> None:
    chat.say(wire.reply(said(client.modes[0], "Person", GOOD)))
    parts = ["Read and listen", PDF.from_bytes(pdf(), name="a.pdf"), Audio.from_bytes(wav())]
    assert client.create(Person, [{"role": "user", "content": parts}]) == ANN
    [message] = chat.requests[0].json["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "file", "input_audio"]


def test_without_a_type_media_are_spelled_too(chat: ScriptedServer, wire: Any, client: Any) -> None:
    chat.say(wire.reply(Said("A red square.")))
    assert client.chat.completions.create(messages=LOOK).choices[0].message.content == "A red square."
    assert sent(chat).count(SEEN) == 1


async def test_without_a_type_in_async(chat: ScriptedServer, wire: Any, later: Any) -> None:
    chat.say(wire.reply(Said("A tone.")))
    with serving(INTERNET, answer(wav())) as files:
        listening = RIGS["openai"].client(chat.url, True, guard=guard())
        audio = Audio.from_url(f"http://cdn.example:{files.port}/a.wav")
        completion = await listening.chat.completions.create(messages=[{"role": "user", "content": ["Hi", audio]}])
    assert completion.choices[0].message.content == "A tone."
    assert base64.b64encode(wav()).decode() in sent(chat)


# --- fetching --------------------------------------------------------------------------------------------------------


def test_what_must_be_fetched_goes_through_the_guard(chat: ScriptedServer, wire: Any) -> None:
    chat.say(wire.reply(said(RIGS["openai"].modes[0], "Person", GOOD)))
    with serving(INTERNET, answer(pdf(), content_type="application/pdf")) as files:
        url = f"http://cdn.example:{files.port}/page.pdf"
        messages = [{"role": "user", "content": ["Who is this?", PDF.from_url(url)]}]
        client = RIGS["openai"].client(chat.url, False)
        with pytest.raises(FetchRefused, match="port") as caught:
            client.create(Person, messages)
        assert caught.value.field == "messages[0].content[1]"
        assert (files.connections, chat.requests) == (0, [])
        assert client.create(Person, messages, guard=guard()) == ANN
        assert base64.b64encode(pdf()).decode() in sent(chat)
        with pytest.raises(FetchRefused, match="not public"):
            client.create(Person, messages, guard=Guard(ports=None, resolver=lambda host, port: ["10.0.0.1"]))


async def test_fetching_does_not_hold_up_the_event_loop(chat: ScriptedServer, wire: Any) -> None:
    chat.say(wire.reply(said(RIGS["openai"].modes[0], "Person", GOOD)))

    def slow(connection: Any, head: bytes) -> None:
        time.sleep(0.5)
        answer(pdf())(connection, head)

    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not done:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - before)

    with serving(INTERNET, slow) as files:
        client = RIGS["openai"].client(chat.url, True, guard=guard())
        part = PDF.from_url(f"http://cdn.example:{files.port}/page.pdf")
        watching = asyncio.create_task(watch())
        assert await client.create(Person, [{"role": "user", "content": ["Hi", part]}]) == ANN
        done = True
        await watching
    assert longest < 0.4


# --- templates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rig", RIGS.values(), ids=RIGS.keys())
def test_a_context_renders_the_messages_of_every_provider(rig: Rig) -> None:
    messages = [{"role": "user", "content": "Who is {{ name }}? {% for n in ages %}{{ n }};{% endfor %}"}]
    before = copy.deepcopy(messages)
    with rig.server() as server:
        client = reply(rig, server, YOUNG, GOOD)
        assert client.create(Person, messages, context={"name": "{{ ages }}", "ages": [1, 2]}) == ANN
        assert messages == before
        for number in (0, 1):  # rendered once: values are not templates when it is asked again
            assert "Who is {{ ages }}? 1;2;" in sent(server, number)


def test_unknown_variables_may_be_empty(chat: ScriptedServer, wire: Any, client: Any) -> None:
    chat.say(wire.reply(said(client.modes[0], "Person", GOOD)))
    asked = [{"role": "user", "content": "{{ lost }}!"}]
    assert client.create(Person, asked, context={"a": 1}, strict_templates=False) == ANN
    assert chat.requests[-1].json["messages"] == [{"role": "user", "content": "!"}]
