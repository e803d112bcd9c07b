"""The verbs of a client: ask for a value, for its growth, for the items of a list."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..core.errors import ParameterError, SchemaError
from ..structured.attempts import Transport, growing, whole
from ..structured.cache import Slot, check_ttl
from ..structured.cache_key import cache_key
from ..structured.drive import AsyncStream, Effect, Program, Stream, beside, in_thread, run, run_async
from ..structured.judge import AttemptInfo, Judge
from ..structured.loop import Outcome, Rejection, retry
from ..structured.observe import Observer
from ..structured.policy import Policy
from ..structured.spec import Spec
from ..structured.watch import ItemJudge, PartialWatcher
from .base import Call, Kwargs, Prepared
from .cached import cached, check_cache
from .encode import encode_kwargs, fetches
from .endpoint import Endpoint
from .identity import cache_scope
from .inputs import resolve, waits
from .options import Options, split

_UNSET: Any = object()


class Verbs:
    """Typed answers from one endpoint. Of an async endpoint, verbs give awaitables, and streams are async iterators.

    Every verb takes `response_model`, the SDK's own arguments, and these:

    - `max_retries`: how many further attempts there may be after an answer that does not parse or validate (3), or a
      tenacity `Retrying` object, or a `Policy`; with `backoff`, a `Backoff` or True, they wait in between. Errors of
      the SDK are its own to retry; they are raised as they are.
    - `timeout` in seconds bounds all attempts together, `token_budget` their tokens.
    - `context`, `strict`: go to Pydantic's validation. A context that is a mapping makes templates of the messages:
      `"Greet {{ name }}."`. `strict_templates=False` renders unknown variables as nothing.
    - `autodetect_images`: strings in messages of the user that are a URL, a path, a data URI or base64 of an image, a
      recording or a PDF become that. Not for what strangers wrote: a path is read. `guard`: what pageform may fetch for
      providers that take no URLs (`media.Guard`).
    - `leniency`: how far from plain JSON an answer may be ("strict", "default", "lenient" or a `Leniency`).
    - `mode`: "tools", "schema" or "text". `strict_schema`: the provider's own strict enforcement: True demands it,
      False leaves it off, None takes it where the service has it and the type allows it.
    - `accumulate`: what the model is shown of its earlier answers: "last", "all" or "summary".
    - `cache`: a `MemoryCache`, `DiskCache` or the like keeps valid answers, for `cache_ttl` seconds; False uses none.
      They are shared by clients of the same address and key, or, in place of the key, the same `cache_namespace`. An
      answer from there is `cached` in the outcome and in what hooks are told, and has no usage.
    - `hooks`: `Hooks`, or a mapping from event to handlers, besides the client's own.

    Raises ParameterError before anything is sent; ValidationFailed, IncompleteOutput, TokenBudgetExceeded or
    UsageUnavailable, each with all attempts; ProviderError for what is no response; and what the SDK raises.
    """

    def __init__(self, endpoint: Endpoint, options: Options, defaults: Kwargs) -> None:
        self._endpoint, self._options, self._defaults = endpoint, options, defaults

    def create(self, response_model: Any = None, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """A value of the response type.

        With `stream=True`, what `create_partial` gives for `Partial[T]` and what `create_iterable` gives for
        `Iterable[T]`. Without `response_model` the SDK's method is called as it is, and what it gives is returned.
        """
        kwargs = _with_messages(messages, kwargs)
        if response_model is None:
            options, plain = split(kwargs)
            options.refuse_without_type()
            return self._plain({**self._defaults, **plain})
        if not kwargs.get("stream"):
            return self._answer(response_model, kwargs, lambda outcome: outcome.value)
        kind = Spec.of(response_model).kind
        if kind == "value":
            reason = f"it is asked for as a stream, but {Spec.of(response_model).name} is neither Partial nor Iterable"
            remedy = "Give Partial[T] or Iterable[T], or use create_partial."
            raise ParameterError("response_model", response_model, reason, remedy)
        return (self.create_partial if kind == "partial" else self.create_iterable)(response_model, **kwargs)

    def create_with_completion(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """A pair: the value, and the SDK's response that it was read from."""
        kwargs = _with_messages(messages, kwargs)
        return self._answer(response_model, kwargs, lambda outcome: (outcome.value, outcome.response))

    def create_result(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """An `Outcome`: the value with all attempts, their usage, the response, repairs and notes."""
        return self._answer(response_model, _with_messages(messages, kwargs), lambda outcome: outcome)

    def create_partial(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """An iterator over the growing value: partial objects, and last the validated value.

        A new attempt starts anew. The iterator has `close` (async: `aclose`), which ends the HTTP response, and after
        its end `outcome`, as `create_result` gives it.
        """
        call = _Call(self, Spec.of(response_model), _with_messages(messages, kwargs), streams=True)
        return self._streamed(call.partials)

    def create_iterable(self, response_model: Any, messages: Any = _UNSET, **kwargs: Any) -> Any:
        """An iterator over the items of a list, each given when it is complete and valid. `response_model` is the type
        of an item, or of the list.

        An item that is not valid ends the stream; the model is asked again, and the iterator goes on with that item.
        `close` and `outcome` are as of `create_partial`; the outcome's value is the list of all items.
        """
        call = _Call(self, list_spec(response_model), _with_messages(messages, kwargs), streams=True)
        return self._streamed(call.items)

    def _plain(self, kwargs: Kwargs) -> Any:
        """A call of the SDK's method; only media are spelled for it."""
        endpoint = self._endpoint
        encode = partial(encode_kwargs, kwargs, endpoint.wire, self._options.guard)

        async def later() -> Any:
            return await endpoint.plain(await in_thread(encode))

        if endpoint.asynchronous and fetches(kwargs, endpoint.wire):
            return later()
        return endpoint.plain(encode())

    def _answer(self, response_model: Any, kwargs: Kwargs, pick: Callable[[Outcome[Any]], Any]) -> Any:
        def call() -> Program[Outcome[Any]]:
            if response_model is None:
                raise ParameterError("response_model", None, "this verb needs one", "Give the type of the answer.")
            return _Call(self, Spec.of(response_model), kwargs, streams=False).whole()

        async def later() -> Any:
            return pick(await run_async(call()))

        return later() if self._endpoint.asynchronous else pick(run(call()))

    def _streamed(self, program: Callable[[], Program[Outcome[Any]]]) -> Stream[Any] | AsyncStream[Any]:
        return AsyncStream(program()) if self._endpoint.asynchronous else Stream(program())


class _Call:
    """One call of a verb. `whole`, `partials` and `items` make its program, after all checks that need no I/O."""

    def __init__(self, verbs: Verbs, spec: Spec[Any], kwargs: Kwargs, streams: bool) -> None:
        options, sdk = split(kwargs)
        self.endpoint, self.spec, self.streams = verbs._endpoint, spec, streams
        self.options = options.over(verbs._options)
        self.kwargs: Kwargs = {**verbs._defaults, **sdk}
        self.kwargs.pop("stream", None)
        self.mode = self.options.mode_of(self.endpoint)
        self.policy: Policy = self.options.policy
        self.limits = self.options.limits(self.kwargs.get("timeout"))
        if self.limits.timeout is not None:  # each request is told what is left of it
            del self.kwargs["timeout"]

    def whole(self) -> Program[Outcome[Any]]:
        """The answer as a whole."""

        def program(ready: _Ready) -> Program[Outcome[Any]]:
            return whole(self._loop(ready, ready.judge), ready.transport)

        return self._prepared(program, lambda value: ())

    def partials(self) -> Program[Outcome[Any]]:
        """The answer as it grows."""

        def program(ready: _Ready) -> Program[Outcome[Any]]:
            watch = lambda number: PartialWatcher(ready.judge, self._attempt(number))  # noqa: E731
            return growing(self._loop(ready, ready.judge), ready.transport, watch, lambda value: (value,))

        return self._prepared(program, lambda value: (value,))

    def items(self) -> Program[Outcome[Any]]:
        """The items of the answer, one by one."""

        def program(ready: _Ready) -> Program[Outcome[Any]]:
            judge: ItemJudge[Any] = ItemJudge(ready.judge)
            watch = lambda number: judge.watch(self._attempt(number))  # noqa: E731
            patient = self.limits.token_budget is not None
            return growing(self._loop(ready, judge, judge.EVERY), ready.transport, watch, judge.rest, patient)

        return self._prepared(program, lambda value: value)

    def _attempt(self, number: int) -> AttemptInfo:
        return AttemptInfo(number, self.policy.max_attempts)

    def _prepared(
        self, program: Callable[[_Ready], Program[Outcome[Any]]], shows: Callable[[Any], Iterable[Any]]
    ) -> Program[Outcome[Any]]:
        """The program of the call, with what has to be waited for first in it. `shows` is what a stream shows of a
        value that is there at once."""
        given = (self.kwargs, self.endpoint.wire, self.options.context, bool(self.options.autodetect_images))
        resolved = partial(resolve, *given, self.options.strict_templates is not False, self.options.guard)
        if waits(*given) if self.endpoint.asynchronous else fetches(*given[:2]):
            return self._waiting(program, shows, resolved)
        return self._noted(program, shows, self._ready(resolved()))

    def _waiting(
        self,
        program: Callable[[_Ready], Program[Outcome[Any]]],
        shows: Callable[[Any], Iterable[Any]],
        resolved: Callable[[], Kwargs],
    ) -> Program[Outcome[Any]]:
        kwargs = yield beside(resolved, self.endpoint.asynchronous)
        return (yield from self._noted(program, shows, self._ready(kwargs)))

    def _slot(self, prepared: Prepared) -> Slot:
        """Where the cache keeps the answer to this request."""
        endpoint, options = self.endpoint, self.options
        check_cache(options.cache)
        scope = cache_scope(endpoint.create, endpoint.name, options.cache_namespace, endpoint.private)
        mode = prepared.mode or self.mode
        key = cache_key(prepared.kwargs, spec=self.spec, mode=mode, provider=endpoint.name, scope=scope)
        return Slot(options.cache, key, check_ttl("cache_ttl", options.cache_ttl))

    def _ready(self, kwargs: Kwargs) -> _Ready:
        endpoint, options = self.endpoint, self.options
        call = Call(self.spec, self.mode, kwargs, self.streams, options.strict_schema, endpoint.quirks)
        prepared = endpoint.provider.prepare(call)
        judge: Judge[Any] = Judge(
            self.spec,
            prepared.mode or self.mode,
            options.context,
            options.strict,
            restores=prepared.strict,
            tools_beside=prepared.tools_beside,
            leniency=options.layers,
        )
        observer = Observer(options.hooks, provider=endpoint.name, asynchronous=endpoint.asynchronous)
        seconds = self.limits.timeout
        deadline = None if seconds is None else time.monotonic() + seconds
        return _Ready(prepared, judge, observer, endpoint.transport(observer, deadline))

    def _loop(self, ready: _Ready, judge: Any, advice: str = "") -> Any:
        def reask(kwargs: Kwargs, answer: Any, rejection: Rejection) -> Kwargs:
            told = replace(rejection, text=f"{rejection.text}\n{advice}") if advice else rejection
            return self.endpoint.provider.reask(kwargs, answer, told)

        return retry(
            ready.prepared.kwargs,
            judge=judge,
            reask=reask,
            policy=self.policy,
            limits=self.limits,
            accumulate=self.options.accumulate or "last",
            hooks=ready.observer,
            kwargs=lambda payload: payload,
        )

    def _noted(
        self,
        program: Callable[[_Ready], Program[Outcome[Any]]],
        shows: Callable[[Any], Iterable[Any]],
        ready: _Ready,
    ) -> Generator[Effect, Any, Outcome[Any]]:
        """The program's outcome with the provider's notes, from the cache if it is there."""
        if self.options.cache is None or self.options.cache is False:
            running = program(ready)
        else:
            slot = self._slot(ready.prepared)
            told = (ready.judge, self._attempt(1), ready.observer)
            running = cached(lambda: program(ready), slot, *told, shows, self.endpoint.asynchronous)

        def noted() -> Program[Outcome[Any]]:
            outcome = yield from running
            return replace(outcome, notes=(*ready.prepared.notes, *outcome.notes))

        return noted()


@dataclass(frozen=True, slots=True)
class _Ready:
    """Everything that the attempts of a call need."""

    prepared: Prepared
    judge: Judge[Any]
    observer: Observer
    transport: Transport[Kwargs]


def _with_messages(messages: Any, kwargs: Kwargs) -> Kwargs:
    return kwargs if messages is _UNSET else {"messages": messages, **kwargs}


def list_spec(response_model: Any) -> Spec[Any]:
    """The spec of a list, given it or the type of its items."""
    if isinstance(response_model, dict):
        reason, remedy = "items of a JSON schema can't be streamed", "Give a type, or use create_partial."
        raise SchemaError("response_model", response_model, reason, remedy)
    spec = Spec.of(response_model)
    return spec if spec.kind in ("iterable", "parallel") else Spec.of(Iterable[response_model])
