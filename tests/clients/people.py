"""Types and answers that all client tests use."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, field_validator

ASK = [{"role": "user", "content": "Who is there?"}]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int

    @field_validator("age")
    @classmethod
    def grown(cls, value: int) -> int:
        if value < 18:
            raise ValueError("too young")
        return value


class Weather(BaseModel):
    """Where to look up the weather."""

    city: str


class Search(BaseModel):
    query: str


GOOD = '{"name":"Ann","age":30}'
YOUNG = '{"name":"Ann","age":3}'
ANN = Person(name="Ann", age=30)


def names(*people: tuple[str, int]) -> list[dict[str, Any]]:
    """Items of a list of people, as JSON data."""
    return [{"name": name, "age": age} for name, age in people]
