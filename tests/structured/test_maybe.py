"""Answers that may be missing."""

from __future__ import annotations

import pickle
from typing import Literal

import pytest
from pydantic import BaseModel, ValidationError

from pageform.core.errors import SchemaError
from pageform.structured import Maybe, Spec
from pageform.structured.dialects import openai_strict


class Person(BaseModel):
    """Somebody who is named."""

    name: str


def test_it_is_true_if_and_only_if_there_is_a_result() -> None:
    spec = Spec.of(Maybe(Person))
    found = spec.validate('{"result":{"name":"Ada"},"error":false,"message":null}')
    missing = spec.validate('{"result":null,"error":true,"message":"nobody is named"}')
    assert found
    assert type(found.result) is Person
    assert not missing
    assert missing.message == "nobody is named"
    assert Maybe(int)(result=0)  # type: ignore[call-arg]
    assert not spec.validate("{}")
    with pytest.raises(ValidationError, match="name"):
        spec.validate('{"result":{}}')


def test_the_class_is_made_once_and_its_values_are_equal_and_picklable() -> None:
    assert Maybe(Person) is Maybe(Person)
    assert Maybe(Literal[1]) is not Maybe(Literal[True])  # type: ignore[arg-type]
    value = Spec.of(Maybe(list[Person])).validate('{"result":[{"name":"Ada"}]}')
    copied = pickle.loads(pickle.dumps(value))
    assert copied == value
    assert type(copied) is type(value)


def test_models_are_told_what_it_is_for() -> None:
    spec = Spec.of(Maybe(Person))
    assert spec.name == "MaybePerson"
    assert (
        spec.json_schema["properties"]["result"]["description"] == "Somebody who is named. Null if it can't be given."
    )
    assert spec.adapted(openai_strict).sendable


def test_what_can_not_be_a_response_type_is_refused() -> None:
    with pytest.raises(SchemaError):
        Maybe(object())  # type: ignore[arg-type]
