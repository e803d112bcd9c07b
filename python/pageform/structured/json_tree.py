"""JSON values as the layers of leniency pass them on: plain Python values, but numbers as they are written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from .diagnose import path as written
from .leniency import RULES


@dataclass(frozen=True, slots=True)
class Number:
    """A number as JSON writes it (or NaN, Infinity, -Infinity): nothing is rounded on the way through."""

    text: str


Tree = None | bool | str | Number | list[Any] | dict[str, Any]
"""None, bool, str, Number, and lists and dicts of them."""

Path = tuple[str | int, ...]


class CutText(str):
    """Text whose end is missing: good as text, not as anything that must be complete to be understood."""

    __slots__ = ()


class Repair(NamedTuple):
    """One thing that was changed: by which rule of which layer, where, what was there and what it became.

    `path` leads to the value inside the answer, as in Pydantic's errors. `before` and `after` are JSON values or text.
    """

    layer: str
    rule: str
    path: Path
    before: Any
    after: Any
    cost: float

    def __str__(self) -> str:
        where = written(self.path) or "the answer"
        return f"{self.layer}/{self.rule}: {where}: {_short(self.before)} → {_short(self.after)}"


def repair(rule: str, path: Path, before: Any, after: Any) -> Repair:
    """An entry of the log; layer and cost are the rule's. `before` and `after` may be trees until it is `told`."""
    known = RULES[rule]
    return Repair(known.layer, rule, path, before, after, known.cost)


def told(entry: Repair) -> Repair:
    """An entry as a caller sees it, with plain Python values."""
    return entry._replace(before=plain(entry.before), after=plain(entry.after))


def plain(tree: Any) -> Any:
    """A tree with Python's own numbers, for people to look at."""
    if isinstance(tree, Number):
        try:
            return json.loads(tree.text)
        except ValueError:  # more digits than Python turns into an int
            return tree.text
    if isinstance(tree, CutText):
        return str(tree)
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree


def dump(tree: Tree) -> str:
    """The tree as compact JSON."""
    pieces: list[str] = []
    _dump(tree, pieces.append)
    return "".join(pieces)


def _dump(tree: Any, add: Any) -> None:
    if isinstance(tree, Number):
        add(tree.text)
    elif isinstance(tree, dict):
        add("{")
        for count, (key, value) in enumerate(tree.items()):
            add(("," if count else "") + json.dumps(key, ensure_ascii=False) + ":")
            _dump(value, add)
        add("}")
    elif isinstance(tree, list):
        add("[")
        for count, value in enumerate(tree):
            if count:
                add(",")
            _dump(value, add)
        add("]")
    else:
        add(json.dumps(tree, ensure_ascii=False))


class Duplicate(ValueError):
    """A key occurs twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Duplicate
    return made


DECODER = json.JSONDecoder(
    parse_float=Number, parse_int=Number, parse_constant=Number, object_pairs_hook=_object, strict=True
)
"""Reads correct JSON into trees; raises `Duplicate`, `ValueError` or `RecursionError`."""


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return repr(shown if len(shown) <= 80 else shown[:77] + "…") if isinstance(value, str) else shown[:80]
