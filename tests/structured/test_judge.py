"""From answers to values: tool calls of every kind, envelopes, text instead of a call, nulls of strict schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import pytest
from annotated_types import Len
from pydantic import BaseModel, ValidationError

from pageform.core.completion import FinishReason
from pageform.structured import (
    Answer,
    BrokeOff,
    Judge,
    ManyToolCalls,
    Mode,
    NoToolCall,
    Refused,
    Rejection,
    Spec,
    ToolCall,
    WrongTool,
)
from pageform.structured.errors import EmptyAnswer


class City(BaseModel):
    name: str
    people: int = 0


class Query(BaseModel):
    text: str


def called(*calls: tuple[str, str]) -> Answer:
    return Answer(tool_calls=tuple(ToolCall(name, arguments, str(i)) for i, (name, arguments) in enumerate(calls)))


def judged(response_type: Any, answer: Answer, mode: Mode = Mode.TOOLS, **options: Any) -> Any:
    return Judge(Spec.of(response_type), mode, **options)(answer).value


def test_a_call_holds_the_value() -> None:
    assert judged(City, called(("City", '{"name":"Oslo"}'))) == City(name="Oslo")
    assert judged(int, called(("int", '{"content":7}'))) == 7
    assert judged(list[int], called(("list_int", '{"tasks":[1,2]}'))) == [1, 2]


def test_schema_mode_has_the_envelope_and_text_mode_has_not() -> None:
    assert judged(int, Answer('{"content":7}'), Mode.SCHEMA) == 7
    assert judged(int, Answer("7"), Mode.TEXT) == 7
    assert judged(City, Answer('{"name":"Oslo"}'), Mode.SCHEMA) == City(name="Oslo")


def test_what_holds_no_value_is_told_apart() -> None:
    with pytest.raises(EmptyAnswer):
        judged(City, Answer())
    with pytest.raises(EmptyAnswer):
        judged(City, Answer(" \n"), Mode.TEXT)
    with pytest.raises(NoToolCall, match="must call City"):
        judged(City, Answer("Oslo is a city."))
    with pytest.raises(ManyToolCalls, match="2 tools"):
        judged(City, called(("City", '{"name":"a"}'), ("City", '{"name":"b"}')))
    with pytest.raises(WrongTool, match="calls Town"):
        judged(City, called(("Town", '{"title":"a"}')))
    with pytest.raises(WrongTool):
        judged(Iterable[City | Query], called(("City", '{"name":"a"}'), ("Town", "{}")))
    with pytest.raises(Refused, match="I won't"):
        judged(City, Answer(refusal="I won't"))
    for reason in FinishReason:
        if reason is not FinishReason.STOP:
            with pytest.raises(BrokeOff):
                judged(City, Answer('{"name":"Oslo"}', reason), Mode.TEXT)


def test_arguments_as_text_and_a_changed_name_are_taken_with_a_note() -> None:
    judge: Judge[City] = Judge(Spec.of(City), Mode.TOOLS)
    verdict = judge(Answer('{"name":"Oslo"}'))
    assert verdict.value == City(name="Oslo")
    assert "answered with text" in verdict.notes[0]
    renamed = judge(called(("functions.City", '{"name":"Oslo"}')))
    assert renamed.value == City(name="Oslo")
    assert "functions.City" in renamed.notes[0]
    with pytest.raises(NoToolCall):
        judged(str, Answer("I can't do that."))


def test_a_list_may_come_in_several_calls() -> None:
    cities = called(("list_City", '{"tasks":[{"name":"a"}]}'), ("list_City", '{"tasks":[{"name":"b"},{"name":"c"}]}'))
    assert [city.name for city in judged(list[City], cities)] == ["a", "b", "c"]
    bounded: Any = Annotated[list[City], Len(min_length=3)]
    name = Spec.of(bounded).tool_name
    halves = called((name, '{"tasks":[{"name":"a"}]}'), (name, '{"tasks":[{"name":"b"},{"name":"c"}]}'))
    assert len(judged(bounded, halves)) == 3, "bounds are those of the whole list"
    with pytest.raises(ValidationError, match="at least 3"):
        judged(bounded, called((name, '{"tasks":[{"name":"a"}]}'), (name, '{"tasks":[]}')))
    wrong = called(("list_City", '{"tasks":[{"name":"a"}]}'), ("list_City", '{"tasks":[{"name":2},{"name":"c"}]}'))
    with pytest.raises(ValidationError) as caught:
        judged(list[City], wrong)
    assert [fault["loc"] for fault in caught.value.errors()] == [(1, 0, "name")]
    first, second = Rejection(caught.value, "").results(wrong)
    assert "are valid" in first
    assert "valid string" in second


def test_parallel_calls_are_items_each_of_its_own_class() -> None:
    both: Any = Iterable[City | Query]
    answer = called(("Query", '{"text":"rain"}'), ("City", '{"name":"Oslo"}'), ("Query", '{"text":"sun"}'))
    assert judged(both, answer) == [Query(text="rain"), City(name="Oslo"), Query(text="sun")]
    assert judged(both, called(("City", '{"name":"Oslo"}'))) == [City(name="Oslo")]
    with pytest.raises(ValidationError) as caught:
        judged(both, called(("Query", "{}"), ("City", '{"name":"Oslo"}'), ("City", "nonsense")))
    assert [fault["loc"][0] for fault in caught.value.errors()] == [0, 2]


def test_nulls_that_stand_for_nothing_given_are_undone_where_the_schema_was_strict() -> None:
    text = '{"name":"Oslo","people":null}'
    assert judged(City, called(("City", text)), restores=True) == City(name="Oslo")
    assert judged(list[City], Answer(f'{{"tasks":[{text}]}}'), Mode.SCHEMA, restores=True) == [City(name="Oslo")]
    assert judged(Iterable[City | Query], called(("City", text)), restores=True) == [City(name="Oslo")]
    with pytest.raises(ValidationError):
        judged(City, called(("City", text)))
