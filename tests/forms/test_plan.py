"""The planner: what is decoded, what is left to validation, what nothing satisfies."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator

from pageform.core.errors import SchemaError
from pageform.forms import PlanLimits, plan
from pageform.forms.form import Form
from pageform.forms.grammar import GrammarCompiler

INT = {"type": "integer", "minimum": -999999999999999, "maximum": 999999999999999}


class Item(BaseModel):
    name: str
    note: str | None = None
    count: int = 1


class Node(BaseModel):
    value: int
    next: Node | None = None


class Lazy(BaseModel):
    """Its optional field can't be required: that would never end."""

    value: int
    inner: Lazy = None  # type: ignore[assignment]


class Endless(BaseModel):
    inner: Endless


class EndlessList(BaseModel):
    inner: list[EndlessList] = Field(min_length=1)


def test_objects_are_closed_ordered_and_all_properties_required() -> None:
    planned = plan(Item)
    assert planned.schema["additionalProperties"] is False
    assert list(planned.schema["properties"]) == planned.schema["required"] == ["name", "note", "count"]
    assert planned.schema["properties"]["note"] == {"anyOf": [{"type": "string", "maxLength": 512}, {"type": "null"}]}
    assert planned.unenforced == ()
    assert "default" not in json.dumps(planned.schema)


def test_optional_properties_of_a_json_schema_stay_optional() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}, "required": ["b"]}
    assert plan(schema).schema["required"] == ["b"]
    assert plan(schema, promote=True).schema["required"] == ["a", "b"]


def test_recursive_types_keep_a_way_out() -> None:
    node = plan(Node).schema["$defs"]["Node"]
    assert node["required"] == ["value", "next"]
    assert node["properties"]["next"] == {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
    assert plan(Lazy).schema["$defs"]["Lazy"]["required"] == ["value"]


def test_bounds_that_were_added_are_listed() -> None:
    planned = plan(list[str], PlanLimits(string_length=5, array_items=3))
    assert planned.schema == {
        "type": "array",
        "items": {"type": "string", "maxLength": 5},
        "minItems": 0,
        "maxItems": 3,
    }
    assert {(one.path, one.keyword, one.value) for one in planned.added if one.path or one.keyword != "characters"} == {
        ("[]", "maxLength", 5),
        ("", "maxItems", 3),
    }
    assert [one.keyword for one in plan(Annotated[str, Field(max_length=9)]).added] == ["characters"]
    assert plan(Annotated[str, Field(min_length=900)]).schema["maxLength"] == 900


class Checked(BaseModel):
    when: pydantic.FutureDate
    email: str
    words: Annotated[set[str], Field(min_length=2)]
    late: Annotated[dt.timedelta, Field(gt=dt.timedelta(days=1))]
    inner: list[Annotated[int, AfterValidator(abs)]]

    @field_validator("email")
    @classmethod
    def has_at(cls, value: str) -> str:
        return value

    @model_validator(mode="after")
    def consistent(self) -> Checked:
        return self


def test_what_validation_has_yet_to_check_is_listed() -> None:
    listed = {(one.path, one.keyword) for one in plan(Checked).unenforced}
    assert listed == {
        ("", "validator"),
        ("when", "now_op"),
        ("email", "validator"),
        ("words", "uniqueItems"),
        ("late", "gt"),
        ("inner[]", "validator"),
    }
    assert "email: validator 'Checked.has_at'" in [str(one) for one in plan(Checked).unenforced]


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "array", "items": INT, "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "items": INT, "contains": INT}, "contains"),
        ({"type": "integer", "not": {"const": 3}}, "not"),
        ({"type": "integer", "if": {"minimum": 3}, "then": {"maximum": 4}}, "if"),
        ({"type": "string", "format": "iri"}, "format"),
        ({"type": "string", "pattern": "(?=a)b"}, "pattern"),
        ({"type": "string", "pattern": r"^(a)\1$"}, "pattern"),
        ({"type": "string", "pattern": r"^\W$"}, "pattern"),
        ({"type": "number", "multipleOf": 1e-12}, "multipleOf"),
        ({"type": "number", "minimum": 1e300}, "minimum"),
        ({"type": "object", "properties": {"a": INT}, "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "object", "additionalProperties": INT, "minProperties": 2}, "minProperties"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_keywords_the_grammar_can_not_hold_are_removed_and_listed(
    schema: dict[str, Any], keyword: str, compiler: GrammarCompiler
) -> None:
    planned = plan(schema)
    assert keyword in [one.keyword for one in planned.unenforced]
    compiler.compile_schema(planned)


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"oneOf": [{"const": 1}, {"enum": [2, 3]}]},
        {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"]} for kind in ("a", "b")
            ]
        },
    ],
    ids=["types", "values", "tags"],
)
def test_options_that_exclude_each_other_are_exact(schema: dict[str, Any]) -> None:
    planned = plan(schema)
    assert planned.unenforced == ()
    assert "oneOf" not in json.dumps(planned.schema)


