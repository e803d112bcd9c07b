"""Asking for one value: verbs, modes, and what goes over the wire."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from compat_tools import WIRE, departs, tool
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field
from scripted_server import ScriptedServer
from wires import Said

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Jason is 25."}]}
JASON = '{"name":"Jason","age":25}'


class User(BaseModel):
    """A person that the text tells of."""

    name: str = Field(description="first name only")
    age: int


def test_a_wrapped_client_returns_the_model(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    client = instructor.from_openai(sdk)
    user = client.chat.completions.create(**ASK, response_model=User)
    assert isinstance(user, User)
    assert (user.name, user.age) == ("Jason", 25)


def test_the_short_verbs_are_the_same(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(*[WIRE.reply(tool("User", JASON))] * 3)
    client = instructor.from_openai(sdk)
    for verb in (client.create, client.messages.create, client.chat.completions.create):
        assert verb(**ASK, response_model=User).age == 25


def test_tools_mode_offers_one_tool_and_demands_it(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    instructor.from_openai(sdk, mode=instructor.Mode.TOOLS).create(**ASK, response_model=User)
    sent = server.requests[0].json
    [offered] = sent["tools"]
    assert offered["function"]["name"] == "User"
    assert offered["function"]["description"].startswith("A person that the text tells of.")
    assert offered["function"]["parameters"]["properties"]["name"]["description"] == "first name only"
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "User"}}
    assert sent["messages"] == ASK["messages"]
    assert sent["model"] == "m"


def test_json_mode_asks_for_an_object_and_shows_the_schema(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI
) -> None:
    server.say(WIRE.reply(Said(JASON)))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    assert client.create(**ASK, response_model=User).name == "Jason"
    sent = server.requests[0].json
    assert sent["response_format"] == {"type": "json_object"}
    assert "tools" not in sent
    assert sent["messages"][0]["role"] == "system"
    assert "first name only" in sent["messages"][0]["content"]


def test_json_schema_mode_sends_the_schema(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said(JASON)))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON_SCHEMA)
    assert client.create(**ASK, response_model=User).name == "Jason"
    sent = server.requests[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert set(sent["json_schema"]["schema"]["properties"]) == {"name", "age"}


def test_markdown_mode_reads_a_fenced_block(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said(f"Here you are:\n```json\n{JASON}\n```\nAnything else?")))
    client = instructor.from_openai(sdk, mode=instructor.Mode.MD_JSON)
    assert client.create(**ASK, response_model=User).age == 25
    sent = server.requests[0].json
    assert "response_format" not in sent
    assert "tools" not in sent


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FUNCTIONS", "TOOLS"),
        ("TOOLS_STRICT", "TOOLS"),
        ("JSON_O1", "JSON_SCHEMA"),
    ],
)
def test_old_mode_names_are_still_known(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI, old: str, new: str
) -> None:
    server.say(WIRE.reply(tool("User", JASON) if new == "TOOLS" else Said(JASON)))
    client = instructor.from_openai(sdk, mode=getattr(instructor.Mode, old))
    assert client.create(**ASK, response_model=User).age == 25
    assert ("tools" in server.requests[0].json) == (new == "TOOLS")


@departs("TOOLS_STRICT became TOOLS and asks for nothing strict")
def test_strict_tools_are_strict(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    instructor.from_openai(sdk, mode=instructor.Mode.TOOLS_STRICT).create(**ASK, response_model=User)
    function = server.requests[0].json["tools"][0]["function"]
    assert function["strict"] is True
    assert function["parameters"]["additionalProperties"] is False


def test_patch_changes_the_client_in_place(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)), WIRE.reply(Said("Hello.")))
    client = instructor.patch(sdk)
    assert client is sdk
    assert sdk.chat.completions.create(**ASK, response_model=User).age == 25
    plain = sdk.chat.completions.create(**ASK)
    assert isinstance(plain, ChatCompletion)
    assert plain.choices[0].message.content == "Hello."


def test_patch_takes_the_create_function_alone(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    create = instructor.patch(create=sdk.chat.completions.create, mode=instructor.Mode.TOOLS)
    assert create(**ASK, response_model=User).age == 25


def test_without_a_type_the_call_passes_through(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said("Hello.")))
    client = instructor.from_openai(sdk)
    answer = client.chat.completions.create(**ASK, response_model=None)
    assert isinstance(answer, ChatCompletion)
    assert "tools" not in server.requests[0].json


def test_other_attributes_are_the_clients_own(instructor: Any, sdk: openai.OpenAI) -> None:
    client = instructor.from_openai(sdk)
    assert client.base_url == sdk.base_url
    assert client.embeddings is sdk.embeddings


def test_the_raw_response_comes_along(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(*[WIRE.reply(tool("User", JASON))] * 2)
    client = instructor.from_openai(sdk)
    for verb in (client.create_with_completion, client.chat.completions.create_with_completion):
        user, completion = verb(**ASK, response_model=User)
        assert user.name == "Jason"
        assert isinstance(completion, ChatCompletion)
        assert completion.usage is not None
        assert completion.usage.total_tokens == 15


def test_the_raw_response_is_kept_on_models(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    user = instructor.from_openai(sdk).create(**ASK, response_model=User)
    assert user._raw_response.id == "chatcmpl-1"
    assert user.model_dump() == {"name": "Jason", "age": 25}


@departs("it returns a subclass made on the fly")
def test_values_are_of_the_callers_own_class(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    import pickle

    server.say(WIRE.reply(tool("User", JASON)))
    user = instructor.from_openai(sdk).create(**ASK, response_model=User)
    assert type(user) is User
    assert user == User(name="Jason", age=25)
    assert pickle.loads(pickle.dumps(user)) == user


def test_defaults_of_the_client_go_with_each_call(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(*[WIRE.reply(tool("User", JASON))] * 2)
    client = instructor.from_openai(sdk, model="default", temperature=0.25)
    client.create(messages=ASK["messages"], response_model=User)
    client.create(messages=ASK["messages"], response_model=User, model="other")
    assert [(r.json["model"], r.json["temperature"]) for r in server.requests] == [("default", 0.25), ("other", 0.25)]


def test_the_callers_messages_stay_as_they_are(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said("{")), WIRE.reply(Said(JASON)))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Jason is 25."}]
    before = json.dumps(messages)
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    client.create(model="m", messages=messages, response_model=User, max_retries=1)
    assert json.dumps(messages) == before


async def test_async_clients_have_the_same_verbs(
    instructor: Any, server: ScriptedServer, async_sdk: openai.AsyncOpenAI
) -> None:
    server.say(*[WIRE.reply(tool("User", JASON))] * 2)
    client = instructor.from_openai(async_sdk)
    assert isinstance(client, instructor.AsyncInstructor)
    assert (await client.chat.completions.create(**ASK, response_model=User)).age == 25
    user, completion = await client.create_with_completion(**ASK, response_model=User)
    assert user.age == 25
    assert isinstance(completion, ChatCompletion)


async def test_patch_makes_an_async_client_async(
    instructor: Any, server: ScriptedServer, async_sdk: openai.AsyncOpenAI
) -> None:
    server.say(WIRE.reply(tool("User", JASON)))
    client = instructor.patch(async_sdk)
    assert (await client.chat.completions.create(**ASK, response_model=User)).age == 25


def test_a_provider_is_named_by_text(instructor: Any, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server.say(WIRE.reply(tool("User", JASON)))
    client = instructor.from_provider("openai/gpt-4o-mini", base_url=f"{server.url}/v1")
    assert client.create(messages=ASK["messages"], response_model=User).age == 25
    assert server.requests[0].json["model"] == "gpt-4o-mini"


async def test_a_provider_can_be_async(
    instructor: Any, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server.say(WIRE.reply(tool("User", JASON)))
    client = instructor.from_provider("openai/gpt-4o-mini", async_client=True, base_url=f"{server.url}/v1")
    assert (await client.create(messages=ASK["messages"], response_model=User)).age == 25


@pytest.mark.parametrize("name", ["gpt-4o-mini", "nobody/gpt-4o-mini"])
def test_a_wrong_provider_is_a_configuration_error(instructor: Any, name: str) -> None:
    from importlib import import_module

    errors = import_module(f"{instructor.__name__}.core.exceptions")
    with pytest.raises(errors.ConfigurationError):
        instructor.from_provider(name)


def test_litellm_functions_are_wrapped(instructor: Any, server: ScriptedServer) -> None:
    litellm = pytest.importorskip("litellm")
    server.say(WIRE.reply(tool("User", JASON)))
    client = instructor.from_litellm(litellm.completion)
    user = client.chat.completions.create(
        model="openai/m", messages=ASK["messages"], response_model=User, api_base=f"{server.url}/v1", api_key="none"
    )
    assert user.age == 25
