"""Dialects of the providers, case by case, and beside their own SDKs."""

from __future__ import annotations

import copy
import enum
import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from pageform.structured import Spec
from pageform.structured.dialects import (
    Adapted,
    anthropic_strict,
    cohere,
    gemini,
    gemini_openapi,
    mistral_strict,
    openai_strict,
    restore,
    restore_text,
)
from pageform.structured.schema_walk import everywhere


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    """One line."""

    sku: str = Field(pattern="^[A-Z]{3}$", min_length=3, description="the code")
    price: float = Field(ge=0, default=1.5)


class Order(BaseModel):
    first: Item = Field(description="what was asked for first")
    others: list[Item] = []
    color: Color = Color.RED
    note: str | None = None


class Tree(BaseModel):
    kids: list[Tree] = []


class Chain(BaseModel):
    next: Chain | None


def openai(annotation: Any) -> Adapted:
    return openai_strict(Spec.of(annotation).object_schema)


def test_openai_strict_in_full() -> None:
    item = {
        "type": "object",
        "title": "Item",
        "properties": {
            "sku": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "the code. Constraints: minLength 3."},
            "price": {
                "anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}],
                "description": "Null for the default, 1.5.",
            },
        },
        "required": ["sku", "price"],
        "additionalProperties": False,
    }
    adapted = openai(Order)
    assert adapted.sendable
    assert adapted.schema == {
        "type": "object",
        "title": "Order",
        "properties": {
            "first": {**item, "description": "what was asked for first"},
            "others": {
                "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Item"}}, {"type": "null"}],
                "description": "Null for the default, [].",
            },
            "color": {
                "anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}],
                "description": 'Null for the default, "red".',
            },
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["first", "others", "color", "note"],
        "additionalProperties": False,
        "$defs": {
            "Item": {**item, "description": "One line."},
            "Color": {"type": "string", "title": "Color", "enum": ["red", "blue"]},
        },
    }
    assert [str(one) for one in adapted.dropped] == ["first.sku: minLength 3", "others[].sku: minLength 3"]


OBSTACLES: list[tuple[Any, str]] = [
    (create_model("M", meta=(dict[str, int], ...)), "meta: an object with any keys"),
    (create_model("M", rows=(list[dict[str, Any]], ...)), "rows[]: an object with any keys"),
    (create_model("M", extra=(Any, ...)), "extra: it may hold any value"),
    (create_model("M", things=(list, ...)), "things[]: it may hold any value"),
    (dict[str, int], "the answer: an object with any keys"),
    ({"type": "object", "properties": {"a": {"enum": [[1]]}}}, "a: a fixed array"),
    ({"type": "object", "properties": {"a": {"allOf": [{"type": "string"}, {"type": "integer"}]}}}, "a: allOf"),
    (create_model("M", **{f"f{n}": (int, ...) for n in range(5001)}), "5001 properties, and 5000 are allowed"),  # type: ignore[call-overload]
    (create_model("M", e=(Literal[tuple(f"v{n}" for n in range(1001))], ...)), "1001 values in enums"),
]


@pytest.mark.parametrize(("annotation", "reason"), OBSTACLES, ids=lambda value: str(value)[:40])
def test_what_openai_can_not_express_is_an_obstacle(annotation: Any, reason: str) -> None:
    adapted = openai(annotation)
    assert not adapted.sendable
    assert any(reason in obstacle for obstacle in adapted.obstacles), adapted.obstacles
    assert adapted.notes[0].startswith("OpenAI's strict mode")


def test_nesting_is_bounded_references_followed() -> None:
    nested: Any = int
    for number in range(10):
        nested = create_model(f"Level{number}", inner=(nested, ...))
    assert openai(nested).sendable
    assert not openai(create_model("Outer", inner=(nested, ...))).sendable


def test_definitions_written_out_do_not_grow_without_bound() -> None:
    nested: Any = create_model("Leaf", x=(int, ...))
    for number in range(12):
        fields = {name: (nested, Field(description="described")) for name in "abc"}
        nested = create_model(f"Wide{number}", **fields)  # type: ignore[call-overload]
    adapted = openai(nested)  # 3 ** 12 places
    assert "written out, it is too large" in str(adapted.obstacles)


