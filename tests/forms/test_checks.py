"""Judging values one by one: the verdict is that of the whole object's validation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationInfo, field_validator, model_validator
from typing_extensions import TypedDict

from pageform.forms.checks import Check, Verdict
from pageform.structured.faults import failed


def even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class Part(BaseModel):
    count: Annotated[int, Field(ge=0), AfterValidator(even)]
    label: str = Field(max_length=5, alias="the label")
    kind: Literal["a", "b"] | None = None
    price: Decimal = Field(default=Decimal(1), max_digits=4)
    children: list[Part] = []

    @field_validator("label")
    @classmethod
    def known(cls, value: str, info: ValidationInfo) -> str:
        if value == "even" and info.data.get("count") == 2:
            raise ValueError("2 is not called even")
        if info.context and value in info.context["never"]:
            raise ValueError("never")
        return value


class Late(BaseModel):
    x: int
    y: int

    @model_validator(mode="after")
    def ordered(self) -> Late:
        if self.x > self.y:
            raise ValueError("x is above y")
        return self


class Early(BaseModel):
    x: int = Field(ge=0)

    @model_validator(mode="before")
    @classmethod
    def turned(cls, data: Any) -> Any:
        return {"x": -data["x"]}


@dataclass
class Pair:
    first: Annotated[int, Field(gt=3)]
    second: list[Late]


class Dict(TypedDict):
    n: Annotated[int, Field(lt=3)]


def verdict(check: Check | None, text: str, before: dict[str, bytes] | None = None, context: Any = None) -> str | None:
    assert check is not None
    try:
        check.judge(text.encode(), before or {}, context, None)
    except Verdict as found:
        return str(failed("test", found.faults).errors()[0]["msg"])
    return None


def test_constraints_and_validators_of_fields() -> None:
    check = Check.of(TypeAdapter(Part))
    count = check.field("count")
    assert verdict(count, "2") is None
    assert verdict(count, "-2") == "Input should be greater than or equal to 0"
    assert verdict(count, "3") == "Value error, must be even"
    assert check.field("label") is None, "the JSON has the alias"
    label = check.field("the label")
    assert label is not None
    assert label.sees_siblings
    assert verdict(label, '"abcdef"') == "String should have at most 5 characters"
    assert verdict(label, '"even"', {"count": b"4"}) is None
    assert verdict(label, '"even"', {"count": b"2"}) == "Value error, 2 is not called even"
    assert verdict(label, '"x"', {"count": b"3"}) is None, "the fault of another field is not this one's"
    assert verdict(label, '"x"', {}, {"never": ["x"]}) == "Value error, never"
    assert verdict(check.field("kind"), '"c"') is not None
    assert verdict(check.field("price"), "1.25") is None
    assert verdict(check.field("price"), "12.345") is not None


def test_inner_places_are_reached_and_closed_ones_left_to_the_whole() -> None:
    children = Check.of(TypeAdapter(Part)).field("children")
    assert children is not None
    item = children.item()
    assert item is not None
    assert verdict(item.field("count"), "3") == "Value error, must be even"
    assert verdict(item.field("children"), '[{"count":1}]') is not None

    pair = Check.of(TypeAdapter(Pair))
    assert verdict(pair.field("first"), "3") is not None
    second = pair.field("second")
    assert second is not None
    assert verdict(second.item(), '{"x":2,"y":1}') == "Value error, x is above y"
    assert verdict(Check.of(TypeAdapter(Dict)).field("n"), "3") is not None

    early = Check.of(TypeAdapter(Early))
    assert early.field("x") is None, "what the model makes of its input is not known yet"
    assert verdict(early, '{"x":-1}') is None
    assert verdict(early, '{"x":1}') is not None
    assert Check.of(TypeAdapter(int | Late)).field("x") is None, "which member it is is not known yet"
    assert Check.of(TypeAdapter(dict[str, int])).field("x") is None


def test_what_a_validator_raises_otherwise_goes_through() -> None:
    class Odd(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def broken(cls, value: int) -> int:
            raise KeyError("database")

    with pytest.raises(KeyError):
        verdict(Check.of(TypeAdapter(Odd)).field("x"), "1")


@given(
    st.builds(
        dict,
        **{"count": st.integers(-3, 4), "the label": st.sampled_from(["a", "even", "toolong"])},
        kind=st.sampled_from([None, "a", "c"]),
        price=st.sampled_from([1, 2.5, 12.345]),
    )
)
def test_an_object_is_valid_exactly_if_all_its_fields_are(value: dict[str, Any]) -> None:
    check = Check.of(TypeAdapter(Part))
    before: dict[str, bytes] = {}
    wrong = set()
    for key, member in value.items():
        text = json.dumps(member)
        if verdict(check.field(key), text, before) is not None:
            wrong.add(key)
        before[key] = text.encode()
    whole = None
    try:
        Part.model_validate_json(json.dumps(value))
    except ValueError as error:
        whole = {fault["loc"][0] for fault in error.errors()}  # type: ignore[attr-defined]
    assert wrong == (whole or set())
