"""Errors: picklable whatever they carry, readable, with places written as in Python."""

from __future__ import annotations

import json
import pickle
import time
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from pageform.core.completion import Attempt, Usage
from pageform.structured import (
    Answer,
    BatchFailed,
    ClientError,
    ConfigurationError,
    EmptyAnswer,
    IncompleteOutput,
    Judge,
    ModeError,
    ProviderError,
    Rejection,
    Spec,
    ValidationFailed,
    policy_of,
    retry,
)
from pageform.structured.bounded import bounded
from pageform.structured.diagnose import diagnose, path, summary
from pageform.structured.errors import UnpicklableError


class Line(BaseModel):
    price: float


class Bill(BaseModel):
    lines: list[Line]


def _fault(text: str) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Bill).validate_json(text)
    return caught.value


class Unpicklable(Exception):
    def __init__(self, handle: Any) -> None:
        self.handle = handle
        super().__init__("holds a handle")


def test_faults_name_their_place_input_and_type() -> None:
    fault = _fault('{"lines":[{"price":1},{"price":"much"}]}')
    [described] = diagnose(fault)
    assert described.loc == ("lines", 1, "price")
    assert described.input == "much"
    assert described.expected == "number"
    assert summary(fault).startswith("lines[1].price: Input should be a valid number")
    assert summary(fault).endswith("(got 'much')")
    assert [(f.loc, f.type, f.msg, f.input) for f in diagnose(KeyError("x"))] == [((), "KeyError", "'x'", None)]
    assert diagnose(None) == ()
    assert path(()) == ""


@pytest.mark.parametrize(
    "error", [_fault("{}"), KeyError("x"), Unpicklable(lambda: None)], ids=lambda e: type(e).__name__
)
def test_a_failure_survives_pickling(error: Exception) -> None:
    failed = ValidationFailed("no valid Bill", [Attempt(1, "{}", error, Usage(3, 4))])
    back = pickle.loads(pickle.dumps(failed))
    assert type(back) is ValidationFailed
    assert str(back) == str(failed)
    assert back.usage == Usage(3, 4)
    kept = back.attempts[0].error
    if isinstance(error, Unpicklable):
        assert isinstance(kept, UnpicklableError)
        assert "holds a handle" in str(kept)
    else:
        assert type(kept) is type(error)
        assert back.errors() == failed.errors()


def test_an_incomplete_output_keeps_what_arrived() -> None:
    failed = IncompleteOutput("broke off", [Attempt(1, '{"lines":[', None)], partial=Bill(lines=[]))
    back = pickle.loads(pickle.dumps(failed))
    assert back.partial == Bill(lines=[])
    assert back.partial_text == '{"lines":['


def test_a_failed_batch_keeps_order_and_survives_pickling() -> None:
    errors: dict[int, Exception] = {1: ValueError("bad"), 3: Unpicklable(lambda: None)}
    failed = BatchFailed(["a", errors[1], "c", errors[3]], errors)
    assert "2 of 4 requests failed" in str(failed)
    assert "number 1: bad" in str(failed)
    back = pickle.loads(pickle.dumps(failed))
    assert back.results[0] == "a"
    assert back.results[2] == "c"
    assert list(back.errors) == [1, 3]
    assert str(back.errors[1]) == "bad"
    assert isinstance(back.results[3], UnpicklableError)


def _failed(text: str, spec: Any = Bill) -> ValidationFailed:
    """What a caller catches after one attempt with that answer."""
    loop = retry("?", judge=Judge(Spec.of(spec)), reask=lambda p, a, r: p, policy=policy_of(0))
    next(loop)
    with pytest.raises(ValidationFailed) as caught:
        loop.send(Answer(text, usage=Usage(3, 4), response={"id": "r1"}))
    return caught.value


