"""What is validated while an answer arrives, when, and what becomes of what is not valid."""

from __future__ import annotations

import enum
import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import pydantic.v1
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import TypeAliasType, TypedDict

from pageform.structured import PartialBuilder, Spec
from pageform.structured.partial import JSONError


def partials(annotation: Any, text: str, size: int = 1, **options: Any) -> tuple[list[Any], PartialBuilder]:
    builder = PartialBuilder(Spec.of(annotation), **options)
    seen = [builder.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return [partial for partial in seen if partial is not None], builder


class Line(BaseModel):
    name: str
    low: int
    high: int

    @field_validator("name")
    @classmethod
    def shout(cls, value: str) -> str:
        return value.upper()

    @model_validator(mode="after")
    def ordered(self) -> Line:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Bill(BaseModel):
    lines: list[Line]
    best: Line | None = None

    @model_validator(mode="after")
    def never(self) -> Bill:
        raise AssertionError("the root was validated")

    def model_post_init(self, context: Any) -> None:
        raise AssertionError("the root was validated")


GOOD = '{"name":"ab","low":1,"high":2}'
BAD = '{"name":"cd","low":3,"high":2}'


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_nested_objects_are_validated_when_they_close_and_the_root_is_not(size: int, live: bool) -> None:
    text = f'{{"lines":[{GOOD},{BAD},{GOOD}],"best":{BAD}}}'
    seen, builder = partials(Bill, text, size, live=live)
    last = seen[-1]
    assert [line.name for line in last.lines] == ["AB", "cd", "AB"]  # the faulty one stays as it arrived
    assert last.best.name == "cd"
    assert [fault.path for fault in builder.faults] == [("lines", 1), ("best",)]
    assert all("low is above high" in str(fault.error) for fault in builder.faults)
    assert isinstance(builder.faults[0].error, ValidationError)


def test_validators_see_whole_objects_once_on_the_way() -> None:
    seen: list[Any] = []

    class Inner(BaseModel):
        tags: list[str]

        @field_validator("tags")
        @classmethod
        def note(cls, value: list[str], info: ValidationInfo) -> list[str]:
            seen.append((list(value), info.context, info.mode))
            return value

    class Outer(BaseModel):
        inner: list[Inner]

    partials(Outer, '{"inner":[{"tags":["a","b"]},{"tags":[]}]}', context={"k": 1})
    assert seen == [(["a", "b"], {"k": 1}, "json"), ([], {"k": 1}, "json")]
    seen.clear()
    partials(Outer, '{"inner":[{"tags":["a","b"]},{"tags":[]}]}', validate=False)
    assert seen == []


def test_any_exception_of_a_validator_is_a_fault_and_only_that() -> None:
    def explode(value: str) -> str:
        raise KeyError("no")

    class Inner(BaseModel):
        text: Annotated[str, AfterValidator(explode)]
        number: int = 0

    seen, builder = partials(list[Inner], '[{"text":"abc","number":5}]', 3)
    assert seen[-1] == [Inner.model_construct(text="abc", number=5)]
    assert [(fault.path, type(fault.error)) for fault in builder.faults] == [((0, "text"), KeyError)]


def test_a_fault_is_told_once_and_what_only_the_whole_shows_besides() -> None:
    class Inner(BaseModel):
        count: int
        name: str

    class Outer(BaseModel):
        inner: Inner
        other: int

    class Top(BaseModel):
        outer: Outer

    _, builder = partials(Top, '{"outer":{"inner":{"count":"x","name":"n"},"other":1}}')
    assert [fault.path for fault in builder.faults] == [("outer", "inner", "count")]
    _, builder = partials(Top, '{"outer":{"inner":{"count":"x"}}}')
    assert [fault.path for fault in builder.faults] == [("outer", "inner", "count"), ("outer", "inner"), ("outer",)]


def test_constrained_text_grows_and_becomes_what_validation_makes_of_it() -> None:
    class Word(BaseModel):
        text: Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, max_length=4)]

    seen, builder = partials(Word, '{"text":" ab "}')
    assert [partial.text for partial in seen][1:] == ["", " ", " a", " ab", " ab ", "AB", "AB"]
    assert not builder.faults
    seen, builder = partials(Word, '{"text":"abcdef"}')
    assert seen[-1].text == "abcdef"
    assert [fault.path for fault in builder.faults] == [("text",)]


