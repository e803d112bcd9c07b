"""Whether the values of a core schema can be items of a set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Core = Mapping[str, Any]

_NEVER = frozenset({"list", "set", "dict", "generator", "typed-dict", "any", "json", "callable", "arguments"})
_INNER = ("nullable", "default", "model-field", "lax-or-strict", "json-or-python", "definitions", "chain")


def is_hashable(schema: Core, definition: Callable[[str], Core | None], depth: int = 20) -> bool:
    """Whether all values are surely hashable. `definition` resolves a reference inside the schema."""
    kind = schema["type"]
    if kind in _NEVER or not depth:
        return False

    def inner(one: Any) -> bool:
        return is_hashable(one[0] if isinstance(one, tuple) else one, definition, depth - 1)

    if kind == "definition-ref":
        target = definition(schema["schema_ref"])
        return target is not None and inner(target)
    if kind in ("model", "dataclass"):
        return schema["cls"].__hash__ is not None
    if kind == "union":
        return all(map(inner, schema["choices"]))
    if kind == "tagged-union":
        return all(map(inner, schema["choices"].values()))
    if kind == "tuple":
        return all(map(inner, schema["items_schema"]))
    if kind == "frozenset":
        return True  # its own items are looked at where it is described
    if kind == "chain":
        return inner(schema["steps"][-1])
    if kind in _INNER or kind.startswith("function-"):
        parts = [schema[key] for key in ("schema", "lax_schema", "json_schema") if key in schema]
        return all(map(inner, parts))
    return True
