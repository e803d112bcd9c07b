"""An SDK's client with typed answers: its own methods where they were, and everything else untouched."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from typing import Any

import anthropic
import cohere
import pytest
from google import genai
from google.genai import types
from mistralai.client import Mistral
from people import ANN, ASK, GOOD, YOUNG, Person
from pydantic import BaseModel
from rigs import RIGS
from scripted_server import Gate, ScriptedServer, raw_reply, stream_reply
from wire_anthropic import AnthropicWire
from wire_cohere import CohereWire
from wire_genai import GenaiWire
from wire_mistral import MistralWire
from wires import Called, Said

from pageform.clients import from_anthropic, from_cohere, from_genai, from_mistral, from_provider, patch
from pageform.core.errors import ParameterError
from pageform.media import Image
from pageform.structured import ValidationFailed, WrongTool
from pageform.structured.errors import ClientError, ConfigurationError

CALLED = Said(calls=(Called("Person", GOOD),))
WIRES = {"anthropic": AnthropicWire(), "cohere": CohereWire(), "mistral": MistralWire(), "google": GenaiWire()}
CLAUDE: dict[str, Any] = {"model": "claude-opus-4-8", "max_tokens": 100}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(checks={wire.path: wire.check for wire in WIRES.values()}) as server:
        yield server


# --- Anthropic -------------------------------------------------------------------------------------------------------


def test_anthropics_own_methods(server: ScriptedServer) -> None:
    sdk = anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0)
    client = from_anthropic(sdk)
    wire = WIRES["anthropic"]
    server.say(*[wire.reply(CALLED) for _ in range(3)], wire.reply(Said("Hello.")))
    for create in (client.messages.create, client.chat.completions.create):
        assert create(response_model=Person, messages=ASK, **CLAUDE) == ANN
    beta = client.beta.messages.create
    assert beta(response_model=Person, messages=ASK, betas=["context-1m-2025-08-07"], **CLAUDE) == ANN
    assert server.requests[-1].headers["anthropic-beta"] == "context-1m-2025-08-07"
    plain = client.messages.create(messages=ASK, **CLAUDE)
    assert plain.content[0].text == "Hello."
    system = [{"role": "system", "content": "Be brief."}, *ASK]
    server.say(wire.reply(Said("Hello.")))
    assert client.create(messages=system, **CLAUDE).content[0].text == "Hello."
    assert server.requests[-1].json["system"] == "Be brief."
    server.say(wire.reply(Said("Hello.")))
    assert client.messages.with_raw_response.create(messages=ASK, **CLAUDE).parse().content[0].text == "Hello."
    assert (client.api_key, client.messages.batches) == ("k", sdk.messages.batches)


def test_patching_in_place(server: ScriptedServer) -> None:
    sdk = anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0)
    assert patch(sdk, **CLAUDE) is sdk
    server.say(WIRES["anthropic"].reply(CALLED), WIRES["anthropic"].stream(CALLED))
    assert sdk.messages.create(response_model=Person, messages=ASK) == ANN  # type: ignore[call-overload]
    assert list(sdk.messages.create_partial(Person, ASK))[-1] == ANN  # type: ignore[attr-defined]
    v2 = cohere.ClientV2("k", base_url=server.url)
    patch(v2, model="command-a-03-2025")
    server.say(WIRES["cohere"].reply(CALLED))
    assert v2.chat(response_model=Person, messages=ASK) == ANN  # type: ignore[call-arg]
    mistral = Mistral(api_key="k", server_url=server.url)
    patch(mistral, model="mistral-large-latest")
    server.say(WIRES["mistral"].reply(CALLED))
    assert mistral.chat.complete(response_model=Person, messages=ASK) == ANN  # type: ignore[call-arg]


def test_max_tokens_is_asked_for_before_the_request() -> None:
    client = from_anthropic(anthropic.Anthropic(api_key="k"), model="claude-opus-4-8")
    with pytest.raises(ParameterError, match="max_tokens=None: is missing"):
        client.create(Person, ASK)


def test_bedrock_and_vertex_speak_the_same(server: ScriptedServer) -> None:
    bedrock = anthropic.AnthropicBedrock(
        aws_access_key="k", aws_secret_key="s", aws_region="us-east-1", base_url=server.url, max_retries=0
    )
    vertex = anthropic.AnthropicVertex(
        region="us-east1", project_id="p", access_token="t", base_url=server.url, max_retries=0
    )
    for sdk, end in ((bedrock, "/invoke"), (vertex, ":rawPredict")):
        server.say(WIRES["anthropic"].reply(Said(calls=(Called("Person", YOUNG),))), WIRES["anthropic"].reply(CALLED))
        assert from_anthropic(sdk, **CLAUDE).messages.create(response_model=Person, messages=ASK) == ANN
        assert server.requests[-1].path.endswith(end)
        assert "too young" in json.dumps(server.requests[-1].json["messages"])


# --- Cohere ----------------------------------------------------------------------------------------------------------


def test_coheres_own_methods(server: ScriptedServer) -> None:
    wire = WIRES["cohere"]
    for sdk in (cohere.ClientV2("k", base_url=server.url), cohere.Client("k", base_url=server.url)):
        client = from_cohere(sdk, model="command-a-03-2025")
        server.say(*[wire.reply(CALLED) for _ in range(2)])
        assert client.chat(response_model=Person, messages=ASK) == ANN
        assert client.chat.completions.create(response_model=Person, messages=ASK) == ANN
        assert client.models is sdk.models
    server.say(wire.reply(CALLED), wire.reply(Said("Hello.")))
    old = from_cohere(cohere.Client("k", base_url=server.url))
    found = old.chat(response_model=Person, message="Ann is 30.", preamble="Be brief.", model="command-a-03-2025")
    assert found == ANN
    assert [turn["role"] for turn in server.requests[-1].json["messages"]] == ["system", "user"]
    new = from_cohere(cohere.ClientV2("k", base_url=server.url))
    assert new.chat(model="command-a-03-2025", messages=ASK).message.content[0].text == "Hello."


# --- Mistral ---------------------------------------------------------------------------------------------------------


async def test_mistrals_own_methods(server: ScriptedServer) -> None:
    wire = WIRES["mistral"]
    sdk = Mistral(api_key="k", server_url=server.url)
    server.say(*[wire.reply(CALLED) for _ in range(3)], wire.reply(Said("Hello.")))
    asked: dict[str, Any] = {"model": "mistral-large-latest", "messages": ASK}
    assert from_mistral(sdk).chat.complete(response_model=Person, **asked) == ANN
    client = from_mistral(sdk, use_async=True)
    assert await client.chat.complete_async(response_model=Person, **asked) == ANN
    assert await client.chat.completions.create(response_model=Person, **asked) == ANN
    assert (await client.chat.complete_async(**asked)).choices[0].message.content == "Hello."
    assert client.models is sdk.models


# --- Google GenAI ----------------------------------------------------------------------------------------------------


async def test_googles_own_methods(server: ScriptedServer) -> None:
    wire = WIRES["google"]
    sdk = genai.Client(api_key="k", http_options={"base_url": server.url})
    server.say(*[wire.reply(CALLED) for _ in range(3)], wire.reply(Said("Hello.")))
    asked: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "Ann is 30."}
    client = from_genai(sdk)
    assert client.models.generate_content(response_model=Person, **asked) == ANN
    assert client.chat.completions.create(response_model=Person, **asked) == ANN
    later = from_genai(sdk, use_async=True)
    assert await later.aio.models.generate_content(response_model=Person, **asked) == ANN
    assert client.models.generate_content(**asked).text == "Hello."
    server.say(wire.reply(Said("Hello.")))
    system = [{"role": "system", "content": "Be brief."}, *ASK]
    assert client.create(messages=system, model="gemini-2.5-flash", max_tokens=5).text == "Hello."
    sent = server.requests[-1].json
    assert sent["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert sent["generationConfig"] == {"maxOutputTokens": 5}
    assert client.files is sdk.files
    await sdk.aio.aclose()


# --- all -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "client_options"),
    [
        ("anthropic/claude-opus-4-8", "ANTHROPIC_API_KEY", {"max_retries": 0}),
        ("cohere/command-a-03-2025", "CO_API_KEY", {}),
        ("mistral/mistral-large-latest", "MISTRAL_API_KEY", {}),
        ("google/gemini-2.5-flash", "GOOGLE_API_KEY", {}),
    ],
)
async def test_clients_by_name(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str, key: str, client_options: dict[str, Any]
) -> None:
    service = name.partition("/")[0]
    wire = WIRES[service]
    monkeypatch.delenv(key, raising=False)
    with pytest.raises(ConfigurationError, match=key):
        from_provider(name)
    monkeypatch.setenv(key, "k")
    server.say(wire.reply(CALLED), wire.reply(CALLED))
    settings: dict[str, Any] = {"base_url": server.url, "client_options": client_options}
    assert from_provider(name, **settings).create(Person, ASK) == ANN
    client = from_provider(name, async_client=True, **settings)
    assert await client.create(Person, ASK) == ANN
    if service == "anthropic":
        assert server.requests[0].json["max_tokens"] == 4096, "what Anthropic requires has a default here"
    if service == "google":
        await client.client.aio.aclose()


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_timeout_reaches_the_sdk_in_its_own_way(server: ScriptedServer, name: str, stream: bool) -> None:
    """Each has another argument for it, and other units."""
    client = RIGS[name].client(server.url, False, max_retries=0)
    server.say(stream_reply([Gate()]) if stream else raw_reply(Gate(), b"{}"))
    begun = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)time") as caught:
        list(client.create_partial(Person, ASK, timeout=0.3)) if stream else client.create(Person, ASK, timeout=0.3)
    assert "Timeout" in type(caught.value).__name__
    assert 0.2 < time.monotonic() - begun < 10


def test_a_timeout_joins_the_callers_own_options(server: ScriptedServer) -> None:
    options = types.HttpOptions(headers={"x-own": "1"})
    client = RIGS["google"].client(server.url, False, config=types.GenerateContentConfig(http_options=options))
    server.say(WIRES["google"].reply(CALLED))
    assert client.create(Person, ASK, timeout=30) == ANN
    assert server.requests[-1].headers["x-own"] == "1"
    assert options.timeout is None


@pytest.mark.parametrize("name", WIRES)
def test_images_are_sent_as_each_takes_them(server: ScriptedServer, name: str) -> None:
    server.say(WIRES[name].reply(CALLED))
    image = Image.from_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 16)
    client = RIGS[name].client(server.url, False)
    assert client.create(Person, [{"role": "user", "content": ["Who is this?", image]}]) == ANN
    assert (image.data or "?") in json.dumps(server.requests[-1].json)


OTHERS: dict[str, Any] = {
    "openai": {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_choice": "auto"},
    "anthropic": {"tools": [{"name": "look", "input_schema": {"type": "object"}}], "tool_choice": {"type": "auto"}},
    "cohere": {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]},
    "mistral": {
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
    },
    "google": {"config": {"tools": [{"function_declarations": [{"name": "look"}]}]}},
}


class Anything(BaseModel):
    """Any arguments fit."""

    name: str = "nobody"


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_the_callers_own_tools_are_no_answers(name: str, stream: bool) -> None:
    """Though their arguments may fit the type."""
    rig = RIGS[name]
    with rig.server() as server:
        client = rig.client(server.url, False, max_retries=0)
        look = Said(calls=(Called("look", '{"name": "Ann"}'),))
        server.say(rig.wire.stream(look) if stream else rig.wire.reply(look))
        shown: list[Any] = []
        ask = lambda: shown.extend(client.create_partial(Anything, ASK, **OTHERS[name]))  # noqa: E731
        with pytest.raises(ValidationFailed) as caught:
            ask() if stream else client.create(Anything, ASK, **OTHERS[name])
        assert isinstance(caught.value.__cause__, WrongTool)
        assert shown == []
        assert "look" in json.dumps(server.requests[0].json)


def test_either_of_two_keys_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    assert from_provider("google/gemini-2.5-flash").client is not None


def test_clients_of_others_are_refused() -> None:
    with pytest.raises(ClientError, match=r"anthropic\.Anthropic"):
        from_anthropic(cohere.ClientV2("k"))
    with pytest.raises(ClientError, match=r"google\.genai\.Client"):
        from_genai(object())
    with pytest.raises(ClientError, match=r"mistralai\.client\.Mistral"):
        from_mistral("mistral")


def test_answers_raise_no_warnings_of_serializers(server: ScriptedServer) -> None:
    """Echoing goes through the SDKs' own models, which warn of what does not fit."""
    wire = WIRES["google"]
    server.say(wire.reply(Said(calls=(Called("Person", YOUNG),))), wire.reply(CALLED))
    with warnings.catch_warnings(), genai.Client(api_key="k", http_options={"base_url": server.url}) as sdk:
        warnings.simplefilter("error", UserWarning)
        assert from_genai(sdk, model="gemini-2.5-flash").create(Person, ASK) == ANN
