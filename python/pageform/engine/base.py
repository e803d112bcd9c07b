"""What Engine and AsyncEngine share: construction, statistics, and turning calls into tickets."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..core.completion import Completion, FinishReason
from ..core.confidence import ConfidenceOptions
from ..core.errors import EngineClosedError, ParameterError, RequestError, SnapshotError
from ..core.params import SamplingParams
from .build import EngineParts, build
from .config import EngineConfig
from .loop import EngineLoop
from .prepare import Messages, Prompt
from .sink import OnDelta
from .ticket import Ticket

if TYPE_CHECKING:
    from ..core.log import LogEntry
    from ..forms.form import Form
    from ..forms.grammar import Grammar
    from ..forms.plan import Guarantee
    from ..text.tokenizer import Tokenizer
    from .background import BackgroundLoop
    from .history import Moment

Sampling = SamplingParams | Sequence[SamplingParams] | None


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine was made, and gauges of now. Memory in bytes, everything else in numbers of things."""

    requests_running: int
    requests_waiting: int
    requests_finished: dict[str, int]
    prompt_tokens: int
    generation_tokens: int
    cached_tokens: int
    preemptions: int
    steps: int
    mixed_steps: int
    """Steps that computed prompt tokens of one request and decoded another."""
    max_step_tokens: int
    computed_tokens: int
    """Tokens that went through the model: prompts, outputs, drafts, and what was computed again."""
    rewound_tokens: int
    """Tokens that were decoded and thrown away, because a value that they made was not valid."""
    step_faults: int
    step_seconds: float
    """Seconds of all steps, planning and delivering included."""
    device_seconds: float
    """Those of them that the model ran."""
    host_share: float
    """What share of a step it did not, as the median of the last 512 steps: planning, delivering, streaming."""
    grammar_seconds: float
    """Those of `step_seconds` that grammars cost: following texts, drafting, waiting for masks."""
    grammar_share: float
    """What share of a step that is, as the median of the last 512 steps with a grammar in them."""
    mask_seconds: float
    """Seconds that masks took on their own thread, most of it beside the running step."""
    drafted_tokens: dict[str, int]
    """Tokens proposed without a forward pass and put into a step, by kind: "forced", "ngram"."""
    accepted_tokens: dict[str, int]
    """Those of them that were what the model sampled."""
    kv_blocks_total: int
    kv_blocks_used: int
    prefix_cache_queries: int
    """Prompt tokens looked up in the prefix cache."""
    prefix_cache_hits: int
    """Prompt tokens found there."""
    kv_cache_bytes: int
    weight_bytes: int
    device: str
    gpu_libraries: dict[str, Any]
    """Of libraries that the engine was allowed to use: path, version and what was measured, or why it is refused."""

    @property
    def kv_cache_usage(self) -> float:
        """Share of KV blocks held by requests."""
        return self.kv_blocks_used / self.kv_blocks_total

    @property
    def prefix_cache_hit_rate(self) -> float:
        """Share of looked-up prompt tokens that were found."""
        return self.prefix_cache_hits / self.prefix_cache_queries if self.prefix_cache_queries else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The counters as plain data."""
        return asdict(self)


class BaseEngine:
    """A model, its KV cache and the thread that runs them. See `Engine` for the parameters."""

    def __init__(self, model: str | Path, **parameters: Any) -> None:
        self.config = EngineConfig.make(model, **parameters)
        self._parts = build(self.config)
        self._loop = EngineLoop(self._parts.core)
        self._parts.preparer.submit = self._loop.submit
        # Not __del__: at interpreter exit that would come after the engine's thread has been frozen, and wait for ever.
        weakref.finalize(self, self._loop.close)

    @cached_property
    def background(self) -> BackgroundLoop:
        """For coroutines of callers without a loop: async slow validators."""
        from .background import BackgroundLoop

        loop = BackgroundLoop()
        weakref.finalize(self, loop.close)
        return loop

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises ParameterError when the engine was made with tokenizer=None."""
        tokenizer = self._parts.preparer.tokenizer
        if tokenizer is None:
            raise ParameterError("tokenizer", None, "the engine was made without one", 'Use tokenizer="auto".')
        return tokenizer

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer, in tokens."""
        return self._parts.preparer.limits.max_model_len

    @property
    def parts(self) -> EngineParts:
        """What the engine is made of. For its drivers."""
        return self._parts

    def stats(self) -> EngineStats:
        """Counters and gauges, taken between steps."""
        stats: EngineStats = self._loop.call(self._parts.statistics)
        return stats

    def reset_prefix_cache(self) -> None:
        """Forgets every cached prefix. Running requests keep their blocks."""
        self._loop.call(self._parts.core.scheduler.cache.reset_prefix_cache)

    def abort(self, request_id: str) -> None:
        """Ends a request with finish reason `abort`; its caller gets what was decoded. Unknown ids do nothing."""
        self._loop.abort(request_id)

    def suspend(self, request: str | Ticket) -> bytes:
        """Stops a running request, by id or ticket, and gives what `resume` goes on from: here, in another engine of
        the same model, in another process. It gets the very tokens that it would have got here.

        Whoever waits for the request gets RequestSuspended, with the same data. Raises ParameterError for a request
        that isn't running (it may have just finished, or be between two attempts), SnapshotError for one that can't be
        saved.
        """
        request_id = request if isinstance(request, str) else request.request_id
        numerics, drafts = self._parts.numerics(), self.config.drafts.mode

        from .suspend import save

        def save_it(ticket: Ticket) -> bytes:
            return save(ticket, numerics, drafts, self._parts.core.clock())

        return self._loop.suspend(request_id, save_it)

    def suspend_all(self) -> dict[str, bytes]:
        """Suspends whatever is running, by request id: before an engine is closed for a while, say.

        What can't be saved goes on: requests of drivers with grammars of their own.
        """
        saved: dict[str, bytes] = {}
        for request_id in self._loop.call(lambda: self._loop.request_ids):
            with contextlib.suppress(ParameterError, SnapshotError):  # it finished meanwhile, or can't be saved
                saved[request_id] = self.suspend(request_id)
        return saved

    def replay(self, answer: Completion | bytes | Sequence[LogEntry]) -> Iterator[Moment]:
        """Each entry of an answer's log, or of a suspended request's, with tokens and text as they stood after it.

        It shows what a model wrote before a value was rejected, and what came in its place. Nothing is computed.
        """
        from .history import moments

        return moments(answer, self.tokenizer)

    def close(self) -> None:
        """Ends running requests with EngineClosedError and frees weights, cache and threads. Idempotent."""
        self._loop.close()
        if "background" in self.__dict__:  # somebody wanted it
            self.background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ticket(
        self,
        prompt: Prompt,
        params: SamplingParams,
        grammar: Grammar | None = None,
        on_delta: OnDelta | None = None,
        request_id: str | None = None,
        **guarding: Any,
    ) -> Ticket:
        """A checked request that is not yet submitted. For drivers of the engine; users call `generate`."""
        now = self._parts.core.clock()
        return self._parts.preparer.ticket(prompt, params, grammar, on_delta, request_id, now, **guarding)

    def submit(self, ticket: Ticket) -> None:
        """Starts a ticket. Raises EngineClosedError."""
        self._loop.submit(ticket)

    def form(self, response_type: Any, guarantee: Guarantee | None = None) -> Form[Any]:
        """The response type or `Plan` compiled for this engine's tokenizer; compiled once a type. Raises SchemaError,
        with `guarantee="full"` also where the grammar does not hold all that validation checks."""
        return self._parts.preparer.form(response_type, guarantee)

    def _default_sampling(self, typed: bool) -> SamplingParams:
        """Greedy for typed answers; otherwise what the model's generation config recommends."""
        return SamplingParams(temperature=0.0) if typed else self._parts.default_sampling

    def sampling_list(
        self, sampling: Sampling, count: int, typed: bool, confidence: bool | ConfidenceOptions = False
    ) -> list[SamplingParams]:
        """One SamplingParams for each of `count` prompts; `typed` chooses the default, `confidence` is asked for beside
        them. Raises ParameterError."""
        if sampling is None:
            sampling = self._default_sampling(typed)
        if isinstance(sampling, SamplingParams):
            sampling = [sampling] * count
        elif not isinstance(sampling, Sequence) or not all(isinstance(item, SamplingParams) for item in sampling):
            raise ParameterError(
                "sampling", sampling, "is not SamplingParams or a list of them", "Pass SamplingParams(…)."
            )
        if len(sampling) != count:
            raise ParameterError(
                "sampling", f"<{len(sampling)} items>", f"does not match {count} prompts", "Give one for each, or one."
            )
        return list(sampling) if confidence is False else [one.with_(confidence=confidence) for one in sampling]

    def encode_chat(self, messages: Messages, tools: Any = None) -> list[int]:
        """Token ids of a conversation under the model's chat template, ending where the answer begins."""
        return self._parts.preparer.encode_chat(messages, tools)