INTEGERS = {"type": "array", "items": {"type": "integer"}}
CASES: list[tuple[Any, dict[str, Any], list[str]]] = [
    (
        Literal["a", 1, None],
        {"anyOf": [{"type": "string", "const": "a"}, {"type": "integer", "const": 1}, {"type": "null"}]},
        [],
    ),
    (
        Annotated[str, Field(pattern="^(?!x)")],
        {"type": "string", "description": 'Constraints: pattern "^(?!x)"'},
        ["pattern"],
    ),
    (
        set[int],
        {"type": "array", "items": {"type": "integer"}, "description": "Constraints: uniqueItems true"},
        ["uniqueItems"],
    ),
    (tuple[int, int], {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}, []),
    (bytes, {"type": "string", "description": 'Constraints: format "binary"'}, ["format"]),
    (Annotated[int, Field(examples=[3, 4])], {"type": "integer", "description": "Examples: [3, 4]"}, []),
    (Annotated[int, Field(json_schema_extra={"x-unit": "m"})], {"type": "integer"}, ["x-unit"]),
]


@pytest.mark.parametrize(("annotation", "expected", "dropped"), CASES, ids=lambda value: str(value)[:40])
def test_single_fields_in_openais_dialect(annotation: Any, expected: Any, dropped: list[str]) -> None:
    class Config(BaseModel):
        model_config = {"regex_engine": "python-re"}

    adapted = openai(create_model("M", __base__=Config, field=(annotation, ...)))
    assert adapted.schema["properties"]["field"] == expected
    assert [one.keyword for one in adapted.dropped] == dropped


