"""`Stream`: what is shown when, by field and by class; never what the final value is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from pageform.structured import PartialBuilder, Spec, Stream


def partials(annotation: Any, text: str, size: int = 1, **options: Any) -> list[Any]:
    builder = PartialBuilder(Spec.of(annotation), **options)
    seen = [builder.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert builder.finish() == Spec.of(annotation).validate(text)
    return [partial for partial in seen if partial is not None]


class Line(BaseModel):
    name: str
    price: Annotated[float, Stream(not_null=True)]
    note: str | None = None


@Stream(done=True)
class Address(BaseModel):
    street: str


class Home(Address):
    floor: int


class Invoice(BaseModel):
    number: Annotated[str, Field(min_length=2), Stream(done=True)]
    free: str = ""
    lines: list[Line] = []
    whole: list[Annotated[Line, Stream(done=True)]] = []
    all_at_once: Annotated[list[int] | None, Stream(done=True)] = None
    maybe: Annotated[str, Stream(done=True)] | None = None
    to: Address | None = None
    home: Home | None = None


@Stream(not_null=True)
class Id(BaseModel):
    value: str


class Row(TypedDict):
    id: Id
    text: Annotated[str, Stream(done=True)]


def test_done_values_appear_when_they_are_complete() -> None:
    text = '{"number":"A-1","free":"xy","all_at_once":[1,2],"maybe":"ab","to":{"street":"s"},'
    text += '"home":{"street":"h","floor":1}}'
    seen = partials(Invoice, text)
    assert {partial.number for partial in seen} == {None, "A-1"}
    assert {partial.free for partial in seen} == {"", "x", "xy"}
    assert {repr(partial.all_at_once) for partial in seen} == {"None", "[1, 2]"}
    assert {partial.maybe for partial in seen} == {None, "ab"}
    assert {repr(partial.to) for partial in seen} == {"None", "Address(street='s')"}
    assert {repr(partial.home) for partial in seen} == {"None", "Home(street='h', floor=1)"}


@pytest.mark.parametrize("live", [False, True])
def test_an_object_is_shown_once_its_not_null_field_has_a_value(live: bool) -> None:
    text = '{"lines":[{"name":"ab","price":1.5,"note":"long"},{"price":2,"name":"cd"}],'
    text += '"whole":[{"name":"e","price":3}],"number":"A-1"}'
    builder = PartialBuilder(Spec.of(Invoice), live=live)
    states = []
    for char in text:
        partial = builder.feed(char)
        if partial is not None:
            states.append([(line.name, line.price, line.note) for line in partial.lines or []])
    assert builder.finish() == Invoice.model_validate_json(text)
    distinct = [state for at, state in enumerate(states) if at == 0 or state != states[at - 1]]
    first = ("ab", 1.5, "long")
    assert distinct == [
        [],
        [("ab", 1.5, None)],
        *[[("ab", 1.5, "long"[:n])] for n in range(5)],
        [first, (None, 2.0, None)],
        [first, ("", 2.0, None)],
        [first, ("c", 2.0, None)],
        [first, ("cd", 2.0, None)],
    ]


def test_an_object_whose_not_null_field_stays_null_is_shown_when_it_closes() -> None:
    class Loose(BaseModel):
        name: str
        price: Annotated[float | None, Stream(not_null=True)] = None

    class Root(BaseModel):
        loose: list[Loose]
        end: str = ""

    seen = partials(Root, '{"loose":[{"name":"a"},{"name":"b","price":null},{"name":"c","price":1}],"end":"e"}')
    lengths = [len(partial.loose or []) for partial in seen]
    assert lengths == sorted(lengths)
    first = next(partial for partial in seen if partial.loose)
    assert first.loose == [Loose(name="a")]


def test_the_root_too_waits_for_its_not_null_fields_and_inner_ones_wait_inside_hidden_ones() -> None:
    @dataclass
    class Inner:
        key: Annotated[str, Stream(not_null=True, done=True)]
        text: str

    class Outer(BaseModel):
        inner: Inner
        after: str
        total: Annotated[int, Stream(not_null=True)]

    seen = partials(Outer, '{"inner":{"text":"t","key":"k"},"after":"xy","total":4,"more":1}')
    assert [repr(partial.inner.text) for partial in seen] == ["'t'"] * len(seen)
    assert [(partial.after, partial.total) for partial in seen] == [("xy", 4), ("xy", 4)]
    seen = partials(Outer, '{"total":4,"inner":{"text":"tu","key":"k"},"after":"xy"}')
    assert [partial.inner and partial.inner.text for partial in seen][:3] == [None, "tu", "tu"]


def test_a_class_may_be_marked_and_typeddicts_have_options_too() -> None:
    seen = partials(list[Row], '[{"text":"abc","id":{"value":"v"}}]')
    assert [row["text"] for partial in seen for row in partial] == ["abc"] * sum(map(len, seen))
    assert seen[0] == []
    assert Stream() | Stream(done=True) == Stream(done=True)
