"""What came of each document, and the figures of a whole run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from pageform import Usage

from .documents import Document


@dataclass(frozen=True, slots=True)
class Outcome:
    """A document's record, or the error in its place. Seconds count from the moment the request was made."""

    document: Document
    record: BaseModel | None
    error: Exception | None
    usage: Usage
    first_token: float | None
    seconds: float
    attempts: int


def summary(outcomes: Sequence[Outcome], start_up: float, seconds: float) -> list[tuple[str, str]]:
    """(name, figure) pairs of a run that took `seconds` after an engine start of `start_up` seconds."""
    usage = sum((outcome.usage for outcome in outcomes), Usage())
    valid = sum(outcome.record is not None for outcome in outcomes)
    reasked = sum(outcome.attempts > 1 for outcome in outcomes)
    first = [outcome.first_token for outcome in outcomes if outcome.first_token is not None]
    lines = [
        ("engine start", f"{start_up:.2f} s"),
        ("extraction", f"{seconds:.1f} s for {len(outcomes)} texts"),
        ("decoded", f"{usage.completion_tokens / seconds:.0f} tokens/s ({usage.completion_tokens} tokens)"),
        ("prompt", f"{usage.prompt_tokens / seconds:.0f} tokens/s ({usage.prompt_tokens} tokens)"),
    ]
    if first:
        lines.append(
            (
                "time to first token",
                f"first {min(first):.2f} s, median {statistics.median(first):.2f} s, last {max(first):.2f} s"
                " (all requests are made at once)",
            )
        )
    if usage.prompt_tokens:
        share = usage.cached_tokens / usage.prompt_tokens
        lines.append(("prefix-cache hits", f"{share:.0%} of the prompt tokens ({usage.cached_tokens})"))
    lines.append(("valid", f"{valid} of {len(outcomes)} ({valid / len(outcomes):.0%}), {reasked} after asking again"))
    return lines
