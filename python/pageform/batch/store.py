"""The state of batches in a SQLite file: every step is one transaction, so a process may die between any two.

    job      settings and notes
    line     what is asked, where it stands, how many answers came
    attempt  each answer that a line got, with its faults
    round    lines that were sent together: `sending` (meant to be sent; perhaps it was) → `running` → `ended`; or
             `refused` by the provider

A line is `pending` → `sent` (its round says when) → `done` | `failed`, or `pending` again with the next request; or
`cancelled`. Where lines are answered in this process there are no rounds, and a line is `pending` until it is answered.
Several programs may read a file; a job is worked on by one at a time (`Store.own`).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.completion import Attempt, Usage
from ..core.errors import PageformError, ParameterError
from .records import (
    Job,
    LineRow,
    NewLine,
    Recorded,
    Round,
    attempt_of,
    attempt_values,
    dump,
    job_of,
    line_of,
    printable,
    round_of,
)

_VERSION = 1
_SCHEMA = """
CREATE TABLE job (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL, settings TEXT NOT NULL,
    notes TEXT NOT NULL DEFAULT '[]', cancelled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE line (
    job TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, original TEXT NOT NULL, payload TEXT NOT NULL,
    mode TEXT NOT NULL, restores INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0, allowed INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0, round INTEGER,
    error_type TEXT, error TEXT,
    PRIMARY KEY (job, number), UNIQUE (job, key)) WITHOUT ROWID;
CREATE INDEX line_by_state ON line (job, state, number);
CREATE INDEX line_by_round ON line (job, round, state);
CREATE TABLE attempt (
    job TEXT NOT NULL, line INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL, response TEXT,
    finish_reason TEXT, usage TEXT NOT NULL, faults TEXT NOT NULL, error TEXT,
    PRIMARY KEY (job, line, number)) WITHOUT ROWID;
CREATE TABLE round (
    job TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL UNIQUE, state TEXT NOT NULL DEFAULT 'sending',
    created REAL NOT NULL, remote TEXT, total INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job, number)) WITHOUT ROWID
