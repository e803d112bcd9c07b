"""Sending lines to a provider in rounds, and taking in what comes back. Every step may be the last of its process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..core.errors import PageformError
from .base import NotSent, Outgoing, RemoteBackend, RemoteResult, RoundState, RoundStatus, Undecided
from .judging import Bench
from .records import LineRow, Recorded, Round
from .results import NoAnswer, ProviderRejected
from .store import Store

GRACE = 10.0
"""Seconds for which the request of a process that died, or lost its connection, may still be on its way: so long the
provider is asked for a round that it doesn't know, before that is sent again."""
_CHUNK = 100
"""Answers that are judged and recorded in one transaction."""
_LOST = 3
"""How often a line is sent without getting an answer before it has failed."""
_OUTAGES = 5
"""Looks at the provider that may fail in a row."""


class Rounds:
    """The rounds of one job. Whoever calls it owns the job (`Store.own`), except for `cancel`."""

    def __init__(self, store: Store, job: str, backend: Any, bench: Bench) -> None:
        self._store, self._job, self._bench = store, job, bench
        self._backend: RemoteBackend = backend
        self._outages = 0
        self._looked: dict[int, float] = {}

    def step(self) -> None:
        """Everything that can be done now. A provider that is out of reach for a moment is tried again next time."""
        try:
            self._decide_all()
            self._fetch()  # before sending, so that what is asked again goes out in one round, after a crash too
            self.submit()
        except PageformError:
            raise
        except Exception as error:
            self._outages += 1
            if self._outages > _OUTAGES or not _passing(error):
                raise
        else:
            self._outages = 0

    def submit(self) -> None:
        """Finds out about rounds that were perhaps sent, then sends all pending lines."""
        self._decide_all()
        while not self._store.job(self._job).cancelled:
            fresh = self._store.plan_round(self._job, self._backend.max_lines, self._backend.max_bytes)
            if fresh is None:
                return
            self._send(fresh, again=False)
        self._store.cancel(self._job)  # also of what was to be asked again meanwhile
        self.cancel()

    def cancel(self) -> None:
        """Asks the provider to cancel what it has."""
        for running in self._store.rounds(self._job, "running"):
            if running.message != _CANCELLING:
                self._backend.cancel(str(running.remote))
                self._store.progress(self._job, running.number, running.done, running.failed, _CANCELLING)

    def delete(self) -> None:
        """Removes what the provider keeps of ended rounds."""
        for ended in self._store.rounds(self._job, "ended"):
            if ended.remote is not None:
                self._backend.delete(ended.remote)

    # --- out --------------------------------------------------------------------------------------------------------

    def _send(self, planned: Round, again: bool) -> None:
        outgoing = self._outgoing(planned, again)
        try:
            remote = self._backend.send(outgoing)
        except NotSent as refused:
            cause = refused.__cause__
            self._store.not_sent(self._job, planned.number, str(cause or refused))
            raise (cause or refused) from None
        self._store.sent(self._job, planned.number, remote)

    def _decide_all(self) -> None:
        for planned in self._store.rounds(self._job, "sending"):
            self._decide(planned)

    def _decide(self, planned: Round) -> None:
        try:
            remote = self._backend.find(self._outgoing(planned, again=True), self._store.remotes())
        except Undecided:
            return
        first = self._looked.setdefault(planned.number, time.monotonic())
        if remote is not None:
            self._store.sent(self._job, planned.number, remote)
        elif time.monotonic() - first < GRACE:
            return
        elif self._store.job(self._job).cancelled:
            self._store.not_sent(self._job, planned.number, "cancelled")
            self._store.cancel(self._job)
        else:
            self._send(planned, again=True)

    def _outgoing(self, planned: Round, again: bool) -> Outgoing:
        lines = self._store.lines(self._job, "sent", planned.number)
        requests = [(_custom_id(planned, line), line.payload) for line in lines]
        return Outgoing(planned.key, requests, planned.created, again)

    # --- back -------------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        for running in self._store.rounds(self._job, "running"):
            status = self._backend.status(str(running.remote))
            message = running.message if running.message == _CANCELLING else status.message
            self._store.progress(self._job, running.number, status.done, status.failed, message)
            if status.state.over:
                self._take_in(running, status)

    def _take_in(self, ended: Round, status: RoundStatus) -> None:
        lost: dict[str, str] = {}
        if status.state is RoundState.FAILED:
            self._store.end_round(self._job, ended.number, list(self._blame(ended, status)))
            return
        results = self._backend.results(str(ended.remote))
        while chunk := list(islice(results, _CHUNK)):
            recorded = list(self._rule(ended, chunk, lost))
            self._store.record(self._job, recorded, ended.number)
        rest = [self._lost(line, lost.get(_custom_id(ended, line), "")) for line in self._waiting(ended)]
        self._store.end_round(self._job, ended.number, rest)

    def _rule(self, ended: Round, results: list[RemoteResult], lost: dict[str, str]) -> Iterator[Recorded]:
        """What becomes of the lines that results came for; ids that are nobody's are passed over."""
        for result in results:
            line = self._line_of(ended, result.custom_id)
            if line is None:
                continue
            if result.response is not None:
                yield self._bench.rule(line, self._store.attempts(self._job, line.number), result.response)
            elif result.lost:
                lost[result.custom_id] = result.error
            else:
                yield Recorded(line.number, "failed", error=ProviderRejected(result.error))

    def _blame(self, ended: Round, status: RoundStatus) -> Iterator[Recorded]:
        """A round that failed as a whole: the lines to blame fail, all if none is; the others are sent again."""
        lines = self._waiting(ended)
        known = status.faults.keys() & set(range(len(lines)))
        for place, line in enumerate(lines):
            if place in known or not known:
                yield Recorded(line.number, "failed", error=ProviderRejected(status.faults.get(place, status.message)))
            else:
                yield Recorded(line.number, "pending")

    def _lost(self, line: LineRow, reason: str) -> Recorded:
        if self._store.job(self._job).cancelled:
            return Recorded(line.number, "cancelled", lost=True)
        if line.lost + 1 < _LOST:
            return Recorded(line.number, "pending", lost=True)
        told = f": {reason}" if reason else ""
        return Recorded(line.number, "failed", error=NoAnswer(f"sent {_LOST} times, no answer came{told}"), lost=True)

    def _waiting(self, ended: Round) -> list[LineRow]:
        return list(self._store.lines(self._job, "sent", ended.number))

    def _line_of(self, ended: Round, custom_id: str) -> LineRow | None:
        head, _, number = custom_id.rpartition("-")
        if head != ended.key or not number.isdecimal() or len(number) > 12:
            return None
        line = self._store.find_line(self._job, int(number))
        return line if line is not None and line.state == "sent" and line.round == ended.number else None


_CANCELLING = "cancelling"


def _custom_id(planned: Round, line: LineRow) -> str:
    return f"{planned.key}-{line.number}"


def _passing(error: Exception) -> bool:
    """Whether an SDK's error may pass by itself: no answer at all, or one that asks for patience."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in (408, 409, 425, 429) or status >= 500
    names = [kind.__name__ for kind in type(error).__mro__]
    return isinstance(error, OSError) or any(word in name for name in names for word in ("Connection", "Timeout"))
