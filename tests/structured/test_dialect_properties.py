"""Properties of every dialect over generated models: what it admits is what the type admits, once restored."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from schema_values import models, values

from pageform.structured import Spec
from pageform.structured.dialects import (
    Adapted,
    anthropic_strict,
    cohere,
    gemini,
    gemini_openapi,
    groq_strict,
    mistral_strict,
    openai_strict,
    restore,
    restore_text,
)
from pageform.structured.schema_walk import everywhere

DIALECTS = [openai_strict, groq_strict, anthropic_strict, gemini, gemini_openapi, cohere, mistral_strict]
SETTINGS = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(dialect=st.sampled_from(DIALECTS), model=models(), data=st.data())
def test_what_a_dialect_admits_validates_once_restored(
    dialect: Callable[[Any], Adapted], model: type[BaseModel], data: st.DataObject
) -> None:
    spec = Spec.of(model)
    adapted = dialect(spec.object_schema)
    if not adapted.sendable:
        return
    value = data.draw(values(adapted.schema, adapted.schema))
    jsonschema.Draft202012Validator(_standard(adapted.schema)).validate(value)
    before = copy.deepcopy(value)
    restored = restore(value, spec.object_schema)
    assert value == before
    assert json.loads(restore_text(json.dumps(value), spec.object_schema)) == restored
    if not adapted.dropped:
        jsonschema.Draft202012Validator(spec.object_schema).validate(restored)
        assert isinstance(spec.validate_python(restored), model)


@SETTINGS
@given(dialect=st.sampled_from(DIALECTS), model=models(), data=st.data())
def test_a_dialect_admits_every_value_of_the_type(
    dialect: Callable[[Any], Adapted], model: type[BaseModel], data: st.DataObject
) -> None:
    spec = Spec.of(model)
    adapted = dialect(spec.object_schema)
    if adapted.dropped or not adapted.sendable:
        return
    made = spec.validate_python(restore(data.draw(values(adapted.schema, adapted.schema)), spec.object_schema))
    dumped = json.loads(made.model_dump_json(by_alias=True))
    jsonschema.Draft202012Validator(_standard(adapted.schema)).validate(dumped)


@SETTINGS
@given(dialect=st.sampled_from(DIALECTS), model=models())
def test_adapting_twice_is_adapting_once(dialect: Callable[[Any], Adapted], model: type[BaseModel]) -> None:
    source = Spec.of(model).object_schema
    before = copy.deepcopy(source)
    once = dialect(source)
    assert source == before
    assert dialect(source) == once
    twice = dialect(once.schema)
    assert twice.schema == once.schema
    assert not twice.dropped


@SETTINGS
@given(model=models())
def test_openais_own_strict_transform_finds_nothing_to_do(model: type[BaseModel]) -> None:
    theirs = pytest.importorskip("openai.lib._pydantic")
    schema = openai_strict(Spec.of(model).object_schema).schema
    assert theirs._ensure_strict_json_schema(copy.deepcopy(schema), path=(), root=copy.deepcopy(schema)) == schema
    for node in everywhere(schema):
        assert not node.keys() & {"default", "oneOf", "allOf", "prefixItems", "minLength", "uniqueItems"}
        assert "$ref" not in node or set(node) == {"$ref"}
        if node.get("type") == "object":
            assert node["required"] == list(node["properties"])
            assert node["additionalProperties"] is False


@SETTINGS
@given(model=models())
def test_every_dropped_constraint_stands_in_a_description(model: type[BaseModel]) -> None:
    adapted = anthropic_strict(Spec.of(model).object_schema)
    said = " ".join(str(node.get("description", "")) for node in everywhere(adapted.schema))
    for one in adapted.dropped:
        assert f"{one.keyword} " in said


def _standard(schema: Any) -> Any:
    """OpenAPI's `nullable` as JSON Schema says it."""
    if isinstance(schema, list):
        return [_standard(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _standard(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") is True else made