class Bounds(BaseModel):
    inner: list[Annotated[int, Field(ge=5, le=3)]] = Field(min_length=1)


NOTHING: list[tuple[Any, str, str]] = [
    (False, "json_schema", "admits no value"),
    ({"enum": []}, "json_schema", "empty"),
    ({"type": "string", "not": {}}, "json_schema", "excludes every value"),
    ({"type": "string", "enum": [1, 2]}, "json_schema", "no value of the enum"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "json_schema", "no number lies between 5 and 3"),
    ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}, "json_schema", "no integer lies"),
    ({"type": "integer", "minimum": 1, "maximum": 6, "multipleOf": 7}, "json_schema", "no multiple of 7"),
    ({"type": "number", "minimum": 0.1, "maximum": 0.2, "multipleOf": 0.5}, "json_schema", "no multiple of 0.5"),
    ({"type": "string", "minLength": 5, "maxLength": 3}, "json_schema", "minLength exceeds maxLength"),
    ({"type": "string", "pattern": "^a$", "minLength": 3}, "json_schema", "no text satisfies"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "json_schema", "minItems exceeds maxItems"),
    ({"type": "array", "items": False, "minItems": 1}, "json_schema", "1 items are required, 0 allowed"),
    ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "json_schema.a", "admits no value"),
    (
        {"type": "object", "properties": {"a": INT}, "required": ["b"], "additionalProperties": False},
        "json_schema.b",
        "required but not allowed",
    ),
    (
        {"type": "object", "properties": {"a": INT}, "required": ["a"], "maxProperties": 0},
        "json_schema",
        "1 properties",
    ),
    ({"anyOf": [{"enum": []}, {"type": "array", "items": {"enum": []}, "minItems": 1}]}, "json_schema", "no option"),
    (Bounds, "response_model.inner[]", "no number lies between 5 and 3"),
    (Endless, "response_model", "without end"),
    (EndlessList, "response_model", "without end"),
    (Annotated[Decimal, Field(gt=1, lt=1)], "response_model", "no number lies"),
    (Literal["\x00", "\x01"], "response_model", "control characters"),
]


@pytest.mark.parametrize(("given_type", "field", "reason"), NOTHING, ids=lambda value: str(value)[:40])
def test_what_nothing_satisfies_is_found_with_its_place(given_type: Any, field: str, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason) as caught:
        plan(given_type)
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "objekt"}, "not a JSON type"),
        ({"type": []}, "not a JSON type"),
        ({"type": [["string"]]}, "not a JSON type"),
        ({"$ref": "https://example.org/a"}, "only references inside"),
        ({"$ref": "#/$defs/Missing"}, "points nowhere"),
        ({"type": "integer", "minimum": "3"}, "must be a number"),
        ({"type": "integer", "multipleOf": 0}, "must be a number"),
        ({"type": "string", "maxLength": -1}, "non-negative"),
        ({"type": "array", "items": 3}, "object or a bool"),
        ({"type": "object", "properties": []}, "properties must be an object"),
        ({"type": "object", "properties": {"a": INT}, "required": "a"}, "required must be a list"),
        ({"anyOf": []}, "non-empty list"),
        ({"enum": 3}, "enum must be a list"),
        ({"type": "string", "pattern": 3}, "pattern must be text"),
        ({"type": "string", "format": ["date"]}, "format must be text"),
        ({"type": "array", "prefixItems": {}}, "prefixItems must be a list"),
        ({"type": "object", "patternProperties": []}, "patternProperties must be an object"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_malformed_schemas_are_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(SchemaError, match=reason) as caught:
        plan(schema)
    assert caught.value.field.startswith("json_schema")


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(3000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaError, match="too deeply"):
        plan(schema)


def test_impossible_optional_parts_are_left_out() -> None:
    schema = {
        "type": "object",
        "properties": {"a": False, "b": {"anyOf": [{"enum": []}, {"type": "null"}]}},
        "required": ["b"],
    }
    assert plan(schema).schema["properties"] == {"b": {"type": "null"}}
    assert plan({"type": "array", "items": False}).schema["maxItems"] == 0


def test_conjunctions_of_objects_become_one_closed_object() -> None:
    schema = {
        "$defs": {"Base": {"type": "object", "properties": {"id": INT}, "required": ["id"]}},
        "allOf": [{"$ref": "#/$defs/Base"}, {"type": "object", "properties": {"name": {"type": "null"}}}],
    }
    planned = plan(schema).schema
    assert planned["properties"] == {"id": INT, "name": {"type": "null"}}
    assert (planned["required"], planned["additionalProperties"]) == (["id"], False)


def test_a_path_inside_another_field_has_no_key_of_its_own() -> None:
    class Deep(BaseModel):
        city: str = Field(validation_alias=pydantic.AliasPath("address", "city"))

    with pytest.raises(SchemaError, match="AliasPath") as caught:
        plan(Deep)
    assert caught.value.field == "response_model.city"


_BOUND = st.one_of(st.none(), st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6).map(lambda x: round(x, 4)))
_PROBES = [0, 1, -1, 0.5, -0.25, 3.14159, 10, 1e5, -99999.5, 123456.789, 0.001]


