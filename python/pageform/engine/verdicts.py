"""Verdicts on values, kept in the log of their request: a replay reads them there and calls no validator again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from ..core.log import AwaitEntry, FaultEntry, LogEntry, RequestLog, VerdictEntry
from ..forms.checks import Check
from ..forms.rewind import FieldJudge, Judged
from ..forms.tracker import Path
from ..forms.verdicts import Job
from ..structured.diagnose import path as written
from ..structured.faults import failed, relocated


class Verdicts:
    """Asks the judge of one request's values and writes down what it says against them. `bind` comes first.

    While the request's log is `recorded` already and being replayed, the verdicts are those of the record.
    """

    def __init__(self, judge: FieldJudge) -> None:
        self.judge = judge
        self.recorded: Sequence[LogEntry] | None = None
        self._log: RequestLog

    def bind(self, log: RequestLog) -> None:
        """Names the log to write to."""
        self._log = log

    def __call__(self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes]) -> Judged:
        """See `ValueJudge`."""
        place = written(path)
        if self.recorded is not None:
            if self._take(AwaitEntry(place)):
                return Judged(None, jobs=(Job(),))
            return Judged(self._read(place))
        judged = self.judge(check, path, text, before)
        if judged.error is not None:
            self._write(place, judged.error)
        elif judged.jobs:
            self._log.append(AwaitEntry(place))
        return judged

    def again(
        self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes], jobs: Sequence[Job]
    ) -> Judged | None:
        """See `ValueJudge`."""
        place = written(path)
        if self.recorded is not None:
            if self._take(VerdictEntry(place, True)):
                return Judged(None)
            error = self._read(place)
            return None if error is None else Judged(error)
        if not all(job.is_done for job in jobs):
            return None
        judged = self.judge(check, path, text, before)
        if judged.error is not None:
            self._write(place, judged.error)
        elif not judged.jobs:
            self._log.append(VerdictEntry(place, True))
        return judged

    def start(self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes]) -> Sequence[Job]:
        """See `ValueJudge`."""
        try:
            return self.judge(check, path, text, before).jobs
        except Exception:  # `again` will raise it
            return ()

    def _write(self, place: str, error: ValidationError) -> None:
        self._log.append(VerdictEntry(place, False, tuple(map(_entry, relocated(error)))))

    def _next(self) -> LogEntry | None:
        assert self.recorded is not None
        at = len(self._log.entries)
        return self.recorded[at] if at < len(self.recorded) else None

    def _take(self, entry: LogEntry) -> bool:
        """Goes past an entry of the record, if it is the next one."""
        if self._next() != entry:
            return False
        self._log.append(entry)
        return True

    def _read(self, place: str) -> ValidationError | None:
        entry = self._next()
        if not isinstance(entry, VerdictEntry) or entry.path != place or entry.ok:
            return None
        self._log.append(entry)
        return failed(self.judge.name, map(_details, entry.faults))


def _entry(fault: InitErrorDetails) -> FaultEntry:
    kind, loc, given = fault["type"], fault.get("loc", ()), json.dumps(fault["input"], default=str)
    if isinstance(kind, PydanticCustomError):
        return FaultEntry(kind.type, loc, given, template=kind.message_template)
    details = fault.get("ctx")
    return FaultEntry(kind, loc, given, None if details is None else json.dumps(details, default=str))


def _details(entry: FaultEntry) -> InitErrorDetails:
    kind: Any = entry.type if entry.template is None else PydanticCustomError(entry.type, entry.template)
    fault: InitErrorDetails = {"type": kind, "loc": entry.loc, "input": json.loads(entry.given)}
    if entry.details is None:
        return fault
    details = json.loads(entry.details)
    if entry.type in ("value_error", "assertion_error"):  # these are told by the exception that was raised
        details["error"] = (ValueError if entry.type == "value_error" else AssertionError)(details["error"])
    return {**fault, "ctx": details}
