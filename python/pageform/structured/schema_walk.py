"""Walking JSON schemas: which parts of a schema are schemas themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
"""Keywords whose value holds schemas by name."""
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
"""Keywords whose value may be a list of schemas."""
SINGLE = frozenset(
    {
        "items",
        "additionalItems",
        "unevaluatedItems",
        "contains",
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "not",
        "if",
        "then",
        "else",
        "contentSchema",
    }
)
"""Keywords whose value is a schema."""


def map_parts(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of the schema with `change` applied to the schemas directly in it (those that are dicts)."""
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, Mapping):
            made[key] = {name: change(part) if isinstance(part, Mapping) else part for name, part in value.items()}
        elif key in LISTS and isinstance(value, list):
            made[key] = [change(part) if isinstance(part, Mapping) else part for part in value]
        elif key in SINGLE and isinstance(value, Mapping):
            made[key] = change(value)
        else:
            made[key] = value
    return made


def parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas directly in a schema (those that are dicts)."""
    found: list[Mapping[str, Any]] = []
    map_parts(schema, lambda part: found.append(part))
    return iter(found)


def everywhere(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema and all schemas in it, definitions included."""
    todo = [schema]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(parts(node))


def follow(pointer: str, root: Any) -> Any:
    """What a reference `#` or `#/…` points to. Raises `LookupError` for any other, or if there is nothing."""
    if pointer != "#" and not pointer.startswith("#/"):
        raise LookupError(pointer)
    target = root
    for step in pointer[2:].split("/") if pointer != "#" else ():
        key = step.replace("~1", "/").replace("~0", "~")
        try:
            target = target[int(key)] if isinstance(target, list) else target[key]
        except (ValueError, TypeError):
            raise LookupError(pointer) from None
    return target
