"""Response types drawn at random over what Pydantic knows, each with values to write: for tests and benchmarks.

What the grammar can't hold is among them, as often as any other kind: dates before now, JSON inside text, sets of which
several members are required, word boundaries in patterns, validators.
"""

from __future__ import annotations

import collections
import datetime as dt
import enum
import fractions
import ipaddress
import itertools
import pathlib
import typing
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar, Union

import pydantic
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, StringConstraints, create_model
from typing_extensions import TypeAliasType, TypedDict


@dataclass(frozen=True)
class Drawn:
    """A type, and values of it as Python writes them; None where no value is written."""

    annotation: Any
    values: st.SearchStrategy[Any] | None


class Color(enum.Enum):
    RED = "red"
    GREEN = 'gr"een'
    BLUE = 3


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Mood(enum.StrEnum):
    CALM = "calm"
    GLAD = "very glad"


class Node(BaseModel):
    value: int
    next: Node | None = None


class Tree(BaseModel):
    label: str = Field(max_length=8)
    children: list[Tree] = Field(default=[], max_length=2)


class Point(NamedTuple):
    x: int
    y: float = 0.0


@dataclass
class Person:
    name: str
    born: dt.date | None = None
    tags: list[str] = field(default_factory=list)


class Loose(TypedDict, total=False):
    a: int
    b: str


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T] = Field(max_length=3)
    total: int


class Account(BaseModel):
    model_config = ConfigDict(populate_by_name=True, str_strip_whitespace=True)
    user_name: str = Field(alias="userName", min_length=1, max_length=12)
    mail: str | None = Field(default=None, validation_alias="e-mail", serialization_alias="e-mail")
    roles: set[Literal["admin", "reader"]] = set()


class Boxed(BaseModel):
    width: float = Field(gt=0, le=100)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> float:
        return self.width * self.width


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")
Positive = TypeAliasType("Positive", list[pydantic.PositiveInt])

# Without control characters, which the grammar does not write, and planes of which some vocabularies lack a byte.
_signs = st.characters(exclude_categories=("Cc", "Cs"), max_codepoint=0x1FFFF)
_text = st.text(_signs, max_size=20)
_word = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
_int = st.integers(-(10**14), 10**14)
_float = st.one_of(
    st.integers(-(10**6), 10**6).map(float),
    st.integers(-(10**9), 10**9).map(lambda value: value / 1000),
    st.integers(1, 10**9).map(lambda value: value / 10**4),
)
_decimal = st.decimals(min_value=-(10**5), max_value=10**5, places=2)
_dates = st.dates()
_datetimes = st.datetimes(timezones=st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-5, minutes=-30))]))
_naive = st.datetimes()
_uuids = st.uuids(version=4)
_json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-99, 99), _word),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_word, inner, max_size=3)),
    max_leaves=4,
)
_bytes = st.text(_signs, max_size=9).map(str.encode)

