"""Instructor's clients over pageform's: its defaults, its wrappers of simple types, its exceptions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Self

from ... import clients
from ...clients.client import Client
from ...structured.markers import Partial
from ...structured.spec import Spec
from .core.exceptions import ConfigurationError, translated
from .modes import Mode
from .wrapped import Wrapped, keep_response

_OPTIONS = ("cache", "cache_ttl", "cache_namespace", "autodetect_images")
"""Options of pageform's clients that have Instructor's names already."""


class Instructor:
    """A client with Instructor's verbs; every other attribute is the SDK client's own."""

    asynchronous = False

    def __init__(
        self,
        client: Client,
        mode: Mode = Mode.TOOLS,
        defaults: Mapping[str, Any] | None = None,
        wire: str = "openai",
        max_retries: int = 3,
    ) -> None:
        self.mode = mode
        self.client = client.client
        self.kwargs = dict(defaults or {})
        self._own, self._wire, self._max_retries = client, wire, max_retries

    @property
    def chat(self) -> Self:
        return self

    @property
    def completions(self) -> Self:
        return self

    @property
    def messages(self) -> Self:
        return self

    # --- verbs ------------------------------------------------------------------------------------------------------

    def create(self, response_model: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """The value; the SDK's own response without a type; an iterator with `stream=True`."""
        if kwargs.pop("stream", False) and response_model is not None:
            spec = Spec.of(response_model)
            verb = self.create_iterable if spec.kind in ("iterable", "parallel") else self.create_partial
            return verb(response_model, messages, **kwargs)
        return self._answer(response_model, messages, kwargs, lambda value, response: value)

    def create_with_completion(self, response_model: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """A pair: the value, and the SDK's response."""
        return self._answer(response_model, messages, kwargs, lambda value, response: (value, response))

    def create_partial(self, response_model: Any, messages: Any = None, **kwargs: Any) -> Any:
        """An iterator over the growing value."""
        sent = self._arguments(messages, kwargs)
        kind = response_model if Spec.of(response_model).kind == "partial" else Partial[response_model]
        return self._streamed(lambda: self._own.create_partial(kind, **sent), sent)

    def create_iterable(self, response_model: Any, messages: Any = None, **kwargs: Any) -> Any:
        """An iterator over the items of a list."""
        sent = self._arguments(messages, kwargs)
        return self._streamed(lambda: self._own.create_iterable(response_model, **sent), sent)

    # --- hooks ------------------------------------------------------------------------------------------------------

    @property
    def hooks(self) -> Any:
        """The client's hooks."""
        return self._own.hooks

    def on(self, name: Any, handler: Callable[..., Any]) -> None:
        """Call `handler` at each event of that name."""
        self._own.on(name, handler)

    def off(self, name: Any, handler: Callable[..., Any]) -> None:
        """Forget a handler."""
        self._own.off(name, handler)

    def clear(self, name: Any = None) -> None:
        """Forget all handlers of an event, or of all."""
        self._own.clear(name)

    # --- inside -----------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "client" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.client, name)

    def _arguments(self, messages: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of one call as pageform's client takes them."""
        mode = kwargs.pop("mode", None) or self.mode
        given = {**self.kwargs, **kwargs}
        if messages is not None:
            given["messages"] = messages
        given.setdefault("max_retries", self._max_retries)
        strict = given.pop("strict", None)
        return {
            **mode.arguments(self._wire),
            "mode": mode.plain,
            "strict_schema": mode.is_strict,
            **({} if strict is None else {"strict": strict}),
            **given,
        }

    def _answer(self, response_model: Any, messages: Any, kwargs: dict[str, Any], pick: Callable[..., Any]) -> Any:
        sent = self._arguments(messages, kwargs)
        if response_model is None:
            return self._plain(sent, pick)
        wrapped = Wrapped.of(response_model)

        def finish(outcome: Any) -> Any:
            return pick(keep_response(wrapped.unwrap(outcome.value), outcome.response), outcome.response)

        return self._sent(lambda: self._own.create_result(wrapped.kind, **sent), finish, sent)

    def _plain(self, sent: dict[str, Any], pick: Callable[..., Any]) -> Any:
        options = {"mode", "strict_schema", "strict", "max_retries", "context", "hooks", "token_budget", *_OPTIONS}
        added = {"response_format"} if sent.get("response_format") == {"type": "json_object"} else set()
        kept = {name: value for name, value in sent.items() if name not in options | added}
        return self._sent(lambda: self._own.create(**kept), lambda response: pick(response, response), sent)

    def _sent(self, send: Callable[[], Any], finish: Callable[[Any], Any], kwargs: dict[str, Any]) -> Any:
        async def later() -> Any:
            try:
                return finish(await send())
            except Exception as error:
                raise self._told(error, kwargs) from (error.__cause__ or error)

        if self.asynchronous:
            return later()
        try:
            return finish(send())
        except Exception as error:
            raise self._told(error, kwargs) from (error.__cause__ or error)

    def _streamed(self, open_stream: Callable[[], Any], kwargs: dict[str, Any]) -> Any:
        async def later() -> AsyncIterator[Any]:
            try:
                async for part in open_stream():
                    yield part
            except Exception as error:
                raise self._told(error, kwargs) from (error.__cause__ or error)

        def now() -> Iterator[Any]:
            try:
                yield from open_stream()
            except Exception as error:
                raise self._told(error, kwargs) from (error.__cause__ or error)

        return later() if self.asynchronous else now()

    def _told(self, error: Exception, kwargs: dict[str, Any]) -> Exception:
        return translated(error, {name: value for name, value in kwargs.items() if name not in ("mode", "hooks")})


class AsyncInstructor(Instructor):
    """The same over an async SDK client: verbs give awaitables, streams are async iterators."""

    asynchronous = True


def _wrap(
    make: Callable[..., Client],
    target: Any,
    mode: Mode | None,
    settings: dict[str, Any],
    wire: str = "openai",
    max_retries: int = 3,
    **given: Any,
) -> Any:
    options = {name: settings.pop(name) for name in _OPTIONS if name in settings}
    hooks = settings.pop("hooks", None)
    try:
        client = make(target, **given, **options, **({} if hooks is None else {"hooks": hooks}))
    except Exception as error:
        raise translated(error, {}) from error
    kind = AsyncInstructor if client._endpoint.asynchronous else Instructor
    return kind(client, mode or Mode.TOOLS, settings, wire, max_retries)


def _over(name: str, wire: str = "openai") -> Callable[..., Any]:
    """A function that wraps an SDK's client."""

    def wrap(client: Any, mode: Mode | None = None, use_async: bool | None = None, **settings: Any) -> Any:
        given = {} if use_async is None else {"use_async": use_async}
        return _wrap(getattr(clients, name), client, mode, settings, wire, **given)

    wrap.__name__ = wrap.__qualname__ = name
    wrap.__doc__ = f"See `pageform.clients.{name}`."
    return wrap


from_openai = _over("from_openai")
from_groq = _over("from_groq")
from_anthropic = _over("from_anthropic", "anthropic")
from_cohere = _over("from_cohere", "cohere")
from_mistral = _over("from_mistral", "mistral")
from_genai = _over("from_genai", "genai")
# Services that OpenAI's SDK is pointed at: their quirks are known by their address.
from_anyscale = from_together = from_databricks = from_deepseek = from_openrouter = from_openai
from_fireworks = from_cerebras = from_perplexity = from_xai = from_openai


def from_litellm(
    completion: Any, mode: Mode | None = None, *, async_client: bool | None = None, **settings: Any
) -> Any:
    """See `pageform.clients.from_litellm`."""
    return _wrap(clients.from_litellm, completion, mode, settings, async_client=async_client)


def from_provider(model: Any, async_client: bool = False, mode: Mode | None = None, **settings: Any) -> Any:
    """See `pageform.clients.from_provider`."""
    if not isinstance(model, str) or "/" not in model:
        raise ConfigurationError(f"model={model!r} must be 'provider/model', such as 'openai/gpt-5-mini'")
    own = {name: settings.pop(name) for name in ("api_key", "base_url") if name in settings}
    wire = model.partition("/")[0]
    spoken = wire if wire in ("anthropic", "cohere", "mistral", "google") else "openai"
    made = _wrap(clients.from_provider, model, mode, settings, spoken, async_client=async_client, **own)
    made.kwargs.setdefault("model", model.partition("/")[2])
    return made


def patch(client: Any = None, create: Any = None, mode: Mode = Mode.TOOLS, **settings: Any) -> Any:
    """Gives an SDK's client, in place, a `create` that takes `response_model`; or a function like `create`."""
    if create is not None:
        return _wrap(clients.from_litellm, create, mode, settings, max_retries=1).create
    made = _wrap(clients.from_openai, client, mode, settings, max_retries=1)
    client.chat.completions.create = made.create
    return client


def apatch(client: Any, mode: Mode = Mode.TOOLS) -> Any:
    """An old name of `patch`."""
    return patch(client, mode=mode)
