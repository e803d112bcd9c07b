"""The log of a request: what happened to its output, in order. Everything else about the output follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from .completion import FinishReason
from .plan import RowResult


class TokenOrigin(StrEnum):
    SAMPLED = "sampled"
    FORCED = "forced"


class TokenEntry(msgspec.Struct, frozen=True, gc=False, tag="token", omit_defaults=True):
    """One token was appended to the output. `row` is what the model gave there, kept where it says more than the id:
    the request wants log-probabilities or confidence, or another token was sampled than the one that had to come."""

    id: int
    origin: TokenOrigin = TokenOrigin.SAMPLED
    row: RowResult | None = None


class RewindEntry(msgspec.Struct, frozen=True, tag="rewind"):
    """The output was cut back to `to` tokens: the value `banned` at `path` was rejected in attempt `attempt`."""

    to: int
    path: str = ""
    banned: Any = None
    attempt: int = 0


class FaultEntry(msgspec.Struct, frozen=True):
    """One fault of a value, as Pydantic tells it: `template` is the message of a type that is none of Pydantic's own,
    `given` and `details` are JSON."""

    type: str
    loc: tuple[int | str, ...]
    given: str
    details: str | None = None
    template: str | None = None


class AwaitEntry(msgspec.Struct, frozen=True, tag="await"):
    """The value at `path` closed, and slow validators have yet to judge it. Its verdict follows, for or against it."""

    path: str


class VerdictEntry(msgspec.Struct, frozen=True, tag="verdict", omit_defaults=True):
    """The value at `path` was validated. Replay reads this and doesn't validate again.

    Of values that were not awaited only verdicts against one are written down: whatever closed without one was valid.
    """

    path: str
    ok: bool
    faults: tuple[FaultEntry, ...] = ()


class FinishEntry(msgspec.Struct, frozen=True, gc=False, tag="finish"):
    """The request ended; no entry follows."""

    reason: FinishReason
    detail: str | None = None


LogEntry = TokenEntry | RewindEntry | AwaitEntry | VerdictEntry | FinishEntry


class RequestLog:
    """Append-only entries, and `output_ids`: the output they add up to, kept up to date in O(1) an entry.

    Owned by its request. Only `append` changes it; callers must not change `output_ids`.
    """

    __slots__ = ("entries", "output_ids")

    def __init__(self, entries: Iterable[LogEntry] = ()) -> None:
        self.entries: list[LogEntry] = []
        self.output_ids: list[int] = []
        for entry in entries:
            self.append(entry)

    def append(self, entry: LogEntry) -> None:
        """Raises ValueError for a rewind to where the output never was."""
        if isinstance(entry, TokenEntry):
            self.output_ids.append(entry.id)
        elif isinstance(entry, RewindEntry):
            if not 0 <= entry.to <= len(self.output_ids):
                raise ValueError(f"can't rewind an output of {len(self.output_ids)} tokens to {entry.to}")
            del self.output_ids[entry.to :]
        self.entries.append(entry)
