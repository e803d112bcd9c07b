"""How a node of each JSON type is planned. The functions take the `Planner` that walks the schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import numeric
from .formats import NARROWED, PATTERNS
from .nodes import BY_KIND, Nothing, Schema, names_admitted
from .text_rules import key_pattern, plan_text

if TYPE_CHECKING:
    from .planner import Planner

Node = dict[str, Any]

CHARACTERS = "no control characters but white space and backspace"
"""What text of any kind is made of: the others have only `\\u` escapes in JSON, which the grammar does not write."""


_ASCII_CLASS = re.compile(r"\\[wd]")


def plan_number(planner: Planner, schema: Schema, path: str, close: bool) -> Node:
    """A number or an integer, with its digits bounded."""
    for keyword in BY_KIND["number"] & schema.keys():
        value = schema[keyword]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (keyword == "multipleOf" and value <= 0):
            raise planner.malformed(path, value, f"{keyword} must be a number", "Correct the keyword.")
    try:
        if schema["type"] == "integer":
            planned = numeric.plan_integer(schema)
        else:
            digits = schema.get("x-digits")
            planned = numeric.plan_number(schema, None if digits is None else (digits[0], digits[1]))
    except numeric.Empty as empty:
        raise Nothing(path, _own(schema, "number"), str(empty), "Widen the bounds.") from None
    for keyword, value in planned.missed.items():
        planner.miss(path, keyword, value)
    if planned.digits is not None:
        planner.add(path, "digits", planned.digits)
    if "x-text" not in schema:
        return planned.schema
    if planned.text is None or planned.missed:
        planner.add(path, "type", "a number, not text")
        return planned.schema
    if planned.needs_point:
        planner.add(path, "type", "text, not a number")
        return {"allOf": [{"type": "string", "pattern": planned.text}, {"type": "string", "pattern": r"\."}]}
    planner.add(path, "digits of text", numeric.DIGITS)
    return {"anyOf": [*planned.schema.get("anyOf", [planned.schema]), {"type": "string", "pattern": planned.text}]}


def plan_string(planner: Planner, schema: Schema, path: str, close: bool) -> Node:
    """Text, with its length bounded."""
    for keyword in ("pattern", "format"):
        _expect(planner, schema, path, keyword, str, "text")
    low, high = _counts(planner, schema, path, "minLength", "maxLength")
    planned = plan_text(schema, low, high, planner.limits.string_length)
    if schema.get("format") in NARROWED:
        planner.add(path, "format", NARROWED[schema["format"]])
    elif schema.get("format") not in PATTERNS:
        planner.add("", "characters", CHARACTERS)
    if planned.empty:
        raise Nothing(path, _own(schema, "string"), planned.empty, "Widen the pattern or the lengths.")
    if _ASCII_CLASS.search(schema.get("pattern", "")):
        planner.add(path, "pattern", r"\w and \d are ASCII")
    for keyword, value in planned.missed.items():
        planner.miss(path, keyword, value)
    if planned.added is not None:
        planner.add(path, "maxLength", planned.added)
    return planned.schema


def plan_array(planner: Planner, schema: Schema, path: str, close: bool) -> Node:
    """A list or tuple, with its length bounded. A tuple whose rest is not described is closed."""
    _expect(planner, schema, path, "prefixItems", list, "a list")
    low, high = _counts(planner, schema, path, "minItems", "maxItems")
    prefix, items = schema.get("prefixItems", []), schema.get("items", True)
    if isinstance(items, list):  # how drafts before 2020-12 wrote tuples
        prefix, items = items, schema.get("additionalItems", True)
    planned: list[Node] = []
    for index, item in enumerate(prefix if high is None else prefix[:high]):
        try:
            planned.append(planner.node(item, f"{path}[{index}]"))
        except Nothing:
            if index < low:
                raise
            items = False
            break
    if prefix and "items" not in schema and close and low <= len(planned):
        items = False
    rest: Node | None = None
    if items is not False and (high is None or high > len(planned)):
        try:
            rest = planner.node(items, f"{path}[]")
        except Nothing:
            if low > len(planned):
                raise
    if rest is None:
        high = len(planned) if high is None else min(high, len(planned))
    elif high is None:
        high = max(planner.limits.array_items, low, len(planned))
        planner.add(path, "maxItems", high)
    if low > high:
        raise Nothing(path, _own(schema, "array"), f"{low} items are required, {high} allowed", "Allow more.")
    return {
        "type": "array",
        **({"prefixItems": planned} if planned else {}),
        "items": False if rest is None else rest,
        "minItems": low,
        "maxItems": high,
    }


def plan_object(planner: Planner, schema: Schema, path: str, close: bool) -> Node:
    """An object with named properties: closed, ordered, all of them required if the planner promotes; or a map."""
    _expect(planner, schema, path, "properties", Mapping, "an object")
    _expect(planner, schema, path, "patternProperties", Mapping, "an object")
    _expect(planner, schema, path, "required", list, "a list")
    given, required = schema.get("properties", {}), schema.get("required", [])
    if not given and not required:
        return _plan_map(planner, schema, path)
    low, high = _counts(planner, schema, path, "minProperties", "maxProperties")
    others = schema.get("additionalProperties", True)
    properties: dict[str, Node] = {}
    names = [*given, *(name for name in required if name not in given)]
    patterns = schema.get("patternProperties", {})
    allowed = _allowed_names(planner, schema, path, names)
    for name in names:
        inner = f"{path}.{name}".removeprefix(".")
        described = [values for pattern, values in patterns.items() if _matches(planner, inner, pattern, name)]
        if name not in given and others is False and not described:
            raise Nothing(inner, name, "the property is required but not allowed", "Describe it in properties.")
        if name in given or not described:
            described.insert(0, given.get(name, others))
        try:
            if name not in allowed:
                raise Nothing(inner, name, "propertyNames does not allow the name", "Rename it or widen propertyNames.")
            properties[name] = planner.node(described[0] if len(described) == 1 else {"allOf": described}, inner)
        except Nothing:
            if name in required:
                raise
    must = [name for name in properties if name in required]
    if high is not None and len(must) > high:
        raise Nothing(path, high, f"{len(must)} properties are required, {high} allowed", "Raise maxProperties.")
    if low > len(properties) and others is False:
        raise Nothing(path, low, f"only {len(properties)} properties are allowed", "Lower minProperties.")
    made: Node = {"type": "object", "properties": properties, "required": must}
    if close and low <= len(properties):
        made["additionalProperties"] = False
        if patterns or (others is not False and (planner.reads_schema or "additionalProperties" in schema)):
            planner.add(path, "additionalProperties", False)
    elif others is not True:
        made["additionalProperties"] = others if others is False else planner.node(others, f"{path}.*")
    if planner.promotes and (high is None or high >= len(properties)):
        planner.promote(made, path)
    if low > len(made["required"]):
        planner.miss(path, "minProperties", low)
    if high is not None and high < len(properties):
        planner.miss(path, "maxProperties", high)
    return made


def _allowed_names(planner: Planner, schema: Schema, path: str, names: list[str]) -> list[str]:
    """The names that `propertyNames` admits."""
    if schema.get("propertyNames", True) is True:
        return names
    try:
        return names_admitted(names, schema["propertyNames"])
    except Exception:  # of jsonschema, for keywords that it can't judge here
        planner.miss(path, "propertyNames", schema["propertyNames"])
        return names


def _matches(planner: Planner, path: str, pattern: str, name: str) -> bool:
    """Whether a property falls under a pattern of `patternProperties`."""
    try:
        return re.search(pattern, name) is not None
    except re.error:
        planner.miss(path, "patternProperties", pattern)
        return False


def plan_anything(planner: Planner, path: str) -> Node:
    """Any JSON value of limited depth."""
    depth = planner.limits.any_depth
    planner.add(path, "depth", depth)
    for level in range(depth + 1):
        if f"any{level}" not in planner.definitions:
            options: list[Node] = [{"type": "null"}, {"type": "boolean"}]
            options += [plan_number(planner, {"type": "number"}, path, True)]
            options += [plan_string(planner, {"type": "string"}, path, True)]
            if level:
                inner: Node = {"$ref": f"#/$defs/any{level - 1}"}
                keys, _ = key_pattern({}, planner.resolve, planner.limits.key_length)
                options += [{"type": "array", "items": inner, "minItems": 0, "maxItems": planner.limits.array_items}]
                options += [_map({keys: inner}, 0, planner.limits.map_items)]
            planner.definitions[f"any{level}"] = {"anyOf": options}
    return {"$ref": f"#/$defs/any{depth}"}


def _plan_map(planner: Planner, schema: Schema, path: str) -> Node:
    """An object whose keys are data, with their number and length bounded."""
    low, high = _counts(planner, schema, path, "minProperties", "maxProperties")
    patterns: dict[str, Any] = dict(schema.get("patternProperties", {}))
    others = schema.get("additionalProperties", not patterns)
    if patterns and others is not False:  # keys of the one kind could be of the other, too
        others = False
        planner.add(path, "additionalProperties", False)
    if patterns and schema.get("propertyNames", True) is not True:
        planner.miss(path, "propertyNames", schema["propertyNames"])
    if others is not False:
        keys = schema.get("x-keys", schema.get("propertyNames", {}))
        pattern, missed = key_pattern(keys, planner.resolve, planner.limits.key_length)
        if missed:
            planner.miss(path, "propertyNames", missed)
        planner.add(path, "keys", f"1 to {planner.limits.key_length} characters, {CHARACTERS}")
        patterns.setdefault(pattern, others)
    planned = {}
    for pattern, values in patterns.items():
        try:
            planned[pattern] = planner.node(values, f"{path}.*".removeprefix("."))
        except Nothing:
            if low:
                raise
    if high is None and planned:
        high = max(planner.limits.map_items, low)
        planner.add(path, "maxProperties", high)
    allowed = high or 0
    if low > allowed:
        raise Nothing(path, _own(schema, "object"), f"{low} properties required, {allowed} allowed", "Allow more.")
    if low > 1:
        planner.miss(path, "minProperties", low)  # the grammar lets a key come twice, which counts once
    return _map(planned, low, allowed)


def _map(patterns: dict[str, Node], low: int, high: int) -> Node:
    made: Node = {"type": "object", "additionalProperties": False}
    if patterns:
        made.update(patternProperties=patterns, minProperties=low, maxProperties=high)
    return made


def _counts(planner: Planner, schema: Schema, path: str, least: str, most: str) -> tuple[int, int | None]:
    for keyword in (least, most):
        value = schema.get(keyword, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value != int(value):
            raise planner.malformed(path, value, f"{keyword} must be a non-negative integer", "Correct it.")
    low, high = int(schema.get(least, 0)), schema.get(most)
    if high is not None and low > high:
        raise Nothing(path, {least: low, most: high}, f"{least} exceeds {most}", "Swap or widen them.")
    return low, None if high is None else int(high)


def _expect(planner: Planner, schema: Schema, path: str, keyword: str, kind: type, named: str) -> None:
    if keyword in schema and not isinstance(schema[keyword], kind):
        raise planner.malformed(path, schema[keyword], f"{keyword} must be {named}", "Correct the keyword.")


def _own(schema: Schema, kind: str) -> Node:
    """The keywords of a node that an error shows."""
    return {key: schema[key] for key in schema if key in BY_KIND[kind]}


def _plain(planner: Planner, schema: Schema, path: str, close: bool) -> Node:
    return {"type": schema["type"]}


KINDS: dict[str, Callable[[Planner, Schema, str, bool], Node]] = {
    "object": plan_object,
    "array": plan_array,
    "string": plan_string,
    "integer": plan_number,
    "number": plan_number,
    "boolean": _plain,
    "null": _plain,
}