"""
_PAGE = 500
"""Lines that are read at once."""


class JobBusyError(PageformError):
    """Another program works on the job. `job` is its id."""

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(job)

    def __str__(self) -> str:
        return f"another program works on the batch {self.job}; wait until it has ended, or end it"


class Store:
    """A state file, made if there is none. Used by one thread."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30.0)
            self._db.row_factory = sqlite3.Row
            self._prepare()
        except sqlite3.DatabaseError as error:
            remedy = "Give the path of a batch's state file, or of a new one in a folder that exists."
            raise ParameterError("state", str(path), f"can't be used ({error})", remedy) from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # that something is about to be sent must never be forgotten
        with self.transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and tables == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                reason = "belongs to another program" if version == 0 else f"is of version {version}, not {_VERSION}"
                raise ParameterError("state", str(self.path), reason, "Give another path.")

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def own(self, job: str) -> Iterator[None]:
        """Keeps other processes from working on the job. The system ends that with the process, however it dies."""
        lock = sqlite3.connect(self._lock(job), isolation_level=None, timeout=0.0)
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                raise JobBusyError(job) from error
            yield
        finally:
            lock.close()

    def _lock(self, job: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{job}.lock")

    # --- jobs -------------------------------------------------------------------------------------------------------

    def add_job(self, job: Job, lines: Iterable[NewLine], allowed: int) -> None:
        """A new job with its lines, each with `allowed` attempts: all of them, or nothing at all."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO job (id, name, created, settings) VALUES (?, ?, ?, ?)",
                (job.id, job.name, job.created, dump(job.settings)),
            )
            for number, line in enumerate(lines):
                first = dump(line.payload)
                self._db.execute(
                    "INSERT INTO line (job, number, key, original, payload, mode, restores, allowed) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (job.id, number, line.key, first, first, line.mode, line.restores, allowed),
                )

    def set_notes(self, job: str, notes: Sequence[str]) -> None:
        """What preparing the lines had to say."""
        with self.transaction():
            self._db.execute("UPDATE job SET notes = ? WHERE id = ?", (dump(list(notes)), job))

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        return [job_of(row) for row in self._db.execute("SELECT * FROM job ORDER BY created DESC, rowid DESC")]

    def job(self, name: str | None = None) -> Job:
        """The job of that id or name, or the only one. Raises ParameterError."""
        jobs = self.jobs()
        found = [job for job in jobs if name in (None, job.id, job.name)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{job.id} ({job.name})" for job in jobs[:10]) or "none"
        reason = "is no job of this file" if not found else "may be several jobs"
        raise ParameterError("job", name, reason, f"Jobs are: {known}.")

    def cancel(self, job: str) -> None:
        """No further line is to be sent."""
        with self.transaction():
            self._db.execute("UPDATE job SET cancelled = 1 WHERE id = ?", (job,))
            self._db.execute("UPDATE line SET state = 'cancelled' WHERE job = ? AND state = 'pending'", (job,))

    def delete(self, job: str) -> None:
        """Forget a job and everything about it."""
        with self.transaction():
            for table in ("attempt", "line", "round"):
                self._db.execute(f"DELETE FROM {table} WHERE job = ?", (job,))
            self._db.execute("DELETE FROM job WHERE id = ?", (job,))
        self._lock(job).unlink(missing_ok=True)

    # --- lines ------------------------------------------------------------------------------------------------------

    def counts(self, job: str) -> dict[str, int]:
        """Lines by state."""
        rows = self._db.execute("SELECT state, count(*) FROM line WHERE job = ? GROUP BY state", (job,))
        return {row[0]: row[1] for row in rows}

    def lines(self, job: str, state: str | None = None, in_round: int | None = None) -> Iterator[LineRow]:
        """Lines in order; of one state, of one round. What is changed meanwhile may or may not be seen."""
        last = -1
        while True:
            rows = self._db.execute(
                "SELECT * FROM line WHERE job = ? AND number > ? AND (? IS NULL OR state = ?) "
                "AND (? IS NULL OR round = ?) ORDER BY number LIMIT ?",
                (job, last, state, state, in_round, in_round, _PAGE),
            ).fetchall()
            yield from map(line_of, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1]["number"]

    def find_line(self, job: str, number: int) -> LineRow | None:
        """One line, None if there is none of that number."""
        row = self._db.execute("SELECT * FROM line WHERE job = ? AND number = ?", (job, number)).fetchone()
        return None if row is None else line_of(row)

    def attempts(self, job: str, line: int) -> list[Attempt]:
        """The attempts of a line, as far as they can be told again."""
        rows = self._db.execute("SELECT * FROM attempt WHERE job = ? AND line = ? ORDER BY number", (job, line))
        return [attempt_of(row) for row in rows]

    def usage(self, job: str) -> Usage:
        """Tokens of all attempts together."""
        rows = self._db.execute("SELECT usage FROM attempt WHERE job = ?", (job,))
        return sum((Usage(**json.loads(row[0])) for row in rows), Usage())

    def record(self, job: str, recorded: Iterable[Recorded], in_round: int | None) -> None:
        """What became of lines, in one transaction. A line that is not waiting for it (any more) is left alone."""
        with self.transaction():
            for one in recorded:
                self._record(job, one, in_round)

    def _record(self, job: str, one: Recorded, in_round: int | None) -> None:
        payload = None if one.payload is None else dump(one.payload)
        kind = None if one.error is None else type(one.error).__name__
        error = None if one.error is None else printable(str(one.error), 10_000)
        changed = self._db.execute(
            "UPDATE line SET state = ?1, attempts = attempts + ?2, lost = lost + ?3, payload = coalesce(?4, payload), "
            "round = CASE ?1 WHEN 'pending' THEN NULL ELSE round END, error_type = ?5, error = ?6 "
            "WHERE job = ?7 AND number = ?8 AND state = ?9 AND round IS ?10",
            (
                *(one.state, len(one.attempts), one.lost, payload, kind, error),
                *(job, one.number, "pending" if in_round is None else "sent", in_round),
            ),
        ).rowcount
        if not changed:
            return
        for attempt in one.attempts:
            values = attempt_values(attempt, one.response if attempt is one.attempts[-1] else None)
            self._db.execute(
                "INSERT INTO attempt (job, line, number, text, response, finish_reason, usage, faults, error) "
                "SELECT ?1, ?2, 1 + count(*), ?3, ?4, ?5, ?6, ?7, ?8 FROM attempt WHERE job = ?1 AND line = ?2",
                (job, one.number, *values),
            )

    def ask_again(self, job: str, payloads: Iterable[tuple[int, dict[str, Any] | None]], more: int) -> None:
        """Let lines that failed or were cancelled have up to `more` further attempts, with a new request or, if that is
        None, the same."""
        with self.transaction():
            self._db.execute("UPDATE job SET cancelled = 0 WHERE id = ?", (job,))
            for number, payload in payloads:
                self._db.execute(
                    "UPDATE line SET state = 'pending', round = NULL, lost = 0, allowed = attempts + ?, error = NULL, "
                    "error_type = NULL, payload = coalesce(?, payload) "
                    "WHERE job = ? AND number = ? AND state IN ('failed', 'cancelled')",
                    (more, None if payload is None else dump(payload), job, number),
                )

    # --- rounds -----------------------------------------------------------------------------------------------------

    def plan_round(self, job: str, max_lines: int, max_bytes: int) -> Round | None:
        """Takes the next pending lines into a round that is to be sent; None if there are none. One line at least is
        taken, however long."""
        with self.transaction():
            taken: list[int] = []
            size = 0
            rows = self._db.execute(
                "SELECT number, length(payload) FROM line WHERE job = ? AND state = 'pending' ORDER BY number LIMIT ?",
                (job, max_lines),
            )
            for number, length in rows.fetchall():
                size += length
                if taken and size > max_bytes:
                    break
                taken.append(number)
            if not taken:
                return None
            number = 1 + self._db.execute("SELECT count(*) FROM round WHERE job = ?", (job,)).fetchone()[0]
            self._db.execute(
                "INSERT INTO round (job, number, key, created, total) VALUES (?, ?, ?, ?, ?)",
                (job, number, f"{job}-{number}", time.time(), len(taken)),
            )
            self._db.execute(
                "UPDATE line SET state = 'sent', round = ? WHERE job = ? AND state = 'pending' AND number <= ?",
                (number, job, taken[-1]),
            )
        return self.round(job, number)

    def rounds(self, job: str, state: str | None = None) -> list[Round]:
        """Rounds in order; of one state."""
        rows = self._db.execute(
            "SELECT * FROM round WHERE job = ? AND (? IS NULL OR state = ?) ORDER BY number", (job, state, state)
        )
        return [round_of(row) for row in rows]

    def round(self, job: str, number: int) -> Round:
        """One round."""
        return round_of(self._db.execute("SELECT * FROM round WHERE job = ? AND number = ?", (job, number)).fetchone())

    def remotes(self) -> set[str]:
        """The provider's ids of all rounds of all jobs in this file."""
        return {row[0] for row in self._db.execute("SELECT remote FROM round WHERE remote IS NOT NULL")}

    def sent(self, job: str, number: int, remote: str) -> None:
        """The provider has the round."""
        with self.transaction():
            self._db.execute(
                "UPDATE round SET state = 'running', remote = ? WHERE job = ? AND number = ?", (remote, job, number)
            )

    def not_sent(self, job: str, number: int, message: str) -> None:
        """The provider refused the round: its lines are pending again."""
        with self.transaction():
            self._db.execute(
                "UPDATE round SET state = 'refused', message = ? WHERE job = ? AND number = ?",
                (printable(message, 2_000), job, number),
            )
            self._db.execute(
                "UPDATE line SET state = 'pending', round = NULL WHERE job = ? AND round = ? AND state = 'sent'",
                (job, number),
            )

    def progress(self, job: str, number: int, done: int, failed: int, message: str) -> None:
        """What the provider says of a running round."""
        with self.transaction():
            self._db.execute(
                "UPDATE round SET done = ?, failed = ?, message = ? WHERE job = ? AND number = ?",
                (done, failed, printable(message, 2_000), job, number),
            )

    def end_round(self, job: str, number: int, lost: Iterable[Recorded]) -> None:
        """Everything was fetched. `lost` says what becomes of the lines that got nothing."""
        with self.transaction():
            for one in lost:
                self._record(job, one, number)
            self._db.execute("UPDATE round SET state = 'ended' WHERE job = ? AND number = ?", (job, number))
