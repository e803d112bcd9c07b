"""Templates, and strings that are media, on their way through a client."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from people import ANN, GOOD, YOUNG, Person
from rigs import said
from scripted_server import ScriptedServer
from wire_openai_chat import OpenAIChatWire

from pageform.clients import from_openai
from pageform.core.errors import ParameterError
from pageform.media import Image, MediaError
from pageform.structured import Mode
from pageform.templating import MessageTemplateError, Text

GOOD_SAID = said(Mode.TOOLS, "Person", GOOD)
YOUNG_SAID = said(Mode.TOOLS, "Person", YOUNG)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
)
DATA_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
GREET = [
    {"role": "system", "content": "Today is {{ day }}."},
    {"role": "user", "content": [{"type": "text", "text": "Greet {{ name }}."}, Text("{{ untouched }}")]},
]
PEOPLE = {"day": "Monday", "name": "{{ Ann }}"}
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


async def call(client: Any, verb: str, *args: Any, **kwargs: Any) -> Any:
    """What a verb gives in the end, of a sync or an async client."""
    result = getattr(client, verb)(*args, **kwargs)
    if hasattr(result, "__aiter__"):
        return [one async for one in result][-1]
    if hasattr(result, "__await__"):
        return await result
    return list(result)[-1] if hasattr(result, "__next__") else result


def texts(server: ScriptedServer, number: int = -1) -> list[Any]:
    """All texts of a request's conversation."""
    found = []
    for message in server.requests[number].json["messages"]:
        content = message.get("content")
        found += [content] if isinstance(content, str) else [part.get("text") for part in content or ()]
    return found


@BOTH
@pytest.mark.parametrize("verb", ["create", "create_partial", "create_iterable"])
async def test_a_context_renders_messages_of_every_verb(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, later: Any, asynchronous: bool, verb: str
) -> None:
    items = said(Mode.TOOLS, "list_Person", f'{{"tasks":[{GOOD}]}}')
    answer = items if verb == "create_iterable" else GOOD_SAID
    chat.say(wire.reply(answer) if verb == "create" else wire.stream(answer))
    assert await call(later if asynchronous else client, verb, Person, GREET, context=PEOPLE) == ANN
    assert texts(chat) == ["Today is Monday.", "Greet {{ Ann }}.", "{{ untouched }}"]
    assert GREET[0]["content"] == "Today is {{ day }}."


@BOTH
@pytest.mark.parametrize("verb", ["create", "create_with_completion", "create_partial", "create_iterable"])
@pytest.mark.parametrize(
    "source", ["Hi {{ nobody }}", "{% for %}", "{{ ''.__class__.__mro__ }}", "{{ 'a' * 10 ** 12 }}"]
)
async def test_a_template_that_fails_is_an_error_before_anything_is_sent(
    chat: ScriptedServer, client: Any, later: Any, asynchronous: bool, verb: str, source: str
) -> None:
    asked = [{"role": "user", "content": "Hi"}, {"role": "user", "content": source}]
    with pytest.raises(MessageTemplateError) as caught:
        await call(later if asynchronous else client, verb, Person, asked, context={"name": "Ann"})
    assert caught.value.field == "messages[1].content"
    assert isinstance(caught.value, ParameterError)
    assert chat.requests == []


def test_without_a_mapping_as_context_braces_are_text(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    for context in (None, {}, 3):
        chat.say(wire.reply(GOOD_SAID))
        client.create(Person, GREET, context=context)
        assert texts(chat)[0] == "Today is {{ day }}."


def test_what_the_model_answers_is_no_template(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    hostile = said(Mode.TOOLS, "Person", '{"name":"{{ day }}","age":3}')
    chat.say(wire.reply(hostile), wire.reply(GOOD_SAID))
    assert client.create(Person, GREET, context=PEOPLE) == ANN
    again = chat.requests[1].json["messages"]
    assert again[0]["content"] == "Today is Monday."
    assert again[2]["tool_calls"][0]["function"]["arguments"] == '{"name":"{{ day }}","age":3}'


def test_a_clients_own_context(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(wire.reply(GOOD_SAID), wire.reply(GOOD_SAID))
    mine = from_openai(client.client, model="m", context=PEOPLE)
    mine.create(Person, GREET)
    mine.create(Person, GREET, context={"day": "Friday", "name": "Bob"})
    assert [texts(chat, number)[0] for number in (0, 1)] == ["Today is Monday.", "Today is Friday."]


# --- media -----------------------------------------------------------------------------------------------------------


def parts(server: ScriptedServer) -> list[Any]:
    content = server.requests[-1].json["messages"][-1]["content"]
    return content if isinstance(content, list) else [content]


@BOTH
@pytest.mark.parametrize("verb", ["create", "create_partial"])
async def test_strings_that_are_media_become_them(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, later: Any, asynchronous: bool, verb: str, tmp_path: Path
) -> None:
    file = tmp_path / "picture"
    file.write_bytes(PNG)
    url = "https://example.com/cat.png?size=2"
    asked = [{"role": "user", "content": ["What is it?", url, DATA_URI, str(file), base64.b64encode(PNG).decode()]}]
    chat.say(wire.reply(GOOD_SAID) if verb == "create" else wire.stream(GOOD_SAID))
    mine = later if asynchronous else client
    assert await call(mine, verb, Person, asked, autodetect_images=True) == ANN
    text, *images = parts(chat)
    assert text == {"type": "text", "text": "What is it?"}
    assert [image["image_url"]["url"] for image in images] == [url, *[DATA_URI] * 3]


def test_strings_stay_text_unless_asked(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    mine = from_openai(client.client, model="m", autodetect_images=True)
    for one, options in ((client, {}), (mine, {"autodetect_images": False})):
        chat.say(wire.reply(GOOD_SAID))
        one.create(Person, [{"role": "user", "content": [DATA_URI]}], **options)
        assert parts(chat) == [{"type": "text", "text": DATA_URI}]
    chat.say(wire.reply(GOOD_SAID))
    mine.create(Person, [{"role": "user", "content": [DATA_URI]}])
    assert parts(chat)[0]["type"] == "image_url"


def test_only_the_users_own_words_name_media(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, tmp_path: Path
) -> None:
    """Neither what a model said nor a template's values make a file be read."""
    file = tmp_path / "secret.png"
    file.write_bytes(PNG)
    chat.say(wire.reply(GOOD_SAID))
    asked = [
        {"role": "system", "content": str(file)},
        {"role": "assistant", "content": "https://example.com/cat.png"},
        {"role": "user", "content": "{{ said }}"},
    ]
    client.create(Person, asked, autodetect_images=True, context={"said": str(file)})
    assert texts(chat) == [str(file), "https://example.com/cat.png", str(file)]


@BOTH
async def test_media_that_can_not_be_taken_are_errors_before_anything_is_sent(
    chat: ScriptedServer, client: Any, later: Any, asynchronous: bool
) -> None:
    mine = later if asynchronous else client
    for part in ({"type": "image", "source": "no image"}, {"type": "image", "source": Path("/nowhere.png")}):
        for verb in ("create", "create_partial"):
            with pytest.raises(MediaError):
                await call(mine, verb, Person, [{"role": "user", "content": [part]}], autodetect_images=True)
    with pytest.raises(MediaError, match="takes no image in a message of role system"):
        await call(mine, "create", Person, [{"role": "system", "content": [Image.from_bytes(PNG)]}])
    assert chat.requests == []