def test_schemas_of_hand_are_joined_and_split() -> None:
    schema = {
        "type": "object",
        "properties": {
            "both": {"allOf": [{"$ref": "#/$defs/named"}, {"properties": {"n": {"minimum": 2}}, "required": ["n"]}]},
            "kinds": {"type": ["string", "integer", "null"], "maxLength": 3, "minimum": 0},
            "beside": {"minimum": 1, "anyOf": [{"type": "integer"}, {"type": "number", "maximum": 5}]},
        },
        "required": ["both", "kinds", "beside"],
        "$defs": {"named": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    adapted = openai_strict(Spec.of(schema).object_schema)
    assert adapted.obstacles == ()
    properties = adapted.schema["properties"]
    assert properties["both"]["properties"] == {"n": {"type": "integer", "minimum": 2}}
    assert properties["kinds"]["anyOf"] == [
        {"type": "string", "description": "Constraints: maxLength 3"},
        {"type": "integer", "minimum": 0},
        {"type": "null"},
    ]
    assert properties["beside"]["anyOf"] == [
        {"type": "integer", "minimum": 1},
        {"type": "number", "minimum": 1, "maximum": 5},
    ]
    assert "$defs" not in adapted.schema


# --- other providers, beside their SDKs ------------------------------------------------------------------------------


def test_recursion_is_judged_by_what_each_provider_takes() -> None:
    tree, chain = Spec.of(Tree).object_schema, Spec.of(Chain).object_schema
    assert openai_strict(tree).sendable
    assert "refers to itself" in anthropic_strict(tree).obstacles[0]
    assert gemini(tree).sendable  # through a property that may be left out
    assert "outside of optional properties" in gemini(chain).obstacles[0]
    assert "refers to itself" in gemini_openapi(tree).obstacles[0]


def test_anthropics_own_transform_finds_nothing_to_put_into_words() -> None:
    anthropic = pytest.importorskip("anthropic")
    for model in (Order, Item):
        adapted = anthropic_strict(Spec.of(model).object_schema)
        theirs = anthropic.transform_schema(copy.deepcopy(adapted.schema))
        for node in everywhere(adapted.schema):
            if "enum" in node or "const" in node:
                del node["type"]  # type: ignore[attr-defined]  # they leave it out there
        assert theirs == adapted.schema


def test_anthropic_counts_what_is_optional() -> None:
    many = create_model("M", **{f"f{n}": (int, 0) for n in range(25)})  # type: ignore[call-overload]
    assert "25 properties that need not be there" in anthropic_strict(Spec.of(many).object_schema).obstacles[0]


def test_gemini_gets_enums_for_constants_and_an_order() -> None:
    model = create_model("M", kind=(Literal["a"], ...), flag=(Literal[True], ...), n=(int, 3))
    adapted = gemini(Spec.of(model).object_schema)
    assert adapted.schema == {
        "type": "object",
        "title": "M",
        "properties": {
            "kind": {"type": "string", "enum": ["a"]},
            "flag": {"type": "boolean", "description": "Constraints: const true"},
            "n": {"type": "integer", "description": "Default: 3"},
        },
        "required": ["kind", "flag"],
        "propertyOrdering": ["kind", "flag", "n"],
    }
    assert [str(one) for one in adapted.dropped] == ["flag: const true"]


def test_google_genai_takes_the_openapi_schemas() -> None:
    types = pytest.importorskip("google.genai.types")
    adapted = gemini_openapi(Spec.of(Order).object_schema)
    schema = types.Schema.model_validate(adapted.schema)
    assert adapted.sendable
    assert schema.properties is not None
    assert schema.properties["note"].nullable is True
    assert "$ref" not in json.dumps(adapted.schema)
    kept = schema.model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert set(kept) == set(adapted.schema)


def test_mistrals_own_helper_finds_nothing_to_close() -> None:
    theirs = pytest.importorskip("mistralai.extra.utils._pydantic_helper")
    adapted = mistral_strict(Spec.of(Order).object_schema)
    assert theirs.rec_strict_json_schema(copy.deepcopy(adapted.schema)) == adapted.schema
    assert adapted.dropped == ()


def test_cohere_requires_something_of_every_object() -> None:
    model = create_model("M", a=(int, 1), b=(str | None, None))
    adapted = cohere(Spec.of(model).object_schema)
    assert adapted.schema["required"] == ["a", "b"]
    assert adapted.schema["properties"]["a"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "description": "Null for the default, 1.",
    }
    assert not cohere(Spec.of(create_model("Nothing")).object_schema).sendable


# --- restoring -------------------------------------------------------------------------------------------------------


class Left(BaseModel):
    x: int = Field(le=5)
    y: int = 0


class Right(BaseModel):
    x: int
    y: int | None


def test_nulls_go_where_the_type_has_none_and_stay_where_it_has() -> None:
    schema = Spec.of(Order).object_schema
    given = {"first": {"sku": "ABC", "price": None}, "others": None, "color": None, "note": None}
    restored = {"first": {"sku": "ABC"}, "note": None}
    assert restore(given, schema) == restored
    assert restore(restored, schema) is restored
    assert Spec.of(Order).validate_python(restored).color is Color.RED


def test_a_required_null_is_left_for_validation_to_judge() -> None:
    schema = Spec.of(Item).object_schema
    assert restore({"sku": None, "price": None}, schema) == {"sku": None}


@pytest.mark.parametrize(
    ("given", "restored"),
    [
        ({"x": 1, "y": None}, {"x": 1}),
        ({"x": 10, "y": None}, {"x": 10, "y": None}),
        ({"x": 10, "y": 2}, {"x": 10, "y": 2}),
    ],
    ids=str,
)
def test_the_option_is_taken_under_which_the_value_is_valid(given: Any, restored: Any) -> None:
    spec = Spec.of(list[Left | Right])
    assert restore({"tasks": [given]}, spec.object_schema) == {"tasks": [restored]}
    spec.validate_python({"tasks": [restored]}, envelope=True)


def test_text_keeps_its_spelling() -> None:
    schema = Spec.of(Item).object_schema
    assert restore_text('{"sku": "\\u00e4\\ud800", "more": [1.10, 1e400, -0.0, {}, []], "price": null}', schema) == (
        '{"sku":"\\u00e4\\ud800","more":[1.10,1e400,-0.0,{},[]]}'
    )
    for untouched in ("", "null", '{"price": nul', '{"sku": null }', "[null]", "[" * 100_000 + "null"):
        assert restore_text(untouched, schema) == untouched


def test_a_spec_keeps_what_it_was_adapted_to() -> None:
    spec = Spec.of(Order)
    assert spec.adapted(openai_strict) is spec.adapted(openai_strict)
    assert spec.adapted(gemini) is not spec.adapted(openai_strict)
