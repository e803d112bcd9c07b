"""What the tests of batches ask for: one person a line. Every twentieth is answered wrongly at first."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, field_validator
from wires import Called, Said

from pageform.batch import Batch


class Person(BaseModel):
    name: str
    age: int

    @field_validator("age")
    @classmethod
    def grown(cls, value: int) -> int:
        if value < 18:
            raise ValueError("too young")
        return value


def asks(count: int) -> list[str]:
    return [f"Person {number}" for number in range(count)]


def number_of(body: dict[str, Any]) -> int:
    """Which person a request asks for."""
    found = re.search(r"Person (\d+)", str(body["messages"]))
    assert found is not None
    return int(found[1])


def is_bad(number: int) -> bool:
    return number % 20 == 3


def asked_again(body: dict[str, Any]) -> bool:
    """Whether a request tells of a fault."""
    return "too young" in str(body["messages"])


def answer(body: dict[str, Any]) -> Said:
    """The scripted model: wrong at first where it is bad, right when it is told so."""
    number = number_of(body)
    age = 3 if is_bad(number) and not asked_again(body) else 20 + number
    return Said(calls=(Called("Person", f'{{"name":"P{number}","age":{age}}}'),))


def value_of(number: int) -> Person:
    return Person(name=f"P{number}", age=20 + number)


def check_complete(batch: Batch, sent: list[dict[str, Any]], count: int) -> None:
    """Every line has its value, in order, and nothing was sent twice."""
    results = list(batch.results())
    assert [one.value for one in results] == [value_of(number) for number in range(count)]
    assert [len(one.attempts) for one in results] == [1 + is_bad(number) for number in range(count)]
    first = [number_of(body) for body in sent if not asked_again(body)]
    again = [number_of(body) for body in sent if asked_again(body)]
    assert sorted(first) == list(range(count))
    assert sorted(again) == [number for number in range(count) if is_bad(number)]
