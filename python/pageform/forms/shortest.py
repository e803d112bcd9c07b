"""How long the shortest text of a planned schema is at most, in bytes: cheap, and true of every tokenizer with a token
for each byte."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from .example import example
from .finite import reference

NUMBER = 28
"""A decoded number: at most 17 digits, sign, point and exponent."""
SEPARATOR = 2.0
"""A comma or a colon, with its space."""
UNKNOWN_PATTERN = 64
"""What a text with a pattern is taken to lack in the midst of it, beside its shortest."""


class ShortestTexts:
    """Byte lengths of nodes of one planned schema. Upper bounds: some text of each node is no longer."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        self._references: dict[str, float] = dict.fromkeys(self._definitions, math.inf)
        self._known: dict[int, float] = {}
        self._begun: dict[int, float] = {}
        self._settled = False  # whether lengths may be kept: those of the definitions are known
        self._required: dict[int, dict[str, float]] = {}
        self._optional: dict[int, dict[str, float]] = {}
        # Knuth's generalization of Dijkstra's algorithm finds this in one pass by a heap; definitions are few.
        while True:
            found = {name: self._length(node) for name, node in self._definitions.items()}
            if found == self._references:
                break
            self._references = found
        self._settled = True

    @cached_property
    def examples(self) -> tuple[bytes, ...]:
        """Shortest texts of its patterns as they stand in JSON, without the quotes."""
        found = dict.fromkeys(example(pattern) for pattern in _patterns(self.schema))
        return tuple(json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace") for text in found if text)

    def of(self, node: Any) -> float:
        """Bytes of the shortest text of a node."""
        if not self._settled:
            return self._length(node)
        known = self._known.get(id(node))
        if known is None:
            known = self._known[id(node)] = self._length(node)
        return known

    def variants(self, node: Any, kind: str) -> Iterator[Mapping[str, Any]]:
        """The nodes of type `kind` that a value of `node` may be one of; what names values counts as each type."""
        if not isinstance(node, Mapping):
            return
        if "$ref" in node:
            yield from self.variants(self._definitions[reference(node)], kind)
        for part in (*node.get("anyOf", ()), *node.get("allOf", ())):
            yield from self.variants(part, kind)
        if node.get("type") == kind or "const" in node or "enum" in node:
            yield node

    @staticmethod
    def is_plain(node: Mapping[str, Any]) -> bool:
        """Whether a text may end as soon as it is long enough, whatever is in it."""
        return not {"const", "enum", "pattern"} & node.keys()

    def begun(self, node: Mapping[str, Any]) -> float:
        """Bytes that a value of a node may lack once it has begun, which decides between the values of an enum."""
        known = self._begun.get(id(node))
        if known is None:
            if "const" in node or "enum" in node:
                known = max(_written(value) for value in node.get("enum", [node.get("const")]))
            else:
                known = self.of(node) + (UNKNOWN_PATTERN if "pattern" in node else 0.0)
            self._begun[id(node)] = known
        return known

    def _length(self, node: Any) -> float:
        if not isinstance(node, Mapping):
            return 4.0
        if "$ref" in node:
            return self._references[reference(node)]
        if "const" in node:
            return _written(node["const"])
        if "enum" in node:
            return min(_written(value) for value in node["enum"])
        if "anyOf" in node:
            return min(self._length(option) for option in node["anyOf"])
        if "allOf" in node:
            return sum(self._length(part) for part in node["allOf"])
        kind = node.get("type")
        if kind == "string":
            return 2.0 + float(node.get("minLength", 0)) + _width(node.get("pattern"))
        if kind == "array":
            return 2.0 + self.items(node, 0)
        if kind == "object":
            given = node.get("properties", {})
            required = sum(self.property(name, given.get(name)) for name in node.get("required", ()))
            return 2.0 + required + self.entries(node, 0)
        return {"boolean": 5.0, "null": 4.0}.get(str(kind), float(NUMBER))

    def items(self, node: Mapping[str, Any], count: int) -> float:
        """Bytes of the items that a list with `count` of them lacks, with a comma each."""
        prefix, least = node.get("prefixItems", ()), node.get("minItems", 0)
        length = sum(self.of(item) + SEPARATOR for item in prefix[count:least])
        rest = least - max(count, len(prefix))
        return length + (rest * (self.of(node.get("items")) + SEPARATOR) if rest > 0 else 0.0)

    def required(self, node: Mapping[str, Any]) -> dict[str, float]:
        """Bytes of each property that an object must have, with a comma. Not to be changed."""
        known = self._required.get(id(node))
        if known is None:
            given = node.get("properties", {})
            known = {name: self.property(name, given.get(name)) for name in node.get("required", ())}
            self._required[id(node)] = known
        return known

    def optional(self, node: Mapping[str, Any]) -> dict[str, float]:
        """The same of each property that an object may have."""
        known = self._optional.get(id(node))
        if known is None:
            required = self.required(node)
            given = node.get("properties", {}).items()
            known = {name: self.property(name, value) for name, value in given if name not in required}
            self._optional[id(node)] = known
        return known

    def entries(self, node: Mapping[str, Any], count: int) -> float:
        """Bytes of the entries that a map with `count` of them lacks, with a comma each."""
        patterns = node.get("patternProperties")
        lacking = node.get("minProperties", 0) - count
        if not patterns or lacking <= 0:
            return 0.0
        return float(lacking * min(self.entry(pattern, value) for pattern, value in patterns.items()))

    def property(self, name: str, node: Any) -> float:
        """Bytes of a property with its key and a comma."""
        return _written(name) + 2.0 * SEPARATOR + self._length(node)

    def entry(self, pattern: str, node: Any) -> float:
        """Bytes of an entry of a map with its key and a comma."""
        return _width(pattern) + 2.0 + 2.0 * SEPARATOR + self._length(node)


def _patterns(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("pattern"), str):
            yield node["pattern"]
        for inner in node.values():
            yield from _patterns(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _patterns(inner)


def _written(value: Any) -> float:
    return float(len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")))


def _width(pattern: str | None) -> float:
    """Bytes of the shortest text of a pattern; a guess on the safe side where Python can't read it."""
    if pattern is None:
        return 0.0
    try:
        parser: Any = re._parser  # type: ignore[attr-defined]
        low, _ = parser.parse(pattern).getwidth()
    except Exception:  # the syntax is Rust's
        return UNKNOWN_PATTERN
    return float(low) * (1.0 if pattern.isascii() else 4.0)
