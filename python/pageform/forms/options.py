"""The probability of each value that a field may have, under the model restricted by the grammar.

    {"size":▢      options "small", "super", null
      "            0.94   undecided: its row of logits is asked for
        s          0.90   undecided: two options begin so
          m        0.88   "small", whatever comes
          uper     0.02   "super"
        sm         0.04   "small"
      nu           0.06   null

Decoding goes on from the last token before the field in one of many ways, token by token. Each way belongs to the
option that its text leads to, as soon as only one is left; its probability is the product of those of its tokens. So
all spellings of an option count, in whatever tokens, and only text that options share takes rows of logits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.confidence import ConfidenceOptions
from .bans import Vocabulary
from .matcher import Mask, Matcher

Logits = NDArray[np.float32]
"""[vocab], raw."""

_EXTENDABLE = b"0123456789.eE+-"


class TokenTexts:
    """The tokens of a vocabulary as bytes. Special tokens have none. Immutable; one serves an engine."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts
        self.first = np.array([text[0] if text else 256 for text in texts], np.int16)
        """[vocab] first byte of each token, 256 where it has none."""


def token_texts(vocabulary: Vocabulary, width: int) -> TokenTexts:
    """The texts of a vocabulary, for logits of `width` columns."""
    special, size = vocabulary.special_ids, vocabulary.vocab_size
    return TokenTexts([b"" if i >= size or i in special else vocabulary.token_bytes(i) for i in range(width)])


@dataclass(frozen=True, slots=True)
class Options:
    """What a field may be: the texts of its listed values, and whether it may be something else. After a value comes
    one of the bytes `ends`, or the end of the text."""

    texts: tuple[bytes, ...]
    has_others: bool
    ends: bytes = b",]}"


@dataclass(slots=True)
class _Way:
    """Tokens after the field's boundary, and the probability of going that way."""

    tokens: tuple[int, ...]
    text: bytes
    mass: float


