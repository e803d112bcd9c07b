"""Hooks: who is told what, in which order, under which names; and what the log says of the same call."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from pageform.core.completion import FinishReason, Usage
from pageform.core.errors import ParameterError
from pageform.structured import (
    Answer,
    CallAbandoned,
    Event,
    EventName,
    HookName,
    Hooks,
    IncompleteOutput,
    JsonFormatter,
    Judge,
    Limits,
    Observer,
    Spec,
    TokenBudgetExceeded,
    ValidationFailed,
    policy_of,
    retry,
)
from pageform.structured.redact import HIDDEN, redact, redact_text


class Person(BaseModel):
    name: str
    age: int = Field(ge=18)


GOOD, YOUNG = '{"name":"Ann","age":30}', '{"name":"Ann","age":3}'
KEY = "sk-proj-abcdefghijklmnop1234"


class Raw:
    """Stands for an SDK's response."""

    def __init__(self, number: int) -> None:
        self.id = f"chatcmpl-{number}"
        self._request_id = f"req-{number}"


def start(hooks: Any = None, max_retries: int = 3, **options: Any) -> Any:
    judge: Judge[Person] = Judge(Spec.of(Person))
    kwargs = {"model": "m1", "messages": [{"role": "user", "content": "Who?"}], "api_key": KEY, "max_tokens": 9}
    return retry(
        kwargs, judge=judge, reask=lambda p, a, r: p, policy=policy_of(max_retries), hooks=hooks, kwargs=dict, **options
    )


def run(*texts: str | Answer | Exception, **options: Any) -> Any:
    loop = start(**options)
    next(loop)
    for number, text in enumerate(texts, 1):
        if isinstance(text, Exception):
            loop.throw(text)
        answer = Answer(text, usage=Usage(10, 5), response=Raw(number)) if isinstance(text, str) else text
        try:
            loop.send(answer)
        except StopIteration as stop:
            return stop.value
    return loop


def collect(name: str = "*") -> tuple[Hooks, list[Event]]:
    seen: list[Event] = []
    hooks = Hooks()
    hooks.on(name, seen.append)
    return hooks, seen


def test_every_happening_is_one_event_with_everything_known() -> None:
    hooks, seen = collect()
    observer = Observer(hooks, provider="openai")
    run(YOUNG, GOOD, hooks=observer)
    assert [event.name for event in seen] == [
        "kwargs", "response", "usage", "parse_error", "kwargs", "response", "usage", "end",
    ]  # fmt: skip
    assert {(event.call_id, event.provider, event.model, event.max_attempts) for event in seen} == {
        (observer.call_id, "openai", "m1", 4)
    }
    assert [event.attempt for event in seen] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert [event.request_id for event in seen] == ["", "req-1", "req-1", "req-1", "", "req-2", "req-2", "req-2"]
    assert [event.total_usage.total_tokens for event in seen] == [0, 15, 15, 15, 15, 30, 30, 30]
    assert [event.usage.total_tokens for event in seen] == [0, 15, 15, 15, 0, 15, 15, 15]
    assert len({event.span_id for event in seen}) == 2
    assert len({event.trace_id for event in seen}) == 1
    assert all(seen[i].elapsed <= seen[i + 1].elapsed for i in range(7))
    assert all(event.attempt_elapsed <= event.elapsed for event in seen)
    rejected, end = seen[3], seen[-1]
    assert isinstance(rejected.error, ValidationError)
    assert [fault.path for fault in rejected.faults] == ["age"]
    assert not rejected.is_last_attempt
    assert end.value == Person(name="Ann", age=30)
    assert end.ok
    assert end.finish_reason == "stop"


@pytest.mark.parametrize(
    ("texts", "error", "names"),
    [
        ([YOUNG, YOUNG], ValidationFailed, ["parse_error", "parse_error", "last_attempt", "end"]),
        ([Answer("{", FinishReason.LENGTH)], IncompleteOutput, ["parse_error", "last_attempt", "end"]),
        ([YOUNG, ConnectionError("down")], ConnectionError, ["parse_error", "completion_error", "last_attempt", "end"]),
    ],
)
def test_every_failed_call_ends_once_with_its_error(texts: list[Any], error: type[Exception], names: list[str]) -> None:
    hooks, seen = collect()
    with pytest.raises(error) as caught:
        run(*texts, hooks=hooks, max_retries=1)
    assert [e.name for e in seen if e.error is not None] == names
    assert seen[-1].error is caught.value
    assert seen[-1].is_last_attempt


def test_a_spent_budget_marks_the_last_attempt() -> None:
    hooks, seen = collect("parse_error")
    with pytest.raises(TokenBudgetExceeded):
        run(YOUNG, hooks=hooks, limits=Limits(token_budget=10))
    assert [event.is_last_attempt for event in seen] == [True]


