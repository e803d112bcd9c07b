"""Between which tags a model thinks before it answers."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ParameterError


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The tags around a model's thoughts, exactly as the model writes them."""

    start: str = "<think>"
    end: str = "</think>"

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            tag = getattr(self, name)
            if not isinstance(tag, str) or not tag.strip() or not tag.isascii():
                raise ParameterError(f"reasoning.{name}", tag, "is no tag", 'Give ASCII text such as "</think>".')


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Some more of a model's thoughts, in a stream."""

    text: str
