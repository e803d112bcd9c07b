"""How large a schema is, and where its types refer to themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ..schema_walk import everywhere, parts
from .base import Limits


def exceeded(schema: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    """Which limits the schema breaks, one sentence each."""
    nodes = list(everywhere(schema))
    optional = sum(len(node.get("properties", {})) - len(node.get("required", ())) for node in nodes)
    names = [name for node in nodes for name in (*node.get("properties", {}), *node.get("$defs", {}))]
    values = [value for node in nodes for value in _values(node)]
    for what, count, most in (
        ("properties", sum(len(node.get("properties", {})) for node in nodes), limits.properties),
        ("properties that need not be there", optional, limits.optional),
        ("unions", sum("anyOf" in node or isinstance(node.get("type"), list) for node in nodes), limits.unions),
        ("values in enums", len(values), limits.enum_values),
        ("characters in names and enums", sum(len(str(text)) for text in names + values), limits.characters),
        ("levels of nesting", _depth(schema) if limits.depth is not None else 0, limits.depth),
    ):
        if most is not None and count > most:
            yield f"it has {count} {what}, and {most} are allowed"


def recursions(schema: Mapping[str, Any], only_required: bool) -> list[str]:
    """Names of the definitions that refer to themselves; with `only_required` not counting what passes through a
    property that may be left out."""
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    leads_to = {name: set(_targets(node, only_required)) for name, node in definitions.items()}
    found = []
    for name in definitions:
        seen: set[str] = set()
        todo = [name]
        while todo:
            for target in leads_to.get(todo.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        if name in seen:
            found.append(name)
    return found


def _targets(node: Mapping[str, Any], only_required: bool) -> Iterator[str]:
    """Definitions that a schema refers to, at any depth."""
    if "$ref" in node:
        yield str(node["$ref"]).rsplit("/", 1)[-1]
    needed = node.get("required", ())
    optional = [part for name, part in node.get("properties", {}).items() if only_required and name not in needed]
    skipped = {id(part) for part in optional}
    for part in parts(node):
        if id(part) not in skipped:
            yield from _targets(part, only_required)


def _values(node: Mapping[str, Any]) -> list[Any]:
    if isinstance(node.get("enum"), list):
        return list(node["enum"])
    return [node["const"]] if "const" in node else []


def _depth(schema: Mapping[str, Any]) -> int:
    """Levels of objects and arrays, references followed; a type inside itself does not count again."""
    definitions: Mapping[str, Any] = schema.get("$defs", {})

    @cache
    def of_definition(name: str) -> int:
        if name in inside or name not in definitions:
            return 0
        inside.add(name)
        try:
            return depth(definitions[name])
        finally:
            inside.discard(name)

    def depth(node: Mapping[str, Any]) -> int:
        if "$ref" in node:
            return of_definition(str(node["$ref"]).rsplit("/", 1)[-1])
        own = {key: value for key, value in node.items() if key != "$defs"}
        deepest = max((depth(part) for part in parts(own)), default=0)
        return deepest + (node.get("type") in ("object", "array"))

    inside: set[str] = set()
    return depth(schema)
