"""The adapters against the real SDKs: OpenTelemetry's with its in-memory exporter, Sentry's up to its last step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import BaseModel, Field

from pageform.core.completion import FinishReason, Usage
from pageform.structured import (
    Answer,
    Event,
    Hooks,
    IncompleteOutput,
    Judge,
    Observer,
    Spec,
    ValidationFailed,
    on_error,
    opentelemetry_hooks,
    policy_of,
    retry,
)


class Person(BaseModel):
    name: str
    age: int = Field(ge=18)


GOOD, YOUNG = '{"name":"Ann","age":30}', '{"name":"Ann","age":3}'


def drive(hooks: Hooks, *answers: Any, max_retries: int = 3) -> Any:
    sent = {"model": "gpt-x", "temperature": 0.5, "max_completion_tokens": 64, "stop": "END", "api_key": "secret"}
    loop = retry(
        sent,
        judge=Judge(Spec.of(Person)),
        reask=lambda p, a, r: p,
        policy=policy_of(max_retries),
        hooks=Observer(hooks, provider="openai"),
        kwargs=dict,
    )
    next(loop)
    for answer in answers:
        if isinstance(answer, Exception):
            loop.throw(answer)
        told = Answer(answer, usage=Usage(10, 5, 4), response={"id": "r1", "model": "gpt-x-1"})
        try:
            loop.send(told if isinstance(answer, str) else answer)
        except StopIteration as stop:
            return stop.value
    return loop


class Tracing:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.hooks = opentelemetry_hooks(self.provider)

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    tracing = Tracing()
    yield tracing
    tracing.provider.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_call_is_a_span_and_each_attempt_one_below_it(tracing: Tracing) -> None:
    drive(tracing.hooks, YOUNG, GOOD)
    first, second, call = tracing.spans()
    assert [span.name for span in (first, second, call)] == ["chat gpt-x", "chat gpt-x", "pageform gpt-x"]
    assert call.parent is None
    assert call.context is not None
    assert [span.parent.span_id if span.parent else 0 for span in (first, second)] == [call.context.span_id] * 2
    assert [span.kind for span in (first, second, call)] == [SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.INTERNAL]
    told = attributes(second)
    assert {name: told[name] for name in told if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "r1",
        "gen_ai.response.model": "gpt-x-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
    }
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    assert {name for name in told if name.startswith("gen_ai.")} <= known
    assert first.status.status_code is StatusCode.ERROR
    assert attributes(first)["error.type"] == "ValidationError"
    [fault] = first.events
    assert dict(fault.attributes or {})["pageform.path"] == "age"
    assert second.status.status_code is StatusCode.UNSET
    assert call.status.status_code is StatusCode.UNSET
    assert attributes(call)["pageform.attempts"] == 2
    assert attributes(call)["gen_ai.usage.input_tokens"] == 20
    assert "secret" not in str([span.to_json() for span in tracing.spans()])


@pytest.mark.parametrize(
    ("answers", "error", "kind"),
    [
        ([YOUNG, YOUNG], ValidationFailed, "ValidationFailed"),
        ([Answer("{", FinishReason.LENGTH)], IncompleteOutput, "IncompleteOutput"),
        ([YOUNG, TimeoutError("slow")], TimeoutError, "TimeoutError"),
    ],
)
def test_every_way_to_fail_ends_all_spans(
    tracing: Tracing, answers: list[Any], error: type[Exception], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(error):
        drive(tracing.hooks, *answers, max_retries=1)
    *attempts, call = tracing.spans()
    assert len(attempts) == len(answers)
    assert all(span.status.status_code is StatusCode.ERROR for span in (*attempts, call))
    assert attributes(call)["error.type"] == kind
    assert "ended span" not in caplog.text


def test_a_call_that_is_left_ends_its_spans(tracing: Tracing) -> None:
    loop = drive(tracing.hooks, YOUNG)
    loop.close()
    assert [span.name for span in tracing.spans()] == ["chat gpt-x", "chat gpt-x", "pageform gpt-x"]


def test_events_and_spans_share_their_ids_also_below_a_callers_span(tracing: Tracing) -> None:
    seen: list[Event] = []
    hooks = tracing.hooks + Hooks({"*": seen.append})
    tracer = tracing.provider.get_tracer("test")
    with tracer.start_as_current_span("outer") as outer:
        drive(hooks, YOUNG, GOOD)
    first, second, call, _ = tracing.spans()
    assert call.parent is not None
    assert call.parent.span_id == outer.get_span_context().span_id
    assert {event.trace_id for event in seen} == {format(outer.get_span_context().trace_id, "032x")}
    ids = [format(span.context.span_id, "016x") for span in (first, second) if span.context]
    assert list(dict.fromkeys(event.span_id for event in seen)) == ids


def test_errors_reach_sentry_with_tags() -> None:
    import sentry_sdk

    sent: list[Any] = []
    client = sentry_sdk.Client(
        dsn="http://public@127.0.0.1:9/1",
        before_send=lambda event, hint: sent.append(event),
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    with sentry_sdk.new_scope() as scope:
        scope.set_client(client)
        hooks = on_error(sentry_sdk.capture_exception)
        drive(hooks, YOUNG, GOOD)
        drive(hooks, YOUNG).close()
        assert sent == []
        with pytest.raises(ValidationFailed):
            drive(hooks, YOUNG, max_retries=0)
    [event] = sent
    assert event["exception"]["values"][-1]["type"] == "ValidationFailed"
    assert event["tags"] == {
        "pageform.provider": "openai",
        "pageform.model": "gpt-x",
        "pageform.event": "end",
        "pageform.attempt": "1",
        "pageform.error_type": "ValidationFailed",
    }
    assert event["extra"]["prompt_tokens"] == 10


def test_each_rejected_answer_can_be_reported() -> None:
    seen: list[str] = []
    drive(
        on_error(lambda error, tags, extras: seen.append(tags["pageform.attempt"]), each_attempt=True),
        YOUNG,
        YOUNG,
        GOOD,
    )
    assert seen == ["1", "2"]


def test_opentelemetry_is_not_imported_before_it_is_asked_for() -> None:
    wanted = "[m for m in sys.modules if m.startswith(('opentelemetry', 'sentry'))]"
    code = f"import sys, pageform.structured; assert not {wanted}"
    subprocess.run([sys.executable, "-c", code], check=True)