@settings(max_examples=60, deadline=None)
@given(_BOUND, _BOUND, _BOUND, _BOUND, st.sampled_from([None, None, 1, 3, 0.5, 0.01]), st.sampled_from([int, float]))
def test_numbers_are_accepted_as_pydantic_accepts_them(
    compiler: GrammarCompiler, ge: Any, le: Any, gt: Any, lt: Any, step: Any, kind: Any
) -> None:
    """The grammar admits nothing that Pydantic refuses, and all that Pydantic takes up to the digits it writes."""
    if kind is int:
        ge, le, gt, lt = (None if bound is None else int(bound) for bound in (ge, le, gt, lt))
        step = None if step is None else max(1, int(step))
    annotation = Annotated[kind, Field(ge=ge, le=le, gt=gt, lt=lt, multiple_of=step)]
    adapter = TypeAdapter(annotation)
    probes = [
        *_PROBES,
        *(bound + delta for bound in (ge, le, gt, lt) if bound is not None for delta in (-0.001, 0, 0.001)),
    ]
    texts = {f"{probe:.3f}".rstrip("0").rstrip(".") for probe in probes} | {str(int(probe)) for probe in probes}
    texts = {text for text in texts - {"-0"} if kind is float or "." not in text}
    try:
        form = Form.of(annotation, compiler)
    except SchemaError:
        accepted: set[str] = set()
    else:
        assert form.plan.unenforced == ()
        accepted = {text for text in texts if form.accepts(text)}
    for text in texts:
        try:
            adapter.validate_json(text)
        except ValidationError:
            assert text not in accepted
        else:
            # llguidance wants all decimals of a multiple to be written: "0.50" for a multiple of 0.01
            assert text in accepted or step in (0.01, 0.5)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Annotated[float, Field(ge=0, lt=1)], ["0", "0.9", "0.99", "0.999999999", "0.5"], ["1", "-0.1", "1.0", "1e-1"]),
        (Annotated[float, Field(gt=-1, le=0.95)], ["-0.9", "-0.99", "0.9", "0.95", "0.94"], ["0.96", "-1", "1"]),
        (Annotated[float, Field(gt=1, lt=1.933)], ["1.1", "1.9", "1.93"], ["1", "1.0", "1.933", "2"]),
        (Annotated[float, Field(multiple_of=0.05, le=0.95)], ["0.90", "0.9", "0.95", "-0.05"], ["0.91", "0.955"]),
        (
            Annotated[float, Field(multiple_of=0.25)],
            ["0.25", "4.5", "4.50", "4.0", "0.0", "-3"],
            ["0.3", "0.2", "4.55"],
        ),
        (Annotated[float, Field(multiple_of=0.125, ge=0)], ["0.125", "0.25", "0.5", "1.0", "2"], ["0.1", "0.12"]),
        (Annotated[Decimal, Field(max_digits=3, decimal_places=2)], ["9.99", "-9.9", "0.01"], ["10", "9.999", "99.9"]),
        (float, ["999999999999", "0.000000001", "99999.123456789"], ["1000000000000", "1e5", "0.0000000001"]),
    ],
    ids=str,
)
def test_numbers_may_be_written_as_short_as_they_are(
    annotation: Any, good: list[str], bad: list[str], compiler: GrammarCompiler
) -> None:
    form = Form.of(annotation, compiler)
    assert [text for text in good if not form.accepts(text)] == []
    assert [text for text in bad if form.accepts(text)] == []


def test_a_decimal_without_whole_digits_is_text_with_a_point(compiler: GrammarCompiler) -> None:
    annotation = Annotated[Decimal, Field(max_digits=2, decimal_places=2, ge=0)]
    form = Form.of(annotation, compiler)
    assert form.plan.unenforced == ()
    for text in ('"0.12"', '"0.1"', '"0.00"'):
        assert form.accepts(text)
        TypeAdapter(annotation).validate_json(text)
    assert [text for text in ('"0"', "0", "0.0", "0.1", '"0.123"', '"1.2"') if form.accepts(text)] == []
    multiple = plan(Annotated[Decimal, Field(max_digits=2, decimal_places=2, multiple_of=Decimal("1E-11"))])
    assert "max_digits" in [one.keyword for one in multiple.unenforced]
