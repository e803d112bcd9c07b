"""Drafts: tokens proposed without a forward pass, and what proposes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from .errors import ParameterError

if TYPE_CHECKING:
    from .request import Request


class DraftKind(StrEnum):
    FORCED = "forced"
    """The grammar leaves no choice."""
    NGRAM = "ngram"
    """What followed the same tokens before."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A guess at one token. `chance` is the probability, as far as is known, that it is right if those before it are.

    `odds` tells the drafter where it has that probability from.
    """

    token: int
    chance: float
    kind: DraftKind
    odds: int = 0


class Drafter(Protocol):
    """Guesses the next tokens of one request. Only the thread that plans calls it, between steps.

    What it proposes never changes a result: a step samples at each drafted position as ever, and a draft counts only if
    it is what was sampled.
    """

    def propose(self, request: Request, limit: int, worth: float) -> list[Draft]:
        """Up to `limit` guesses at what follows the output. Where the product of chances falls below `worth`, stop."""

    def settle(self, drafts: Sequence[Draft], accepted: int, missed: bool) -> None:
        """The first `accepted` of the drafts were right; with `missed`, the next one was wrong. Others don't count."""


DRAFT_MODES: dict[str, frozenset[DraftKind]] = {
    "auto": frozenset(DraftKind),
    "none": frozenset(),
    "forced": frozenset({DraftKind.FORCED}),
    "ngram": frozenset({DraftKind.NGRAM}),
}
"""Names of what may be drafted. "auto" is both kinds, each as far as it pays."""


def check_draft_mode(name: str, value: Any) -> None:
    """Raises ParameterError unless `value` is the name of a draft mode."""
    if not isinstance(value, str) or value not in DRAFT_MODES:
        raise ParameterError(name, value, "is no draft mode", f"Use one of {', '.join(map(repr, DRAFT_MODES))}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSettings:
    """What an engine drafts: the `mode`, and at most `num_tokens` tokens of one request a step.

    A match of n-gram drafts has at least `shortest` tokens (under a grammar one is enough) and is compared over at most
    `longest`.
    """

    mode: str = "auto"
    num_tokens: int = 16
    shortest: int = 2
    longest: int = 12

    def __post_init__(self) -> None:
        check_draft_mode("drafts", self.mode)
        for name in ("num_tokens", "shortest", "longest"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ParameterError(f"drafts.{name}", value, "must be a positive integer", "Give 1 or more.")
        if self.shortest > self.longest:
            raise ParameterError("drafts.shortest", self.shortest, f"exceeds longest={self.longest}", "Lower it.")

    @classmethod
    def of(cls, drafts: Any = "auto", speculative_config: Any = None) -> DraftSettings:
        """From a mode's name, or from a mapping with vLLM's keys, which `speculative_config` may hold as well."""
        if isinstance(drafts, DraftSettings):
            if speculative_config is not None:
                raise ParameterError("speculative_config", speculative_config, "comes beside drafts", "Give one.")
            return drafts
        if speculative_config is None and not isinstance(drafts, Mapping):
            return cls(mode=drafts)
        if speculative_config is not None and drafts != "auto":
            raise ParameterError("speculative_config", speculative_config, "comes beside drafts", "Give one of them.")
        given = speculative_config if speculative_config is not None else drafts
        if not isinstance(given, Mapping):
            raise ParameterError("speculative_config", given, "must be a mapping", 'Give {"method": "ngram", …}.')
        unknown = sorted(set(given) - set(_VLLM_NAMES))
        if unknown:
            raise ParameterError(
                f"speculative_config.{unknown[0]}",
                given[unknown[0]],
                "is not supported: drafts come from the grammar and from n-grams, not from a model",
                f"Use {', '.join(_VLLM_NAMES)}.",
            )
        return cls(**{_VLLM_NAMES[name]: value for name, value in given.items()})


_VLLM_NAMES = {
    "method": "mode",
    "num_speculative_tokens": "num_tokens",
    "prompt_lookup_min": "shortest",
    "prompt_lookup_max": "longest",
}