SCALARS: list[Drawn] = [
    Drawn(str, _text),
    Drawn(int, _int),
    Drawn(float, _float),
    Drawn(bool, st.booleans()),
    Drawn(type(None), st.none()),
    Drawn(bytes, _bytes),
    Drawn(Decimal, _decimal),
    Drawn(complex, st.builds(complex, st.integers(-9, 9), st.integers(-9, 9))),
    Drawn(fractions.Fraction, st.fractions(max_denominator=1000).filter(lambda value: abs(value) < 10**6)),
    Drawn(dt.date, _dates),
    Drawn(dt.datetime, _datetimes),
    Drawn(dt.time, st.times()),
    Drawn(dt.timedelta, st.timedeltas(dt.timedelta(days=-(10**5)), dt.timedelta(days=10**5))),
    Drawn(pydantic.AwareDatetime, st.datetimes(timezones=st.just(dt.UTC))),
    Drawn(pydantic.NaiveDatetime, _naive),
    Drawn(uuid.UUID, _uuids),
    Drawn(pydantic.UUID4, _uuids),
    Drawn(ipaddress.IPv4Address, st.ip_addresses(v=4)),
    Drawn(ipaddress.IPv6Address, st.ip_addresses(v=6)),
    Drawn(ipaddress.IPv4Network, st.ip_addresses(v=4).map(lambda ip: ipaddress.ip_network((ip, 20), strict=False))),
    Drawn(pydantic.IPvAnyAddress, st.ip_addresses()),
    Drawn(pathlib.Path, _word.map(lambda name: pathlib.Path("home") / name)),
    Drawn(pydantic.HttpUrl, _word.map(lambda name: pydantic.HttpUrl(f"https://{name}.org/{name}?q=1#top"))),
    Drawn(pydantic.AnyUrl, _word.map(lambda name: pydantic.AnyUrl(f"ftp://{name}.org:21/"))),
    Drawn(pydantic.PostgresDsn, _word.map(lambda name: pydantic.PostgresDsn(f"postgresql://me:pw@{name}:5432/db"))),
    Drawn(pydantic.SecretStr, None),
    Drawn(pydantic.Base64Bytes, None),
    Drawn(pydantic.ByteSize, st.integers(0, 10**9)),
    Drawn(Color, st.sampled_from(Color)),
    Drawn(Size, st.sampled_from(Size)),
    Drawn(Mood, st.sampled_from(Mood)),
    Drawn(Literal["one", 2, True, None], st.sampled_from(["one", 2, True, None])),
    Drawn(Literal["yes"], st.just("yes")),
    Drawn(pydantic.PositiveInt, st.integers(1, 10**9)),
    Drawn(pydantic.NonNegativeFloat, st.integers(0, 10**6).map(lambda value: value / 8)),
    Drawn(pydantic.StrictStr, _text),
    Drawn(pydantic.StrictFloat, _float),
    Drawn(Annotated[str, StringConstraints(to_lower=True, pattern=r"^[a-z]+$", max_length=9)], _word),
    Drawn(Annotated[str, Field(pattern=r"^\d{3}-\d{4}$")], st.from_regex(r"[0-9]{3}-[0-9]{4}", fullmatch=True)),
    Drawn(Annotated[str, Field(pattern=r"[A-Z]{2}", min_length=2, max_length=9)], st.just("xABx")),
    Drawn(Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=9)], _word),
    Drawn(Annotated[bytes, Field(min_length=1, max_length=4)], st.sampled_from([b"a", b"abcd"])),
    Drawn(Annotated[Decimal, Field(max_digits=7, decimal_places=2, ge=0)], st.decimals(0, 10**4, places=2)),
    Drawn(Annotated[Decimal, Field(gt=Decimal("-1.5"), lt=10)], st.decimals(-1, 9, places=1)),
    Drawn(Annotated[float, Field(multiple_of=0.25, ge=-3, le=8)], st.integers(-12, 32).map(lambda value: value / 4)),
    Drawn(Annotated[int, Field(multiple_of=5)], st.integers(-(10**6), 10**6).map(lambda value: value * 5)),
    Drawn(Annotated[dt.date, Field(ge=dt.date(1999, 5, 17))], st.dates(dt.date(1999, 5, 17))),
    Drawn(Annotated[dt.datetime, Field(lt=dt.datetime(2030, 1, 1))], st.datetimes(max_value=dt.datetime(2029, 12, 31))),
    Drawn(Annotated[dt.timedelta, Field(ge=dt.timedelta(0))], st.timedeltas(dt.timedelta(0), dt.timedelta(days=999))),
    # What the grammar can't hold.
    Drawn(pydantic.PastDate, st.dates(max_value=dt.date(2020, 1, 1))),
    Drawn(pydantic.Json[int], None),
    Drawn(Annotated[str, Field(pattern=r"\bword\b")], st.just("a word")),
    Drawn(Annotated[int, AfterValidator(_even)], st.integers(-9, 9).map(lambda value: value * 2)),
]
OTHERS: list[Drawn] = [
    Drawn(Any, _json_values),
    Drawn(pydantic.JsonValue, _json_values),
    Drawn(Json, st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3))),
    Drawn(Positive, st.lists(st.integers(1, 9), max_size=3)),
    Drawn(Node, st.sampled_from([{"value": 1}, {"value": 1, "next": {"value": 2}}])),
    Drawn(Tree, st.sampled_from([{"label": "a"}, {"label": "a", "children": [{"label": "b"}]}])),
    Drawn(Point, st.tuples(_int, _float)),
    Drawn(Person, st.fixed_dictionaries({"name": _text, "born": _dates, "tags": st.lists(_text, max_size=2)})),
    Drawn(Loose, st.fixed_dictionaries({"a": _int, "b": _text})),
    Drawn(Page[int], st.fixed_dictionaries({"items": st.lists(_int, max_size=3), "total": _int})),
    Drawn(Account, st.fixed_dictionaries({"userName": _word, "roles": st.just({"admin"})})),
    Drawn(Boxed, None),
]
SMALL = Drawn(Annotated[int, Field(ge=0, le=9)], st.integers(0, 9))
KEYS: list[Drawn] = [
    Drawn(str, _word),
    Drawn(int, st.integers(-99, 99)),
    Drawn(dt.date, _dates),
    Drawn(uuid.UUID, _uuids),
    Drawn(Color, st.just(Color.RED)),
    Drawn(Literal["a", "b"], st.sampled_from("ab")),
    Drawn(Annotated[str, Field(pattern=r"^k_[a-z]+$")], _word.map(lambda name: f"k_{name}")),
    SMALL,
]

