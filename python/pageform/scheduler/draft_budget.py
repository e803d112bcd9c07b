"""How many drafts a step carries: as many as pay, by what steps have cost so far.

One more draft pays if it is right often enough: where a step takes T seconds and yields E tokens on average, a draft
that is right with probability p and costs d seconds more raises E / T if p / d > E / T. A memory-bound step takes
hardly longer with a few more tokens, so that even poor guesses pay; one that is bound by arithmetic takes only guesses
that are all but certain.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..core.drafts import Draft

_FADING = 0.98
"""What a step counts for in comparison with the next one."""
_OUTLIER = 2.0
"""A step that takes so many times what was expected was disturbed: it counts as no more than that."""
_PRIOR_RATIO = 4.0
"""Fixed cost of a step in tokens, where steps of one size only have been seen."""
_PRIOR_WEIGHT = 0.05


class StepCost:
    """Seconds of a step of n tokens as a line, `fixed + per_token * n`.

    Least squares of the relative error over past steps, older ones counting ever less. Before anything is measured the
    unit is arbitrary, which is all that comparing needs.
    """

    def __init__(self) -> None:
        self.fixed, self.per_token = _PRIOR_RATIO, 1.0
        self._seen = False
        self._sums = [0.0] * 5  # of w, w n, w n², w t, w n t with w = 1 / t²

    def observe(self, num_tokens: int, seconds: float) -> None:
        """A step took `seconds`."""
        if seconds <= 0.0:
            return
        if self._seen:
            seconds = min(seconds, _OUTLIER * self(num_tokens))
        self._seen = True
        weight = 1.0 / (seconds * seconds)
        terms = (weight, weight * num_tokens, weight * num_tokens**2, weight * seconds, weight * num_tokens * seconds)
        self._sums = [_FADING * old + new for old, new in zip(self._sums, terms, strict=True)]
        self._fit()

    def _fit(self) -> None:
        """Minimizes sum w (fixed + per_token n - t)² + prior (fixed - ratio per_token)²."""
        ones, first, second, times, products = self._sums
        prior = _PRIOR_WEIGHT * ones
        a, b, d = ones + prior, first - prior * _PRIOR_RATIO, second + prior * _PRIOR_RATIO**2
        determinant = a * d - b * b
        fixed = (d * times - b * products) / determinant
        per_token = (a * products - b * times) / determinant
        if per_token <= 0.0:
            fixed, per_token = times / ones, 0.0
        elif fixed <= 0.0:
            fixed, per_token = 0.0, products / second
        self.fixed, self.per_token = fixed, per_token

    def __call__(self, num_tokens: int) -> float:
        """Expected seconds."""
        return self.fixed + self.per_token * num_tokens

    def worth(self, num_tokens: int, expected: float) -> float:
        """Probability from which on one more draft pays in a step of `num_tokens` that yields `expected` tokens."""
        return expected * self.per_token / self(num_tokens)


def choose(
    proposals: Sequence[Sequence[Draft]], cost: StepCost, num_tokens: int, num_rows: int, budget: int
) -> list[int]:
    """How many drafts of each proposal a step takes that has `num_tokens` tokens and samples `num_rows` without them.

    The likeliest go first; together they exceed neither what pays nor `budget`.
    """
    taken = [0] * len(proposals)
    expected = float(num_rows)
    heap = [(-drafts[0].chance, i) for i, drafts in enumerate(proposals) if drafts]
    heapq.heapify(heap)
    while heap and budget > 0:
        chance, i = heapq.heappop(heap)
        if -chance <= cost.worth(num_tokens, expected):
            break
        expected -= chance
        num_tokens += 1
        budget -= 1
        taken[i] += 1
        if taken[i] < len(proposals[i]):
            heapq.heappush(heap, (chance * proposals[i][taken[i]].chance, i))
    return taken
