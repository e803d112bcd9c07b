"""What goes in beside text: media, caches; and Anthropic's client."""

from __future__ import annotations

import base64
from importlib import import_module
from pathlib import Path
from typing import Any

import openai
import pytest
from compat_tools import WIRE, tool
from pydantic import BaseModel
from scripted_server import ScriptedServer, json_reply

JASON = '{"name":"Jason","age":25}'
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class User(BaseModel):
    name: str
    age: int


def content_of(server: ScriptedServer) -> Any:
    return server.requests[-1].json["messages"][-1]["content"]


def test_images_by_address(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    url = "https://example.com/jason.png"
    message = {"role": "user", "content": ["Who is this?", instructor.Image.from_url(url)]}
    instructor.from_openai(sdk).create(model="m", messages=[message], response_model=User)
    text, image = content_of(server)
    assert text == {"type": "text", "text": "Who is this?"}
    assert image["type"] == "image_url"
    assert image["image_url"]["url"] == url


def test_images_from_files(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI, tmp_path: Path) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    path = tmp_path / "jason.png"
    path.write_bytes(PNG)
    message = {"role": "user", "content": ["Who is this?", instructor.Image.from_path(str(path))]}
    instructor.from_openai(sdk).create(model="m", messages=[message], response_model=User)
    assert content_of(server)[1]["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()


def test_images_are_found_in_texts_when_asked(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    message = {"role": "user", "content": ["Who is this?", url]}
    client = instructor.from_openai(sdk)
    client.create(model="m", messages=[message], response_model=User, autodetect_images=True)
    assert content_of(server)[1]["type"] == "image_url"


def test_a_cache_answers_the_second_time(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    cache_module = import_module(f"{instructor.__name__}.cache")
    server.say(WIRE.reply(tool("User", JASON)), WIRE.reply(tool("User", '{"name":"Ann","age":30}')))
    client = instructor.from_openai(sdk, cache=cache_module.AutoCache(maxsize=10))
    ask = {"model": "m", "messages": [{"role": "user", "content": "Jason is 25."}], "response_model": User}
    assert [client.create(**ask).age for _ in range(2)] == [25, 25]
    assert len(server.requests) == 1
    other = {**ask, "messages": [{"role": "user", "content": "Ann is 30."}]}
    assert client.create(**other).age == 30


def test_anthropics_client_is_wrapped(instructor: Any, server: ScriptedServer) -> None:
    anthropic = pytest.importorskip("anthropic")
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "User", "input": {"name": "Jason", "age": 25}}],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }
    server.say(json_reply(reply))
    client = instructor.from_anthropic(anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0))
    user = client.messages.create(
        model="claude",
        max_tokens=100,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Jason is 25."}],
        response_model=User,
    )
    assert user.age == 25
    sent = server.requests[0].json
    assert sent["tools"][0]["name"] == "User"
    assert sent["tool_choice"]["type"] == "tool"
    assert "Be brief." in str(sent["system"])
    assert [message["role"] for message in sent["messages"]] == ["user"]