def test_an_error_tells_machines_everything() -> None:
    failed = _failed('{"lines":[{"price":"12 EUR"}]}')
    assert failed.response == {"id": "r1"}
    told = json.loads(failed.json())
    assert told["error"] == "ValidationFailed"
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (3, 4)
    assert told["attempts"][0]["text"] == '{"lines":[{"price":"12 EUR"}]}'
    assert told["errors"] == [
        {
            "loc": ["lines", 0, "price"],
            "path": "lines[0].price",
            "type": "float_parsing",
            "msg": "Input should be a valid number, unable to parse string as a number",
            "input": "12 EUR",
            "expected": "number",
            "suggestion": "Leave out the unit: 12",
        }
    ]
    assert "lines[0].price" in str(failed)
    assert "Leave out the unit: 12" in str(failed)


class Wide(BaseModel):
    names: list[int]
    note: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"names": ["x" * 10_000_000]}),
        json.dumps({"names": ["x"] * 15_000}),
        json.dumps({"names": ["x"] * 500_000}),
        json.dumps({"names": {f"key {i}": [i] * 20 for i in range(100_000)}}),
        json.dumps({"names": [[[["y" * 290] * 100] * 100] * 10]}),
        '{"names":[' + "9" * 4_000 + '.5],"note":' + "9" * 4_000 + "}",
        "z" * 10_000_000,
        "[" * 100_000,
        json.dumps({"n" * 5_000_000: 1}),
    ],
    ids=["text", "15,000 faults", "500,000 faults", "keys", "nested", "digits", "no json", "deep", "long key"],
)
def test_errors_stay_small_whatever_the_answer(text: str) -> None:
    started = time.monotonic()
    failed = _failed(text, Wide)
    assert len(str(failed)) < 20_000
    assert len(failed.json()) < 500_000
    assert len(json.dumps(failed.errors())) < 250_000
    pickle.dumps(failed)
    assert time.monotonic() - started < 20


class Size(Enum):
    SMALL = "small"
    EXTRA_LARGE = "extra-large"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Order(BaseModel, extra="forbid"):
    size: Size = Size.SMALL
    count: int = 1
    price: float = Field(1.0, gt=0)
    amount: Decimal = Decimal(1)
    paid: bool = False
    day: date = date(2024, 1, 1)
    tags: list[str] = Field(default_factory=list, max_length=2)
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    either: int | Cat = 1
    unit_price: float
    table: dict[str, int] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("part", "place", "expected", "suggestion"),
    [
        ('"size":"Extra Large"', "size", 'one of "small", "extra-large"', 'Did you mean "extra-large"?'),
        ('"size":"smal"', "size", 'one of "small", "extra-large"', 'Did you mean "small"?'),
        ('"size":"blue"', "size", 'one of "small", "extra-large"', None),
        ('"size":null', "size", 'one of "small", "extra-large"', "Give a value instead of null"),
        ('"count":"1,200 pieces"', "count", "integer", "Leave out the unit: 1200"),
        ('"count":"1.200,50"', "count", "integer", "Write a plain number"),
        ('"count":"2.5 kg"', "count", "integer", "Write a whole number"),
        ('"count":2.5', "count", "integer", "Write a whole number, without a fraction"),
        ('"count":"many"', "count", "integer", None),
        ('"price":"$ 3.50"', "price", "number (more than 0)", "Leave out the unit: 3.50"),
        ('"price":"1,234.5"', "price", "number (more than 0)", "Leave out the separators: 1234.5"),
        ('"price":"15 %"', "price", "number (more than 0)", "Write a plain number"),
        ('"price":-3', "price", "number (more than 0)", None),
        ('"paid":"ja"', "paid", "true or false", "Write true"),
        ('"paid":"perhaps"', "paid", "true or false", "Write true or false"),
        ('"day":"31/12/2024"', "day", "date such as 2024-12-31", "Write 2024-12-31"),
        ('"day":"03/04/2024"', "day", "date such as 2024-12-31", "Write it as YYYY-MM-DD"),
        ('"day":"31/02/2024"', "day", "date such as 2024-12-31", "Write it as YYYY-MM-DD"),
        ('"tags":"red"', "tags", "list (at most 2 items)", "Put the value into a list: [ … ]"),
        ('"tags":["a","b","c"]', "tags", "list (at most 2 items)", "Shorten it by 1 item"),
        ('"tags":[5]', "tags[0]", "string", 'Write it in quotes: "5"'),
        ('"pet":{"kind":"catt"}', "pet", None, 'Did you mean "cat"?'),
        ('"pet":{"kind":"cat","live":9}', "pet.lives", "integer", 'Rename the key "live" to "lives"'),
        ('"pet":"{}"', "pet", None, "Leave out the quotes around the object"),
        ('"either":[]', "either", "integer", None),
        ('"table":{"x":"3 m"}', "table.x", "integer", "Leave out the unit: 3"),
        ('"colour":1', "colour", None, "Leave this key out"),
    ],
)
def test_faults_say_what_belongs_there_and_how_to_mend_it(
    part: str, place: str, expected: str | None, suggestion: str | None
) -> None:
    first = _failed('{"unit_price":1,' + part + "}", Order).attempts[0].faults[0]
    assert first.path == place
    assert first.suggestion == suggestion
    if expected is not None:
        assert first.expected == expected


