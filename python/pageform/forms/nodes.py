"""Facts about JSON Schema nodes that need no context: their keywords, types, values and overlaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

Schema = Mapping[str, Any]
Resolve = Callable[[str], Any]

ANNOTATIONS = frozenset(
    """title description default examples example deprecated readOnly writeOnly $comment $schema $id id $anchor $defs
    definitions discriminator contentEncoding contentMediaType contentSchema nullable""".split()
)
"""Keywords that constrain nothing. (`nullable` is OpenAPI's; ignoring it only narrows.)"""

UNSUPPORTED = frozenset(
    """not if then else contains minContains maxContains uniqueItems unevaluatedItems unevaluatedProperties
    dependencies dependentRequired dependentSchemas $dynamicRef $recursiveRef""".split()
)
"""Constraints that the grammar can't hold: removed and listed."""

BY_KIND: dict[str, frozenset[str]] = {
    "object": frozenset(
        "properties required additionalProperties patternProperties propertyNames minProperties maxProperties".split()
    ),
    "array": frozenset("items prefixItems additionalItems minItems maxItems".split()),
    "string": frozenset("minLength maxLength pattern format".split()),
    "number": frozenset("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split()),
}
_KINDS = ("object", "array", "string", "number", "integer", "boolean", "null")


def kinds_of(schema: Schema) -> list[str] | None:
    """The JSON types that a node allows, one list entry each; empty if it says nothing, None if it names no type.

    Keywords without a `type` are read as meaning the type that they are about, which is how schemas are written.
    """
    given = schema.get("type")
    if given is None:
        return [kind for kind, keywords in BY_KIND.items() if keywords & schema.keys()]
    kinds = [given] if isinstance(given, str) else list(given) if isinstance(given, list) else [None]
    if not kinds or any(kind not in _KINDS for kind in kinds):
        return None
    return [kind for kind in kinds if not (kind == "integer" and "number" in kinds)]


def kind_of(value: Any) -> str:
    """The JSON type of a value; floats without a fraction count as integers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "integer" if math.isfinite(value) and value == int(value) else "number"
    return "object" if isinstance(value, Mapping) else "array"


def admits(schema: Schema, value: Any) -> bool:
    """Whether the scalar keywords beside an enum admit one of its values."""
    kind = kind_of(value)
    kinds = kinds_of(schema) if "type" in schema else None
    if kinds and kind not in kinds and not (kind == "integer" and "number" in kinds):
        return False
    if kind in ("integer", "number"):
        return (
            value >= schema.get("minimum", -math.inf)
            and value <= schema.get("maximum", math.inf)
            and value > schema.get("exclusiveMinimum", -math.inf)
            and value < schema.get("exclusiveMaximum", math.inf)
        )
    if kind == "string":
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf))
    return True


def writable(value: Any) -> bool:
    """Whether a value can be decoded: the grammar writes no `\\u` escapes, so some control characters have no form."""
    if isinstance(value, str):
        return not any((char < " " and char not in "\b\f\n\r\t") or char == "\x7f" or "\ud800" <= char < "\ue000" for char in value)
    if isinstance(value, Mapping):
        return all(writable(key) and writable(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(writable(inner) for inner in value)
    return not isinstance(value, float) or math.isfinite(value)


def are_disjoint(options: Sequence[Any], resolve: Resolve) -> bool:
    """Whether no value satisfies two of the options, as far as their types or a tag property prove it."""
    seen = [_resolved(option, resolve) for option in options]
    return all(_disjoint(one, other, resolve) for one, other in combinations(seen, 2))


def _disjoint(one: Any, other: Any, resolve: Resolve) -> bool:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return one is False or other is False
    values, others = _allowed_values(one), _allowed_values(other)
    if values is not None and others is not None:
        return not any(value in others for value in values)
    kinds, other_kinds = kinds_of(one), kinds_of(other)
    if kinds and other_kinds and not (_widened(kinds) & _widened(other_kinds)):
        return True
    tags = set(one.get("required", ())) & set(other.get("required", ()))
    return any(
        _disjoint(
            _resolved(one.get("properties", {}).get(tag, True), resolve),
            _resolved(other.get("properties", {}).get(tag, True), resolve),
            resolve,
        )
        for tag in tags
        if _allowed_values(one.get("properties", {}).get(tag)) is not None
    )


def _widened(kinds: Sequence[str]) -> set[str]:
    return {"number" if kind == "integer" else kind for kind in kinds}


def _allowed_values(schema: Any) -> list[Any] | None:
    if not isinstance(schema, Mapping):
        return None
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _resolved(schema: Any, resolve: Resolve) -> Any:
    for _ in range(20):  # a chain of references that long is a circle
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            return schema
        schema = resolve(schema["$ref"])
    return True


def merge_objects(schema: Schema, resolve: Resolve) -> dict[str, Any] | None:
    """The conjunction of a node with its `allOf` and `$ref` as one object node; None if a part is more than an object.

    Closing an object is only possible once all of its properties are in one place.
    """
    own = {key: value for key, value in schema.items() if key not in ("allOf", "$ref")}
    parts = [own, *schema.get("allOf", ())]
    if "$ref" in schema:
        parts.append({"$ref": schema["$ref"]})
    flat = []
    for part in parts:
        part = _resolved(part, resolve)
        if isinstance(part, Mapping) and "allOf" in part:
            part = merge_objects(part, resolve)
        if not isinstance(part, Mapping):
            return None
        kept = {key: value for key, value in part.items() if key not in ANNOTATIONS}
        if kept and (kinds_of(kept) != ["object"] or not kept.keys() <= _MERGEABLE):
            return None
        flat.append(kept)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in flat:
        for name, value in part.get("properties", {}).items():
            properties[name] = {"allOf": [properties[name], value]} if name in properties else value
        required += [name for name in part.get("required", ()) if name not in required]
    closed = [part for part in flat if part.get("additionalProperties") is False]
    allowed = {name: value if all(name in part.get("properties", {}) for part in closed) else False for name, value in properties.items()}
    merged: dict[str, Any] = {"type": "object", "properties": allowed, "required": required}
    return {**merged, "additionalProperties": False} if closed else merged


_MERGEABLE = frozenset({"type", "properties", "required", "additionalProperties"})
