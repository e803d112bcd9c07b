"""The shortest way to end a text that a grammar has begun.

The search is best first over bytes (Dijkstra 1959), on copies of the matcher: it goes along what the grammar forces and
branches where it does not. Where a list, object, text or number may end, it ends, since whatever else came would have
to be ended as well. States that look alike (the same open brackets, counts and allowed tokens) are visited once. What
is found is a text that the matcher itself has accepted, so it is always an end, and in all but contrived grammars a
shortest one. The bytes then become the fewest tokens that spell them.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .matcher import LlgMatcher, Mask

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_FEW = 12
"""So many bytes are all tried; of more, a few that differ."""
_SAMPLES = b"a0A -/.:@"


class Vocabulary:
    """Tokens as bytes. Tokens of `never` are left out, and so are special ones."""

    def __init__(self, tokenizer: LLTokenizer, never: Iterable[int] = ()) -> None:
        import numpy as np

        self._tokenizer = tokenizer
        self._ids: dict[bytes, int] = {}
        excluded = set(never)
        for token in range(tokenizer.vocab_size):
            if token not in excluded and not tokenizer.is_special_token(token):
                self._ids.setdefault(bytes(tokenizer.decode_bytes([token])), token)
        self._ids.pop(b"", None)
        self._longest = max(map(len, self._ids), default=1)
        self.num_mask_words = (tokenizer.vocab_size + 31) // 32
        single = sorted((text[0], token) for text, token in self._ids.items() if len(text) == 1)
        self.token_of_byte = dict(single)
        self._bytes = np.array([byte for byte, _ in single], np.uint8)
        tokens = np.array([token for _, token in single], np.int64)
        self._word, self._bit = tokens // 32, (tokens % 32).astype(np.uint32)
        self._specials: Mapping[bytes, int] = {}

    def with_specials(self, specials: Mapping[bytes, int]) -> Vocabulary:
        """The same one, which spells these control tokens where a text has their names."""
        made = copy.copy(self)
        made._specials = specials
        return made

    def text(self, tokens: Iterable[int]) -> bytes:
        """The bytes of some tokens."""
        return bytes(self._tokenizer.decode_bytes(list(tokens)))

    def allowed_bytes(self, mask: Mask) -> bytes:
        """The bytes whose own tokens a mask allows, in order."""
        allowed: bytes = self._bytes[(mask[self._word] >> self._bit & 1).astype(bool)].tobytes()
        return allowed

    def spell(self, text: bytes) -> list[int] | None:
        """The fewest tokens that a text can be written with; None if the vocabulary can't spell it."""
        if not self._specials:
            return self._spell(text)
        tokens: list[int] = []
        for piece in split(text, self._specials):
            spelled = [piece] if isinstance(piece, int) else self._spell(piece)
            if spelled is None:
                return None
            tokens += spelled
        return tokens

    def _spell(self, text: bytes) -> list[int] | None:
        fewest: list[tuple[int, int] | None] = [(0, 0), *itertools.repeat(None, len(text))]  # (tokens, start of last)
        for end in range(1, len(text) + 1):
            for start in range(max(0, end - self._longest), end):
                before = fewest[start]
                if before is not None and text[start:end] in self._ids:
                    known = fewest[end]
                    if known is None or before[0] + 1 < known[0]:
                        fewest[end] = (before[0] + 1, start)
        tokens: list[int] = []
        end = len(text)
        while end > 0:
            step = fewest[end]
            if step is None:
                return None
            tokens.append(self._ids[text[step[1] : end]])
            end = step[1]
        return tokens[::-1]


def split(text: bytes, specials: Mapping[bytes, int]) -> list[bytes | int]:
    """A text cut at the names of control tokens, which become their ids."""
    if not specials:
        return [text] if text else []
    pattern = b"|".join(b"(" + re.escape(name) + b")" for name in sorted(specials, key=len, reverse=True))
    return [specials.get(piece, piece) for piece in re.split(pattern, text) if piece]


@dataclass(frozen=True, slots=True)
class TextState:
    """What of a text matters for ending it.

    In JSON: `mode` says whether a "string", an "escape" in it, or a "scalar" (number or word) is being read, of which
    `length` bytes have come; `brackets` are the open ones, each with the number of commas in it. With mode "plain",
    other text.
    """

    mode: str = ""
    length: int = 0
    brackets: tuple[tuple[int, int], ...] = ()

    def after(self, data: bytes) -> TextState:
        """The state after some more bytes."""
        if self.mode == "plain":
            return TextState("plain", self.length + len(data))
        mode, length, brackets = self.mode, self.length, self.brackets
        for byte in data:
            length += 1
            if mode == "escape":
                mode = "string"
            elif mode == "string":
                mode = "escape" if byte == 0x5C else "" if byte == 0x22 else mode
            elif byte == 0x22:
                mode, length = "string", 0
            elif byte in b"{[":
                mode, brackets = "", (*brackets, (byte, 0))
            elif byte in b"}]":
                mode, brackets = "", brackets[:-1]
            elif byte == 0x2C and brackets:
                bracket, commas = brackets[-1]
                mode, brackets = "", (*brackets[:-1], (bracket, commas + 1))
            elif byte == 0x3A:
                mode = ""
            elif mode == "":
                mode, length = "scalar", 1
        return TextState(mode, length if mode else 0, brackets)

    def choices(self, allowed: bytes) -> bytes:
        """Which of the bytes that may come lead to an end soonest."""
        if self.mode == "string":
            return b'"' if 0x22 in allowed and len(allowed) > _FEW else _some(allowed)
        if self.mode in ("", "scalar"):
            for end in b"}]," if self.mode else b"}]":
                if end in allowed:
                    return bytes((end,))
        return _some(allowed)


