"""The services under test: real SDKs, pointed at a scripted server, behind pageform's clients."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripted_server import ScriptedServer
from wire_anthropic import AnthropicWire
from wire_cohere import CohereWire
from wire_genai import GenaiWire
from wire_groq import GroqWire
from wire_mistral import MistralWire
from wire_openai_chat import OpenAIChatWire
from wire_openai_responses import OpenAIResponsesWire
from wires import Called, Said, Wire

from pageform.clients.client import Client
from pageform.clients.connect import (
    from_anthropic,
    from_cohere,
    from_genai,
    from_groq,
    from_litellm,
    from_mistral,
    from_openai,
    from_provider,
)
from pageform.clients.table import SERVICES
from pageform.structured import Mode

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the net for prices


@dataclass(frozen=True)
class Rig:
    """One service. `client` makes a client for a server's address: `client(url, async_client, **settings)`.

    `kwargs` are what each call needs besides its messages. `tokens` says whether streams tell their usage.
    """

    name: str
    wire: Wire
    client: Callable[..., Client]
    modes: tuple[Mode, ...]
    error: type[Exception]
    """What the SDK raises for status 400."""
    tells_cached: bool = True
    """Whether the service tells how many tokens came from a cache."""
    calls_at_once: bool = False
    """Whether calls of tools come as a whole in streams too."""

    def server(self) -> ScriptedServer:
        return ScriptedServer({self.wire.path: self.wire.check})


def said(mode: Mode, name: str, arguments: str, **more: Any) -> Said:
    """The model's answer in a mode: a call of the tool, or its text."""
    return Said(calls=(Called(name, arguments),), **more) if mode is Mode.TOOLS else Said(arguments, **more)


def _once(async_client: bool) -> dict[str, Any]:
    """Options of OpenAI's clients: no retries of their own, and no certificates, which take 80 ms to load."""
    import openai

    http = openai.DefaultAsyncHttpxClient if async_client else openai.DefaultHttpxClient
    return {"max_retries": 0, "http_client": http(verify=False)}


def _openai(url: str, async_client: bool, **settings: Any) -> Client:
    import openai

    made = openai.AsyncOpenAI if async_client else openai.OpenAI
    client = made(base_url=f"{url}/v1", api_key="key", **_once(async_client))
    return from_openai(client, model="m", **settings)


def _responses(url: str, async_client: bool, **settings: Any) -> Client:
    import openai

    made = openai.AsyncOpenAI if async_client else openai.OpenAI
    client = made(base_url=f"{url}/v1", api_key="key", **_once(async_client))
    return from_openai(client, api="responses", model="m", **settings)


def _azure(url: str, async_client: bool, **settings: Any) -> Client:
    import openai

    made = openai.AsyncAzureOpenAI if async_client else openai.AzureOpenAI
    client = made(azure_endpoint=url, api_version="2024-10-21", api_key="key", **_once(async_client))
    return from_openai(client, model="m", **settings)


def _groq(url: str, async_client: bool, **settings: Any) -> Client:
    import groq

    made = groq.AsyncGroq if async_client else groq.Groq
    http = (groq.DefaultAsyncHttpxClient if async_client else groq.DefaultHttpxClient)(verify=False)
    client = made(base_url=url, api_key="key", max_retries=0, http_client=http)
    return from_groq(client, model="m", **settings)


def _anthropic(url: str, async_client: bool, **settings: Any) -> Client:
    import anthropic

    made = anthropic.AsyncAnthropic if async_client else anthropic.Anthropic
    client = made(base_url=url, api_key="key", max_retries=0)
    return from_anthropic(client, model="claude-opus-4-8", max_tokens=1000, **settings)


def _cohere(url: str, async_client: bool, **settings: Any) -> Client:
    import cohere

    made = cohere.AsyncClientV2 if async_client else cohere.ClientV2
    return from_cohere(made("key", base_url=url), model="command-a-03-2025", **settings)


def _cohere_v1(url: str, async_client: bool, **settings: Any) -> Client:
    import cohere

    made = cohere.AsyncClient if async_client else cohere.Client
    return from_cohere(made("key", base_url=url), model="command-a-03-2025", **settings)


def _mistral(url: str, async_client: bool, **settings: Any) -> Client:
    from mistralai.client import Mistral

    client = Mistral(api_key="key", server_url=url)
    return from_mistral(client, use_async=async_client, model="mistral-large-latest", **settings)


def _genai(url: str, async_client: bool, **settings: Any) -> Client:
    from google import genai

    client = genai.Client(api_key="key", http_options={"base_url": url})
    return from_genai(client, use_async=async_client, model="gemini-2.5-flash", **settings)


def _litellm(url: str, async_client: bool, **settings: Any) -> Client:
    import litellm

    litellm.suppress_debug_info = True
    function = litellm.acompletion if async_client else litellm.completion
    return from_litellm(function, model="openai/m", api_base=f"{url}/v1", api_key="key", **settings)


def _row(name: str) -> Callable[..., Client]:
    def client(url: str, async_client: bool, **settings: Any) -> Client:
        return from_provider(
            f"{name}/m",
            async_client,
            base_url=f"{url}/v1",
            api_key="key",
            client_options=_once(async_client),
            **settings,
        )

    return client


def _rigs() -> list[Rig]:
    import anthropic
    import groq
    import openai
    from cohere.errors import BadRequestError
    from google.genai.errors import ClientError
    from mistralai.client.errors import SDKError

    wire = OpenAIChatWire()
    bad_request = openai.BadRequestError
    rigs = [
        Rig("openai", wire, _openai, SERVICES["openai"].modes, bad_request),
        Rig("openai-responses", OpenAIResponsesWire(), _responses, SERVICES["openai-responses"].modes, bad_request),
        Rig("azure", wire, _azure, SERVICES["azure"].modes, bad_request),
        Rig("groq", GroqWire(), _groq, SERVICES["groq"].modes, groq.BadRequestError),
        Rig("anthropic", AnthropicWire(), _anthropic, SERVICES["anthropic"].modes, anthropic.BadRequestError),
        Rig("cohere", CohereWire(), _cohere, SERVICES["cohere"].modes, BadRequestError),
        Rig("cohere-v1", CohereWire(), _cohere_v1, SERVICES["cohere"].modes, BadRequestError),
        Rig("mistral", MistralWire(), _mistral, SERVICES["mistral"].modes, SDKError, tells_cached=False),
        Rig("google", GenaiWire(), _genai, SERVICES["google"].modes, ClientError, calls_at_once=True),
        Rig("litellm", wire, _litellm, SERVICES["openai"].modes, bad_request),
    ]
    rows = [name for name, service in SERVICES.items() if service.sdk is SERVICES["openai"].sdk and name != "openai"]
    return rigs + [Rig(name, wire, _row(name), SERVICES[name].modes, bad_request) for name in rows]


RIGS = {rig.name: rig for rig in _rigs()}