def test_a_call_that_is_left_ends_too() -> None:
    hooks, seen = collect("end")
    loop = run(YOUNG, hooks=hooks)
    del loop
    gc.collect()
    assert [type(event.error) for event in seen] == [CallAbandoned]


def test_a_failing_reask_ends_the_call() -> None:
    hooks, seen = collect("end")
    loop = retry("?", judge=Judge(Spec.of(Person)), reask=lambda p, a, r: 1 / 0, hooks=hooks)  # type: ignore[arg-type,return-value]
    next(loop)
    with pytest.raises(ZeroDivisionError):
        loop.send(Answer(YOUNG))
    assert [type(event.error) for event in seen] == [ZeroDivisionError]


def test_instructors_names_get_instructors_arguments() -> None:
    seen: list[tuple[str, Any]] = []

    def tell(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: seen.append((name, (args, kwargs)))

    hooks = Hooks({name: tell(name) for name in HookName})
    with pytest.raises(ValidationFailed):
        run(YOUNG, YOUNG, hooks=hooks, max_retries=1)
    assert [name for name, _ in seen] == [
        "completion:kwargs", "completion:response", "completion:usage", "parse:error",
        "completion:kwargs", "completion:response", "completion:usage", "parse:error", "completion:last_attempt",
    ]  # fmt: skip
    kwargs, response, usage, parse = (told for _, told in seen[:4])
    assert kwargs[0] == ()
    assert kwargs[1]["messages"] == [{"role": "user", "content": "Who?"}]
    assert response[0][0].id == "chatcmpl-1"
    assert usage == ((Usage(10, 5),), {"attempt_number": 1})
    assert seen[6][1] == ((Usage(20, 10),), {"attempt_number": 2})
    assert parse[1] == {"attempt_number": 1, "max_attempts": 2, "is_last_attempt": False}
    (last,), details = seen[-1][1]
    assert isinstance(last, ValidationError)
    assert details == {"attempt_number": 2, "max_attempts": 2, "is_last_attempt": True}


def test_handlers_take_what_they_have_parameters_for() -> None:
    seen: list[Any] = []

    def strict(error: Exception) -> None:
        seen.append(type(error).__name__)

    def keyword(error: Exception, *, attempt_number: int) -> None:
        seen.append(attempt_number)

    def named(event: Any) -> None:
        seen.append(event.name)

    def annotated(e: Event) -> None:
        seen.append(e.attempt)

    with pytest.raises(ConnectionError):
        run(ConnectionError("down"), hooks={HookName.COMPLETION_ERROR: [strict, keyword, named, annotated]})
    assert seen == ["ConnectionError", 1, EventName.COMPLETION_ERROR, 1]


def test_a_hook_that_raises_only_warns() -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("broken hook")

    hooks, seen = collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = run(GOOD, hooks=Hooks({"kwargs": broken, "completion:kwargs": broken}) + hooks)
    assert outcome.value.age == 30
    assert ["broken hook" in str(one.message) for one in caught] == [True, True]
    assert len(seen) == 4


def test_hooks_are_joined_changed_and_forgotten() -> None:
    seen: list[str] = []
    first = Hooks().on("end", lambda event: seen.append("first"))
    one, two = Hooks({"end": first}), Hooks({"completion:response": lambda response: seen.append("second")})
    run(GOOD, hooks=one + two)
    run(GOOD, hooks=Hooks.combine(one, two, one))
    assert seen == ["second", "first", "second", "first", "first"]
    copy = one.copy()
    copy.off("end", first)
    copy.off("end", first)
    assert one
    assert not copy
    both = one + two
    both.clear("end")
    both.clear(HookName.PARSE_ERROR)
    assert both
    both.clear()
    assert not both
    assert Hooks.of(one) is one
    for wrong in (
        lambda: one.on("parse:wrong", print),
        lambda: one.on("end", 3),  # type: ignore[arg-type]
        lambda: one.off("parse", print),
        lambda: Hooks.of(3),
        lambda: run(GOOD, hooks=[print]),
    ):
        with pytest.raises(ParameterError) as caught:
            wrong()
        assert caught.value.field == "hooks"


def test_async_handlers_are_awaited_in_order_by_async_drivers() -> None:
    seen: list[str] = []

    async def slow(event: Event) -> None:
        await asyncio.sleep(0.001)
        seen.append(str(event.name))

    class Callable_:
        async def __call__(self, response: Any) -> None:
            raise RuntimeError("broken async hook")

    async def call() -> Any:
        observer = Observer({"*": slow, "completion:response": Callable_()}, asynchronous=True)
        loop = start(observer)
        next(loop)
        await observer.settle()
        with pytest.raises(StopIteration) as stop:
            loop.send(Answer(GOOD))
        await observer.settle()
        return stop.value.value

    with pytest.warns(RuntimeWarning, match="broken async hook"):
        outcome = asyncio.run(call())
    assert outcome.value.age == 30
    assert seen == ["kwargs", "response", "end"]


def test_async_handlers_are_refused_by_other_drivers_before_anything_is_sent() -> None:
    async def handler(event: Event) -> None: ...

    with pytest.raises(ParameterError, match="coroutine"):
        start({"end": handler})
    with pytest.warns(RuntimeWarning, match="await"):
        run(GOOD, hooks={"end": lambda event: handler(event)})


def test_nothing_a_handler_does_reaches_the_request() -> None:
    def meddle(event: Event) -> None:
        event.kwargs["messages"][0]["content"] = "changed"  # type: ignore[index]
        event.kwargs["messages"].append(1)

    loop = start({"kwargs": meddle})
    assert next(loop).payload["messages"] == [{"role": "user", "content": "Who?"}]


def test_secrets_are_neither_in_events_nor_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    hooks, seen = collect()
    with caplog.at_level(logging.DEBUG, "pageform"), pytest.raises(PermissionError):
        run(YOUNG, PermissionError(f"Incorrect API key provided: {KEY}"), hooks=hooks)
    assert all(event.kwargs["api_key"] == HIDDEN for event in seen)
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert len(lines) == len(seen)
    assert KEY not in "".join(lines)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"api_key": "x", "max_tokens": 5, "token": "t"}, {"api_key": HIDDEN, "max_tokens": 5, "token": HIDDEN}),
        ({"extra_headers": {"Authorization": "Bearer x", "X-Api-Key": "k", "X-Id": "1"}},
         {"extra_headers": {"Authorization": HIDDEN, "X-Api-Key": HIDDEN, "X-Id": "1"}}),
        ({"tools": [{"properties": {"password": {"type": "string"}}}]},
         {"tools": [{"properties": {"password": {"type": "string"}}}]}),
        ({"aws_secret_access_key": "x", "client_secret": "y", "secretary": "Ann", "monkey": "z"},
         {"aws_secret_access_key": HIDDEN, "client_secret": HIDDEN, "secretary": "Ann", "monkey": "z"}),
    ],
)  # fmt: skip
def test_secrets_are_found_by_name(given: Any, left: Any) -> None:
    before = json.dumps(given)
    assert redact(given) == left
    assert json.dumps(given) == before


