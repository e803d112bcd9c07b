"""The rows of a state file as plain data, and their way to and from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..core.completion import Attempt, Fault, FinishReason, Usage
from ..structured.answer import Mode
from ..structured.bounded import cut
from ..structured.errors import EarlierRejection


@dataclass(frozen=True, slots=True)
class Job:
    """A job: `settings` are plain data that `Batch` understands, `notes` what preparing its lines had to say."""

    id: str
    name: str
    created: float
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """How the answers of a line are to be read; see `Judge`."""

    mode: Mode
    restores: bool = False
    tools_beside: bool = False


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line to be stored: the caller's name for it, its first request, and how its answers are to be read."""

    key: str
    payload: dict[str, Any]
    reading: Reading


@dataclass(frozen=True, slots=True)
class LineRow:
    """A stored line. `original` is its first request and `payload` its next (or last) one. `attempts` answers came, up
    to `allowed` may; `lost` counts requests that got none. `error_type` and `error` say why it failed."""

    number: int
    key: str
    original: dict[str, Any]
    payload: dict[str, Any]
    reading: Reading
    state: str
    attempts: int
    allowed: int
    lost: int
    round: int | None
    error_type: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Round:
    """Lines that were sent together. `remote` is the provider's id of it; `done` and `failed` are the provider's
    numbers."""

    number: int
    key: str
    state: str
    created: float
    remote: str | None
    total: int
    done: int
    failed: int
    message: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a line: its new state; the attempts that were made, with the JSON of the last response; the next
    request, if there is one; why it failed. `lost`: it was sent and no answer came."""

    number: int
    state: str
    attempts: Sequence[Attempt] = ()
    response: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None
    error: BaseException | None = None
    lost: bool = False


def dump(value: Any) -> str:
    """JSON as it is stored: ASCII, since answers may hold halves of surrogate pairs."""
    return json.dumps(value, separators=(",", ":"))


def attempt_values(attempt: Attempt, response: dict[str, Any] | None) -> tuple[Any, ...]:
    """The columns of an attempt: text, response, finish_reason, usage, faults, error."""
    error = attempt.error
    return (
        dump(attempt.text),
        None if response is None else dump(response),
        attempt.finish_reason,
        dump(asdict(attempt.usage)),
        dump([fault.as_dict() for fault in attempt.faults]),
        None if error is None else printable(f"{type(error).__name__}: {error}", 2_000),
    )


def attempt_of(row: Any) -> Attempt:
    """An attempt, as far as it can be told again."""
    faults = tuple(Fault(**{**fault, "loc": tuple(fault["loc"])}) for fault in json.loads(row["faults"]))
    return Attempt(
        number=row["number"],
        text=json.loads(row["text"]),
        error=None if row["error"] is None else EarlierRejection(row["error"]),
        usage=Usage(**json.loads(row["usage"])),
        finish_reason=None if row["finish_reason"] is None else FinishReason(row["finish_reason"]),
        response=None if row["response"] is None else json.loads(row["response"]),
        faults=faults,
    )


def job_of(row: Any) -> Job:
    """A row of `job`."""
    notes = tuple(json.loads(row["notes"]))
    return Job(row["id"], row["name"], row["created"], json.loads(row["settings"]), notes, bool(row["cancelled"]))


def line_of(row: Any) -> LineRow:
    """A row of `line`."""
    told = {field.name: row[field.name] for field in fields(LineRow)}
    told |= {name: json.loads(told[name]) for name in ("original", "payload")}
    reading = json.loads(told["reading"])
    return LineRow(**{**told, "reading": Reading(**{**reading, "mode": Mode(reading["mode"])})})


def round_of(row: Any) -> Round:
    """A row of `round`."""
    return Round(**{field.name: row[field.name] for field in fields(Round)})


def printable(text: str, limit: int) -> str:
    """Text that SQLite takes."""
    return cut(text, limit).encode("utf-8", "backslashreplace").decode()
