"""Questions that are asked of single schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..schema_walk import follow
from .join import ANNOTATIONS

Schema = Mapping[str, Any]
Node = dict[str, Any]


def words(keyword: str, value: Any, longest: int = 80) -> str:
    """A keyword as a description says it, such as `minLength 2`."""
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return f"{keyword} {shown}" if len(shown) <= longest else keyword


def sentences(*parts: Any) -> str:
    """The parts that say something, each closed by a full stop; a single part stays as it is."""
    said = [str(part).strip() for part in parts if part]
    if len(said) < 2:
        return said[0] if said else ""
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in said)


def kind_of(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, (list, tuple)) else "object"


def kinds_of(schema: Mapping[str, Any]) -> list[str]:
    """The JSON types that a schema names, or that its keywords speak of; empty if it names none."""
    named = schema.get("type")
    if isinstance(named, list):
        return [str(kind) for kind in named]
    if named is not None:
        return [str(named)]
    if "properties" in schema or "additionalProperties" in schema:
        return ["object"]
    if "items" in schema or "prefixItems" in schema:
        return ["array"]
    return []


def admits_null(schema: Any, root: Schema, _depth: int = 0) -> bool:
    """Whether the schema admits null."""
    if not isinstance(schema, Mapping):
        return schema is not False
    if "$ref" in schema:
        if _depth > 50:
            return False
        return admits_null(follow(schema["$ref"], root), root, _depth + 1)
    if "const" in schema:
        return schema["const"] is None
    if "enum" in schema:
        return None in schema["enum"]
    if "allOf" in schema:
        return all(admits_null(part, root, _depth + 1) for part in schema["allOf"])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return any(admits_null(part, root, _depth + 1) for part in schema[keyword])
    kinds = kinds_of(schema)
    return schema.get("nullable") is True or not kinds or "null" in kinds


def nullable(made: Node, null: Node) -> Node:
    """The node or null. What describes it stays outside."""
    if null == {"nullable": True}:
        return {**made, **null}
    if "anyOf" in made:
        return {**made, "anyOf": [*made["anyOf"], null]}
    return {"anyOf": [made, null]}


_OF_KIND = {
    "string": {"minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"},
    "object": {"properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"},
}


ASSERTIONS = frozenset().union(*_OF_KIND.values()) | {
    "const",
    "enum",
    "oneOf",
    "not",
    "propertyNames",
    "dependentRequired",
    "additionalItems",
    "minContains",
    "maxContains",
}
"""Keywords that constrain values, in words that a model understands."""


def of_type(schema: Schema, kind: str) -> Node:
    """What a schema of several types says of one of them."""
    own = _OF_KIND.get("number" if kind == "integer" else kind, set())
    foreign = set().union(*_OF_KIND.values()) - own
    return {key: value for key, value in schema.items() if key not in foreign and key not in ANNOTATIONS}