class Kind(enum.Enum):
    A = "a"


class Cat(BaseModel):
    kind: Literal["cat"]
    name: str


class Dog(BaseModel):
    kind: Literal["dog", "puppy"]
    age: int | None = None
    toys: list[str] = []


class Stone(BaseModel):
    weight: float


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def test_a_discriminated_union_grows_from_its_tag_on_wherever_that_stands() -> None:
    text = '[{"kind":"dog","toys":["ba","bo"]},{"toys":["x"],"kind":"puppy","age":3},{"name":"Tom","kind":"cat"}]'
    seen, builder = partials(list[Pet], text)
    assert seen[-1] == [
        Dog(kind="dog", toys=["ba", "bo"]),
        Dog(kind="puppy", age=3, toys=["x"]),
        Cat(kind="cat", name="Tom"),
    ]
    lengths = [len(partial[0].toys[0]) if partial and partial[0].toys else None for partial in seen]
    assert {0, 1, 2} <= set(lengths)  # the first toy was seen growing
    assert not builder.faults


@pytest.mark.parametrize(
    ("annotation", "text", "grows"),
    [
        (Cat | Dog, '{"kind":"cat","name":"Tom"}', True),
        (Cat | Dog | str | None, '{"kind":"cat","name":"Tom"}', True),
        (Pet | list[Pet], '[{"kind":"cat","name":"Tom"}]', True),
        (Pet | Stone, '{"weight":1.5}', False),
        (Cat | Stone, '{"kind":"cat","name":"Tom"}', False),
        (int | Stone, '{"weight":1.5}', True),
        (str | int, '"text"', True),
        (str | int, "3", False),
        (Kind | str, '"b"', False),
        (int | None, "null", False),
        (list[Cat] | None, '[{"kind":"cat","name":"Tom"}]', True),
        (Annotated[Cat | Stone, Field(union_mode="left_to_right")], '{"weight":2}', False),
    ],
    ids=str,
)
def test_unions_grow_where_it_is_clear_what_they_are(annotation: Any, text: str, grows: bool) -> None:
    seen, builder = partials(annotation, text)
    whole = Spec.of(annotation).validate(text)
    assert builder.finish() == whole
    assert type(builder.finish()) is type(whole)
    assert (len(seen) > 1) is grows


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    name: Annotated[str, Field(alias="the name")]
    tags: tuple[str, ...] = ()


class Movie(TypedDict, total=False):
    title: str
    cast: list[str]


class Tree(RootModel["list[Tree]"]):
    pass


Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")


class Everything(BaseModel):
    model_config = ConfigDict(extra="allow")

    point: Point | None = None
    frozen: Frozen | None = None
    movies: list[Movie] = []
    tree: Tree | None = None
    any: Json | None = None
    pair: tuple[int, Cat] | None = None
    names: set[str] = set()
    kinds: dict[Kind, int] = {}
    by_name: dict[str, list[Cat]] = {}


EVERYTHING = (
    '{"point":[1,2],"frozen":{"the name":"é\\u00e9","tags":["a","b"]},"movies":[{"title":"t","cast":["x","y"]},{}],'
    '"tree":[[],[[]]],"any":{"k":["x",{"y":null}],"z":[1]},"pair":[1,{"kind":"cat","name":"Tom"}],'
    '"names":["n","m"],"kinds":{"a":3},"by_name":{"t":[{"kind":"cat","name":"Tom"},{"kind":"cat","name":"Tim"}]},'
    '"more":[1]}'
)


