"""What a batch gives: one result a line, in the order of the lines, and the state of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.completion import Attempt, Usage
from ..structured.errors import StructuredError


class LineFailed(StructuredError):
    """No value came of a line of a batch. `kind` is the name of the error that ended it, such as `ValidationFailed`,
    `IncompleteOutput`, `ProviderRejected` or `NoAnswer`."""

    def __init__(self, message: str, attempts: Sequence[Attempt] = (), kind: str = "") -> None:
        self.kind = kind
        super().__init__(message, attempts)

    def as_dict(self) -> dict[str, Any]:
        """See `StructuredError.as_dict`; the error's name is its kind."""
        return {**super().as_dict(), "error": self.kind}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "kind": self.kind}


class ProviderRejected(StructuredError):
    """The provider refused the request of a line; the message is the provider's."""


class NoAnswer(StructuredError):
    """The provider gave no answer to a line, however often it was sent."""


@dataclass(frozen=True, slots=True)
class LineResult:
    """What became of one line. `state` is `done` (with `value`), `failed` (with `error`), `cancelled`, or `pending` or
    `sent` in a batch that is not finished. `response` is the provider's JSON of the last answer."""

    number: int
    key: str
    state: str
    value: Any = None
    error: Exception | None = None
    attempts: Sequence[Attempt] = ()
    response: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.state == "done" and self.error is None

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts together."""
        return sum((attempt.usage for attempt in self.attempts), Usage())


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """Numbers of lines, and of rounds that the provider works on. `notes` tells what the provider's requests do not
    express of the response type."""

    id: str
    name: str
    provider: str
    created: float
    total: int
    pending: int
    sent: int
    done: int
    failed: int
    cancelled: int
    rounds_running: int
    rounds_undecided: int
    remote_done: int
    """Lines that the provider has finished in rounds that are still running."""
    usage: Usage = field(default_factory=Usage)
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether every line has its result."""
        return self.pending + self.sent == 0

    @property
    def state(self) -> str:
        """One word: `created`, `running`, `finished`, or `cancelled`."""
        if self.finished:
            return "cancelled" if self.cancelled else "finished"
        return "running" if self.sent or self.done or self.failed else "created"
