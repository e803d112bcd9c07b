"""Whose answers a client gets: its endpoint and its credentials, as far as an SDK's client shows them.

Two clients share cached answers only if both are the same. Only a hash leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.errors import ParameterError
from ..structured.cache_key import content_hash

_ENDPOINT = frozenset(
    (
        "_base_url",
        "server_url",
        "server",
        "_api_version",
        "aws_region",
        "region",
        "location",
        "vertexai",
        "custom_base_url",
    )
)
_CREDENTIALS = frozenset(
    (
        *("api_key", "_api_key_provider", "admin_api_key", "auth_token", "_token", "security", "access_token"),
        *("organization", "project", "project_id", "credentials", "_credentials", "_auth_headers"),
        *("_azure_ad_token", "_azure_ad_token_provider", "aws_access_key", "aws_secret_key", "aws_session_token"),
        *("aws_profile", "_headers", "_custom_headers", "_custom_query", "_http_options"),
    )
)
_SECRETS = ("api_key", "auth_token", "_token", "security", "access_token", "_azure_ad_token", "aws_secret_key")
_INNER = ("_client_wrapper", "sdk_configuration", "_api_client")
"""Where Cohere, Mistral and Google keep their settings."""
_HTTP = ("_client", "client", "httpx_client", "_httpx_client")
"""Where they keep the HTTP client, which may add headers of its own."""


def cache_scope(client: Any, provider: str, namespace: str | None, private: str) -> str:
    """Whose answers a cache may share with this client (or a method of it), as a hash. Read for each call: settings may
    be changed.

    Its endpoint, and its credentials or, in their place, the `namespace` that the caller gives to tenants. Where an SDK
    shows neither key nor address, or a key that is made anew for each call, only this very client is meant: by
    `private`, a random text that whoever asks keeps for it.
    """
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise ParameterError("cache_namespace", namespace, "must be text", "Give the name of the tenant.")
    settings = _settings(client)
    endpoint = {name: value for name, value in settings.items() if name in _ENDPOINT}
    if namespace is not None:
        return content_hash(["namespace", provider, _stable(endpoint) or private, namespace], "client")
    known = _stable(settings) if any(settings.get(name) for name in _SECRETS) else None
    return content_hash(["client", provider, private if known is None else known], "client")


def _settings(client: Any) -> dict[str, Any]:
    """The settings of a client, where it keeps them, and what its HTTP client adds.

    Read off the instance, not as attributes: SDKs make resources, and warn, when some names are looked up.
    """
    client = _client_of(client)
    holder = next((inner for name in _INNER if (inner := _own(client).get(name)) is not None), client)
    found = {name: value for name, value in _own(holder).items() if name in _ENDPOINT | _CREDENTIALS}
    found = {name: value for name, value in found.items() if value is not None and not _is_resource(name, value)}
    http = next((inner for name in _HTTP if (inner := _own(holder).get(name)) is not None), None)
    http = _own(http).get("httpx_client", http)  # Cohere wraps it once more
    for name in ("headers", "auth"):
        if value := getattr(http, name, None):
            found[f"http {name}"] = value
    found["http hooks"] = [hook for hooks in _hooks(http) for hook in hooks if not _same_package(hook, client)]
    address = getattr(found.get("_http_options"), "base_url", None)  # Google's
    return {name: _readable(value) for name, value in {**found, "_base_url": found.get("_base_url", address)}.items()}


def _client_of(method: Any) -> Any:
    """The client of an SDK's method, such as `client.chat.completions.create`; a client itself is one."""
    found = getattr(method, "__self__", method)
    for _ in range(5):
        own = _own(found)
        inner = own.get("_client", own.get("_raw_client"))
        if any(name in own for name in (*_SECRETS, *_INNER)) or inner is None or not _same_package(type(inner), found):
            break
        found = inner
    return found


def _hooks(http: Any) -> Iterable[Iterable[Any]]:
    hooks = getattr(http, "event_hooks", None)
    return hooks.values() if isinstance(hooks, Mapping) else ()


def _same_package(function: Any, client: Any) -> bool:
    """Whether a hook is the SDK's own (Azure's client has one)."""
    packages = {str(getattr(owner, "__module__", "")).partition(".")[0] for owner in (function, type(client))}
    return len(packages) == 1


def _own(value: Any) -> Mapping[str, Any]:
    return getattr(value, "__dict__", None) or {}


def _is_resource(name: str, value: Any) -> bool:
    """Whether a name means an SDK's resource here: Anthropic has one called `organization`."""
    return name in ("organization", "project") and not isinstance(value, str)


def _readable(value: Any) -> Any:
    if type(value).__name__ == "URL":
        return str(value)
    return dict(value.items()) if isinstance(value, Mapping) else value


def _stable(settings: dict[str, Any]) -> str | None:
    """The hash of settings, None if one of them has no stable content (a function that makes keys)."""
    try:
        return content_hash(settings, "client")
    except ParameterError:
        return None