def _some(allowed: bytes) -> bytes:
    if len(allowed) <= _FEW:
        return allowed
    samples = [byte for byte in _SAMPLES if byte in allowed]
    return bytes(dict.fromkeys([*samples, allowed[0], allowed[-1]]))


def _ascii(allowed: bytes) -> bytes:
    """The bytes without the beginnings of longer characters, unless nothing else may come."""
    return bytes(byte for byte in allowed if byte < 0x80) or allowed


def shortest_end(
    matcher: LlgMatcher, state: TextState, vocabulary: Vocabulary, most_states: int, hints: Sequence[bytes] = ()
) -> list[int] | None:
    """The fewest tokens that end the text, none for one that is complete; None if `most_states` states show no end.

    `state` is where the text stands. `hints` are tried inside of texts: masks don't show the way to a pattern that may
    match anywhere in a text. The matcher is left as it is.
    """
    for thorough in (False, True):
        text = _Search(vocabulary, hints, thorough).run(matcher, state, most_states // 4 if thorough else most_states)
        tokens = None if text is None else vocabulary.spell(text)
        if tokens is not None and ends(matcher, tokens):
            return tokens
    return None


@dataclass(frozen=True, slots=True)
class _Node:
    """A text that may be gone on with, and the matcher after it. `uniform` where its last byte made no difference."""

    text: bytes
    at: LlgMatcher
    place: TextState
    mask: bytes
    uniform: bool = False

    def is_like(self, before: _Node) -> bool:
        """Whether it came by a byte that changed nothing."""
        return self.mask == before.mask and len(self.text) == len(before.text) + 1 and self.place.mode == "string"


class _Search:
    """One search. A `thorough` one tries all bytes wherever many may come."""

    def __init__(self, vocabulary: Vocabulary, hints: Sequence[bytes], thorough: bool) -> None:
        import numpy as np

        self._vocabulary = vocabulary
        self._hints = hints
        self._thorough = thorough
        self._row: Mask = np.zeros(vocabulary.num_mask_words, np.uint32)
        self._order = itertools.count()
        self._heap: list[tuple[int, int, _Node]] = []
        self._visited: set[tuple[TextState, bytes, bytes]] = set()

    def run(self, matcher: LlgMatcher, state: TextState, most_states: int) -> bytes | None:
        """The text of the end that was found."""
        self._push(self._settle(b"", matcher.fork(), state), None)
        while self._heap and len(self._visited) < most_states:
            _, _, node = heapq.heappop(self._heap)
            if node.at.is_accepting():
                return node.text
            followers = list(self._followers(node))
            # Where no byte makes a difference, as in a text that is not long enough yet, more of the same will do.
            uniform = (node.uniform or len(followers) > 1) and all(one.is_like(node) for one in followers)
            for one in followers[:1] if uniform else followers:
                self._push(replace(one, uniform=True) if uniform else one, node)
        return None

    def _followers(self, node: _Node) -> Iterator[_Node]:
        """What may come next, of each kind one."""
        import numpy as np

        allowed = _ascii(self._vocabulary.allowed_bytes(np.frombuffer(node.mask, np.uint32)))
        choices = allowed if self._thorough else node.place.choices(allowed)
        pieces = [bytes((byte,)) for byte in (node.text[-1:] if node.uniform else choices)]
        if node.place.mode == "string" and len(allowed) > _FEW and not node.uniform:
            pieces += self._hints
        for piece in pieces:
            at = node.at.fork()
            if all(at.accept(self._vocabulary.token_of_byte.get(byte, -1)) for byte in piece):
                yield self._settle(node.text + piece, at, node.place.after(piece))

    def _settle(self, text: bytes, at: LlgMatcher, place: TextState) -> _Node:
        """The node of a text, after all that the grammar forces behind it."""
        while not at.is_accepting() and (forced := at.forced()):
            data = self._vocabulary.text(forced)
            if not data or not all(at.accept(token) for token in forced):
                break
            text, place = text + data, place.after(data)
        at.fill_mask(self._row)
        return _Node(text, at, place, self._row.tobytes())

    def _push(self, node: _Node, before: _Node | None) -> None:
        """Keeps a node unless one like it is known. Masks tell least inside of texts, so the one before counts as well;
        without brackets to go by, only siblings are taken to be alike."""
        past = b""
        if before is not None and node.place.mode:
            past = before.text if node.place.mode == "plain" else before.mask
        key = (node.place, node.mask, past)
        if key not in self._visited:
            self._visited.add(key)
            heapq.heappush(self._heap, (len(node.text), next(self._order), node))


def ends(matcher: LlgMatcher, tokens: Iterable[int]) -> bool:
    """Whether the text is complete after these tokens."""
    follower = matcher.fork()
    return all(follower.accept(token) for token in tokens) and follower.is_accepting()


def after_character(matcher: LlgMatcher, tokens: Sequence[int], vocabulary: Vocabulary) -> list[int] | None:
    """The tokens, behind the bytes that an incomplete character lacks; None if they may not come even then."""
    import numpy as np

    at, missing = matcher.fork(), list[int]()
    row: Mask = np.zeros(vocabulary.num_mask_words, np.uint32)
    while not _may_come(at, tokens):
        at.fill_mask(row)
        allowed = vocabulary.allowed_bytes(row)
        if not allowed or min(allowed) < 0x80 or len(missing) == 3:
            return None
        missing.append(vocabulary.token_of_byte[allowed[0]])
        at.accept(missing[-1])
    return [*missing, *tokens]


def _may_come(matcher: LlgMatcher, tokens: Iterable[int]) -> bool:
    follower = matcher.fork()
    return all(follower.accept(token) for token in tokens)
