"""The retry loop against scripted answers: no model, no I/O."""

from __future__ import annotations

import copy
import json
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import tenacity
from pydantic import BaseModel, TypeAdapter, ValidationError, ValidationInfo, field_validator

from pageform.core.completion import FinishReason, Usage
from pageform.core.errors import ParameterError
from pageform.structured import (
    Answer,
    Ask,
    Backoff,
    EmptyAnswer,
    IncompleteOutput,
    Judge,
    Limits,
    ModelRetry,
    NoToolCall,
    Outcome,
    Rejection,
    Spec,
    TokenBudgetExceeded,
    ToolCall,
    UsageUnavailable,
    ValidationFailed,
    current_attempt,
    policy_of,
    reask_messages,
    reask_suffix,
    retry,
)
from pageform.structured.prompt import REPEAT_CALL, tool_complaint


class Person(BaseModel):
    name: str
    age: int

    @field_validator("age")
    @classmethod
    def grown(cls, value: int, info: ValidationInfo) -> int:
        if value == 13:
            raise KeyError("no such age")
        if value < (info.context or {}).get("least", 18):
            raise ValueError("too young")
        return value


GOOD = '{"name":"Ann","age":30}'
YOUNG = '{"name":"Ann","age":3}'
ODD = '{"name":"Ann","age":13}'


def ask_again(payload: Any, answer: Answer, rejection: Rejection) -> Any:
    if isinstance(payload, str):
        return payload + reask_suffix(answer, rejection.text)
    return reask_messages(payload, answer, rejection.text)


def loop_of(
    payload: Any = "Who?",
    *,
    max_retries: Any = 3,
    context: Any = None,
    strict: bool | None = None,
    backoff: Backoff | None = None,
    **options: Any,
) -> Generator[Ask[Any], Answer, Outcome[Person]]:
    judge: Judge[Person] = Judge(Spec.of(Person), context=context, strict=strict)
    return retry(payload, judge=judge, reask=ask_again, policy=policy_of(max_retries, backoff), **options)


class Script:
    """Answers a loop from a list of texts or `Answer`s, and keeps what it was asked."""

    def __init__(self, *answers: str | Answer) -> None:
        self._answers: Iterator[str | Answer] = iter(answers)
        self.asks: list[Ask[Any]] = []

    def run(self, payload: Any = "Who?", **options: Any) -> Outcome[Person]:
        loop = loop_of(payload, **options)
        ask = next(loop)
        while True:
            self.asks.append(ask)
            answer = next(self._answers)
            answer = Answer(answer, usage=Usage(10, 5)) if isinstance(answer, str) else answer
            try:
                ask = loop.send(answer)
            except StopIteration as stop:
                outcome: Outcome[Person] = stop.value
                return outcome


def test_a_good_answer_is_taken_at_once() -> None:
    script = Script(GOOD)
    outcome = script.run("Who?")
    assert outcome.value == Person(name="Ann", age=30)
    assert [ask.payload for ask in script.asks] == ["Who?"]
    [attempt] = outcome.attempts
    assert (attempt.number, attempt.text, attempt.error, attempt.usage) == (1, GOOD, None, Usage(10, 5))


@pytest.mark.parametrize("bad", [YOUNG, '{"name":"Ann"}', '{"name":', "Sure! Ann is 30.", "", "[]", "null"])
def test_parse_and_validation_errors_are_asked_again(bad: str) -> None:
    script = Script(bad, bad, GOOD)
    outcome = script.run("Who?", max_retries=2)
    assert outcome.value.name == "Ann"
    assert [attempt.number for attempt in outcome.attempts] == [1, 2, 3]
    kind = ValidationError if bad else EmptyAnswer
    assert [isinstance(attempt.error, kind) for attempt in outcome.attempts] == [True, True, False]
    assert outcome.usage == Usage(30, 15)


def test_the_next_prompt_holds_the_last_answer_and_its_faults() -> None:
    script = Script('{"name":1,"age":20}', YOUNG, GOOD)
    script.run("Who?", max_retries=2)
    _, second, third = script.asks
    assert third.payload.startswith("Who?" + YOUNG)
    assert "age: Value error, too young (got 3)" in third.payload
    assert '{"name":1' not in third.payload, "earlier answers are dropped, so that prompts do not grow"
    assert "name: Input should be a valid string (got 1)" in second.payload


