"""Whose cached answers a client may see: told from the real SDKs' clients, none of which sends anything here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from pageform.clients.identity import cache_scope
from pageform.core.errors import ParameterError


def openai(key: str = "k", url: str | None = None, **options: Any) -> Any:
    from openai import OpenAI

    return OpenAI(api_key=key, base_url=url, **options)


def async_openai(key: str = "k", url: str | None = None) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(api_key=key, base_url=url)


def azure(key: str = "k", url: str | None = None) -> Any:
    from openai import AzureOpenAI

    return AzureOpenAI(api_key=key, azure_endpoint=url or "https://a.example", api_version="1")


def anthropic(key: str = "k", url: str | None = None) -> Any:
    from anthropic import Anthropic

    client = Anthropic(api_key=key, base_url=url)
    _ = getattr(client, "organization", None)  # made and kept when it is first asked for
    return client


def cohere(key: str = "k", url: str | None = None) -> Any:
    from cohere import ClientV2

    return ClientV2(api_key=key, base_url=url)


def mistral(key: str = "k", url: str | None = None) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key=key, server_url=url)


def groq(key: str = "k", url: str | None = None) -> Any:
    from groq import Groq

    return Groq(api_key=key, base_url=url)


def genai(key: str = "k", url: str | None = None) -> Any:
    from google.genai import Client
    from google.genai.types import HttpOptions

    return Client(api_key=key, http_options=HttpOptions(base_url=url) if url else None)


SDKS = [openai, async_openai, azure, anthropic, cohere, mistral, groq, genai]


def scope(client: Any, namespace: str | None = None, private: str = "p") -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return cache_scope(client, "service", namespace, private)


@pytest.mark.parametrize("make", SDKS, ids=lambda make: make.__name__)
def test_equal_settings_share_and_others_do_not(make: Callable[..., Any]) -> None:
    same = scope(make("secret-key"), private="one")
    assert same == scope(make("secret-key"), private="two")
    assert same != scope(make("other-key"))
    assert same != scope(make("secret-key", "https://b.example/v1"))
    assert same != cache_scope(make("secret-key"), "other service", None, "one")
    assert "secret" not in same
    assert len(same) == 64


METHODS = {
    openai: lambda client: client.chat.completions.create,
    async_openai: lambda client: client.responses.create,
    azure: lambda client: client.chat.completions.create,
    anthropic: lambda client: client.messages.create,
    cohere: lambda client: client.v2.chat if hasattr(client, "v2") else client.chat,
    mistral: lambda client: client.chat.complete,
    groq: lambda client: client.chat.completions.create,
    genai: lambda client: client.models.generate_content,
}


@pytest.mark.parametrize("make", SDKS, ids=lambda make: make.__name__)
def test_a_method_stands_for_its_client(make: Callable[..., Any]) -> None:
    client = make("secret-key")
    method = METHODS[make](client)
    assert scope(method, private="one") == scope(method, private="two")
    assert scope(method) != scope(METHODS[make](make("other-key")))
    assert scope(method) != scope(METHODS[make](make("secret-key", "https://b.example/v1")))


@pytest.mark.parametrize("make", SDKS, ids=lambda make: make.__name__)
def test_a_namespace_stands_in_place_of_the_key_but_not_of_the_address(make: Callable[..., Any]) -> None:
    tenant = scope(make("one"), "tenant", "x")
    assert tenant == scope(make("two"), "tenant", "y")
    assert tenant != scope(make("one"), "other tenant", "x")
    assert tenant != scope(make("one"), None, "x")
    assert tenant != scope(make("one", "https://b.example/v1"), "tenant", "x")


def test_sync_and_async_clients_share() -> None:
    assert scope(openai()) == scope(async_openai())


def test_headers_organisations_and_projects_are_part_of_it() -> None:
    import httpx

    scopes = {
        scope(openai(**options))
        for options in (
            {},
            {"organization": "o"},
            {"project": "o"},
            {"default_headers": {"X-Tenant": "a"}},
            {"default_headers": {"X-Tenant": "b"}},
            {"default_query": {"tenant": "a"}},
            {"http_client": httpx.Client(headers={"X-Tenant": "a"})},
        )
    }
    assert len(scopes) == 7


def test_settings_are_read_for_each_call() -> None:
    client = openai("one")
    before = scope(client)
    client.api_key = "two"
    assert scope(client) == scope(openai("two")) != before


def opaque() -> list[Any]:
    import httpx

    return [
        openai(key=lambda: "made anew"),  # type: ignore[arg-type]
        openai(http_client=httpx.Client(auth=("user", "secret"))),
        openai(http_client=httpx.Client(event_hooks={"request": [lambda request: None]})),
        object(),
        print,
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_client_whose_settings_cannot_be_seen_shares_with_nobody(number: int) -> None:
    client = opaque()[number]
    assert scope(client, private="one") != scope(client, private="two")
    assert scope(client, private="one") == scope(client, private="one")
    if isinstance(client, (type(openai()))):
        assert scope(client, "tenant", "one") == scope(client, "tenant", "two")


@pytest.mark.parametrize("namespace", ["", 7, b"x"])
def test_odd_namespaces_are_errors(namespace: Any) -> None:
    with pytest.raises(ParameterError, match="must be text"):
        scope(openai(), namespace)
