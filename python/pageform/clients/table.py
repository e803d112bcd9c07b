"""The services that pageform has clients for: one row each.

Most speak OpenAI's chat API from another address. Their quirks are what their documentation says they do not do, or do
otherwise; what is not documented is not relied upon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any

from ..structured.answer import Mode
from .base import Provider, Quirks
from .encode import Wire
from .endpoint import Way

ALL = (Mode.TOOLS, Mode.SCHEMA, Mode.TEXT)


@dataclass(frozen=True, slots=True)
class Sdk:
    """A provider's Python package: what to install, its client classes, and where they have the method that answers.

    `stream_path` is the method for streams if that is another one, `async_path` and `async_stream_path` those of async
    clients where they have other names. `place` is where callers look for the method, if elsewhere. `kin` are further
    classes with the same methods, sync and async. A package with one class for both names it twice. `timeout`: the
    argument of the methods, or the way into it, that bounds a request, and its units in a second. `address`: likewise
    the option of the client that holds the base URL.
    """

    extra: str
    module: str
    client: str
    async_client: str
    provider: str
    path: tuple[str, ...]
    wire: Wire
    stream_path: tuple[str, ...] = ()
    async_path: tuple[str, ...] = ()
    async_stream_path: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    kin: tuple[tuple[str, str], ...] = ()
    timeout: tuple[Way, int] = (("timeout",), 1)
    address: Way = ("base_url",)
    others: Mapping[tuple[str, ...], tuple[str, Wire]] = field(default_factory=lambda: MappingProxyType({}))
    """Further endpoints: path → module of `providers` and how it writes media."""

    @property
    def classes(self) -> tuple[tuple[str, str], ...]:
        """All sync and async classes."""
        return ((self.client, self.async_client), *self.kin)


@dataclass(frozen=True, slots=True)
class Service:
    """One row. `base_url` None is the SDK's own; `key` the environment's variable with the API key, or several of which
    one will do, None if no key is needed. `modes`: those that the service has, the default first. `defaults`: arguments
    that `from_provider` gives."""

    sdk: Sdk
    key: str | tuple[str, ...] | None
    base_url: str | None = None
    modes: tuple[Mode, ...] = ALL
    quirks: Quirks = Quirks()  # noqa: RUF009 - frozen
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


OPENAI = Sdk(
    extra="openai",
    module="openai",
    client="OpenAI",
    async_client="AsyncOpenAI",
    provider="openai_chat",
    path=("chat", "completions", "create"),
    wire=Wire.OPENAI,
    others=MappingProxyType({("responses", "create"): ("openai_responses", Wire.RESPONSES)}),
)
RESPONSES = Sdk(
    extra="openai",
    module="openai",
    client="OpenAI",
    async_client="AsyncOpenAI",
    provider="openai_responses",
    path=("responses", "create"),
    wire=Wire.RESPONSES,
    kin=(("AzureOpenAI", "AsyncAzureOpenAI"),),
)
AZURE = Sdk(
    extra="openai",
    module="openai",
    client="AzureOpenAI",
    async_client="AsyncAzureOpenAI",
    provider="openai_chat",
    path=("chat", "completions", "create"),
    wire=Wire.OPENAI,
    others=OPENAI.others,
)
GROQ = Sdk(
    extra="groq",
    module="groq",
    client="Groq",
    async_client="AsyncGroq",
    provider="openai_chat",
    path=("chat", "completions", "create"),
    wire=Wire.OPENAI,
)

ANTHROPIC = Sdk(
    extra="anthropic",
    module="anthropic",
    client="Anthropic",
    async_client="AsyncAnthropic",
    provider="anthropic",
    path=("messages", "create"),
    wire=Wire.ANTHROPIC,
    kin=(
        ("AnthropicBedrock", "AsyncAnthropicBedrock"),
        ("AnthropicBedrockMantle", "AsyncAnthropicBedrockMantle"),
        ("AnthropicVertex", "AsyncAnthropicVertex"),
        ("AnthropicFoundry", "AsyncAnthropicFoundry"),
        ("AnthropicAWS", "AsyncAnthropicAWS"),
        ("AnthropicGoogleCloud", "AsyncAnthropicGoogleCloud"),
    ),
    others=MappingProxyType({("beta", "messages", "create"): ("anthropic", Wire.ANTHROPIC)}),
)
# Clients of version 1 have version 2 inside, where both find it.
COHERE = Sdk(
    extra="cohere",
    module="cohere",
    client="ClientV2",
    async_client="AsyncClientV2",
    provider="cohere",
    path=("v2", "chat"),
    stream_path=("v2", "chat_stream"),
    place=("chat",),
    kin=(("Client", "AsyncClient"),),
    wire=Wire.COHERE,
    timeout=(("request_options", "timeout_in_seconds"), 1),
)
MISTRAL = Sdk(
    extra="mistral",
    module="mistralai.client",
    client="Mistral",
    async_client="Mistral",
    provider="mistral",
    path=("chat", "complete"),
    stream_path=("chat", "stream"),
    async_path=("chat", "complete_async"),
    async_stream_path=("chat", "stream_async"),
    wire=Wire.MISTRAL,
    timeout=(("timeout_ms",), 1000),
    address=("server_url",),
)
GENAI = Sdk(
    extra="genai",
    module="google.genai",
    client="Client",
    async_client="Client",
    provider="genai",
    path=("models", "generate_content"),
    stream_path=("models", "generate_content_stream"),
    async_path=("aio", "models", "generate_content"),
    async_stream_path=("aio", "models", "generate_content_stream"),
    wire=Wire.GENAI,
    timeout=(("config", "http_options", "timeout"), 1000),
    address=("http_options", "base_url"),
)

_LOOSE = Quirks(strict=False)

SERVICES: Mapping[str, Service] = MappingProxyType(
    {
        "openai": Service(OPENAI, "OPENAI_API_KEY"),
        "openai-responses": Service(RESPONSES, "OPENAI_API_KEY"),
        "azure": Service(AZURE, "AZURE_OPENAI_API_KEY"),
        # What other providers have a default for, Anthropic's API requires.
        "anthropic": Service(ANTHROPIC, "ANTHROPIC_API_KEY", defaults=MappingProxyType({"max_tokens": 4096})),
        "cohere": Service(COHERE, "CO_API_KEY"),
        "mistral": Service(MISTRAL, "MISTRAL_API_KEY"),
        "google": Service(GENAI, ("GOOGLE_API_KEY", "GEMINI_API_KEY")),
        "groq": Service(GROQ, "GROQ_API_KEY", quirks=Quirks(strict=False, stream_usage=False)),
        # Local servers do not show the model the schema that they enforce. Ollama demands no tool call.
        "ollama": Service(
            OPENAI,
            None,
            "http://localhost:11434/v1",
            quirks=Quirks(strict=False, tool_choice="auto", sees_schema=False),
        ),
        "vllm": Service(OPENAI, None, "http://localhost:8000/v1", quirks=Quirks(strict=False, sees_schema=False)),
        "together": Service(OPENAI, "TOGETHER_API_KEY", "https://api.together.xyz/v1", quirks=_LOOSE),
        "fireworks": Service(OPENAI, "FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1", quirks=_LOOSE),
        "deepseek": Service(
            OPENAI, "DEEPSEEK_API_KEY", "https://api.deepseek.com", (Mode.TOOLS, Mode.TEXT), quirks=_LOOSE
        ),
        "openrouter": Service(OPENAI, "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1", quirks=_LOOSE),
        "xai": Service(OPENAI, "XAI_API_KEY", "https://api.x.ai/v1", quirks=_LOOSE),
        # It has no tools of the caller's, and recommends to describe the schema in the prompt too.
        "perplexity": Service(
            OPENAI,
            "PERPLEXITY_API_KEY",
            "https://api.perplexity.ai",
            (Mode.SCHEMA, Mode.TEXT),
            quirks=Quirks(strict=False, sees_schema=False),
        ),
        "cerebras": Service(OPENAI, "CEREBRAS_API_KEY", "https://api.cerebras.ai/v1", quirks=_LOOSE),
        "databricks": Service(OPENAI, "DATABRICKS_TOKEN", None, quirks=_LOOSE),
        "anyscale": Service(
            OPENAI, "ANYSCALE_API_KEY", "https://api.endpoints.anyscale.com/v1", quirks=Quirks(strict=False)
        ),
    }
)


def provider(name: str) -> Provider:
    """The module of a wire format."""
    module: Any = import_module(f"{__package__}.providers.{name}")
    return module  # type: ignore[no-any-return]