def test_all_answers_or_the_faults_of_all_can_be_shown() -> None:
    bad = ('{"name":1,"age":20}', YOUNG, GOOD)
    every = Script(*bad)
    every.run(max_retries=2, accumulate="all")
    assert [every.asks[2].payload.count(text) for text in bad] == [1, 1, 0]
    summed = Script(*bad)
    summed.run(max_retries=2, accumulate="summary")
    assert [summed.asks[2].payload.count(text) for text in bad] == [0, 1, 0]
    assert "valid string (got 1)" in summed.asks[2].payload
    assert "too young (got 3)" in summed.asks[2].payload
    with pytest.raises(ParameterError, match="accumulate"):
        loop_of(accumulate="none")


def test_an_anchored_answer_stays_behind_the_messages_that_it_answered() -> None:
    script = Script('{"name":1,"age":20}', Answer(YOUNG, anchored=True), GOOD)
    script.run(max_retries=2)
    _, second, third = script.asks
    assert third.payload.startswith(second.payload + YOUNG)


def test_messages_are_extended_by_two_turns_and_never_changed() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    before = copy.deepcopy(messages)
    script = Script(YOUNG, YOUNG, GOOD)
    script.run(messages, max_retries=2)
    assert messages == before
    for ask in script.asks[1:]:
        assert ask.payload[:2] == before
        assert ask.payload[2] == {"role": "assistant", "content": YOUNG}
        assert ask.payload[3]["role"] == "user"
        assert "too young" in ask.payload[3]["content"]
        assert len(ask.payload) == 4


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_spent_retries_report_all_attempts(retries: int) -> None:
    script = Script(*[YOUNG] * 10)
    with pytest.raises(ValidationFailed) as caught:
        script.run("Who?", max_retries=retries)
    assert len(script.asks) == len(caught.value.attempts) == retries + 1
    error = caught.value
    assert isinstance(error.__cause__, ValidationError)
    assert error.usage == Usage(10 * (retries + 1), 5 * (retries + 1))
    assert error.last_text == YOUNG
    [fault] = error.errors()
    assert (fault["loc"], fault["input"], fault["type"]) == (("age",), 3, "value_error")
    assert "age: Value error, too young (got 3)" in str(error)


def test_an_odd_validator_fails_at_once_with_the_original_as_cause() -> None:
    script = Script(YOUNG, ODD, GOOD)
    with pytest.raises(ValidationFailed, match="KeyError") as caught:
        script.run("Who?", max_retries=5)
    assert len(script.asks) == 2
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(caught.value.attempts) == 2


@pytest.mark.parametrize("reason", [r for r in FinishReason if r is not FinishReason.STOP])
def test_a_broken_off_answer_is_not_asked_for_again(reason: FinishReason) -> None:
    script = Script(YOUNG, Answer('{"name":"An', reason, Usage(1, 1)), GOOD)
    with pytest.raises(IncompleteOutput, match=str(reason)) as caught:
        script.run("Who?", max_retries=5)
    assert len(script.asks) == 2
    assert caught.value.partial.name == "An"
    assert caught.value.partial.age is None
    assert caught.value.partial_text == '{"name":"An'
    assert [attempt.finish_reason for attempt in caught.value.attempts] == [FinishReason.STOP, reason]
    assert caught.value.__cause__ is None


def test_a_broken_off_answer_that_is_no_json_has_no_partial() -> None:
    with pytest.raises(IncompleteOutput) as caught:
        Script(Answer("I think", FinishReason.LENGTH)).run()
    assert caught.value.partial is None


def test_context_and_strict_go_to_validation() -> None:
    assert Script(YOUNG).run(context={"least": 1}).value.age == 3
    with pytest.raises(ValidationFailed, match="valid integer"):
        Script('{"name":"Ann","age":"30"}').run(strict=True, max_retries=0)


