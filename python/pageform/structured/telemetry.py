"""Adapters from hooks to tracing and to error trackers. Each gives a `Hooks` to add to a client's or a call's own.

client = from_openai(OpenAI(), hooks=opentelemetry_hooks() + on_error(sentry_sdk.capture_exception))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core.errors import ParameterError
from .bounded import cut
from .events import CallAbandoned, Event, EventName
from .hooks import Hooks
from .logs import fields
from .redact import redact_text

_REQUEST = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
"""Arguments of SDKs under the names of OpenTelemetry's conventions for generative AI."""


_TAGS = ("provider", "model", "event", "attempt", "error_type")
_EXTRAS = (
    "call_id", "request_id", "finish_reason", "max_attempts", "elapsed", "prompt_tokens", "completion_tokens", "faults",
)  # fmt: skip
"""Of the fields that log lines have; Sentry keeps ten of a mapping."""


def opentelemetry_hooks(tracer_provider: Any = None) -> Hooks:
    """Hooks that make a span of each call and, below it, one of each attempt, named and filled after OpenTelemetry's
    semantic conventions for generative AI clients. Prompts and answers are not recorded.

    Needs `opentelemetry-api` (`pip install pageform[otel]`); without a `tracer_provider` the global one is used. Calls
    become children of the span that is active where they start; theirs are not made active themselves.
    """
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise ParameterError(
            "opentelemetry", None, "is not installed", "Run pip install opentelemetry-api opentelemetry-sdk."
        ) from error
    hooks = Hooks()
    hooks.on("*", _Spans(trace, trace.get_tracer("pageform", tracer_provider=tracer_provider)))
    return hooks


def on_error(callback: Callable[..., Any], *, each_attempt: bool = False) -> Hooks:
    """Hooks that call `callback(error, tags={name: text}, extras={name: data})` for each call that failed, and with
    `each_attempt` for each rejected answer; the signature is that of `sentry_sdk.capture_exception`. Calls that their
    caller left are no errors."""
    hooks = Hooks()

    def tell(event: Event) -> None:
        if event.error is not None and not isinstance(event.error, CallAbandoned):
            told = fields(event)
            tags = {f"pageform.{name}": cut(str(told[name]), 200) for name in _TAGS if told[name]}
            callback(event.error, tags=tags, extras={name: told[name] for name in _EXTRAS if name in told})

    hooks.on(EventName.END, tell)
    if each_attempt:
        hooks.on(EventName.PARSE_ERROR, tell)
    return hooks


class _Spans:
    """Keeps the open spans of calls that are under way; every call ends with an `end` event, which removes them."""

    def __init__(self, trace: Any, tracer: Any) -> None:
        self._trace, self._tracer = trace, tracer
        self._open: dict[str, tuple[Any, Any]] = {}

    def __call__(self, event: Event) -> None:
        if event.cached:
            self._recalled(event)
        elif event.name is EventName.KWARGS:
            self._start(event)
        elif event.name is EventName.RESPONSE:
            _, span = self._open[event.call_id]
            span.set_attributes(_response_attributes(event))
        elif event.name in (EventName.PARSE_ERROR, EventName.COMPLETION_ERROR):
            _, span = self._open[event.call_id]
            self._fail(span, event)
            span.end()
        elif event.name is EventName.END:
            self._end(event)

    def _start(self, event: Event) -> None:
        api, before = self._trace, self._open.get(event.call_id)
        if before is None:
            name = f"pageform {event.model}".rstrip()
            call = self._tracer.start_span(name, attributes=_call_attributes(event))
        else:
            call = before[0]
        attempt = self._tracer.start_span(
            f"chat {event.model}".rstrip(),
            context=api.set_span_in_context(call),
            kind=api.SpanKind.CLIENT,
            attributes=_request_attributes(event),
        )
        context = attempt.get_span_context()
        if context.is_valid:
            event.ids.trace_id = format(context.trace_id, "032x")
            event.ids.span_id = format(context.span_id, "016x")
        self._open[event.call_id] = (call, attempt)

    def _recalled(self, event: Event) -> None:
        """A call that a cache answered has no attempts, so only a span of its own."""
        if event.name is EventName.END:
            name = f"pageform {event.model}".rstrip()
            attributes = _call_attributes(event) | {"pageform.cached": True}
            self._tracer.start_span(name, attributes=attributes, start_time=int(event.started * 1e9)).end()

    def _end(self, event: Event) -> None:
        call, attempt = self._open.pop(event.call_id)
        call.set_attribute("pageform.attempts", event.attempt)
        call.set_attribute("gen_ai.usage.input_tokens", event.total_usage.prompt_tokens)
        call.set_attribute("gen_ai.usage.output_tokens", event.total_usage.completion_tokens)
        if event.error is not None:
            self._fail(call, event)
        if attempt.is_recording():  # otherwise its answer was rejected, which ended it
            attempt.end()
        call.end()

    def _fail(self, span: Any, event: Event) -> None:
        span.set_attribute("error.type", type(event.error).__qualname__)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, fields(event)["error_type"]))
        for fault in event.faults:
            attributes = {
                "pageform.path": fault.path,
                "pageform.type": fault.type,
                "pageform.msg": redact_text(fault.msg),
            }
            span.add_event("pageform.fault", attributes)


def _call_attributes(event: Event) -> dict[str, Any]:
    told = {"pageform.call_id": event.call_id, "gen_ai.request.model": event.model}
    if event.provider:
        told["gen_ai.provider.name"] = event.provider
    return told


def _request_attributes(event: Event) -> dict[str, Any]:
    told = _call_attributes(event) | {
        "gen_ai.operation.name": "chat",
        "gen_ai.output.type": "json",
        "pageform.attempt": event.attempt,
    }
    for argument, name in _REQUEST.items():
        value = event.kwargs.get(argument)
        if isinstance(value, (int, float)):
            told[name] = value
    stop = event.kwargs.get("stop", event.kwargs.get("stop_sequences"))
    if stop:
        told["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else [str(one) for one in stop]
    return told


def _response_attributes(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {
        "gen_ai.usage.input_tokens": event.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": event.usage.completion_tokens,
        "gen_ai.response.finish_reasons": [event.finish_reason or ""],
    }
    if event.usage.cached_tokens:
        told["gen_ai.usage.cache_read.input_tokens"] = event.usage.cached_tokens
    for name in ("id", "model"):
        found = event.response.get(name) if isinstance(event.response, Mapping) else getattr(event.response, name, None)
        if isinstance(found, str):
            told[f"gen_ai.response.{name}"] = found
    return told