def is_conversation(messages: Any) -> bool:
    """One conversation is a list of messages (mappings); a list of those is many."""
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        raise ParameterError(
            "messages", messages, "is not a list of messages", 'Pass [{"role": "user", "content": "…"}].'
        )
    return not messages or isinstance(messages[0], Mapping)


def outcome(ticket: Ticket) -> Completion:
    """Waits for a ticket. Raises what kept it from running, or RequestError when it failed while running."""
    try:
        completion = ticket.future.result()
    except CancelledError as error:
        raise EngineClosedError("the request was cancelled") from error
    return checked(completion)


def checked(completion: Completion) -> Completion:
    """The completion, unless it ended in an error: then RequestError with the cause."""
    if completion.finish_reason is not FinishReason.ERROR:
        return completion
    raise RequestError(
        f"request {completion.request_id} failed: {completion.detail or completion.error}", completion
    ) from completion.error


def deliver(results: list[Any], single: bool, return_exceptions: bool) -> Any:
    """One result or the list; failures are raised (one as it is, several as BatchFailed) unless asked for in place."""
    errors = {i: result for i, result in enumerate(results) if isinstance(result, Exception)}
    if errors and not return_exceptions:
        from ..structured.errors import BatchFailed

        raise errors[0] if single else BatchFailed(results, errors)
    return results[0] if single else results
