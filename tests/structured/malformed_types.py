"""The response types of the table of malformed answers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict


class Mood(enum.Enum):
    POSITIVE = "positive"
    NEGATIVE = "negative"
    MIXED = "mixed feelings"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class User(BaseModel):
    name: str
    age: int


class Item(BaseModel):
    title: str
    price: float
    count: int = 1


class Order(BaseModel):
    order_id: str
    items: list[Item]
    paid: bool = False
    note: str | None = None


class Basket(BaseModel):
    items: list[Item]


class Review(BaseModel):
    mood: Mood
    score: int | None = None
    level: Level | None = None


class Sale(BaseModel):
    amount: float
    quantity: int | None = None
    total: Decimal | None = None
    discount_percent: float | None = None
    share: Annotated[float, Field(ge=0, le=1)] | None = None
    weight_kg: float | None = None


class Event(BaseModel):
    day: dt.date
    start: dt.datetime | None = None
    at: dt.time | None = None
    lasts: dt.timedelta | None = None


class Aliased(BaseModel):
    full_name: str = Field(alias="fullName")
    zip_code: str = Field(validation_alias=AliasChoices("zip", "postcode"))


class Tree(BaseModel):
    label: str
    children: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Circle(BaseModel):
    radius: float


class Square(BaseModel):
    side: float


class Metres(BaseModel):
    size: int


class Label(BaseModel):
    size: str


class Flags(BaseModel):
    active: bool
    tags: list[str] = []
    codes: list[int] = []


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int


class Text(BaseModel):
    text: str
    more: int | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Movie(TypedDict):
    title: str
    year: int


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
ANN = User(name="Ann", age=31)
BEN = User(name="Ben", age=40)