@pytest.mark.parametrize("value", [-1, 1.5, True, None, "2"])
def test_bad_max_retries_are_refused_before_the_loop_starts(value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        loop_of(max_retries=value)
    assert caught.value.field == "max_retries"


def test_any_text_gives_a_value_or_a_typed_error() -> None:
    deep = "[" * 10_000
    for text in (deep, '{"name":' + deep, '{"name":"' + "x" * 1_000_000, json.dumps("\ud800"), "\x00", "{}" * 1000):
        with pytest.raises(ValidationFailed):
            Script(text).run(max_retries=0)
        with pytest.raises(IncompleteOutput):
            Script(Answer(text, FinishReason.LENGTH)).run(max_retries=0)


def test_validators_are_told_the_attempt_and_may_ask_for_another() -> None:
    class Patient(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def third_time(cls, value: str, info: ValidationInfo) -> str:
            now = current_attempt()
            assert now is not None
            assert info.context == {"attempt": now.number, "max_attempts": 3, "is_last_attempt": now.is_last, "who": 1}
            if not now.is_last:
                raise ModelRetry(f"not yet ({now.number})")
            return value

    judge: Judge[Patient] = Judge(Spec.of(Patient), context={"who": 1})
    loop = retry("Who?", judge=judge, reask=ask_again, policy=policy_of(2))
    next(loop)
    text = '{"name":"Ann"}'
    assert "name: Value error, not yet (1)" in loop.send(Answer(text)).payload
    assert "not yet (2)" in loop.send(Answer(text)).payload
    with pytest.raises(StopIteration) as stop:
        loop.send(Answer(text))
    assert stop.value.value.value == Patient.model_construct(name="Ann")
    assert current_attempt() is None


def test_backoff_grows_to_its_limit_and_jitter_stays_below() -> None:
    steady = Backoff(initial=1, factor=2, longest=5, jitter=False)
    assert [steady.delay(n) for n in (1, 2, 3, 4, 5000)] == [1, 2, 4, 5, 5]
    jittered = Backoff(initial=1, factor=2, longest=5)
    assert all(0 <= jittered.delay(3) <= 4 for _ in range(100))
    script = Script(YOUNG, YOUNG, GOOD)
    script.run(backoff=steady)
    assert [ask.delay for ask in script.asks] == [0, 1, 2]


def test_a_tenacity_object_decides() -> None:
    seen: list[int] = []
    for kind in (tenacity.Retrying, tenacity.AsyncRetrying):
        rules = kind(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_fixed(7),
            before_sleep=lambda state: seen.append(state.attempt_number),
        )
        script = Script(YOUNG, YOUNG, YOUNG, GOOD)
        with pytest.raises(ValidationFailed):
            script.run(max_retries=rules)
        assert [ask.delay for ask in script.asks] == [0, 7, 7]
    assert seen == [1, 2, 1, 2]
    picky = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(ConnectionError)
    )
    script = Script(YOUNG, GOOD)
    with pytest.raises(ValidationFailed):
        script.run(max_retries=picky)
    assert len(script.asks) == 1


def test_time_and_tokens_are_bounded() -> None:
    now = [0.0]
    limits = Limits(timeout=10, clock=lambda: now[0])
    loop = loop_of(limits=limits, backoff=Backoff(initial=4, factor=1, jitter=False))
    next(loop)
    now[0] = 5.0
    assert loop.send(Answer(YOUNG)).delay == 4
    now[0] = 9.5
    with pytest.raises(ValidationFailed, match="after 2 attempts"):
        loop.send(Answer(YOUNG))
    script = Script(YOUNG, YOUNG, GOOD)
    with pytest.raises(TokenBudgetExceeded, match="30 tokens of the budget of 25") as caught:
        script.run(limits=Limits(token_budget=25))
    assert len(script.asks) == len(caught.value.attempts) == 2
    with pytest.raises(UsageUnavailable):
        Script(Answer(YOUNG)).run(limits=Limits(token_budget=25))
    for wrong in ({"timeout": 0}, {"token_budget": -1}, {"timeout": "5"}):
        with pytest.raises(ParameterError):
            Limits(**wrong)  # type: ignore[arg-type]


def test_faults_of_single_tool_calls_are_told_to_those_calls() -> None:
    calls = tuple(ToolCall("A", text, str(number)) for number, text in enumerate(("{}", "[]", "{}")))
    answer = Answer(tool_calls=calls)
    adapter: TypeAdapter[Any] = TypeAdapter(list[dict[str, int]])
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python([{}, {"a": "x"}, {}])
    first, second, third = Rejection(caught.value, "all").results(answer)
    assert first == third == REPEAT_CALL
    assert "a: Input should be a valid integer" in second
    assert Rejection(NoToolCall("A"), "call A").results(answer) == [tool_complaint("call A")] * 3
    assert Rejection(caught.value, "all").results(Answer(tool_calls=calls[:1])) == [tool_complaint("all")]
    assert Rejection(caught.value, "all").results(Answer("text")) == []