def test_secrets_are_found_by_look_and_depth_is_bounded() -> None:
    text = f"key {KEY}, Authorization: Bearer abcdefghijkl.mnop, AIzaSyA1234567890abcdefghij"
    assert redact_text(text) == f"key {HIDDEN}, Authorization: {HIDDEN}, {HIDDEN}"
    assert redact_text("ask-me risk-averse basic training") == "ask-me risk-averse basic training"
    deep: Any = "end"
    for _ in range(10_000):
        deep = {"a": [deep]}
    assert HIDDEN in json.dumps(redact(deep))


def test_the_log_tells_each_call_in_numbers_and_no_content(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pageform"), pytest.raises(ValidationFailed):
        run(YOUNG, '{"name":"Bob","age":"secret words"}', max_retries=1, hooks=Observer(provider="openai"))
    first, second, last = (json.loads(JsonFormatter().format(record)) for record in caplog.records)
    assert [line["level"] for line in (first, second, last)] == ["INFO", "INFO", "WARNING"]
    assert first["event"] == "parse_error"
    assert (first["attempt"], first["max_attempts"], first["provider"], first["model"]) == (1, 2, "openai", "m1")
    assert first["faults"][0]["path"] == "age"
    assert first["request_id"] == "req-1"
    assert last["error_type"] == "ValidationFailed"
    assert (last["prompt_tokens"], last["completion_tokens"]) == (20, 10)
    assert last["call_id"] == first["call_id"]
    assert last["time"].endswith("+00:00")
    text = json.dumps([first, second, last])
    assert "Who?" not in text
    assert "Bob" not in text
    assert "secret words" not in text


def test_the_formatter_takes_any_record() -> None:
    try:
        raise ValueError(f"bad {KEY}")
    except ValueError as error:
        record = logging.getLogger("x").makeRecord(
            "x",
            logging.ERROR,
            "f",
            1,
            "failed %s",
            (KEY,),
            (ValueError, error, None),
            extra={"password": "p", "data": {1}},
        )
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == f"failed {HIDDEN}"
    assert line["password"] == HIDDEN
    assert line["data"] == [1]
    assert KEY not in json.dumps(line)


def test_nothing_is_made_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("pageform"), "disabled", True)
    monkeypatch.setattr(Observer, "_event", lambda *args: pytest.fail("an event was made"))
    assert run(YOUNG, GOOD).value.age == 30
