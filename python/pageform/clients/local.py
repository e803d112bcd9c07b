"""pageform's own engine behind the verbs of a client."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any, Self

from ..core.errors import ParameterError
from ..core.params import SamplingParams
from ..structured.errors import ClientError
from ..structured.loop import Outcome
from ..structured.spec import Spec

_SAMPLING = frozenset(field.name for field in fields(SamplingParams))
_OPTIONS = ("max_retries", "context", "strict", "hooks", "on_invalid", "rewind", "request_id")
_IGNORED = ("model", "stream")


class EngineClient:
    """An engine with the verbs of `Client`, on itself, on `chat.completions` and on `messages`.

    Calls take `messages` or `prompt`, the engine's options (`max_retries`, `context`, `strict`, `hooks`, `on_invalid`,
    `rewind`, `request_id`) and the fields of `SamplingParams`; `model` means nothing, since an engine has
    one model. Of an `AsyncEngine`, verbs give awaitables and streams are async iterators.
    """

    def __init__(self, engine: Any, defaults: dict[str, Any]) -> None:
        self.client = engine
        self._defaults = defaults
        self._asynchronous = inspect.iscoroutinefunction(engine.generate)
        self._arguments("", dict(defaults))

    @property
    def chat(self) -> Self:
        return self

    @property
    def completions(self) -> Self:
        return self

    @property
    def messages(self) -> Self:
        return self

    def create(self, response_model: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """The value; a `Completion` without a type; with `stream=True` an iterator, as `create_partial` gives it for
        `Partial[T]` and `create_iterable` for lists."""
        if response_model is None:
            prompt, sampling, options = self._call(messages, kwargs)
            return self.client.generate(prompt, sampling, **options)
        if kwargs.get("stream"):
            listed = Spec.of(response_model).kind in ("iterable", "parallel")
            return (self.create_iterable if listed else self.create_partial)(response_model, messages, **kwargs)
        return self._answer(response_model, messages, kwargs, lambda value, completion: value)

    def create_with_completion(self, response_model: Any, messages: Any = None, **kwargs: Any) -> Any:
        """A pair: the value, and the engine's `Completion`."""
        return self._answer(response_model, messages, kwargs, lambda value, completion: (value, completion))

    def create_result(self, response_model: Any, messages: Any = None, **kwargs: Any) -> Any:
        """An `Outcome`: the value with all attempts."""
        return self._answer(response_model, messages, kwargs, lambda v, c: Outcome(v, list(c.attempts), c))

    def create_partial(self, response_model: Any, messages: Any = None, **kwargs: Any) -> Any:
        """An iterator over the growing value, the validated one last."""
        prompt, sampling, options = self._call(messages, kwargs)
        return self.client.stream(prompt, sampling, response_model, **options)

    def create_iterable(self, response_model: Any, messages: Any = None, **kwargs: Any) -> Any:
        """An iterator over the items of a list, each given when complete. `response_model` is the type of an item,
        or of the list."""
        spec = Spec.of(response_model)
        listed: Any = response_model if spec.kind in ("iterable", "parallel") else Iterable[response_model]
        growing = self.create_partial(listed, messages, **kwargs)
        return _items_later(growing) if self._asynchronous else _items(growing)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "client" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.client, name)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _answer(self, response_model: Any, messages: Any, kwargs: dict[str, Any], pick: Callable[..., Any]) -> Any:
        prompt, sampling, options = self._call(messages, kwargs)

        async def later() -> Any:
            return pick(*await self.client.generate_with_completion(prompt, response_model, sampling, **options))

        if self._asynchronous:
            return later()
        return pick(*self.client.generate_with_completion(prompt, response_model, sampling, **options))

    def _call(self, messages: Any, kwargs: dict[str, Any]) -> tuple[Any, SamplingParams | None, dict[str, Any]]:
        given = {**self._defaults, **kwargs}
        prompt = given.pop("prompt", None)
        if (messages is None) == (prompt is None):
            raise ParameterError("messages", messages, "either messages or prompt must be given", "Give one of them.")
        return self._arguments(messages if prompt is None else prompt, given)

    def _arguments(self, prompt: Any, given: dict[str, Any]) -> tuple[Any, SamplingParams | None, dict[str, Any]]:
        sampling = {name: given.pop(name) for name in list(given) if name in _SAMPLING}
        options = {name: given.pop(name) for name in list(given) if name in _OPTIONS}
        unknown = [name for name in given if name not in _IGNORED]
        if unknown:
            remedy = "Use the fields of SamplingParams and the options of Engine.generate."
            raise ParameterError(unknown[0], given[unknown[0]], "is nothing that an engine knows", remedy)
        return prompt, SamplingParams(**{"temperature": 0.0, **sampling}) if sampling else None, options


def from_engine(engine: Any, **defaults: Any) -> EngineClient:
    """A client over `pageform.Engine` or `AsyncEngine`; `defaults` go with each call: `from_engine(engine, seed=1)`."""
    if not all(callable(getattr(engine, name, None)) for name in ("generate", "generate_with_completion", "stream")):
        raise ClientError("engine", engine, "is no engine", "Give a pageform.Engine or AsyncEngine.")
    return EngineClient(engine, defaults)


class _Count:
    """Which items of a growing list are complete: all but the last, which may still grow."""

    def __init__(self) -> None:
        self.given = 0

    def new(self, growing: Any, *, closed: bool) -> list[Any]:
        """The items that have become complete."""
        items = list(growing) if isinstance(growing, list) else []
        upto = len(items) if closed else max(len(items) - 1, 0)
        new = items[self.given : upto]
        self.given = max(self.given, upto)
        return new


def _items(growing: Iterator[Any]) -> Iterator[Any]:
    count, last = _Count(), None
    for last in growing:
        yield from count.new(last, closed=False)
    yield from count.new(last, closed=True)


async def _items_later(growing: AsyncIterator[Any]) -> AsyncIterator[Any]:
    count, last = _Count(), None
    async for last in growing:
        for item in count.new(last, closed=False):
            yield item
    for item in count.new(last, closed=True):
        yield item
