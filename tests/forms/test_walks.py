"""Whatever the masks let through validates: for a table of types, and for models that hypothesis draws."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import fractions
import ipaddress
import random
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar, Union

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, HttpUrl, RootModel, StringConstraints, create_model
from typing_extensions import TypedDict

from benchmarks.walks import walk
from pageform.forms.form import Form
from pageform.forms.grammar import GrammarCompiler


class Color(enum.Enum):
    RED = "red"
    GREEN = 'gr"een'
    BLUE = 3


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Item(BaseModel):
    sku: str = Field(max_length=12, pattern=r"^[A-Z]{2}-\d+$")
    count: int = Field(default=1, ge=1, le=99)
    color: Color | None = None
    price: Decimal = Field(max_digits=8, decimal_places=2, ge=0)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=0, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = Field(max_length=10)


class Node(BaseModel):
    value: float
    left: Node | None = None
    right: Node | None = None


class Tree(BaseModel):
    label: str = Field(max_length=5)
    children: list[Tree] = Field(default=[], max_length=2)


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T] = Field(max_length=2)
    total: int


class Typed(TypedDict, total=False):
    a: int
    b: str


class Point(NamedTuple):
    x: int
    y: float = 0


@dataclass
class Plain:
    when: dt.date
    tags: frozenset[Literal["a", "b"]]


class Aliased(BaseModel):
    model_config = ConfigDict(extra="allow", str_strip_whitespace=True)
    inner: int = Field(alias="the inner")
    choice: str = Field(validation_alias=pydantic.AliasChoices("first", "second"), min_length=2, max_length=6)


TYPES: list[Any] = [
    Item,
    list[Item],
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Cat | Dog | int,
    Node,
    Tree,
    Page[Item],
    Page[int],
    Typed,
    Point,
    Plain,
    Aliased,
    RootModel[list[int]],
    Color,
    Size,
    Literal["a", 1, None, True],
    int,
    float,
    bool,
    type(None),
    str,
    bytes,
    Decimal,
    complex,
    fractions.Fraction,
    dt.date,
    dt.time,
    dt.datetime,
    dt.timedelta,
    pydantic.AwareDatetime,
    pydantic.NaiveDatetime,
    uuid.UUID,
    pydantic.UUID4,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Interface,
    Path,
    HttpUrl,
    AnyUrl,
    pydantic.PostgresDsn,
    pydantic.SecretStr,
    pydantic.Base64Bytes,
    Any,
    list[Any],
    dict[str, int],
    dict[int, str],
    dict[dt.date, bool],
    dict[Literal["a", "b"], int],
    dict[uuid.UUID, float],
    collections.OrderedDict[str, int],
    collections.deque[int],
    collections.Counter[str],
    set[int],
    tuple[int, str, bool],
    tuple[float, ...],
    Annotated[list[int], Field(min_length=3, max_length=5)],
    Annotated[dict[str, int], Field(min_length=1, max_length=2)],
    Annotated[set[int], Field(min_length=1)],
    Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=9)],
    Annotated[str, Field(pattern=r"^(foo|ba+r)\d{2,4}$")],
    Annotated[str, Field(pattern=r"x", min_length=4, max_length=6)],
    Annotated[str, Field(pattern=r"^a{600}$")],
    Annotated[bytes, Field(min_length=2, max_length=3)],
    Annotated[int, Field(gt=-5, lt=5)],
    Annotated[int, Field(multiple_of=7, ge=100, le=150)],
    Annotated[int, Field(gt=2**55)],
    Annotated[int, Field(le=-(2**60))],
    Annotated[float, Field(gt=0, lt=1)],
    Annotated[float, Field(gt=0, lt=1e-9)],
    Annotated[float, Field(ge=0.1, lt=0.30000000000000004)],
    Annotated[float, Field(ge=1e13)],
    Annotated[float, Field(multiple_of=0.25, ge=-3, le=8)],
    Annotated[Decimal, Field(max_digits=4)],
    Annotated[Decimal, Field(max_digits=5, decimal_places=2, ge=Decimal("-1.5"))],
    Annotated[Decimal, Field(multiple_of=Decimal("0.05"), ge=0, le=3)],
    Annotated[int, Field(strict=True)],
]


def _name(annotation: Any) -> str:
    return str(annotation)[:60]


@pytest.mark.parametrize("annotation", TYPES, ids=_name)
def test_what_the_masks_allow_validates(annotation: Any, compiler: GrammarCompiler) -> None:
    form = Form.of(annotation, compiler)
    assert form.plan.unenforced == ()
    rng = random.Random(7)
    for _ in range(4):
        text = walk(form.grammar, compiler, rng)
        form.spec.validate(text)
        assert form.accepts(text)


_LEAVES = st.one_of(
    st.sampled_from([str, int, float, bool, Decimal, dt.date, dt.datetime, uuid.UUID, Color, Size, Item, Node, Plain]),
    st.sets(st.sampled_from(["a", "b", "c d", "", 1, 2, True, None]), min_size=1).map(
        lambda values: Literal[tuple(sorted(values, key=repr))]
    ),
    st.tuples(st.integers(-100, 100), st.integers(0, 200)).map(
        lambda pair: Annotated[int, Field(ge=pair[0], le=pair[0] + pair[1])]
    ),
    st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(
        lambda pair: Annotated[float, Field(gt=pair[0], le=pair[0] + pair[1])]
    ),
    st.tuples(st.integers(0, 5), st.integers(0, 10)).map(
        lambda pair: Annotated[str, Field(min_length=pair[0], max_length=pair[0] + pair[1])]
    ),
    st.integers(1, 50).map(lambda step: Annotated[int, Field(multiple_of=step)]),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    bounds = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return st.one_of(
        inner.map(lambda one: Optional[one]),  # noqa: UP045  # `|` is not defined between Literal and every type
        st.tuples(inner, bounds).map(
            lambda pair: Annotated[list[pair[0]], Field(min_length=pair[1][0], max_length=sum(pair[1]))]
        ),
        inner.map(lambda one: Annotated[dict[str, one], Field(max_length=2)]),
        st.lists(inner, min_size=1, max_size=3).map(lambda many: tuple[tuple(many)]),
        st.lists(inner, min_size=2, max_size=3).map(lambda many: _union(many)),
        st.lists(inner, min_size=1, max_size=4).map(_model),
    )


def _union(many: list[Any]) -> Any:
    return Union[tuple(many)]  # noqa: UP007  # `|` can't join a list


def _model(annotations: list[Any]) -> Any:
    fields: dict[str, Any] = {f"field_{index}": (one, ...) for index, one in enumerate(annotations)}
    return create_model("Drawn", **fields)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.recursive(_LEAVES, _containers, max_leaves=6), st.integers(0, 2**32))
def test_drawn_types_validate(compiler: GrammarCompiler, annotation: Any, seed: int) -> None:
    form = Form.of(annotation, compiler)
    assert form.plan.unenforced == ()
    text = walk(form.grammar, compiler, random.Random(seed))
    form.spec.validate(text)
