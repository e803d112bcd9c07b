"""The contract of what answers a batch.

A `RemoteBackend` takes many requests at once and answers some time later, elsewhere; a `LocalBackend` answers them in
this process. Neither knows the job's state: both are told what to do, and may be made anew after a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ..clients.base import Kwargs, Prepared
from ..core.completion import Attempt
from ..structured.answer import Answer, Mode
from ..structured.loop import Rejection
from ..structured.spec import Spec


class RoundState(StrEnum):
    """Where the requests that were sent together are."""

    RUNNING = "running"
    ENDED = "ended"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Whether nothing more will come than can be fetched now."""
        return self is not RoundState.RUNNING


@dataclass(frozen=True, slots=True)
class RoundStatus:
    """A provider's word on one round. Where a round failed because of single lines, `faults` tells why, by their places
    in the round counted from 0; `message` says what else is wrong."""

    state: RoundState
    total: int = 0
    done: int = 0
    failed: int = 0
    message: str = ""
    faults: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """One line of a round's results: `response`, the provider's JSON, or an `error`. `lost`: the provider did not get
    to it, so that sending the same request another time may help."""

    custom_id: str
    response: dict[str, Any] | None = None
    error: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A round about to be sent: `key` is unique for ever, `requests` are (custom id, kwargs), `since` is the time, in
    seconds since 1970, before which nothing of it can have arrived. `again`: it may have been sent already."""

    key: str
    requests: Sequence[tuple[str, Kwargs]]
    since: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """One of the provider's own batch jobs, as it lists them."""

    id: str
    state: RoundState
    created: float
    total: int
    key: str = ""
    """The key of the round, where the provider keeps it."""


class Undecided(Exception):
    """Whether a round was sent can't be told yet: ask again later."""


class NotSent(Exception):
    """The provider refused a round, so that nothing of it exists there. `__cause__` is the SDK's error."""


class RemoteBackend(Protocol):
    """A provider's batch service. Pure functions for single requests, and a few calls of its API."""

    name: str
    """As in `pageform batch create --provider`."""
    provider: str
    """As hooks are told."""
    max_lines: int
    max_bytes: int
    """Bounds of one round."""

    def modes(self) -> tuple[Mode, ...]:
        """The modes that the provider has, the default first."""

    def prepare(self, spec: Spec[Any], mode: Mode, kwargs: Mapping[str, Any], strict: bool | None) -> Prepared:
        """The first request of a line. Raises ParameterError."""

    def read(self, response: Mapping[str, Any]) -> Answer:
        """What the JSON of a response says."""

    def reask(self, kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
        """The request that asks again."""

    def send(self, outgoing: Outgoing) -> str:
        """Starts a round; its id. Never retries by itself. Raises NotSent for what the provider refused for good."""

    def find(self, outgoing: Outgoing, known: Collection[str]) -> str | None:
        """The id of a round that was perhaps sent by a process that died; None if it was not. `known` are the ids of
        other rounds. Raises Undecided."""

    def status(self, remote: str) -> RoundStatus:
        """How far a round is."""

    def results(self, remote: str) -> Iterator[RemoteResult]:
        """The results of a round that is over, in any order."""

    def cancel(self, remote: str) -> None:
        """Ask for a round to be cancelled; what is done by then can still be fetched."""

    def delete(self, remote: str) -> None:
        """Remove what the provider keeps of a round that is over, as far as it lets one."""

    def jobs(self) -> Iterator[RemoteJob]:
        """The provider's jobs, the newest first."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a local backend validates and asks again; see `Batch.create`."""

    spec: Spec[Any]
    context: Any = None
    strict: bool | None = None
    hooks: Any = None


@dataclass(frozen=True, slots=True)
class Task:
    """One line for a local backend. `number` comes back with its answer; `retries` further attempts may be made."""

    number: int
    kwargs: Kwargs
    retries: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A line that was answered locally: all attempts, the JSON of the last response (`read` understands it), and the
    error that ended it where no value came."""

    number: int
    attempts: Sequence[Attempt]
    response: dict[str, Any] | None = None
    error: Exception | None = None


class LocalBackend(Protocol):
    """What answers in this process, retries included."""

    name: str
    provider: str

    def modes(self) -> tuple[Mode, ...]:
        """The modes that it has, the default first."""

    def prepare(self, spec: Spec[Any], mode: Mode, kwargs: Mapping[str, Any], strict: bool | None) -> Prepared:
        """Checks a line before anything runs. Raises ParameterError."""

    def read(self, response: Mapping[str, Any]) -> Answer:
        """What the JSON of a response says."""

    def reask(self, kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
        """The request that asks again."""

    def run(self, tasks: Iterator[Task], options: RunOptions) -> Generator[list[Finished], None, None]:
        """Answers tasks, many at a time, and gives them as they finish, in any order. Closing it leaves the others."""


Backend = RemoteBackend | LocalBackend
