"""How sure the model was of the values of an answer. docs/design/confidence.md has the formulas, and what they are not.

All numbers are of the model without temperature, top-k and penalties, restricted to what the grammar allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple

from .errors import ParameterError

Place = tuple[str | int, ...]
"""The path of a value as its steps: ("lines", 0, "price")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceOptions:
    """How exactly the probabilities of options are found: until at most `tolerance` of the mass is undecided, or
    `max_rows` rows of logits have been computed for one field."""

    tolerance: float = 1e-4
    max_rows: int = 64

    def __post_init__(self) -> None:
        rows = self.max_rows
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
            raise ParameterError("confidence.max_rows", rows, "must be an integer of at least 0", "Give 64, say.")
        if not isinstance(self.tolerance, (int, float)) or not 0 <= self.tolerance < 1:
            raise ParameterError("confidence.tolerance", self.tolerance, "is no share of the mass", "Give 1e-4, say.")


class TokenWeight(NamedTuple):
    """What the model thought of one token of an answer.

    `logprob` is among the tokens that the grammar allowed, `model_logprob` among all, and `log_allowed` the log of the
    mass of those that it allowed: the last is the second less the first. NaN where the model was not asked. A token is
    `is_forced` if the grammar left no choice about its text, though perhaps about how to cut it into tokens.
    """

    logprob: float
    model_logprob: float
    log_allowed: float
    is_forced: bool

    @property
    def is_scored(self) -> bool:
        """Whether the model was asked."""
        return not math.isnan(self.log_allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldConfidence:
    """How sure the model was of one value: an object or list stands for all that is in it.

    `logprob` sums over the value's free tokens, about whose text the grammar left a choice; `model_logprob` is the same
    without the grammar. Both are None if the model was never asked about one of them (`unscored_tokens`): kept text of
    an earlier attempt, an end forced by `max_tokens`.
    """

    path: str
    logprob: float | None
    model_logprob: float | None
    log_allowed: float
    """Log of the product, over the value's tokens that were scored, of the mass that the grammar allowed."""
    max_removed: float
    """The most mass that the grammar removed at one token."""
    free_tokens: int
    forced_tokens: int
    unscored_tokens: int = 0
    """Those of the free tokens that were not scored."""
    options: Mapping[Any, float] | None = None
    """For a value of an enum, Literal, bool, tag of a union, or one that may be None: the probability of each option.

    `options[...]` is that of all values which can't be listed. Together with `unresolved` they sum to 1."""
    chosen: Any = None
    """Which of the options the answer has."""
    unresolved: float = 0.0
    """Mass of which it was not found out to which option it belongs: each may have up to so much more. At 1 there are
    no `options`."""
    rejected: int = 0
    """Values that validation rejected here, and that were decoded again. The numbers take no account of such bans."""

    @property
    def confidence(self) -> float | None:
        """The probability in [0, 1] that the model, restricted by the grammar, writes just this value here: that of the
        chosen option (in all spellings), else exp(logprob). None where `logprob` is None."""
        if self.options is not None and self.chosen is not ...:
            return self.options[self.chosen]
        return None if self.logprob is None else math.exp(self.logprob)

    @property
    def per_token(self) -> float | None:
        """exp(logprob / free_tokens): the geometric mean over the free tokens, to compare texts of unlike lengths."""
        return None if self.logprob is None else math.exp(self.logprob / max(1, self.free_tokens))

    @property
    def removed(self) -> float:
        """The share of its own texts that the grammar kept the model from: 1 - exp(log_allowed)."""
        return -math.expm1(self.log_allowed)


class Fields(Mapping[str, FieldConfidence]):
    """The values of an answer by path: `fields["lines[0].price"]`, or by steps: `fields["lines", 0, "price"]`.

    Paths are written as in `Fault.path`; `fields[""]` is the answer as a whole. `tokens` has one entry for each of the
    completion's `token_ids`. Values that were kept of an earlier attempt have the numbers of that.
    """

    def __init__(self, fields: Iterable[tuple[Place, FieldConfidence]], tokens: Sequence[TokenWeight]) -> None:
        self.tokens = tokens
        self._places = dict(fields)
        self._paths: dict[str, Place] = {}
        for place, one in self._places.items():
            self._paths.setdefault(one.path, place)

    def __getitem__(self, key: str | int | Place) -> FieldConfidence:
        place: Place = key if isinstance(key, tuple) else (key,)
        if isinstance(key, str) and key in self._paths:
            place = self._paths[key]
        if place not in self._places:
            known = ", ".join(repr(path) for path in list(self._paths)[:20])
            raise KeyError(f"{key!r} is no value of the answer, which has {known}")
        return self._places[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def completed_by(self, earlier: Fields) -> Fields:
        """With the numbers of an earlier attempt for the values that were kept of it: no token of those was scored
        again."""
        places = {}
        for place, one in self._places.items():
            is_kept = one.options is None and 0 < one.unscored_tokens == one.free_tokens
            places[place] = earlier._places.get(place, one) if is_kept else one
        return Fields(places.items(), self.tokens)

    def __repr__(self) -> str:
        shown = (f"{path!r}: {_shown(self[path].confidence)}" for path in self)
        return f"Fields({{{', '.join(shown)}}})"


OTHER: EllipsisType = ...
"""The key of `FieldConfidence.options` for all values that can't be listed."""


def _shown(number: float | None) -> str:
    return "None" if number is None else f"{number:.3g}"
