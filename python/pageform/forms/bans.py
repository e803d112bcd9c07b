"""Values that a field may not take again, as tokens that may not come next.

A field that is decoded again must not arrive where it failed. A ban is on a value: its spelling is dead, up to the byte
that completes it, and so is every other spelling once it has turned up. A token is forbidden if it would complete dead
text. Where all tokens are, the text so far is dead as well, and the way back begins: one token less, until some other
token is left or the field has no other value to offer.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class Vocabulary(Protocol):
    """The part of a tokenizer that knows the text of tokens."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def special_ids(self) -> frozenset[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...


class TokenPrefixes:
    """The tokens of a vocabulary in the order of their bytes. Immutable; one serves all requests of an engine."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        special = vocabulary.special_ids
        texts = ((vocabulary.token_bytes(i), i) for i in range(vocabulary.vocab_size) if i not in special)
        self._sorted = sorted(pair for pair in texts if pair[0])
        self._ids = dict(reversed(self._sorted))
        self._longest = max((len(text) for text, _ in self._sorted), default=0)

    def spell(self, text: bytes) -> list[int]:
        """Tokens whose bytes are exactly `text`: from the left, the longest that fits."""
        tokens: list[int] = []
        at = 0
        while at < len(text):
            size = next(n for n in range(min(self._longest, len(text) - at), 0, -1) if text[at : at + n] in self._ids)
            tokens.append(self._ids[text[at : at + size]])
            at += size
        return tokens

    def beginning_with(self, text: bytes) -> Iterator[int]:
        """The tokens whose bytes begin with `text`."""
        at = bisect_left(self._sorted, (text, -1))
        while at < len(self._sorted) and self._sorted[at][0].startswith(text):
            yield self._sorted[at][1]
            at += 1


class Bans:
    """The values that one field may not take, and the text that leads to them."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._dead: set[bytes] = set()

    def add(self, text: bytes) -> None:
        """Bans the value of which `text` is the JSON, in this spelling and, once they turn up, in others."""
        self._values.add(_canonical(text))
        self._dead.update(_endings(text))

    def add_dead_end(self, text: bytes) -> None:
        """The beginning of a value from which only banned ones can be reached."""
        self._dead.add(text)

    def __contains__(self, text: bytes) -> bool:
        """Whether the value of a JSON text is banned, in whatever spelling."""
        return _canonical(text) in self._values

    def forbidden(self, text: bytes, prefixes: TokenPrefixes) -> Iterator[int]:
        """The tokens that may not follow after `text`, the field's beginning so far."""
        for dead in self._dead:
            if len(dead) > len(text) and dead.startswith(text):
                yield from prefixes.beginning_with(dead[len(text) :])


def _endings(text: bytes) -> Iterable[bytes]:
    """The text up to the byte that completes its value: a number is complete only with what follows it."""
    return [text + end for end in (b",", b"}", b"]")] if text[-1:].isdigit() else [text]


def _canonical(text: bytes) -> str:
    """The same text for equal values, whatever their spelling."""
    return json.dumps(_plain(json.loads(text)), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
