"""What was wrong with single parts of an answer while it grew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class PartFault:
    """A value inside the answer that is complete and not valid. `path` holds JSON keys and indices from the root."""

    path: tuple[str | int, ...]
    error: Exception


def total(faults: Sequence[PartFault]) -> int:
    """How many single faults several tell of together: that of an object tells of those inside it again."""
    outermost: list[PartFault] = []
    for fault in faults:
        while outermost and outermost[-1].path[: len(fault.path)] == fault.path:
            outermost.pop()
        outermost.append(fault)
    return sum(count(fault.error) for fault in outermost)


def count(error: Exception) -> int:
    """How many single faults an error tells of."""
    return error.error_count() if isinstance(error, ValidationError) else 1
