"""pageform's own engine behind the verbs of a client, so that a program moves between it and a provider unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import fields
from typing import Any

from ..core.errors import ParameterError
from ..core.params import SamplingParams
from ..core.reasoning import ReasoningDelta
from ..structured.drive import END, AsyncStream, Do, Effect, Program, Pull, Show, Stream, run, run_async
from ..structured.errors import ClientError
from ..structured.hooks import Hooks
from ..structured.loop import Outcome
from ..structured.spec import Spec
from .base import Kwargs
from .client import View
from .verbs import list_spec

_SAMPLING = frozenset(field.name for field in fields(SamplingParams))
_OTHERWISE = {"max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens"}
"""What other APIs call sampling parameters."""
_TYPED = frozenset({"max_retries", "context", "strict", "hooks", "on_invalid", "rewind", "guarantee", "request_id"})
_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "tool_format"})
_UNSET: Any = object()


def from_engine(engine: Any, **settings: Any) -> EngineClient:
    """A client over a pageform `Engine` or `AsyncEngine`, with the verbs of `Client`.

    Sampling parameters are given by name, under the names of `SamplingParams` or OpenAI's, or as `sampling`; the
    engine's own options of typed answers (`max_retries`, `on_invalid`, …) too. `settings` are defaults of all calls.
    """
    for name in ("chat", "generate_with_completion", "stream"):
        if not callable(getattr(engine, name, None)):
            remedy = "Give a pageform Engine or AsyncEngine."
            raise ClientError("engine", engine, f"is no engine: it has no method {name}", remedy)
    return EngineClient(engine, settings)


class EngineClient:
    """The verbs of `Client` on an engine; every other attribute is the engine's own. See `from_engine`."""

    def __init__(self, engine: Any, defaults: Kwargs) -> None:
        self.client = engine
        self.hooks = Hooks.of(defaults.pop("hooks", None)).copy()
        self.on, self.off, self.clear = self.hooks.on, self.hooks.off, self.hooks.clear
        self._defaults = defaults
        self._asynchronous = inspect.iscoroutinefunction(engine.chat)
        self._arguments({})
        self._view = View(engine, {("chat", "completions"): self, ("messages",): self})

    def create(self, response_model: Any = None, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """See `Verbs.create`. Without `response_model`, what `engine.chat` gives: a `Completion`, or with
        `stream=True` an iterator over text. With `tools` (see `Engine.chat`) the completion has `tool_calls`."""
        streams = kwargs.pop("stream", False)
        if response_model is not None:
            if not streams:
                return self._answer(response_model, messages, kwargs, lambda outcome: outcome.value)
            if Spec.of(response_model).kind == "value":
                remedy = "Give Partial[T] or Iterable[T], or use create_partial."
                raise ParameterError("response_model", response_model, "is neither Partial nor Iterable", remedy)
            partial = Spec.of(response_model).kind == "partial"
            return (self.create_partial if partial else self.create_iterable)(response_model, messages, **kwargs)
        sampling, options = self._arguments(kwargs)
        if options.get("tools") is None:
            for name in _TYPED - {"hooks", "request_id"}:
                if name in kwargs:
                    remedy = "Give one, or leave it out."
                    raise ParameterError(name, kwargs[name], "it needs a response_model", remedy)
            options = {name: value for name, value in options.items() if name in _TOOLS | {"request_id"}}
        conversation = _messages(messages)
        return (self.client.stream if streams else self.client.chat)(conversation, sampling, **options)

    def create_with_completion(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """A pair: the value, and the engine's `Completion`."""
        return self._answer(response_model, messages, kwargs, lambda outcome: (outcome.value, outcome.response))

    def create_result(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """An `Outcome`; its response is the engine's `Completion`."""
        return self._answer(response_model, messages, kwargs, lambda outcome: outcome)

    def create_partial(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """See `Verbs.create_partial`. The outcome holds the value alone."""
        events = self._events(Spec.of(response_model), messages, kwargs)
        return self._streamed(_growing(events, self._asynchronous))

    def create_iterable(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """See `Verbs.create_iterable`. The outcome holds the value alone."""
        spec = list_spec(response_model)
        events = self._events(spec, messages, kwargs)
        context = kwargs.get("context", self._defaults.get("context"))
        return self._streamed(_items(events, spec, context, self._asynchronous))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_view" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._view, name)

    def __repr__(self) -> str:
        return f"<pageform client over {self.client!r}>"

    def _events(self, spec: Spec[Any], messages: Any, kwargs: Kwargs) -> Callable[[], Any]:
        sampling, options = self._typed_arguments(kwargs)
        conversation = _messages(messages)
        return lambda: self.client.stream(conversation, sampling, spec.response_type, **options)

    def _answer(self, response_model: Any, messages: Any, kwargs: Kwargs, pick: Callable[[Outcome[Any]], Any]) -> Any:
        def program() -> Program[Outcome[Any]]:
            if response_model is None:
                raise ParameterError("response_model", None, "this verb needs one", "Give the type of the answer.")
            sampling, options = self._typed_arguments(kwargs)
            conversation = _messages(messages)
            ask = self.client.generate_with_completion
            value, completion = yield Do(lambda: ask(conversation, response_model, sampling, **options))
            return Outcome(value, completion.attempts, completion)

        async def later() -> Any:
            return pick(await run_async(program()))

        return later() if self._asynchronous else pick(run(program()))

    def _streamed(self, program: Program[Outcome[Any]]) -> Stream[Any] | AsyncStream[Any]:
        return AsyncStream(program) if self._asynchronous else Stream(program)

    def _typed_arguments(self, kwargs: Kwargs) -> tuple[SamplingParams | None, Kwargs]:
        """Those of a call with a response type, which takes no tools beside it."""
        sampling, options = self._arguments(kwargs)
        for name in sorted(_TOOLS & options.keys()):
            value = options.pop(name)
            if value is not None:
                reason, remedy = "can't be given besides a response_model", "Give only one of them."
                raise ParameterError(name, value, reason, remedy)
        return sampling, options

    def _arguments(self, kwargs: Kwargs) -> tuple[SamplingParams | None, Kwargs]:
        """Sampling parameters, and the engine's options of typed answers and of tools."""
        given = {_OTHERWISE.get(name, name): value for name, value in {**self._defaults, **kwargs}.items()}
        given.pop("model", None)  # the engine has one
        sampling = given.pop("sampling", None)
        chosen = {name: given.pop(name) for name in list(given) if name in _SAMPLING and given[name] is not None}
        options = {name: given.pop(name) for name in list(given) if name in _TYPED | _TOOLS}
        unknown = {name: value for name, value in given.items() if value is not None}
        if unknown:
            name, value = next(iter(unknown.items()))
            raise ParameterError(name, value, "is no parameter of the engine", "Leave it out.")
        if sampling is not None and chosen:
            reason, remedy = "can't be given besides sampling", "Set them in sampling."
            raise ParameterError(next(iter(chosen)), next(iter(chosen.values())), reason, remedy)
        options["hooks"] = self.hooks + Hooks.of(options.get("hooks"))
        if chosen:
            sampling = SamplingParams(**{"temperature": 0.0, **chosen})  # greedy, as the engine's typed answers are
        return sampling, options


def _messages(messages: Any) -> Any:
    if messages is _UNSET or messages is None:
        remedy = "Give the conversation as a list of messages."
        raise ParameterError("messages", None, "is missing", remedy)
    return messages


def _growing(events: Callable[[], Any], asynchronous: bool) -> Program[Outcome[Any]]:
    """Shows what the engine's stream gives; the last is the value."""
    stream, last = events(), None
    try:
        while (value := (yield Pull(stream))) is not END:
            if not isinstance(value, ReasoningDelta):
                last = value
                yield Show(value)
    finally:
        yield from _closed(stream, asynchronous)
    return Outcome(last)


def _items(events: Callable[[], Any], spec: Spec[Any], context: Any, asynchronous: bool) -> Program[Outcome[Any]]:
    """Shows the items of growing lists when the next one has begun. Those that do not validate by themselves wait for
    the end, when the list is valid: the engine may decode them again."""
    stream = events()
    given: list[Any] = []
    last: list[Any] = []
    valid = True
    try:
        while (value := (yield Pull(stream))) is not END:
            last = value if isinstance(value, list) else last if isinstance(value, ReasoningDelta) else []
            while valid and len(given) < len(last) - 1:
                item = _valid(spec, last[len(given)], context)
                valid = item is not None
                if valid:
                    given.append(item)
                    yield Show(item)
    finally:
        yield from _closed(stream, asynchronous)
    for item in last[len(given) :]:
        given.append(item)
        yield Show(item)
    return Outcome(given)


def _valid(spec: Spec[Any], item: Any, context: Any) -> Any:
    """The item, validated from its own JSON; None if it is not valid (yet)."""
    assert spec.item is not None
    try:
        return spec.item.validate(spec.item.adapter.dump_json(item, by_alias=True, warnings=False), context)
    except Exception:  # validators are the caller's code; the engine will tell them of it
        return None


def _closed(stream: Any, asynchronous: bool) -> Generator[Effect, Any, None]:
    close = getattr(stream, "aclose" if asynchronous else "close", None)
    if close is not None:
        yield Do(close)
