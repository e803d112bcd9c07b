"""How schemas relate to each other: whether two exclude each other, and what several say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from .nodes import ANNOTATIONS, Schema, kinds_of

Resolve = Callable[[str], Any]


def are_disjoint(options: Sequence[Any], resolve: Resolve) -> bool:
    """Whether no value satisfies two of the options, as far as their types or a tag property prove it."""
    seen = [_resolved(option, resolve) for option in options]
    if _told_apart(seen, resolve):
        return True
    if len(seen) > _PAIRS:
        return False
    return all(_disjoint(one, other, resolve) for one, other in combinations(seen, 2))


_PAIRS = 100
"""Of more options not each pair is looked at."""


def _told_apart(options: Sequence[Any], resolve: Resolve) -> bool:
    """Whether the options name different values, or all require one property that does: the usual tagged union."""
    if _differ([_allowed_values(option) for option in options]):
        return True
    if not all(isinstance(option, Mapping) for option in options):
        return False
    common = set.intersection(*(set(option.get("required", ())) for option in options))
    return any(
        _differ([_allowed_values(_resolved(option.get("properties", {}).get(tag), resolve)) for option in options])
        for tag in common
    )


def _differ(named: Sequence[list[Any] | None]) -> bool:
    """Whether no value is named twice, as far as that can be told at once: by texts alone, or whole numbers alone."""
    seen: set[Any] = set()
    for values in named:
        if not values or any(type(value) not in (str, int) for value in values) or not seen.isdisjoint(values):
            return False
        seen.update(values)
    return len({type(value) for value in seen}) == 1


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
    allowed = {
        name: value if all(name in part.get("properties", {}) for part in closed) else False
        for name, value in properties.items()
    }
    merged: dict[str, Any] = {"type": "object", "properties": allowed, "required": required}
    return {**merged, "additionalProperties": False} if closed else merged


_MERGEABLE = frozenset({"type", "properties", "required", "additionalProperties"})
