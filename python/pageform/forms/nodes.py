"""Facts about a JSON Schema node that need no context: its keywords, its types, the values that it names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..structured.type_names import json_types

Schema = Mapping[str, Any]

ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment"),
        *("$schema", "$id", "id", "$anchor", "$defs", "definitions", "discriminator", "nullable"),
        *("contentEncoding", "contentMediaType", "contentSchema"),
    }
)
"""Keywords that constrain nothing. (`nullable` is OpenAPI's; ignoring it only narrows.)"""

UNSUPPORTED = frozenset(
    {
        *("not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas"),
        *("contains", "minContains", "maxContains", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"),
        *("$dynamicRef", "$recursiveRef"),
    }
)
"""Constraints that the grammar can't hold: removed and listed."""

BY_KIND: dict[str, frozenset[str]] = {
    "object": frozenset(
        {
            *("properties", "required", "additionalProperties", "patternProperties"),
            *("propertyNames", "minProperties", "maxProperties"),
        }
    ),
    "array": frozenset({"items", "prefixItems", "additionalItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
}
_KINDS = ("object", "array", "string", "number", "integer", "boolean", "null")
_UNWRITABLE = re.compile("[\x00-\x07\x0b\x0e-\x1f\x7f\ud800-\udfff]")


class Nothing(Exception):
    """The node at `path` is satisfied by nothing."""

    def __init__(self, path: str, value: Any, reason: str, remedy: str) -> None:
        self.path, self.value, self.reason, self.remedy = path, value, reason, remedy
        super().__init__(reason)


def kinds_of(schema: Schema) -> list[str] | None:
    """The JSON types that a node allows, one list entry each; empty if it says nothing, None if it names no type.

    Keywords without a `type` are read as meaning the type that they are about, which is how schemas are written.
    """
    given = json_types(schema.get("type"))
    if given is None:
        return [kind for kind, keywords in BY_KIND.items() if keywords & schema.keys()]
    kinds = [given] if isinstance(given, str) else given
    if not isinstance(kinds, list) or not kinds or any(kind not in _KINDS for kind in kinds):
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
    """Whether the type and the other keywords beside an enum admit one of its values. Raises what jsonschema raises for
    keywords that can't be judged by themselves, such as references."""
    kind = kind_of(value)
    kinds = kinds_of(schema) if "type" in schema else None
    if kinds and kind not in kinds and not (kind == "integer" and "number" in kinds):
        return False
    others = {key: schema[key] for key in schema if key not in ("type", "enum", "const")}
    if not others:
        return True
    import jsonschema  # 100 ms: such schemas are rare

    return bool(jsonschema.Draft202012Validator(others).is_valid(value))


def names_admitted(names: list[str], schema: Any) -> list[str]:
    """Those of some property names that a schema for names admits. Raises like `admits`."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema)
    return [name for name in names if validator.is_valid(name)]


def writable(value: Any) -> bool:
    r"""Whether a value can be decoded: the grammar writes no `\u` escapes, so some control characters have no form."""
    if isinstance(value, str):
        return not _UNWRITABLE.search(value)
    if isinstance(value, Mapping):
        return all(writable(key) and writable(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(writable(inner) for inner in value)
    return not isinstance(value, float) or math.isfinite(value)
