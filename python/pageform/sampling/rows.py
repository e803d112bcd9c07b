"""Per-request sampling state: what biases, bans and counts the next row of logits gets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..core.params import RepetitionDetection, SamplingParams
from ..core.plan import RowSampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK64 = (1 << 64) - 1


class Encoder(Protocol):
    """The part of a tokenizer that bad words need."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...


def derive_seed(engine_seed: int, index: int) -> int:
    """A 64-bit seed for request number `index`: SplitMix64 (Steele, Lea, Flood 2014) of the engine's seed."""
    z = (engine_seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def resolve(params: SamplingParams, seed: int) -> RowSampling:
    """The constant part of a request's rows. `seed` is used where the caller gave none."""
    return RowSampling(
        temperature=float(params.temperature),
        top_p=float(params.top_p),
        min_p=float(params.min_p),
        top_k=max(params.top_k, 0),
        repetition_penalty=float(params.repetition_penalty),
        presence_penalty=float(params.presence_penalty),
        frequency_penalty=float(params.frequency_penalty),
        seed=(params.seed if params.seed is not None else seed) & _MASK64,
        num_logprobs=-1 if params.logprobs is None else params.logprobs,
        defer=bool(params.logits_processors),
        weigh=params.confidence is not False,
    )


def token_bitmask(tokens: Iterable[int], vocab_size: int) -> NDArray[np.uint32]:
    """Bit mask [ceil(vocab / 32)] with the bits of `tokens` set: the layout of grammar masks."""
    import numpy as np

    bits = np.zeros((vocab_size + 31) // 32 * 32, dtype=np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


def bad_word_ids(words: Sequence[str], encoder: Encoder) -> list[list[int]]:
    """Token sequences that spell each word, at the start of a text and after a space (as vLLM does)."""
    sequences: list[list[int]] = []
    for word in words:
        bare = word.lstrip()
        for text in (bare, " " + bare):
            ids = encoder.encode(text, add_special_tokens=False)
            if ids and ids not in sequences:
                sequences.append(ids)
    return sequences


class RowState:
    """What one request's next row of logits needs beyond constants: a function of its prompt and output tokens."""

    __slots__ = ("_base_bias", "_counts", "_params", "_prompt", "_sequences", "_stops", "forbidden")

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        stop_ids: Iterable[int],
        bad_words: list[list[int]],
    ) -> None:
        self._params = params
        self._base_bias = dict(params.logit_bias or {})
        for ids in bad_words:
            if len(ids) == 1:
                self._base_bias[ids[0]] = -math.inf
        self._sequences = [ids for ids in bad_words if len(ids) > 1]
        self._stops = tuple(stop_ids)
        penalized = (
            params.repetition_penalty != 1.0 or params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
        )
        self._counts: dict[int, int] | None = dict.fromkeys(prompt_ids, 0) if penalized else None
        self._prompt = frozenset(prompt_ids) if penalized else frozenset()
        self.forbidden: frozenset[int] = frozenset()
        """Tokens that may not come next, for a reason of the moment."""

    def push(self, token: int) -> None:
        """Counts a sampled token."""
        if self._counts is not None:
            self._counts[token] = self._counts.get(token, 0) + 1

    def pop(self, token: int) -> None:
        """Takes the last sampled token back."""
        if self._counts is not None:
            self._counts[token] -= 1
            if not self._counts[token] and token not in self._prompt:
                del self._counts[token]

    def counts(self, drafts: Sequence[int] = ()) -> dict[int, int] | None:
        """Occurrences in the output, were it followed by `drafts`; None when no penalty needs them."""
        if self._counts is None or not drafts:
            return self._counts
        counts = dict(self._counts)
        for token in drafts:
            counts[token] = counts.get(token, 0) + 1
        return counts

    def bias(self, output_ids: Sequence[int], drafts: Sequence[int] = ()) -> dict[int, float] | None:
        """Additions to the logits of the token after `output_ids` and `drafts`; None when there are none."""
        length = len(output_ids) + len(drafts)
        waiting = length < self._params.min_tokens
        if not self._base_bias and not self._sequences and not waiting and not self.forbidden:
            return None
        bias = dict(self._base_bias)
        bias.update(dict.fromkeys(self.forbidden, -math.inf))
        for ids in self._sequences:
            head = ids[:-1]
            if length >= len(head) and [*output_ids[-len(head) :], *drafts][-len(head) :] == head:
                bias[ids[-1]] = -math.inf
        if waiting:
            bias.update(dict.fromkeys(self._stops, -math.inf))
        return bias or None


def ends_in_repetition(ids: Sequence[int], detection: RepetitionDetection) -> bool:
    """Whether `ids` ends in at least `min_count` copies of one pattern of the detection's lengths."""
    for length in range(detection.min_pattern, detection.max_pattern + 1):
        span = length * detection.min_count
        if span > len(ids):
            return False
        tail = ids[len(ids) - span :]
        if all(tail[i] == tail[i - length] for i in range(length, span)):
            return True
    return False