@pytest.mark.parametrize("size", [1, 2, 5, 11, 10_000])
@pytest.mark.parametrize("live", [False, True])
def test_the_last_partial_is_the_whole_for_types_of_all_kinds(size: int, live: bool) -> None:
    nested = f'{{"nested":{EVERYTHING}}}'
    whole = Everything.model_validate_json(EVERYTHING)
    seen, builder = partials(dict[str, Everything], nested, size, live=live)
    assert seen[-1] == {"nested": whole}
    assert builder.faults == []
    seen, builder = partials(Everything, EVERYTHING, size, live=live)
    assert seen[-1].model_dump() == {k: v for k, v in whole.model_dump().items() if k != "more"}


def test_models_of_pydantic_v1_are_shown_whole() -> None:
    class Old(pydantic.v1.BaseModel):
        x: int

    assert partials(Old, '{"x":1}')[0] == [Old(x=1)]
    assert partials(list[Old], '[{"x":1},{"x":2}]')[0][-1] == [Old(x=1), Old(x=2)]


def test_an_envelope_shows_what_is_inside() -> None:
    text = '{"why":{"tasks":[9]},"tasks":[1,2],"then":"x"}'
    seen, builder = partials(list[int], text, envelope="tasks")
    assert seen == [[], [1], [1, 2]]
    assert builder.complete
    assert partials(str, '{"content":"ab"}', envelope="content")[0] == ["", "a", "ab", "ab"]
    assert partials(int, '{"content":12}', envelope="content")[0] == [12]
    assert partials(list[int], "[1]", envelope="tasks")[0] == [[], [1]]  # the bare value will do
    _, builder = partials(list[Line], f'{{"tasks":[{BAD}]}}', envelope="tasks")
    assert [fault.path for fault in builder.faults] == [(0,)]


def test_control_characters_are_kept_and_do_not_keep_objects_from_validation() -> None:
    text = '{"lines":[{"name":"a\nb\tc","low":1,"high":1}]}'
    for size in (1, 5, 100):
        seen, builder = partials(Bill, text, size)
        assert seen[-1].lines == [Line(name="A\nB\tC", low=1, high=1)]
        assert builder.faults == []
        assert [text[at] for at in builder.tolerated] == ["\n", "\t"]


def test_a_broken_text_shows_what_came_before_the_fault() -> None:
    for size in (1, 1000):
        builder = PartialBuilder(Spec.of(Bill))
        text = f'{{"lines":[{GOOD}],"best":!'
        with pytest.raises(JSONError):
            [builder.feed(text[at : at + size]) for at in range(0, len(text), size)]
        assert builder.finish().lines == [Line(name="ab", low=1, high=2)]  # type: ignore[union-attr]


def test_deep_types_cost_no_more_than_a_bounded_number_of_readings() -> None:
    calls = 0

    class Node(BaseModel):
        value: int
        child: Node | None = None

        @field_validator("value")
        @classmethod
        def count(cls, value: int) -> int:
            nonlocal calls
            calls += 1
            return value

    depth = 150
    text = '{"value":1,"child":' * depth + "null" + "}" * depth
    seen, builder = partials(Node, text, 10)
    assert seen[-1] == Node.model_validate_json(text)
    assert builder.faults == []
    calls = 0
    partials(Node, text, 10)
    assert calls <= 16 * depth


def test_a_hostile_answer_fails_with_a_typed_error() -> None:
    for text, annotation in [("[" * 10_000, Any), ('{"tree":' + "[" * 10_000, Everything)]:
        with pytest.raises(JSONError, match="200 containers"):
            partials(annotation, text, 100)
    with pytest.raises(JSONError, match="0xA0"):
        partials(str, '"\ud800"')
    assert sys.getrecursionlimit() < 10_000


def test_bytes_cut_inside_characters_are_taken_too() -> None:
    data = json.dumps(["héé", "漢字😀"], ensure_ascii=False).encode()
    builder = PartialBuilder(Spec.of(list[str]))
    seen = [builder.feed(data[at : at + 1]) for at in range(len(data))]
    assert seen[-1] == ["héé", "漢字😀"]
