"""What each of Pydantic's types becomes: texts that its form takes, texts that it doesn't, and what is reported."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import pathlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic_core import core_schema
from typing_extensions import TypedDict

from pageform.core.errors import SchemaError
from pageform.forms import plan
from pageform.forms.form import Form
from pageform.forms.grammar import GrammarCompiler


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Weight(enum.IntEnum):
    LIGHT = 1
    HEAVY = 2


class Pair(enum.Enum):
    PLAIN = "plain"
    TUPLE = (1, 2)


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Seconds(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float")
    span: dt.timedelta


class ByValue(BaseModel):
    model_config = ConfigDict(use_enum_values=True)
    color: Color


@dataclass(frozen=True)
class Frozen:
    x: int


class Changing(BaseModel):
    x: int


NOON = dt.datetime(2024, 2, 29, 12)
HELD: list[tuple[Any, list[str], list[str]]] = [
    (Decimal, ["1.5", '"1.50"', '"-3"', "12345.678901234"], ['"1E+5"', '".5"', '"1."', '"007"']),
    (Annotated[Decimal, Field(ge=0, le=Decimal("9.5"))], ['"0"', "0", '"9.50"', "9.5"], ['"9.51"', "9.51", '"-1"']),
    (Annotated[Decimal, Field(max_digits=4, decimal_places=2)], ['"12.34"', "-12.3"], ['"123.4"', '"1.234"', "123.4"]),
    (dt.timedelta, ['"PT0S"', '"-P1D"', '"P1Y35DT1H1M1.000005S"', '"P2W"'], ['"P"', '"PT"', '"P1M"', '"P0D"', "3"]),
    (Annotated[dt.timedelta, Field(ge=dt.timedelta(0))], ['"PT0S"', '"PT1.5S"'], ['"-PT1S"']),
    (Annotated[dt.timedelta, Field(gt=dt.timedelta(0))], ['"PT0.5S"'], ['"PT0S"', '"-PT1S"', '"PT0.0S"']),
    (Annotated[dt.date, Field(gt=dt.date(2023, 12, 31))], ['"2024-01-01"', '"9999-12-31"'], ['"2023-12-31"']),
    (Annotated[dt.date, Field(ge=dt.date(2024, 2, 28), lt=dt.date(2024, 3, 1))], ['"2024-02-29"'], ['"2024-02-30"']),
    (
        Annotated[dt.datetime, Field(ge=NOON, le=NOON + dt.timedelta(hours=1))],
        ['"2024-02-29T12:00:00"', '"2024-02-29T12:59:59.999"', '"2024-02-29T13:00:00"'],
        ['"2024-02-29T11:59:59"', '"2024-02-29T13:00:00.1"', '"2024-02-29T12:00:00Z"'],
    ),
    (
        Annotated[dt.datetime, Field(lt=NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))))],
        ['"2024-02-29T09:59:59.9Z"'],
        ['"2024-02-29T10:00:00Z"', '"2024-02-29T09:00:00"', '"2024-02-29T09:00:00+02:00"'],
    ),
    (
        Annotated[dt.time, Field(ge=dt.time(9), lt=dt.time(17))],
        ['"09:00:00"', '"16:59:59"'],
        ['"17:00:00"', '"08:59:59"'],
    ),
    (Annotated[bytes, Field(min_length=2, max_length=3)], ['"ab"', '"abc"'], ['"a"', '"abcd"', '"é€"']),
    (pydantic.Base64Str, ['"YWJj"', '""'], ['"/w=="', '"abc"']),
    (pydantic.ByteSize, ["1024"], ["-1", '"1kb"']),
    (ipaddress.IPv4Network, ['"10.0.0.0/8"', '"10.1.2.3/32"'], ['"10.0.0.1/8"']),
    (pydantic.AnyUrl, ['"ftp://a.b/"', '"https://x.org/a%20b?c=d#e"'], ['"ftp://"', '"nothing"']),
    (pydantic.HttpUrl, ['"http://localhost:8080/"'], ['"ftp://a.b/"', '"http://a--b.c/"']),
    (pydantic.FileUrl, ['"file:///tmp/x"'], ['"file://host:80/x"']),
    (pathlib.Path, ['"a folder/é.txt"'], ['""']),
    (complex, ['"1j"', '"1.5-2j"', '"3"'], ['"j"', '"1e5"']),
    (ByValue, ['{"color": "red"}'], ['{"color": "blue"}']),
    (Pair, ['"plain"'], ["[1,2]"]),
    (Rights, ["1", "2"], ["4"]),
    (Seconds, ['{"span": 1.5}'], ['{"span": "PT1S"}']),
    (set[Any], ['[1, "a", null]'], ["[[1]]", '[{"a": 1}]']),
    (frozenset[Frozen], ['[{"x": 1}]'], []),
    (dict[Weight, int], ['{"1": 5, "2": 6}'], ['{"3": 5}']),
    (dict[Annotated[int, Field(ge=-3, lt=20)], bool], ['{"-3": true, "19": false}'], ['{"20": true}', '{"-4": true}']),
    (dict[Decimal, int], ['{"1.5": 1}'], ['{"x": 1}']),
    (pydantic.Secret[int], ["3"], ['"3"']),
    (pydantic.IPvAnyNetwork, ['"10.0.0.0/8"'], ['"10.0.0.1/8"']),
]


@pytest.mark.parametrize(("annotation", "good", "bad"), HELD, ids=lambda value: str(value)[:70])
def test_types_that_the_grammar_holds(
    annotation: Any, good: list[str], bad: list[str], compiler: GrammarCompiler
) -> None:
    form = Form.of(annotation, compiler)
    assert form.plan.unenforced == ()
    for text in good:
        TypeAdapter(annotation).validate_json(text)
    assert [text for text in good if not form.accepts(text)] == []
    assert [text for text in bad if form.accepts(text)] == []


class Spelled(str):
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(lambda value: value)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        return {"type": "string"}


@pytest.mark.parametrize(
    ("annotation", "keyword"),
    [
        (Annotated[int, WithJsonSchema({"type": "string"})], "WithJsonSchema"),
        (Spelled, "validator"),
        (pydantic.ImportString, "validator"),
        (set[Changing], "items"),
        (Annotated[set[int], Field(min_length=2)], "uniqueItems"),
        (Annotated[dt.timedelta, Field(le=dt.timedelta(days=1))], "le"),
        (Annotated[dt.datetime, Field(ge=NOON, le=NOON.replace(tzinfo=dt.UTC))], "ge"),
        (pydantic.PastDate, "now_op"),
        (dict[Annotated[dt.date, Field(ge=dt.date(2000, 1, 1))], int], "propertyNames"),
    ],
    ids=str,
)
def test_types_of_which_something_is_left_to_validation(
    annotation: Any, keyword: str, compiler: GrammarCompiler
) -> None:
    form = Form.of(annotation, compiler)
    assert keyword in [one.keyword for one in form.plan.unenforced]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Literal[Color.RED], "no value of it can be given in JSON"),
        (type[int], "no JSON stands for a class"),
        (Annotated[dt.date, Field(gt=dt.date(2024, 1, 1), lt=dt.date(2024, 1, 2))], "no date lies after 2024-01-01"),
        (Annotated[dt.date, Field(gt=dt.date.max)], "no date lies after"),
        (Annotated[dt.datetime, Field(gt=NOON, lt=NOON)], "no time lies after"),
        (Annotated[dt.time, Field(gt=dt.time(12), lt=dt.time(11))], "no time lies after"),
        (Annotated[dt.timedelta, Field(gt=dt.timedelta(0), lt=dt.timedelta(0))], "no duration lies"),
    ],
    ids=str,
)
def test_types_that_nothing_satisfies(annotation: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        plan(annotation)


class Partly(TypedDict):
    a: int
    b: NotRequired[bool]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: bool


@pytest.mark.parametrize(
    ("annotation", "text", "keyword"),
    [
        (Partly, '{"a": 1}', "required"),
        (Open, '{"a": true, "b": 1}', "additionalProperties"),
        (int, "1234567890123456", "digits"),
        (float, "1e-07", "digits"),
        (str, '"\\u0001"', "characters"),
        (str, f'"{"x" * 600}"', "maxLength"),
        (list[bool], f"[{','.join(['true'] * 65)}]", "maxItems"),
        (dict[str, bool], '{"": true}', "keys"),
        (ipaddress.IPv6Network, '"2001:db8::/32"', "format"),
        (Rights, "3", "enum"),
        (Pair, "[1,2]", "enum"),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, '{"b": 1}', "additionalProperties"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_left_out_is_reported(annotation: Any, text: str, keyword: str, compiler: GrammarCompiler) -> None:
    form = Form.of(plan(annotation), compiler)
    assert not form.accepts(text)
    assert keyword in [one.keyword for one in form.plan.added]
    if annotation is not Pair:
        form.spec.validate(text)


def test_an_enum_of_a_tuple_is_not_what_its_json_stands_for() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Pair).validate_json("[1,2]")


class Noted(BaseModel):
    model_config = ConfigDict(json_schema_extra={"properties": {"size": {"type": "string"}}, "examples": [{"size": 1}]})
    size: int = Field(json_schema_extra={"maximum": 5, "note": "small"})
    color: Color = Field(json_schema_extra={"enum": ["red"]})
    text: str = Field(json_schema_extra=lambda schema: schema.update(type="integer"), max_length=3)


def test_what_is_added_for_readers_can_only_narrow(compiler: GrammarCompiler) -> None:
    form = Form.of(Noted, compiler)
    assert form.plan.unenforced == ()
    assert form.accepts('{"size": 5, "color": "red", "text": "abc"}')
    for wrong in ('{"size": 6, "color": "red", "text": ""}', '{"size": 5, "color": "green", "text": ""}'):
        assert not form.accepts(wrong)
    assert not form.accepts('{"size": "5", "color": "red", "text": ""}')
