"""Errors: picklable whatever they carry, readable, with places written as in Python."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from pageform.core.completion import Attempt, Usage
from pageform.structured import BatchFailed, IncompleteOutput, ValidationFailed
from pageform.structured.errors import UnpicklableError, describe, path, summary


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
    [described] = describe(fault)
    assert described["loc"] == ("lines", 1, "price")
    assert described["input"] == "much"
    assert summary(fault).startswith("lines[1].price: Input should be a valid number")
    assert summary(fault).endswith("(got 'much')")
    assert describe(KeyError("x")) == [{"loc": (), "type": "KeyError", "msg": "'x'", "input": None}]
    assert describe(None) == []
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
