"""How few tokens a valid answer can have: a lower bound, so that a hopeless `max_tokens` is refused before any work.

An answer is a sequence of literals (punctuation, keys, constants) and gaps (whatever the model chooses). Each token is
counted where its last byte lies. A literal then has at least as many tokens as the best split of it into vocabulary
entries, where the first piece may be the end of a token that begins before the literal and the last piece may be the
beginning of one that ends after it. These counts add up over literals, whatever is in the gaps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .finite import reference


class TokenCounter:
    """Counts the tokens that a literal needs at least. `vocabulary` holds each token's bytes."""

    def __init__(self, vocabulary: Sequence[bytes]) -> None:
        self._vocabulary = frozenset(token for token in vocabulary if token)
        self._longest = max(map(len, self._vocabulary), default=1)
        self._with_byte: dict[int, list[bytes]] = {}
        self._known: dict[bytes, int] = {b"": 0}

    def literal(self, text: bytes) -> int:
        """At least so many tokens end inside `text` in any text that contains it."""
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]

    def free(self, length: int) -> int:
        """At least so many tokens end inside any `length` bytes."""
        return max(0, -(-length // self._longest) - 1)

    def _count(self, text: bytes) -> int:
        reach = self._longest
        starting = self._containing(text[0])
        if any(text in token[:-1] for token in starting):
            return 0
        fewest: list[int | None] = [0] + [None] * len(text)
        for end in range(1, len(text) + 1):
            before = [fewest[start] for start in range(max(0, end - reach), end) if text[start:end] in self._vocabulary]
            counts = [count + 1 for count in before if count is not None]
            if end < reach and any(len(token) > end and token.endswith(text[:end]) for token in starting):
                counts.append(1)
            fewest[end] = min(counts, default=None)
        ends = [fewest[-1]]
        for start in range(max(0, len(text) - reach + 1), len(text)):
            rest = text[start:]
            if any(token.startswith(rest) for token in self._containing(rest[0])):
                ends.append(fewest[start])
        return min((count for count in ends if count is not None), default=0)

    def _containing(self, byte: int) -> list[bytes]:
        if byte not in self._with_byte:
            self._with_byte[byte] = [token for token in self._vocabulary if byte in token]
        return self._with_byte[byte]


@dataclass(frozen=True)
class _Span:
    """A stretch of an answer: a literal `head`, `inner` tokens, a literal `tail`; all of it literal if tail is None."""

    head: bytes
    inner: int = 0
    tail: bytes | None = None


class _Measure:
    def __init__(self, definitions: Mapping[str, Any], counter: TokenCounter) -> None:
        self._definitions = definitions
        self._counter = counter
        self._open: set[str] = set()
        self._known: dict[str, _Span] = {}

    def total(self, span: _Span) -> int:
        tail = span.tail or b""
        return self._counter.literal(span.head) + span.inner + self._counter.literal(tail)

    def node(self, schema: Mapping[str, Any]) -> _Span:
        if "$ref" in schema:
            return self._reference(reference(schema))
        if "const" in schema:
            return _constant(schema["const"])
        if "enum" in schema:
            return self._either([_constant(value) for value in schema["enum"]])
        if "anyOf" in schema:
            return self._either([self.node(option) for option in schema["anyOf"]])
        if "allOf" in schema:
            return max((self.node(part) for part in schema["allOf"]), key=self.total)
        kind = schema.get("type")
        if kind == "string":
            return _Span(b'"', self._counter.free(schema.get("minLength", 0)), b'"')
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return self._object(schema)
        if kind == "null":
            return _Span(b"null")
        if kind == "boolean":
            return self._either([_Span(b"true"), _Span(b"false")])
        return _Span(b"", 0, b"")

    def _reference(self, name: str) -> _Span:
        """Inside itself a recursive type counts as nothing, which keeps the bound a lower one."""
        if name in self._known:
            return self._known[name]
        if name in self._open:
            return _Span(b"", 0, b"")
        self._open.add(name)
        span = self.node(self._definitions[name])
        self._open.discard(name)
        if not self._open:
            self._known[name] = span
        return span

    def _array(self, schema: Mapping[str, Any]) -> _Span:
        least, prefix = schema.get("minItems", 0), list(schema.get("prefixItems", []))
        items = [self.node(item) for item in prefix[:least]]
        span = _Span(b"[")
        for index, item in enumerate(items):
            span = self._join(span, _Span(b"," if index else b""), item)
        repeats = least - len(items)
        if repeats > 0:
            item = self.node(schema["items"])
            if items:
                span = self._join(span, _Span(b","))
            if repeats > 1:
                pair = self._join(item, _Span(b","), _Span(b"", 0, b""))
                span = self._join(span, _Span(b"", (repeats - 1) * self.total(pair), b""))
            span = self._join(span, item)
        return self._join(span, _Span(b"]"))

    def _object(self, schema: Mapping[str, Any]) -> _Span:
        span = _Span(b"{")
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if any(name not in required for name in properties):
            span = _Span(b"{", 0, b"")  # an optional property may come first
        shown = [name for name in properties if name in required]
        for index, name in enumerate(shown):
            key = json.dumps(name, ensure_ascii=False).encode("utf-8", "replace")
            span = self._join(span, _Span((b"," if index else b"") + key + b":"), self.node(properties[name]))
            if len(shown) < len(properties):
                span = self._join(span, _Span(b"", 0, b""))
        if not shown and (properties or schema.get("patternProperties")):
            span = self._join(span, _Span(b"", 0, b""))
        return self._join(span, _Span(b"}"))

    def _join(self, *spans: _Span) -> _Span:
        joined = spans[0]
        for span in spans[1:]:
            tail = joined.tail
            if tail is None:
                joined = _Span(joined.head + span.head, span.inner, span.tail)
            elif span.tail is None:
                joined = _Span(joined.head, joined.inner, tail + span.head)
            else:
                middle = self._counter.literal(tail + span.head)
                joined = _Span(joined.head, joined.inner + middle + span.inner, span.tail)
        return joined

    def _either(self, spans: list[_Span]) -> _Span:
        if all(span == spans[0] for span in spans):
            return spans[0]
        return _Span(b"", min(self.total(span) for span in spans), b"")


def _constant(value: Any) -> _Span:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if "\\" in text or isinstance(value, float):  # may be written in more than one way
        return _Span(b"", 0, b"")
    return _Span(text.encode("utf-8", "replace"))


def min_tokens(schema: Mapping[str, Any], counter: TokenCounter) -> int:
    """A lower bound (at least 1) of the tokens of any text that a planned schema admits."""
    measure = _Measure(schema.get("$defs", {}), counter)
    return max(1, measure.total(measure.node(schema)))
