"""Conjunctions of JSON schemas as one schema: no provider enforces `allOf` in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

ANNOTATIONS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "discriminator",
        "$comment",
        "$schema",
        "$id",
        "$anchor",
        "$defs",
        "definitions",
        "propertyOrdering",
    }
)
"""Keywords that constrain nothing."""

_LARGER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_SMALLER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})

Follow = Callable[[str], Any]


_DEPTH = 40
"""Conjunctions nested deeper are of types that refer to themselves."""


class Disjoint(Exception):
    """Two schemas that can't be written as one."""


def join(first: Mapping[str, Any], second: Mapping[str, Any], follow: Follow, _depth: int = 0) -> dict[str, Any]:
    """A schema that admits what both admit; annotations of the first go before those of the second.

    Raises `Disjoint` where no single schema says it. `follow` gives the target of a reference.
    """
    if _depth > _DEPTH:
        raise Disjoint("the parts refer to themselves")
    if "$ref" in first or "$ref" in second:
        if first.get("$ref") == second.get("$ref"):
            return {**second, **first}
        return join(_inlined(first, follow, _depth), _inlined(second, follow, _depth), follow, _depth + 1)
    made = {**second, **first}
    for key in (first.keys() & second.keys()) - ANNOTATIONS:
        made[key] = _both(key, first[key], second[key], follow, _depth + 1)
    for one, other in ((first, second), (second, first)):
        if one.get("additionalProperties") is False and "properties" in one:
            foreign = other.get("properties", {}).keys() - one["properties"].keys()
            if foreign & set(other.get("required", ())):
                raise Disjoint(f"one part requires {sorted(foreign)[0]!r}, another excludes it")
            made["properties"] = {key: value for key, value in made["properties"].items() if key not in foreign}
            made["additionalProperties"] = False
    return made


def _both(key: str, one: Any, other: Any, follow: Follow, depth: int) -> Any:
    if one == other:
        return one
    if key == "type":
        return _common_types(one, other)
    if key == "properties":
        shared = {name: join(one[name], other[name], follow, depth) for name in one.keys() & other.keys()}
        return {**one, **other, **shared}
    if key == "required":
        return [*one, *(name for name in other if name not in one)]
    if key in _LARGER:
        return max(one, other)
    if key in _SMALLER:
        return min(one, other)
    if key == "enum":
        return [value for value in one if value in other]
    if key == "uniqueItems":
        return True
    if (
        key in ("items", "additionalProperties")
        and isinstance(one, (Mapping, bool))
        and isinstance(other, (Mapping, bool))
    ):
        if isinstance(one, bool) or isinstance(other, bool):
            return one and other
        return join(one, other, follow, depth)
    raise Disjoint(f"two parts differ in {key}")


def _common_types(one: Any, other: Any) -> Any:
    first = [one] if isinstance(one, str) else list(one)
    second = [other] if isinstance(other, str) else list(other)
    common = [kind for kind in first if kind in second]
    if "integer" in first + second and "integer" not in common and {"number"} & {*first, *second}:
        common.append("integer")
    if not common:
        raise Disjoint(f"one part is {' or '.join(first)}, another {' or '.join(second)}")
    return common[0] if len(common) == 1 else common


def _inlined(schema: Mapping[str, Any], follow: Follow, depth: int) -> Mapping[str, Any]:
    """The schema with its reference, and those that this leads to, replaced by their targets."""
    while "$ref" in schema:
        depth += 1
        if depth > _DEPTH:
            raise Disjoint("a reference leads to itself")
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        target = follow(schema["$ref"])
        if not isinstance(target, Mapping):
            raise Disjoint(f"{schema['$ref']} is no object")
        schema = join(rest, target, follow, depth) if rest.keys() - ANNOTATIONS else {**target, **rest}
    return schema