_numbers = itertools.count()


def types() -> st.SearchStrategy[Drawn]:
    """Types of any kind, a few levels deep."""
    leaves = st.one_of(st.sampled_from(SCALARS), st.sampled_from(SCALARS), _bounded(), st.sampled_from(OTHERS))
    return st.recursive(leaves, _containers, max_leaves=6)


def _bounded() -> st.SearchStrategy[Drawn]:
    """Numbers and texts between drawn bounds."""

    def integer(pair: tuple[int, int]) -> Drawn:
        low, high = pair[0], pair[0] + pair[1]
        return Drawn(Annotated[int, Field(ge=low, le=high)], st.integers(low, high))

    def number(pair: tuple[float, float]) -> Drawn:
        low, high = round(pair[0], 3) + 0.0, round(pair[0] + pair[1], 3)  # + 0.0: no -0.0
        middle = round((low + high) / 2, 6) + 0.0
        return Drawn(Annotated[float, Field(ge=low, lt=high)], st.sampled_from([low, middle]))

    def text(pair: tuple[int, int]) -> Drawn:
        low, high = pair[0], pair[0] + pair[1]
        values = st.text(_signs, min_size=low, max_size=high)
        return Drawn(Annotated[str, Field(min_length=low, max_length=high)], values)

    return st.one_of(
        st.tuples(st.integers(-(10**6), 10**6), st.integers(0, 10**6)).map(integer),
        st.tuples(st.floats(-1e4, 1e4), st.floats(1.0, 1e4)).map(number),
        st.tuples(st.integers(0, 5), st.integers(0, 20)).map(text),
    )


