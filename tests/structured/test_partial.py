"""Partial objects: equal to the whole at the end, growing on the way, in time proportional to the text."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import json
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
)
from typing_extensions import TypedDict

from pageform.structured import PartialBuilder, Spec
from pageform.structured.partial import JSONError

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"


class Item(BaseModel):
    sku: str
    count: int = 1
    color: Color | None = None


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


@dataclass(slots=True, frozen=True)
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


class Numbers(RootModel[list[int]]):
    pass


class Box(BaseModel, Generic[T]):
    content: T


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Order(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    day: dt.date
    items: list[Item] = []
    rates: dict[str, float] = {}
    child: Order | None = None
    movie: Movie | None = None
    point: Point | None = None
    numbers: Numbers | None = None
    box: Box[Item] | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    either: int | Item | str = 0
    anything: Any = None
    aliased: str = Field(default="", validation_alias=AliasChoices("the alias", "other"))
    _secret: int = PrivateAttr(default=7)


ORDER = Spec.of(Order)
_ITEMS = st.builds(Item, sku=st.text(max_size=6), count=st.integers(), color=st.sampled_from([None, Color.RED]))
_ORDERS = st.recursive(
    st.builds(
        Order,
        name=st.text(max_size=20),
        day=st.dates(),
        items=st.lists(_ITEMS, max_size=3),
        rates=st.dictionaries(st.text(max_size=4), st.floats(-1e6, 1e6), max_size=2),
        movie=st.none() | st.fixed_dictionaries({"title": st.text(max_size=3)}, optional={"year": st.integers(0, 9)}),
        point=st.none() | st.builds(Point, x=st.integers(), tags=st.lists(st.text(max_size=2), max_size=2)),
        numbers=st.none() | st.builds(Numbers, st.lists(st.integers(), max_size=3)),
        box=st.none() | st.builds(Box[Item], content=_ITEMS),
        pet=st.sampled_from([None, Cat(kind="cat"), Dog(kind="dog", name="b")]),
        either=st.integers() | _ITEMS | st.text(max_size=3),
        anything=st.sampled_from([None, 1, "x", [1, {"a": [None]}], {"k": 'v"]}'}]),
    ),
    lambda inner: st.tuples(inner, st.none() | inner).map(lambda pair: pair[0].model_copy(update={"child": pair[1]})),
    max_leaves=3,
)


def _pieces(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@settings(max_examples=150, deadline=None)
@given(_ORDERS, st.lists(st.integers(0, 600), max_size=80), st.booleans(), st.booleans())
def test_the_last_partial_equals_the_parsed_whole(order: Order, cuts: list[int], live: bool, ascii_only: bool) -> None:
    text = json.dumps(order.model_dump(mode="json", by_alias=True), ensure_ascii=ascii_only, indent=None if live else 1)
    builder = PartialBuilder(ORDER, live=live)
    seen = [partial for piece in _pieces(text, cuts) if (partial := builder.feed(piece)) is not None]
    assert builder.complete
    whole = Order.model_validate_json(text)
    assert seen[-1] == builder.finish() == whole
    assert all(type(partial) is Order for partial in seen)
    names = [partial.name or "" for partial in seen]
    assert all(later.startswith(earlier) for earlier, later in pairwise(names))


@pytest.mark.parametrize(
    ("annotation", "text", "partials"),
    [
        (str, '"ab\\n"', ["", "a", "ab", None, "ab\n", "ab\n"]),
        (list[int], "[1,23]", [[], None, [1], None, None, [1, 23]]),
        (int, "42", [None, None]),
        (Color, '"red"', [None, None, None, None, Color.RED]),
        (dict[str, bool], '{"a":true}', [{}, *[None] * 7, {"a": True}, {"a": True}]),
        (Numbers, "[1]", [Numbers([]), None, Numbers([1])]),
    ],
    ids=str,
)
def test_what_each_character_shows(annotation: Any, text: str, partials: list[Any]) -> None:
    builder = PartialBuilder(Spec.of(annotation))
    assert [copy.deepcopy(builder.feed(char)) for char in text] == partials


def test_a_number_alone_is_complete_only_at_the_end() -> None:
    builder = PartialBuilder(Spec.of(int))
    assert builder.feed("4") is None
    assert builder.feed("2") is None
    assert not builder.complete
    assert builder.finish() == 42
    assert builder.complete


def test_enums_literals_numbers_and_dates_appear_when_they_are_complete() -> None:
    builder = PartialBuilder(Spec.of(Order))
    for text, name, value in [
        ('{"day":"2024-01-', "day", None),
        ('02"', "day", dt.date(2024, 1, 2)),
        (',"pet":{"kind":"do', "pet", None),
        ('g","na', "pet", Dog.model_construct(kind="dog", name=None)),
        ('me":"x"}', "pet", Dog(kind="dog", name="x")),
        (',"either":12', "either", 0),
        (",", "either", 12),
    ]:
        partial = builder.feed(text)
        partial = partial if partial is not None else builder.finish()
        assert getattr(partial, name) == value
    partial = builder.feed('"items":[{"sku":"a","color":"re')
    assert partial is not None
    assert partial.items == [Item.model_construct(sku="a", count=1, color=None)]
    assert partial._secret == 7
    assert partial.name is None


def test_snapshots_stay_as_they_were_and_a_live_partial_grows() -> None:
    text = '{"name":"abc","items":[{"sku":"x","count":2},{"sku":"yz"}],"child":{"name":"d","day":"2024-01-01"}}'
    snapshots, copies = [], []
    builder = PartialBuilder(Spec.of(Order))
    for char in text:
        partial = builder.feed(char)
        if partial is not None:
            snapshots.append(partial)
            copies.append(copy.deepcopy(partial))
    assert snapshots == copies
    assert len({id(partial) for partial in snapshots}) > 20
    live = PartialBuilder(Spec.of(Order), live=True)
    grown = [partial for partial in map(live.feed, text) if partial is not None]
    assert len({id(partial) for partial in grown}) == 1


def test_values_of_a_wrong_type_stay_out_with_a_fault_and_the_rest_goes_on() -> None:
    builder = PartialBuilder(Spec.of(Order))
    partial = builder.feed('{"name":[1,{"a":"]"}],"day":"soon","unknown":{"x":[1]},"rates":7,"items":[{"sku":"a"}]}')
    assert partial is not None
    assert (partial.name, partial.day, partial.rates, partial.items) == (None, None, {}, [Item(sku="a")])
    assert [fault.path for fault in builder.faults] == [("name",), ("day",), ("rates",)]


@pytest.mark.parametrize(
    "text", ["x", "{x", '{"a" 1', "[1 2", "[}", '{"name":"\\q', '{"a":1]', "[1]x", '"\\ud800x"', '"\\uzzzz"']
)
def test_text_that_is_not_json_is_refused_however_it_is_cut(text: str) -> None:
    annotation: Any = list[int] if text[0] == "[" else str if text[0] == '"' else Order
    for size in (1, 100):
        builder = PartialBuilder(Spec.of(annotation))
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        with pytest.raises(JSONError):
            list(map(builder.feed, pieces))


def _seconds(annotation: Any, text: str, live: bool) -> float:
    builder = PartialBuilder(Spec.of(annotation), live=live)
    start = time.process_time()
    for at in range(0, len(text), 4):
        builder.feed(text[at : at + 4])
    return time.process_time() - start


@pytest.mark.parametrize(
    ("annotation", "make", "live"),
    [
        (list[Item], lambda n: json.dumps([{"sku": "abc", "count": 3}] * n), True),
        (str, lambda n: json.dumps("word " * (20 * n)), False),
        (list[str], lambda n: json.dumps(["x" * (80 * n)]), False),
        (Any, lambda n: json.dumps([[1, 2, {"a": "b"}]] * n), False),
    ],
    ids=["objects", "text", "text in a list", "anything"],
)
def test_time_grows_with_the_text_and_not_with_its_square(annotation: Any, make: Any, live: bool) -> None:
    """Eight times the text in less than 24 times the time: a square would be 64 times."""
    small = min(_seconds(annotation, make(300), live) for _ in range(3))
    large = min(_seconds(annotation, make(2400), live) for _ in range(2))
    assert large < 24 * small
