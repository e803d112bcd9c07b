"""Making clients: of an SDK's client, of a function, in place, or from a service's name alone.

Keyword arguments that are options of `Verbs` become the client's defaults for them; all others become defaults of the
SDK's own arguments: `from_openai(OpenAI(), model="gpt-5-mini", max_retries=1)`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, Literal
from urllib.parse import urlsplit

from ..core.errors import ParameterError
from ..structured.answer import Mode
from ..structured.errors import ClientError, ConfigurationError
from .base import Quirks
from .client import Client, Path, reach
from .encode import Wire
from .endpoint import Endpoint
from .options import split
from .table import ALL, SERVICES, Sdk, Service, provider
from .verbs import Verbs

_VERBS = ("create", "create_partial", "create_iterable", "create_with_completion", "create_result")


def from_openai(
    client: Any, mode: Mode | str | None = None, api: Literal["chat", "responses"] = "chat", **settings: Any
) -> Client:
    """A client over `openai.OpenAI`, `AsyncOpenAI` or their Azure kin. Services that speak OpenAI's API are known by
    their address, and their quirks heeded.

    `client.responses.create` speaks the Responses API, `client.chat.completions.create` that of chat completions; `api`
    says which of them the client's own verbs speak.
    """
    if api not in ("chat", "responses"):
        raise ParameterError("api", api, "is unknown", 'Use "chat" or "responses".')
    return _over(client, ("openai-responses",) if api == "responses" else ("openai", "azure"), mode, settings)


def from_groq(client: Any, mode: Mode | str | None = None, **settings: Any) -> Client:
    """A client over `groq.Groq` or `AsyncGroq`."""
    return _over(client, ("groq",), mode, settings)


def from_anthropic(client: Any, mode: Mode | str | None = None, **settings: Any) -> Client:
    """A client over `anthropic.Anthropic`, `AsyncAnthropic` or their kin for Bedrock, Vertex, Foundry and other clouds.

    The API requires `max_tokens`: give it here as a default, or with each call.
    """
    return _over(client, ("anthropic",), mode, settings)


def from_cohere(client: Any, mode: Mode | str | None = None, **settings: Any) -> Client:
    """A client over `cohere.ClientV2`, `AsyncClientV2`, or those of version 1, whose arguments are rewritten to version
    2, which they are sent to; responses are those of version 2."""
    return _over(client, ("cohere",), mode, settings)


def from_mistral(client: Any, mode: Mode | str | None = None, use_async: bool = False, **settings: Any) -> Client:
    """A client over `mistralai.client.Mistral`, which has sync and async methods: `use_async` says which to take."""
    return _over(client, ("mistral",), mode, settings, use_async)


def from_genai(client: Any, mode: Mode | str | None = None, use_async: bool = False, **settings: Any) -> Client:
    """A client over `google.genai.Client`, which has sync and async methods: `use_async` says which to take.

    The conversation is given as `messages`, or as `contents` of the SDK; options in `config`, or beside it.
    """
    return _over(client, ("google",), mode, settings, use_async)


def from_litellm(
    completion: Callable[..., Any],
    mode: Mode | str | None = None,
    *,
    async_client: bool | None = None,
    **settings: Any,
) -> Client:
    """A client over `litellm.completion` or `litellm.acompletion`, or a function like them. `async_client` says which
    of the two it is like, where that can't be seen."""
    if not callable(completion):
        remedy = "Give litellm.completion or litellm.acompletion."
        raise ClientError("completion", completion, "is no function", remedy)
    asynchronous = inspect.iscoroutinefunction(completion) if async_client is None else async_client
    # Which of a hundred services answers is litellm's choice; it drops or translates what they don't know.
    endpoint = Endpoint("litellm", provider("openai_chat"), completion, asynchronous, ALL, quirks=Quirks(strict=False))
    options, defaults = split({**settings, "mode": mode})
    return Client(None, endpoint, (), options, defaults)


def from_provider(
    model: str,
    async_client: bool = False,
    *,
    mode: Mode | str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    client_options: dict[str, Any] | None = None,
    **settings: Any,
) -> Client:
    """A client for `"service/model"`, such as `"openai/gpt-5-mini"`, with an SDK client made for it.

    `client_options` go to the SDK's client. Raises ConfigurationError for a service that is not known, an SDK that is
    not installed, a key that is missing, and for what the SDK's client refuses.
    """
    name, slash, rest = model.partition("/") if isinstance(model, str) else ("", "", "")
    if not (slash and rest):
        raise ConfigurationError("model", model, 'must be "service/model"', 'For example "openai/gpt-5-mini".')
    if name == "litellm":
        litellm = _sdk("litellm", "litellm", model)
        completion = litellm.acompletion if async_client else litellm.completion
        return from_litellm(completion, mode, async_client=async_client, model=rest, **settings)
    if name not in SERVICES:
        known = ", ".join(sorted([*SERVICES, "litellm"]))
        raise ConfigurationError("model", model, f"there is no service {name}", f"There are {known}.")
    service = SERVICES[name]
    options = dict(client_options or {})
    options.update(_key(service, name, api_key))
    _put_address(options, service.sdk.address, base_url, service.base_url)
    module = _sdk(service.sdk.module, service.sdk.extra, model)
    try:
        made = getattr(module, service.sdk.async_client if async_client else service.sdk.client)(**options)
    except Exception as error:  # each SDK has its own way to say what is missing
        remedy = "Give what it wants in client_options."
        raise ConfigurationError("model", model, f"{service.sdk.module} makes no client ({error})", remedy) from error
    return _client(made, name, service, async_client, {**service.defaults, **settings, "mode": mode, "model": rest})


