"""AsyncEngine: the same verbs for asyncio. Requests run in the engine's thread; the event loop is never blocked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..core.completion import Completion
from ..core.params import SamplingParams
from ..text.tool_formats import ToolFormat
from .answer_stream import AsyncAnswerStream, Ending, ending_of
from .base import Sampling, deliver, is_conversation, outcome
from .feed import Change
from .growing import TypedStream
from .history import Moment
from .options import Partials, StreamOptions, ToolOptions, TypedOptions, tool_options
from .prepare import Messages, Prompt, is_single_prompt
from .resume import Given, load
from .start import start_answers
from .sync import Engine
from .ticket import Ticket
from .tools import ToolStream
from .typed import TypedCall

D = TypeVar("D")
_END = object()


class AsyncEngine:
    """An `Engine` for asyncio, with the same parameters (see there). Cancelling a task aborts its requests."""

    def __init__(self, model: Any, *args: Any, **parameters: Any) -> None:
        self._engine = Engine(model, *args, **parameters)
        self.tokenizer = self._engine.tokenizer if self._engine.config.tokenizer is not None else None
        self.config = self._engine.config

    async def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling: Sampling = None,
        response_model: Any = None,
        *,
        return_exceptions: bool = False,
        request_id: str | None = None,
        **validation: Any,
    ) -> Any:
        """See `Engine.generate`. `validation`: max_retries, context, strict, hooks, on_invalid, rewind, guarantee,
        confidence."""
        single = is_single_prompt(prompts)
        items: list[Any] = [prompts] if single else list(prompts)
        TypedOptions(**validation).refuse_unseen_confidence(response_model)
        pairs = await self._answers(items, sampling, response_model, request_id, validation)
        return deliver([p if isinstance(p, Exception) else p[0] for p in pairs], single, return_exceptions)

    async def generate_with_completion(
        self,
        prompts: Prompt | Sequence[Prompt],
        response_model: Any,
        sampling: Sampling = None,
        *,
        return_exceptions: bool = False,
        request_id: str | None = None,
        **validation: Any,
    ) -> Any:
        """See `Engine.generate_with_completion`."""
        single = is_single_prompt(prompts)
        items: list[Any] = [prompts] if single else list(prompts)
        pairs = await self._answers(items, sampling, response_model, request_id, validation)
        return deliver(pairs, single, return_exceptions)

    async def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling: Sampling = None,
        response_model: Any = None,
        *,
        tools: Any = None,
        tool_choice: Any = "auto",
        parallel_tool_calls: bool = True,
        tool_format: str | ToolFormat = "auto",
        return_exceptions: bool = False,
        request_id: str | None = None,
        **validation: Any,
    ) -> Any:
        """See `Engine.chat`."""
        single = is_conversation(messages)
        items: list[Any] = [messages] if single else list(messages)
        TypedOptions(**validation).refuse_unseen_confidence(response_model)
        offered = tool_options(tools, tool_choice, parallel_tool_calls, tool_format, response_model)
        pairs = await self._answers(items, sampling, response_model, request_id, validation, offered)
        return deliver([p if isinstance(p, Exception) else p[0] for p in pairs], single, return_exceptions)

    def stream(
        self,
        prompt: Prompt,
        sampling: SamplingParams | None = None,
        response_model: Any = None,
        *,
        request_id: str | None = None,
        events: bool = False,
        stable: bool = False,
        partials: Partials = "text",
        tools: Any = None,
        tool_choice: Any = "auto",
        parallel_tool_calls: bool = True,
        tool_format: str | ToolFormat = "auto",
        **validation: Any,
    ) -> AsyncAnswerStream:
        """See `Engine.stream`."""
        shown = StreamOptions(events, stable, partials)
        options = TypedOptions(**validation, asynchronous=True)
        offered = tool_options(tools, tool_choice, parallel_tool_calls, tool_format, response_model)
        ending: list[Ending] = []
        parts = self._stream(ending, prompt, sampling, response_model, shown, request_id, options, offered)
        return AsyncAnswerStream(parts, lambda: ending[0]() if ending else None)

    async def _stream(
        self,
        ending: list[Ending],
        prompt: Prompt,
        sampling: SamplingParams | None,
        response_model: Any,
        shown: StreamOptions,
        request_id: str | None,
        options: TypedOptions,
        offered: ToolOptions | None,
    ) -> AsyncGenerator[Any, None]:
        """The parts of a stream. How it ends is told to `ending` when that is known."""
        if offered is not None:
            told: _AsyncDeltas[Any] = _AsyncDeltas()
            asked, teller = ToolStream.of(self._engine, offered, prompt, sampling, options, request_id, told)
            ending.append(ending_of(asked))
            async with contextlib.aclosing(self._stream_typed(asked, teller, teller.next_ticket(), told)) as items:
                async for item in items:
                    yield item
            return
        [params] = self._engine.sampling_list(sampling, 1, response_model is not None, options.confidence)
        if response_model is None:
            self._engine.parts.preparer.promise(params, options.guarantee)
            texts: _AsyncDeltas[Any] = _AsyncDeltas()
            ticket = self._engine.ticket(
                prompt, params, on_delta=texts.put_text, request_id=request_id, on_part=texts.put
            )
            ending.append(ending_of(ticket))
            async with contextlib.aclosing(self._run(ticket, texts)) as parts:
                async for text in parts:
                    yield text
            outcome(ticket)
            return
        form = self._engine.form(response_model, options.guarantee)
        call: TypedCall[Any] = TypedCall(self._engine, form, prompt, params, options, request_id)
        ending.append(ending_of(call))
        deltas: _AsyncDeltas[Change] = _AsyncDeltas()
        stream = TypedStream(call, shown, deltas.put)
        async with contextlib.aclosing(self._stream_typed(call, stream, stream.next_ticket(), deltas)) as items:
            async for item in items:
                yield item

    async def suspend(self, request: str | Ticket) -> bytes:
        """See `Engine.suspend`."""
        return await asyncio.to_thread(self._engine.suspend, request)

    async def suspend_all(self) -> dict[str, bytes]:
        """See `Engine.suspend_all`."""
        return await asyncio.to_thread(self._engine.suspend_all)

    async def resume(
        self, data: bytes, response_model: Any = None, *, with_completion: bool = False, **given: Any
    ) -> Any:
        """See `Engine.resume`. `given`: context, hooks, max_retries, logits_processors, request_id."""
        resumed = load(self._engine, data, Given(response_model, asynchronous=True, **given))
        pair = await self._answer(resumed.call, resumed.ticket)
        return pair if with_completion else pair[0]

    async def resume_stream(self, data: bytes, response_model: Any = None, **given: Any) -> AsyncIterator[Any]:
        """See `Engine.resume_stream`."""
        deltas: _AsyncDeltas[Any] = _AsyncDeltas()
        everything = Given(response_model, asynchronous=True, **given)
        resumed = load(self._engine, data, everything, deltas.put_text, deltas.put)
        call, ticket, stream = resumed.call, resumed.ticket, resumed.stream
        if call is None or stream is None:
            parts: AsyncGenerator[Any, None] = self._run(ticket, deltas)
        else:
            parts = self._stream_typed(call, stream, ticket, deltas)
        async with contextlib.aclosing(parts) as shown:
            async for part in shown:
                yield part
        if call is None:
            outcome(ticket)

    def replay(self, answer: Any) -> Iterator[Moment]:
        """See `Engine.replay`."""
        return self._engine.replay(answer)

    def abort(self, request_id: str) -> None:
        """See `Engine.abort`."""
        self._engine.abort(request_id)

    async def stats(self) -> Any:
        """See `Engine.stats`."""
        return await asyncio.to_thread(self._engine.stats)

    async def reset_prefix_cache(self) -> None:
        """See `Engine.reset_prefix_cache`."""
        await asyncio.to_thread(self._engine.reset_prefix_cache)

    async def close(self) -> None:
        """See `Engine.close`."""
        await asyncio.to_thread(self._engine.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _answers(
        self,
        items: list[Any],
        sampling: Sampling,
        response_model: Any,
        request_id: str | None,
        validation: dict[str, Any],
        tools: ToolOptions | None = None,
    ) -> list[Any]:
        started = start_answers(
            self._engine,
            items,
            sampling,
            response_model,
            TypedOptions(**validation, asynchronous=True),
            request_id,
            tools,
        )
        answers = (self._answer(call, ticket) for call, ticket in started)
        return list(await asyncio.gather(*answers, return_exceptions=True))

    async def _answer(self, call: TypedCall[Any] | None, ticket: Ticket) -> tuple[Any, Completion]:
        while True:
            await self._wait(ticket)
            if call is None:
                completion = outcome(ticket)
                return completion, completion
            if await self._settle(call, ticket):
                return call.value, call.completion
            ticket = call.next_ticket()

    async def _settle(self, call: TypedCall[Any], ticket: Ticket) -> bool:
        """`TypedCall.settle`, with the hooks that have to be awaited."""
        try:
            return call.settle(ticket)
        finally:
            await call.settle_hooks()

    async def _wait(self, ticket: Ticket) -> None:
        """Submits a ticket and waits until its future is done; its error, if any, stays in the future."""
        done = asyncio.Event()
        notify = _from_thread(done.set)
        ticket.future.add_done_callback(lambda _: notify())
        self._engine.submit(ticket)
        try:
            await done.wait()
        except asyncio.CancelledError:
            self._engine.abort(ticket.request_id)
            raise

    async def _stream_typed(
        self, call: TypedCall[Any], stream: TypedStream | ToolStream, ticket: Ticket, deltas: _AsyncDeltas[Change]
    ) -> AsyncGenerator[Any, None]:
        while True:
            async with contextlib.aclosing(self._run(ticket, deltas)) as changes:
                async for change in changes:
                    seen = stream.see(change)
                    if seen is not None:
                        yield seen
            if await self._settle(call, ticket):
                yield call.value
                return
            for item in stream.restart(ticket):
                yield item
            ticket = stream.next_ticket()

    async def _run(self, ticket: Ticket, deltas: _AsyncDeltas[D]) -> AsyncGenerator[D, None]:
        ticket.future.add_done_callback(lambda _: deltas.end())
        self._engine.submit(ticket)
        try:
            async for delta in deltas:
                yield delta
        finally:
            if not ticket.future.done():
                self._engine.abort(ticket.request_id)


class _AsyncDeltas(Generic[D]):
    """What is told of a request, on its way from the engine's thread to an iterating task. Iterated once a request."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._put = _from_thread(self._queue.put_nowait)

    def put(self, delta: D) -> None:
        """Takes something to be yielded; called in the engine's thread."""
        self._put(delta)

    def put_text(self, text: Any, token_id: int) -> None:
        """Takes the text of one token; called in the engine's thread."""
        if text:
            self._put(text)

    def end(self) -> None:
        """No more will come."""
        self._put(_END)

    async def __aiter__(self) -> AsyncIterator[D]:
        while (delta := await self._queue.get()) is not _END:
            yield delta


def _from_thread(function: Callable[..., object]) -> Callable[..., None]:
    """`function`, callable from any thread: it runs in the current event loop, or nowhere once that is closed."""
    loop = asyncio.get_running_loop()

    def call(*args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is waiting any more
            loop.call_soon_threadsafe(function, *args)

    return call
