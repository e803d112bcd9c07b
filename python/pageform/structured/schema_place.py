"""Finding the part of a JSON schema that a place in a value belongs to, and saying in a few words what it allows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .bounded import cut
from .schema_walk import follow

Node = Mapping[str, Any]
Step = int | str

_BRANCHES = ("anyOf", "oneOf", "allOf")
_MOST = 64
"""Branches of nested unions that are looked at."""
_SHOWN = 8
"""Options of an enum, and keys of an object, that are named."""
_FORMATS = {
    "date-time": "date and time such as 2024-12-31T08:30:00",
    "date": "date such as 2024-12-31",
    "time": "time such as 08:30:00",
    "duration": "ISO 8601 duration such as PT1H30M",
    "uuid": "UUID",
    "email": "email address",
    "uri": "URL",
}


class SchemaPlaces:
    """The nodes of a schema that may stand at a place. A union gives several; a place it doesn't know gives none."""

    def __init__(self, root: Node) -> None:
        self._root = root

    def at(self, loc: Sequence[Step]) -> tuple[list[Node], tuple[Step, ...]]:
        """The nodes at a Pydantic location, and the location without the names of union branches in it."""
        nodes, place = self._open([self._root]), []
        for step in loc:
            below = [child for node in nodes for child in _children(node, step)]
            if below:
                place.append(step)
                nodes = self._open(below)
            elif isinstance(step, str) and _has_branch(nodes, step):
                nodes = self._branch(nodes, step) or nodes
            else:
                place.append(step)
                nodes = []
        return [node for node in nodes if not any(key in node for key in _BRANCHES)], tuple(place)

    def keys(self, loc: Sequence[Step]) -> list[str]:
        """The names of the properties that an object at that place may have."""
        return list(dict.fromkeys(name for node in self.at(loc)[0] for name in node.get("properties", ())))

    def _open(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes with references followed, and the branches of unions beside the unions themselves."""
        opened: list[Node] = []
        todo = list(reversed(nodes))
        while todo and len(opened) < _MOST:
            node = self._target(todo.pop())
            if any(node is seen for seen in opened):
                continue
            opened.append(node)
            for key in _BRANCHES:
                todo.extend(branch for branch in reversed(node.get(key, ())) if isinstance(branch, Mapping))
        return opened

    def _target(self, node: Node) -> Node:
        for _ in range(_MOST):
            reference = node.get("$ref")
            if not isinstance(reference, str):
                break
            try:
                found = follow(reference, self._root)
            except LookupError:
                break
            if not isinstance(found, Mapping):
                break
            node = found
        return node

    def _branch(self, nodes: Sequence[Node], name: str) -> list[Node]:
        """The branch of the unions among `nodes` that Pydantic calls by that name: a tag, a class, a type."""
        for node in nodes:
            reference = node.get("discriminator", {}).get("mapping", {}).get(name)
            if reference is not None:
                return self._open([{"$ref": reference}])
        return [node for node in nodes if name in _names(node)]


def brief(nodes: Sequence[Node]) -> str | None:
    """What the nodes allow, in one line; None if that is not known."""
    parts = list(dict.fromkeys(part for part in map(_brief, nodes) if part))
    return cut(" or ".join(parts)) if parts else None


def options(nodes: Sequence[Node]) -> list[Any]:
    """The values that enums and constants among the nodes list."""
    return [value for node in nodes for value in (node.get("enum") or ([node["const"]] if "const" in node else ()))]


def _children(node: Node, step: Step) -> Iterator[Node]:
    if isinstance(step, int):
        first = node.get("prefixItems", ())
        child = first[step] if 0 <= step < len(first) else node.get("items")
    else:
        child = node.get("properties", {}).get(step, node.get("additionalProperties"))
    if isinstance(child, Mapping):
        yield child


def _has_branch(nodes: Sequence[Node], name: str) -> bool:
    """Whether a step that names no key may be the name of a branch. Names with brackets are never keys of a model."""
    unions = any("anyOf" in node or "oneOf" in node for node in nodes)
    return unions or name.endswith("]")


def _names(node: Node) -> set[str]:
    kinds = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "none", "object": "dict"}
    kind = node.get("type")
    return {str(node.get("title")), kinds.get(kind, "") if isinstance(kind, str) else ""}


def _brief(node: Node) -> str | None:
    listed = options([node])
    if listed:
        shown = ", ".join(json.dumps(value, ensure_ascii=False, default=str) for value in listed[:_SHOWN])
        more = f", … ({len(listed) - _SHOWN} more)" if len(listed) > _SHOWN else ""
        return shown if len(listed) == 1 else f"one of {shown}{more}"
    kind = node.get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    if kind == "object" or "properties" in node:
        keys = list(node.get("properties", ()))
        more = ", …" if len(keys) > _SHOWN else ""
        return f"object with the keys {', '.join(keys[:_SHOWN])}{more}" if keys else "object"
    if kind == "array":
        return "list" + _range(node.get("minItems"), node.get("maxItems"), " items")
    if kind == "string":
        text = _FORMATS.get(str(node.get("format")), "string")
        if "pattern" in node:
            text += f" matching {cut(str(node['pattern']), 80)}"
        return text + _range(node.get("minLength"), node.get("maxLength"), " characters")
    if kind in ("integer", "number"):
        return str(kind) + _bounds(node)
    return "true or false" if kind == "boolean" else kind


def _range(low: Any, high: Any, unit: str) -> str:
    if low is None and high is None:
        return ""
    if low is None:
        return f" (at most {high}{unit})"
    return f" (at least {low}{unit})" if high is None else f" ({low} to {high}{unit})"


def _bounds(node: Node) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
        "multipleOf": "a multiple of",
    }
    parts = [f"{word} {node[key]}" for key, word in words.items() if key in node]
    return f" ({', '.join(parts)})" if parts else ""
