"""Where an unfinished JSON text stands in the schema it is decoded under, and how much it lacks at most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from .shortest import NUMBER, SEPARATOR, UNKNOWN_PATTERN, ShortestTexts

_QUOTE, _BACKSLASH, _COMMA, _COLON, _SPACE = b'"\\,: '
_OPENERS = {ord("{"): "object", ord("["): "array"}
_CLOSERS = frozenset(b"}]")


class Place(Enum):
    """What the next byte belongs to."""

    VALUE = auto()
    """A value that must come."""
    FIRST = auto()
    """The first item or key of a list or object, or its end."""
    KEY = auto()
    """A key that must come."""
    COLON = auto()
    STRING = auto()
    """The inside of a text or key."""
    SCALAR = auto()
    """A number or a word, until something else follows."""
    AFTER = auto()
    """A comma or an end."""


@dataclass(slots=True)
class _Frame:
    """An open list or object, which is one of `nodes` of the schema."""

    kind: str
    nodes: list[Mapping[str, Any]]
    outer: float
    """Bytes that all frames around it lack."""
    doubt: float
    """By how much that differs with what they are."""
    count: int = 0
    keys: set[str] = field(default_factory=set)
    lacking: dict[int, float] = field(default_factory=dict)
    """Bytes of the properties that must still come, for each of `nodes` that was asked about, by its id."""
    value: list[Any] = field(default_factory=list)
    """What the current item or property may be: a node for each of `nodes` that has it."""


class OpenPath:
    """Follows the bytes of one JSON text that a planned schema admits; the text is trusted to be one.

    `lacks()` bounds from above how many bytes the shortest end of the text has. It costs O(1) a byte, since only the
    innermost open list or object is looked at.
    """

    def __init__(self, texts: ShortestTexts) -> None:
        self._texts = texts
        self._frames: list[_Frame] = []
        self._value: list[Any] = [texts.schema]
        self._place = Place.VALUE
        self._text = bytearray()  # of the key being read
        self._is_key = self._escaped = False
        self._within = 0.0  # what the text being read may lack
        self._undecided = False  # whether its next bytes decide how much
        self._lacks: float | None = None
        self.begun: Sequence[Any] = ()
        """The nodes that the value which began last may be one of."""

    @property
    def place(self) -> Place:
        return self._place

    @property
    def depth(self) -> int:
        """Open lists and objects."""
        return len(self._frames)

    def feed(self, data: bytes) -> None:
        """The text goes on with these bytes."""
        if self._place is Place.STRING and not self._is_key and not self._escaped:
            end = data.find(b'"')
            if end < 0 and b"\\" not in data:
                return
        self._lacks = None
        for byte in data:
            self._byte(byte)

    def lacks(self) -> float:
        """Bytes of the shortest end at most."""
        if self._lacks is None:
            self._lacks = self._current() + (self._open(self._frames[-1]) if self._frames else 0.0)
        return self._lacks

    def doubt(self) -> float:
        """By how many bytes the shortest end may grow without `lacks` growing: while it is open which of several values
        or types the text will turn out to be."""
        doubt = self._doubt_of(self._frames[-1]) if self._frames else 0.0
        if self._place is Place.SCALAR or (self._place is Place.STRING and (self._is_key or self._undecided)):
            doubt += self._current()
        return doubt

    # --- the machine -------------------------------------------------------------------------------------------------

    def _byte(self, byte: int) -> None:
        place = self._place
        if place is Place.STRING:
            self._in_string(byte)
        elif byte == _SPACE or (place is Place.SCALAR and byte not in b",]}"):
            return
        elif byte in _CLOSERS:
            self._frames.pop()
            self._place = Place.AFTER
        elif byte == _COMMA:
            frame = self._frames[-1]
            self._place = Place.KEY if frame.kind == "object" else Place.VALUE
            if frame.kind == "array":
                self._next_item(frame)
        elif byte == _COLON:
            self._place = Place.VALUE
        elif place is Place.KEY or (place is Place.FIRST and self._frames[-1].kind == "object"):
            self._begin_text(is_key=True)
        else:
            if place is Place.FIRST:
                self._next_item(self._frames[-1])
            self._begin_value(byte)

    def _next_item(self, frame: _Frame) -> None:
        frame.value = []
        for node in frame.nodes:
            prefix = node.get("prefixItems", ())
            frame.value.append(prefix[frame.count] if frame.count < len(prefix) else node.get("items"))
        frame.count += 1

    def _begin_value(self, byte: int) -> None:
        nodes = self.begun = self._frames[-1].value if self._frames else self._value
        if byte == _QUOTE:
            self._begin_text(is_key=False)
            texts = self._texts
            found = [node for one in nodes for node in texts.variants(one, "string")]
            self._within = _most(texts.begun(node) for node in found)
            self._undecided = any(not texts.is_plain(node) for node in found)
        elif byte in _OPENERS:
            kind = _OPENERS[byte]
            outer, doubt = (
                (self._open(self._frames[-1]), self._doubt_of(self._frames[-1])) if self._frames else (0.0, 0.0)
            )
            found = [node for one in nodes for node in self._texts.variants(one, kind)]
            self._frames.append(_Frame(kind, found, outer, doubt))
            self._place = Place.FIRST
        else:
            self._place = Place.SCALAR

    def _begin_text(self, is_key: bool) -> None:
        self._place, self._is_key, self._escaped = Place.STRING, is_key, False
        self._text.clear()

    def _in_string(self, byte: int) -> None:
        if self._is_key:
            self._text.append(byte)
        if self._escaped:
            self._escaped = False
        elif byte == _BACKSLASH:
            self._escaped = True
        elif byte == _QUOTE:
            self._place = Place.COLON if self._is_key else Place.AFTER
            if self._is_key:
                self._take_key(self._frames[-1])

    def _take_key(self, frame: _Frame) -> None:
        """A key is complete: only nodes that have it are left, unless none has."""
        try:
            key: str = json.loads(b'"' + bytes(self._text))
        except ValueError:  # nothing that a grammar of ours admits
            key = ""
        if key not in frame.keys:
            for node in frame.nodes:
                if id(node) in frame.lacking:
                    frame.lacking[id(node)] -= self._texts.required(node).get(key, 0.0)
        frame.keys.add(key)
        frame.count += 1
        having = [node for node in frame.nodes if key in node.get("properties", {}) or "patternProperties" in node]
        frame.nodes = having or frame.nodes
        frame.value = []
        for node in frame.nodes:
            if key in node.get("properties", {}):
                frame.value.append(node["properties"][key])
            else:
                frame.value.extend(node.get("patternProperties", {}).values())

    # --- the bound ---------------------------------------------------------------------------------------------------

    def _open(self, frame: _Frame) -> float:
        """What the frame and all around it lack."""
        return frame.outer + _most(self._rest(node, frame) for node in frame.nodes) + 1.0

    def _doubt_of(self, frame: _Frame) -> float:
        lengths = [self._rest(node, frame) for node in frame.nodes]
        named = any(node.get("type") != frame.kind for node in frame.nodes)
        return frame.doubt + (_most(lengths) - (0.0 if named else min(lengths, default=0.0)))

    def _rest(self, node: Mapping[str, Any], frame: _Frame) -> float:
        if node.get("type") != frame.kind:  # its values are named
            return self._texts.begun(node)
        if frame.kind == "array":
            return self._texts.items(node, frame.count)
        lacking = frame.lacking.get(id(node))
        if lacking is None:
            required = self._texts.required(node)
            lacking = sum(length for name, length in required.items() if name not in frame.keys)
            frame.lacking[id(node)] = lacking
        return lacking + self._texts.entries(node, frame.count)

    def _current(self) -> float:
        """What the key or value being read lacks."""
        frame = self._frames[-1] if self._frames else None
        nodes: Sequence[Any] = frame.value if frame else self._value
        if self._place is Place.STRING and not self._is_key:
            return self._within + 1.0
        if self._place is Place.SCALAR:
            return float(NUMBER)
        if self._place in (Place.VALUE, Place.COLON):
            return SEPARATOR + _most(self._texts.of(node) for node in nodes)
        if frame is not None and self._place in (Place.KEY, Place.STRING):
            return 1.0 + _most(self._optional(node, frame.keys) for node in frame.nodes)
        return 0.0

    def _optional(self, node: Mapping[str, Any], keys: set[str]) -> float:
        """A property or entry that has begun, of those that nothing has required yet."""
        properties = (length for name, length in self._texts.optional(node).items() if name not in keys)
        entries = (
            self._texts.entry(pattern, value) + UNKNOWN_PATTERN
            for pattern, value in node.get("patternProperties", {}).items()
        )
        return max(_most(properties), _most(entries))


def _most(lengths: Iterable[float]) -> float:
    return max(lengths, default=0.0)