class OptionTree:
    """The ways of one field. Sans I/O: `wanted` says after which tokens logits are needed, `take` brings them.

    `matcher` stands before the token in which the field begins, `lead` is what that token has before the field's first
    byte. `allowed` forbids further tokens.
    """

    def __init__(
        self,
        matcher: Matcher,
        lead: bytes,
        options: Options,
        vocabulary: TokenTexts,
        eos_ids: Iterable[int],
        limits: ConfidenceOptions,
        allowed: Mask | None = None,
    ) -> None:
        self.masses = [0.0] * len(options.texts)
        """Of each listed option, as far as it is decided."""
        self.others = 0.0
        self._matcher, self._lead, self._options = matcher, lead, options
        self._vocabulary, self._limits, self._allowed = vocabulary, limits, allowed
        self._numbers = {text: i for i, text in enumerate(options.texts)}
        self._sorted = sorted(options.texts)  # those that begin alike are neighbours
        self._is_lead_forced = matcher.forced_bytes().startswith(lead)
        self._eos = np.array(sorted(eos_ids), np.int64)
        self._rows = 0
        self._outside = 0.0  # ways on which the text before the field would be another
        self._lost = 0.0  # ways that nothing more is known of
        self._open: list[_Way] = []
        self._asked: dict[tuple[int, ...], _Way] = {}
        self._place(_Way((), b"", 1.0))

    @property
    def unresolved(self) -> float:
        """Mass of the ways that are not decided."""
        return self._lost + sum(way.mass for way in (*self._open, *self._asked.values()))

    @property
    def inside(self) -> float:
        """Mass of all ways that keep the text before the field: what the others are shares of."""
        return 1.0 - self._outside

    def wanted(self) -> list[tuple[int, ...]]:
        """The tokens after which logits are needed now, likeliest first; none if enough is decided or rows run out."""
        self._open.sort(key=lambda way: -way.mass)
        left = sum(way.mass for way in self._open) + self._lost
        count = 0
        while count < len(self._open) and left > self._limits.tolerance and self._rows < self._limits.max_rows:
            left -= self._open[count].mass
            count += 1
            self._rows += 1
        chosen, self._open = self._open[:count], self._open[count:]
        self._asked.update((way.tokens, way) for way in chosen)
        return [way.tokens for way in chosen]

    def take(self, tokens: tuple[int, ...], logits: Logits | None) -> None:
        """The logits after `tokens`, or None if they could not be had."""
        way = self._asked.pop(tokens)
        allowed = None if logits is None else self._allowed_after(tokens)
        if logits is None or allowed is None or not len(allowed):
            self._lost += way.mass
            return
        values = logits[allowed].astype(np.float64)
        masses = np.exp(values - values.max())
        masses *= way.mass / masses.sum()
        known = self._next_bytes(way.text)
        ends = np.isin(allowed, self._eos)
        followed = ends | np.isin(self._vocabulary.first[allowed], known)
        self._leave(way.text, float(masses[~followed].sum()))
        for token, mass, is_end in zip(
            allowed[followed].tolist(), masses[followed].tolist(), ends[followed].tolist(), strict=True
        ):
            text = way.text if is_end else way.text + self._vocabulary.texts[token]
            self._place(_Way((*way.tokens, token), text, mass), is_end)

    # --- ways -------------------------------------------------------------------------------------------------------

    def _allowed_after(self, tokens: Sequence[int]) -> NDArray[np.int64] | None:
        matcher = self._matcher.fork()
        if not all(matcher.accept(token) for token in tokens):
            return None
        words: Mask = np.zeros((len(self._vocabulary.texts) + 31) // 32, np.uint32)
        matcher.fill_mask(words)
        if self._allowed is not None:
            words &= self._allowed
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: len(self._vocabulary.texts)]
        return np.flatnonzero(bits)

    def _next_bytes(self, text: bytes) -> list[int]:
        """The bytes after which a way may still be undecided, or end one of the options."""
        if len(text) < len(self._lead):
            return [self._lead[len(text)]]
        value = text[len(self._lead) :]
        going = {option[len(value)] for option in self._beginning_with(value) if option != value}
        return sorted(going | set(self._options.ends) if value in self._numbers else going)

    def _beginning_with(self, value: bytes) -> Sequence[bytes]:
        """The options whose text begins so. They are UTF-8, in which there is no byte 255."""
        return self._sorted[bisect_left(self._sorted, value) : bisect_left(self._sorted, value + b"\xff")]

    def _ended_by(self, value: bytes, is_end: bool) -> bytes | None:
        """The option that a text has in full, with what ends it."""
        if is_end:
            return value if value in self._numbers else None
        found = (value[:size] for size in range(len(value)) if value[size] in self._options.ends)
        return next((one for one in found if one in self._numbers), None)

    def _leave(self, text: bytes, mass: float) -> None:
        """Ways that go on as no option does."""
        if len(text) < len(self._lead):
            self._outside += mass
        elif self._options.has_others:
            self.others += mass
        else:
            self._lost += mass

    def _place(self, way: _Way, is_end: bool = False) -> None:
        """Gives a way to the option that it leads to, or keeps it open."""
        if not way.text.startswith(self._lead[: len(way.text)]):
            self._outside += way.mass
            return
        if len(way.text) < len(self._lead) and not self._is_lead_forced and not is_end:
            self._open.append(way)
            return
        value = way.text[len(self._lead) :]
        ended = self._ended_by(value, is_end)
        alive = () if ended is not None or is_end else self._beginning_with(value)
        if ended is not None:
            self.masses[self._numbers[ended]] += way.mass
        elif len(alive) == 1 and (not self._options.has_others or _is_certain(value, alive[0])):
            self.masses[self._numbers[alive[0]]] += way.mass
        elif alive:
            self._open.append(way)
        else:
            self._leave(way.text, way.mass)


def _is_certain(value: bytes, option: bytes) -> bool:
    """Whether a value that begins as this option does, and as no other one, can be nothing else in JSON."""
    return value[:1] in (b"n", b"t", b"f") or (value == option and option[-1] not in _EXTENDABLE)
