"""Whether a schema has a finite value at all: recursive types need a way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def has_value(schema: Mapping[str, Any], finite: set[str]) -> bool:
    """Whether a planned node has a finite value, given the definitions that are known to have one."""
    if "$ref" in schema:
        return reference(schema) in finite
    if "anyOf" in schema:
        return any(has_value(option, finite) for option in schema["anyOf"])
    if "allOf" in schema:
        return all(has_value(part, finite) for part in schema["allOf"])
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        if not all(has_value(properties[name], finite) for name in schema.get("required", ()) if name in properties):
            return False
        others = list(schema.get("patternProperties", {}).values())
        return schema.get("minProperties", 0) <= len(properties) or any(has_value(one, finite) for one in others)
    if kind == "array":
        least, prefix = schema.get("minItems", 0), schema.get("prefixItems", [])
        if not all(has_value(item, finite) for item in prefix[:least]):
            return False
        return least <= len(prefix) or has_value(schema.get("items") or {}, finite)
    return True


def finite_definitions(definitions: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The definitions that have a finite value: the least fixed point over references."""
    finite: set[str] = set()
    while True:
        found = {name for name in definitions if name not in finite and has_value(definitions[name], finite)}
        if not found:
            return finite
        finite |= found


def reference(schema: Mapping[str, Any]) -> str:
    """The name of the definition that a planned node refers to."""
    return str(schema["$ref"]).removeprefix("#/$defs/")


def loosen(
    root: Mapping[str, Any],
    definitions: Mapping[str, Mapping[str, Any]],
    promoted: list[tuple[dict[str, Any], list[str]]],
) -> list[str]:
    """Make promoted properties optional again where requiring them leaves a type without a finite value.

    `promoted` pairs object nodes with their properties that were optional. Returns the definitions that stay without a
    finite value if the root does too, else nothing.
    """
    while True:
        known = finite_definitions(definitions)
        if len(known) == len(definitions) and has_value(root, known):
            return []
        changed = False
        for node, names in promoted:
            for name in names:
                if name in node["required"] and not has_value(node["properties"][name], known):
                    node["required"].remove(name)
                    changed = True
        if not changed:
            return [] if has_value(root, known) else sorted(definitions.keys() - known)