def patch(
    client: Any = None, create: Callable[..., Any] | None = None, mode: Mode | str | None = None, **settings: Any
) -> Any:
    """Puts the verbs onto an SDK's client itself, beside its own method, and returns that client. With `create`, a
    function like `litellm.completion`: a function like it that takes `response_model` and the options."""
    if (client is None) == (create is None):
        raise ParameterError("client", client, "either client or create must be given", "Give one of them.")
    if create is not None:
        return from_litellm(create, mode, **settings).create
    name, service = _known(client, tuple(SERVICES))
    endpoint = _endpoint(client, name, service, _is_async(client, service))
    places = {service.sdk.place or service.sdk.path: endpoint, **_others(client, service, endpoint)}
    options, defaults = split({**settings, "mode": mode})
    for (*where, method), one in places.items():
        resource = reach(client, tuple(where))
        current = getattr(getattr(resource, method), "__self__", None)
        # Where it was patched already, only the settings change.
        verbs = Verbs(current._endpoint if isinstance(current, Verbs) else one, options, defaults)
        for verb in _VERBS:
            setattr(resource, method if verb == "create" else verb, getattr(verbs, verb))
    return client


def _over(
    client: Any, names: tuple[str, ...], mode: Mode | str | None, settings: dict[str, Any], asynchronous: bool = False
) -> Client:
    """A client over an SDK's client that must be of one of these services' SDKs."""
    name, service = _known(client, names)
    return _client(client, name, service, asynchronous or _is_async(client, service), {**settings, "mode": mode})


def _client(client: Any, name: str, service: Service, asynchronous: bool, settings: dict[str, Any]) -> Client:
    options, defaults = split(settings)
    endpoint = _endpoint(client, name, service, asynchronous)
    sdk = service.sdk
    place = sdk.place or (sdk.async_path if asynchronous else ()) or sdk.path
    return Client(client, endpoint, place, options, defaults, _others(client, service, endpoint))


def _others(client: Any, service: Service, endpoint: Endpoint) -> dict[Path, Endpoint]:
    """The further endpoints that the SDK's client has."""
    others = service.sdk.others.items()
    return {path: _other(endpoint, client, path, *one) for path, one in others if reach(client, path) is not None}


def _endpoint(client: Any, name: str, service: Service, asynchronous: bool) -> Endpoint:
    sdk = service.sdk
    path = (sdk.async_path if asynchronous else ()) or sdk.path
    stream = (sdk.async_stream_path if asynchronous else ()) or sdk.stream_path
    module = provider(sdk.provider)
    return Endpoint(
        name,
        module,
        reach(client, path),
        asynchronous,
        service.modes,
        stream=reach(client, stream) if stream else None,
        quirks=service.quirks,
        wire=sdk.wire,
        timeout=sdk.timeout,
        own=reach(client, sdk.place) if sdk.place else None,
    )


def _other(endpoint: Endpoint, client: Any, path: Path, module: str, wire: Wire) -> Endpoint:
    made = provider(module)
    return replace(endpoint, provider=made, create=reach(client, path), stream=None, modes=made.MODES, wire=wire)


def _known(client: Any, names: tuple[str, ...]) -> tuple[str, Service]:
    """The row of an SDK's client, by its class and the address that it speaks to."""
    ancestry = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(client).__mro__}
    first = [name for name in names if _is_of(SERVICES[name].sdk, ancestry)]
    if not first:
        sdks = {SERVICES[name].sdk.module: SERVICES[name].sdk for name in names}.values()
        classes = ", ".join(f"{sdk.module}.{one}" for sdk in sdks for one in dict.fromkeys(sdk.classes[0]))
        raise ClientError("client", client, "is no client that is known here", f"Give one of {classes}.")
    host = _host(getattr(client, "base_url", None))
    for name, service in SERVICES.items():
        if service.sdk is SERVICES[first[0]].sdk and host and host == _host(service.base_url):
            return name, service
    return first[0], SERVICES[first[0]]


def _is_of(sdk: Sdk, ancestry: set[tuple[str, str]]) -> bool:
    package = sdk.module.partition(".")[0]
    return any((package, name) in ancestry for names in sdk.classes for name in names)


def _host(address: Any) -> str:
    """Host and port of a URL; local ones too, since each local server has its own port."""
    return urlsplit(str(address)).netloc if address is not None else ""


def _is_async(client: Any, service: Service) -> bool:
    """Whether the class of an SDK's client says so; one that has both kinds of methods is sync unless told."""
    names = {asynchronous for sync, asynchronous in service.sdk.classes if asynchronous != sync}
    return any(cls.__name__ in names for cls in type(client).__mro__)


def _put_address(options: dict[str, Any], way: tuple[str, ...], given: str | None, usual: str | None) -> None:
    """Put an address into the options of an SDK's client: the one given, else the usual one unless they have one."""
    *into, name = way
    for step in into if given or usual else ():
        options[step] = options = dict(options.get(step) or {})
    if given is not None:
        options[name] = given
    elif usual is not None:
        options.setdefault(name, usual)


def _key(service: Service, name: str, given: str | None) -> dict[str, str]:
    if given is not None:
        return {"api_key": given}
    if service.key is None:
        return {"api_key": "none"}  # SDKs insist on one
    names = (service.key,) if isinstance(service.key, str) else service.key
    found = next(filter(None, map(os.environ.get, names)), None)
    if found is None:
        remedy = f"Set {' or '.join(names)} in the environment, or give api_key."
        raise ConfigurationError("api_key", None, f"{name} needs a key", remedy)
    return {"api_key": found}


def _sdk(module: str, extra: str, model: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        reason = (
            f"the package {module} is not installed"
            if error.name == module
            else f"{module} can't be imported ({error})"
        )
        raise ConfigurationError("model", model, reason, f"Run: pip install 'pageform[{extra}]'.") from error
