"""Response types: what they are called, what validation gives, what is refused."""

from __future__ import annotations

import datetime as dt
import enum
import pickle
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pydantic
import pytest
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator
from typing_extensions import TypedDict

from pageform.core.errors import SchemaError
from pageform.structured import Spec

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"


class User(BaseModel):
    """Somebody."""

    name: str
    friend: User | None = None


class Box(BaseModel, Generic[T]):
    content: T


@dataclass
class Point:
    x: int


class Movie(TypedDict):
    title: str


class Pair(NamedTuple):
    left: int
    right: str


class Level(enum.IntEnum):
    LOW = 1


class Named:
    """A mixin that is no model."""

    name: str

    def shout(self) -> str:
        return self.name.upper()


class Stamped(BaseModel):
    at: dt.datetime


class Employee(Stamped, Named, User):
    """Inherits from two models and a mixin."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    _secret: int = pydantic.PrivateAttr(3)
    salary: Decimal = Field(gt=0, decimal_places=2)
    pay_day: int = Field(alias="payDay", validation_alias=pydantic.AliasChoices("payDay", "pay_day"))

    @field_validator("name")
    @classmethod
    def stripped(cls, value: str) -> str:
        return value.strip()

    @pydantic.model_validator(mode="after")
    def not_own_friend(self) -> Employee:
        if self.friend is not None and self.friend.name == self.name:
            raise ValueError("is their own friend")
        return self

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def yearly(self) -> Decimal:
        return 12 * self.salary


class Shelf(pydantic.RootModel[list[Box[int]]]):
    """A root model of a generic one."""


Made = pydantic.create_model("Made", size=(Annotated[int, Field(ge=1)], ...), tags=(frozenset[str], frozenset()))


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


TABLE: list[tuple[Any, str, Any, str]] = [
    (User, '{"name":"a","friend":{"name":"b"}}', User(name="a", friend=User(name="b")), '{"name":1}'),
    (Box[int], '{"content":1}', Box[int](content=1), '{"content":"x"}'),
    (Point, '{"x":1}', Point(1), '{"x":[]}'),
    (Movie, '{"title":"t"}', {"title": "t"}, "{}"),
    (Pair, '[1,"a"]', Pair(1, "a"), "[1]"),
    (Color, '"red"', Color.RED, '"blue"'),
    (Literal["a", 1], "1", 1, "2"),
    (Annotated[Cat | Dog, Field(discriminator="kind")], '{"kind":"dog"}', Dog(kind="dog"), '{"kind":"cow"}'),
    (Level, "1", Level.LOW, "2"),
    (Shelf, '[{"content":1}]', Shelf([Box[int](content=1)]), '[{"content":"x"}]'),
    (Made, '{"size":1,"tags":["a"]}', Made(size=1, tags=frozenset("a")), '{"size":0}'),
    (
        Employee,
        '{"name":" a ","at":"2024-02-29T10:00:00Z","salary":"1.50","payDay":3}',
        Employee(name="a", at=dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC), salary=Decimal("1.5"), payDay=3),
        '{"name":"a","friend":{"name":"a"},"at":"2024-02-29T10:00:00Z","salary":1,"payDay":3}',
    ),
    (dict[str, list[Point | None]], '{"a":[{"x":1},null]}', {"a": [Point(1), None]}, '{"a":[{}]}'),
    (int | User, '{"name":"a"}', User(name="a"), "true x"),
    (int | None, "null", None, '"x"'),
    (list[User], '[{"name":"a"}]', [User(name="a")], '{"name":"a"}'),
    (dict[str, int], '{"a":1}', {"a": 1}, '{"a":"x"}'),
    (Annotated[int, Field(ge=3)], "3", 3, "2"),
    (float, "1.5", 1.5, '"x"'),
    (bool, "true", True, "3"),
    (str, '"é\\n"', "é\n", "1"),
    (Decimal, '"1.10"', Decimal("1.10"), '"x"'),
    (dt.date, '"2024-02-29"', dt.date(2024, 2, 29), '"2023-02-29"'),
    (uuid.UUID, f'"{uuid.UUID(int=5)}"', uuid.UUID(int=5), '"5"'),
    (tuple[int, ...], "[1,2]", (1, 2), "[true, {}]"),
    (set[int], "[1,1]", {1}, "[[]]"),
]


@pytest.mark.parametrize(("annotation", "text", "value", "wrong"), TABLE, ids=lambda value: str(value)[:30])
def test_values_are_of_the_callers_types(annotation: Any, text: str, value: Any, wrong: str) -> None:
    spec = Spec.of(annotation)
    got = spec.validate(text)
    assert got == value
    assert type(got) is type(value)
    assert pickle.loads(pickle.dumps(got)) == value
    with pytest.raises(ValidationError):
        spec.validate(wrong)


def test_names_are_identifiers() -> None:
    names = [Spec.of(one).name for one in (User, list[User], Box[int], int | None, Literal["a b"], dict[str, Point])]
    assert names == ["User", "list_User", "Box_int", "int_None", "Literal_a_b", "dict_str_Point"]


def test_the_description_is_the_types_own_docstring() -> None:
    assert Spec.of(User).description == "Somebody."
    assert Spec.of(Cat).description is None
    assert Spec.of(int).description is None


def test_the_schema_is_of_inputs_under_their_aliases() -> None:
    class Order(BaseModel):
        number: int = Field(alias="order number")

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def double(self) -> int:
            return 2 * self.number

    assert list(Spec.of(Order).json_schema["properties"]) == ["order number"]


def test_context_and_strict_reach_pydantic() -> None:
    class Limited(BaseModel):
        count: int

        @field_validator("count")
        @classmethod
        def at_most(cls, value: int, info: ValidationInfo) -> int:
            assert value <= info.context["limit"]
            return value

    spec = Spec.of(Limited)
    assert spec.validate('{"count":"3"}', context={"limit": 3}).count == 3
    with pytest.raises(ValidationError, match="assertion_error"):
        spec.validate('{"count":4}', context={"limit": 3})
    with pytest.raises(ValidationError, match="int_type"):
        spec.validate('{"count":"3"}', context={"limit": 3}, strict=True)


def test_a_spec_of_a_spec_is_itself_and_survives_pickling() -> None:
    spec = Spec.of(User)
    assert Spec.of(spec) is spec
    assert pickle.loads(pickle.dumps(spec)).response_type is User


class Dangling(BaseModel):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Dangling, "Nowhere"),
        (None, "value, not a type"),
        ([int], "value, not a type"),
        (print, "function, not a type"),
        (lambda x: x, "function, not a type"),
        (User(name="a"), "value, not a type"),
        (object(), "can't build"),
        (Annotated[str, Field(pattern="(?=a)")], "look-around"),
    ],
    ids=str,
)
def test_what_can_not_be_a_response_type_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason) as caught:
        Spec.of(given)
    assert caught.value.field == "response_model"
    assert caught.value.value is given
    assert caught.value.remedy


def test_a_type_without_a_json_schema_is_refused_when_its_schema_is_needed() -> None:
    class Odd(BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        thread: type

    with pytest.raises(SchemaError, match="no JSON schema"):
        _ = Spec.of(Odd).json_schema