def _containers(inner: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    several = st.lists(inner, min_size=1, max_size=5)
    scalars = st.sampled_from(SCALARS)
    bounds = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return st.one_of(
        inner.map(_optional),
        st.tuples(inner, bounds).map(lambda pair: _list(*pair)),
        inner.map(lambda one: Drawn(_of(Sequence, one.annotation), _many(one, 0, 3))),
        inner.map(lambda one: Drawn(_of(collections.deque, one.annotation), _many(one, 0, 3))),
        st.tuples(scalars, st.integers(0, 2)).map(lambda pair: _set(*pair)),
        st.tuples(st.sampled_from(KEYS), inner, st.integers(0, 2)).map(lambda drawn: _dict(*drawn)),
        several.map(_tuple),
        st.lists(inner, min_size=2, max_size=3).map(_union),
        st.tuples(several, st.randoms(use_true_random=False)).map(lambda pair: _model(*pair)),
        several.map(_dataclass),
        several.map(_typed_dict),
        several.map(_tagged),
        inner.map(lambda one: Drawn(_of(RootModel, one.annotation), one.values)),
    )


def _of(generic: Any, *arguments: Any) -> Any:
    """A generic type with arguments that are known at run time only."""
    return generic[arguments if len(arguments) > 1 else arguments[0]]


def _many(one: Drawn, low: int, high: int) -> st.SearchStrategy[Any] | None:
    return None if one.values is None else st.lists(one.values, min_size=low, max_size=high)


def _optional(one: Drawn) -> Drawn:
    values = None if one.values is None else st.one_of(st.none(), one.values)
    return Drawn(_of(Optional, one.annotation), values)


def _list(one: Drawn, bounds: tuple[int, int]) -> Drawn:
    low, high = bounds[0], sum(bounds)
    annotation: Any = Annotated[_of(list, one.annotation), Field(min_length=low, max_length=high)]
    return Drawn(annotation, _many(one, low, high))


def _set(one: Drawn, least: int) -> Drawn:
    made: Any = Annotated[_of(set, one.annotation), Field(min_length=least)]
    return Drawn(made if least else _of(frozenset, one.annotation), _many(one, 2, 3) if not least else None)


def _dict(key: Drawn, one: Drawn, most: int) -> Drawn:
    made: Any = Annotated[_of(dict, key.annotation, one.annotation), Field(max_length=most)]
    values = None
    if key.values is not None and one.values is not None:
        values = st.dictionaries(key.values, one.values, max_size=most)
    return Drawn(made if most else _of(Mapping, key.annotation, one.annotation), values)


def _tuple(many: list[Drawn]) -> Drawn:
    values = [one.values for one in many if one.values is not None]
    if len(many) == 1:
        return Drawn(_of(tuple, many[0].annotation, ...), _many(many[0], 0, 3))
    joined = st.tuples(*values) if len(values) == len(many) else None
    return Drawn(_of(tuple, *(one.annotation for one in many)), joined)


def _union(many: list[Drawn]) -> Drawn:
    values = [one.values for one in many if one.values is not None]
    return Drawn(_of(Union, *(one.annotation for one in many)), st.one_of(values) if values else None)


def _model(many: list[Drawn], random: Any) -> Drawn:
    """A model whose fields are required, have a default, may be null, or go by an alias."""
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for index, one in enumerate(many):
        name, kind = f"field_{index}", random.choice(["required", "required", "default", "null", "alias"])
        drawn, key = one, name
        if kind == "default" and one.values is not None:
            drawn = _optional(one)
            fields[name] = (drawn.annotation, None)
        elif kind == "null":
            drawn = _optional(one)
            fields[name] = (drawn.annotation, Field(default=None, description="May be missing."))
        elif kind == "alias":
            key = f"the {name}"
            fields[name] = (one.annotation, Field(alias=key))
        else:
            fields[name] = (one.annotation, ...)
        values[key] = drawn.values
    made = create_model(f"Model{next(_numbers)}", **fields)
    return Drawn(made, _fixed(values))


def _dataclass(many: list[Drawn]) -> Drawn:
    members = {f"field_{index}": one for index, one in enumerate(many)}
    made = make_dataclass(f"Data{next(_numbers)}", [(name, one.annotation) for name, one in members.items()])
    return Drawn(made, _fixed({name: one.values for name, one in members.items()}))


def _typed_dict(many: list[Drawn]) -> Drawn:
    members = {f"field_{index}": one for index, one in enumerate(many)}
    annotations = {
        name: NotRequired[one.annotation] if index % 2 else one.annotation
        for index, (name, one) in enumerate(members.items())
    }
    made = typing.cast(Any, TypedDict)(f"Typed{next(_numbers)}", annotations)
    return Drawn(made, _fixed({name: one.values for name, one in members.items()}))


def _tagged(many: list[Drawn]) -> Drawn:
    """A union that a tag decides."""
    models, values = [], []
    for index, one in enumerate(many):
        tag = f"kind {index}"
        model: Any = create_model(
            f"Tagged{next(_numbers)}",
            kind=(_of(Literal, tag), ...),
            data=(one.annotation, ...),
        )
        models.append(model)
        if one.values is not None:
            values.append(st.fixed_dictionaries({"kind": st.just(tag), "data": one.values}))
    if len(models) == 1:
        return Drawn(models[0], st.one_of(values) if values else None)
    union: Any = _of(Union, *models)
    return Drawn(Annotated[union, Field(discriminator="kind")], st.one_of(values) if values else None)


def _fixed(values: dict[str, Any]) -> st.SearchStrategy[Any] | None:
    return None if any(one is None for one in values.values()) else st.fixed_dictionaries(values)
