"""JSON schemas as callers write them: keywords beside each other, conjunctions, and schemas made to do harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pageform.core.errors import SchemaError
from pageform.forms import plan
from pageform.forms.form import Form
from pageform.forms.grammar import GrammarCompiler

INT = {"type": "integer", "minimum": -9, "maximum": 9}
NAMED = {"type": "object", "properties": {"x_a": {"type": "string", "maxLength": 3}, "b": INT}, "required": ["x_a"]}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({**NAMED, "patternProperties": {"^x": {"minLength": 2}}}, ['{"x_a": "ab"}'], ['{"x_a": "a"}']),
        ({**NAMED, "propertyNames": {"pattern": "^x"}}, ['{"x_a": "ab"}'], ['{"x_a": "ab", "b": 1}']),
        ({"enum": ["ab", "b", 3], "pattern": "^a", "multipleOf": 3}, ['"ab"', "3"], ['"b"']),
        ({"enum": [[1], [1, 2], {"a": 1}], "minItems": 2, "required": ["a"]}, ["[1, 2]", '{"a": 1}'], ["[1]"]),
        ({"type": "array", "items": {"multipleOf": 0.3, "minimum": 0}}, ["[0.9, 0.3]"], ["[1.0]"]),
        (
            {"type": "object", "patternProperties": {"^a": {"type": "null"}}, "additionalProperties": True},
            ['{"ab": null}'],
            ['{"ab": 1}', '{"b": null}'],
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_keywords_beside_each_other_hold_together(
    schema: dict[str, Any], good: list[str], bad: list[str], compiler: GrammarCompiler
) -> None:
    planned = plan(schema)
    form = Form.of(planned, compiler)
    assert planned.unenforced == ()
    for text in good:
        form.spec.validate(text)
    assert [text for text in good if not form.accepts(text)] == []
    assert [text for text in bad if form.accepts(text)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"a": {"allOf": [{"minimum": 3}, {"maximum": 2}]}}, "required": ["a"]},
        {**NAMED, "patternProperties": {"^x": {"type": "integer"}}},
    ],
    ids=str,
)
def test_conjunctions_that_nothing_satisfies_are_found(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="nothing satisfies all of its parts"):
        plan(schema)


def chain(length: int, link: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Definitions of which each is made of the next one."""
    made: dict[str, Any] = {f"D{i}": link(f"#/$defs/D{i + 1}") for i in range(length)}
    return {"$ref": "#/$defs/D0", "$defs": {**made, f"D{length}": {"type": "object", "properties": {"v": INT}}}}


def both(pointer: str) -> dict[str, Any]:
    return {"allOf": [{"$ref": pointer}, {"$ref": pointer}]}


def tagged(number: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": {"const": number}}, "required": ["kind"]}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (chain(40, both), "more than 50000 parts"),
        ({"$ref": "#/$defs/A", "$defs": {"A": both("#/$defs/A")}}, "without end"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}, "without end"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_hostile_schemas_are_refused_soon(schema: dict[str, Any], reason: str) -> None:
    start = time.thread_time()
    with pytest.raises(SchemaError, match=reason):
        plan(schema)
    assert time.thread_time() - start < 2


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 10**400},
        {"type": "number", "maximum": -(10**400), "multipleOf": 1e-300},
        {"oneOf": [tagged(number) for number in range(800)]},
        chain(30, lambda pointer: {"type": "object", "properties": {key: {"$ref": pointer} for key in "ab"}}),
        {"type": "string", "pattern": "^(a{1,1000}){1,1000}$", "maxLength": 10**9},
        {"type": "array", "items": {"type": "array", "minItems": 10**6}, "minItems": 10**6},
    ],
    ids=lambda value: str(value)[:50],
)
def test_large_schemas_are_compiled_soon(schema: dict[str, Any], compiler: GrammarCompiler) -> None:
    start = time.thread_time()
    planned = plan(schema)
    compiler.compile_schema(planned)
    assert planned.min_tokens > 0
    assert time.thread_time() - start < 2