def test_a_misspelt_key_is_named_from_both_sides() -> None:
    missing, extra = _failed('{"unitPrise":1}', Order).attempts[0].faults
    assert (missing.path, missing.suggestion) == ("unit_price", 'Rename the key "unitPrise" to "unit_price"')
    assert (extra.path, extra.suggestion) == ("unitPrise", 'Rename the key "unitPrise" to "unit_price"')


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("```json\n{}\n```", "Leave out the code fence"),
        ("Sure! {}", "Answer with JSON only, without any words around it"),
        ("the answer is 3", "Answer with JSON only, without any words around it"),
        ('{"unit_price":1} as asked', "End the answer with the JSON, without any words after it"),
        ('{"unit_price":', "Close every string, list and object"),
    ],
)
def test_broken_json_gets_a_suggestion(text: str, suggestion: str) -> None:
    [fault] = _failed(text, Order).attempts[0].faults
    assert (fault.type, fault.suggestion) == ("json_invalid", suggestion)


def test_the_model_is_told_the_same_as_the_caller() -> None:
    told: list[str] = []

    def reask(payload: str, answer: Answer, rejection: Rejection) -> str:
        told.append(rejection.text)
        return payload

    loop = retry("?", judge=Judge(Spec.of(Order)), reask=reask, policy=policy_of(1))
    next(loop)
    loop.send(Answer('{"unit_price":"3 EUR"}'))
    with pytest.raises(ValidationFailed) as caught:
        loop.send(Answer('{"unit_price":"3 EUR"}'))
    [text] = told
    assert text in str(caught.value)
    assert caught.value.errors()[0]["suggestion"] in text


def test_an_empty_answer_is_its_own_error_and_asked_for_again() -> None:
    failed = _failed(" \n")
    assert isinstance(failed.__cause__, EmptyAnswer)
    assert "the answer is empty" in str(failed)
    assert failed.errors()[0]["type"] == "EmptyAnswer"


def test_setup_errors_name_the_remedy_and_survive_pickling() -> None:
    for kind in (ConfigurationError, ModeError, ClientError):
        error = pickle.loads(pickle.dumps(kind("mode", "xml", "is unknown", "Use tools.")))
        assert type(error) is kind
        assert str(error) == "mode='xml': is unknown. Use tools."
        assert isinstance(error, ConfigurationError)
        assert isinstance(error, ValueError)
    odd = pickle.loads(pickle.dumps(ProviderError("openai", "no choices", Unpicklable(lambda: None))))
    assert (str(odd), odd.response) == ("openai: no choices", None)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=200))
def test_any_value_has_a_small_copy(value: Any) -> None:
    assert len(json.dumps(bounded(value))) <= 2_000
    assert json.loads(json.dumps(bounded(value))) == bounded(value)
