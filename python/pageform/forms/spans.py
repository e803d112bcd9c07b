"""Where the values of a finished JSON text lie, and what its schema says of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..structured.json_text import JSONError
from .checks import Check
from .finite import reference
from .open_path import OpenPath
from .shortest import ShortestTexts
from .tracker import FieldTracker, Path

_ANYTHING = Check({"type": "any"}, {})


class Span(NamedTuple):
    """A value: bytes [start, end) of the text. `nodes` are those of the schema that it may be one of."""

    path: Path
    start: int
    end: int
    nodes: Sequence[Any]


def value_spans(text: bytes, texts: ShortestTexts | None) -> list[Span]:
    """The values of a text that have closed, in the order in which they begin; none if it is no JSON."""
    tracker = FieldTracker(_ANYTHING)
    try:
        closed = tracker.feed(text + b" ")  # a number ends with what follows
    except JSONError:
        return []
    closed.sort(key=lambda one: (one.start, -one.end))
    if texts is None:
        return [Span(one.path, one.start, one.end, ()) for one in closed]
    place, at, spans = OpenPath(texts), 0, []
    for one in closed:
        place.feed(text[at : one.start + 1])
        at = one.start + 1
        spans.append(Span(one.path, one.start, one.end, place.begun))
    return spans


def listed_values(nodes: Sequence[Any], definitions: Mapping[str, Any]) -> tuple[dict[bytes, Any], bool]:
    """The values that schema nodes list, by their JSON, and whether they admit others."""
    values: dict[bytes, Any] = {}
    has_others = not nodes
    todo, seen = list(nodes), set()
    while todo:
        node = todo.pop(0)
        if isinstance(node, Mapping) and "$ref" in node:
            name = reference(node)
            if name not in seen and name in definitions:
                seen.add(name)
                todo.insert(0, definitions[name])
        elif not isinstance(node, Mapping):
            has_others = True
        elif "const" in node or "enum" in node:
            for value in node.get("enum", [node.get("const")]):
                values.setdefault(written(value), value)
        elif "anyOf" in node:
            todo = [*node["anyOf"], *todo]
        elif node.get("type") == "boolean":
            values.setdefault(b"true", True)
            values.setdefault(b"false", False)
        elif node.get("type") == "null":
            values.setdefault(b"null", None)
        else:
            has_others = True
    return values, has_others


def written(value: Any) -> bytes:
    """A value as a grammar writes it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
