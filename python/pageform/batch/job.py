"""A batch: many requests for values of one type, answered some time later, here or elsewhere.

                      submit                    poll, fetch                   judge
    pending ──────────────────────▶ sent ──────────────────────▶ answer ──────────────▶ done | failed
       ▲                             │ lost (expired, server error)  │ not valid, and attempts are left
       └─────────────────────────────┴──────────────────────────────┘

Every arrow is one transaction of the store. Before lines are sent, the store says that they are about to be; after a
crash between that and the provider's answer, the provider is asked whether it has them (`RemoteBackend.find`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..clients.base import Prepared
from ..core.errors import ParameterError
from ..structured.answer import Mode
from ..structured.errors import ValidationFailed
from ..structured.observe import Observer
from ..structured.policy import Backoff
from ..structured.spec import Spec
from .base import Backend, RunOptions, Task
from .judging import Bench
from .lines import Line, read_lines
from .progress import Progress
from .records import Job, LineRow, NewLine, Recorded
from .results import BatchStatus, LineFailed, LineResult
from .rounds import Rounds
from .store import Store

POLL = Backoff(initial=2.0, factor=1.5, longest=120.0, jitter=False)
"""How long `run` waits between two looks at the provider while nothing changes there."""


class Batch:
    """A job in a state file, and what it is worked on with. Make one with `create`, come back to it with `open`.

        batch = Batch.create("jobs.db", OpenAIBatches(OpenAI()), "people.jsonl", response_model=Person, model="gpt-…")
        batch.run(progress=True)
        for line in batch.results():
            print(line.key, line.value or line.error)

    A process that died is no loss: `Batch.open("jobs.db", backend, response_model=Person).run()` goes on. Used by one
    thread. Close it, or use it as a context manager.
    """

    def __init__(self, store: Store, job: Job, backend: Backend, bench: Bench) -> None:
        self._store, self._backend, self._bench = store, backend, bench
        self.id, self.name = job.id, job.name
        self._rounds = Rounds(store, job.id, backend, bench) if hasattr(backend, "send") else None

    @classmethod
    def create(
        cls,
        state: str | Path,
        backend: Backend,
        lines: str | Path | Iterable[Any],
        *,
        response_model: Any,
        name: str | None = None,
        mode: Mode | str | None = None,
        strict: bool | None = None,
        max_retries: int = 2,
        context: Any = None,
        hooks: Any = None,
        imports_as: str | None = None,
        **defaults: Any,
    ) -> Batch:
        """A new job in the state file, nothing sent yet.

        `lines` is a JSONL file's path or an iterable; see `lines.read_lines` for what a line may be. `defaults`
        (`model`, `temperature`, …) hold for every line that doesn't say otherwise. An answer that doesn't validate is
        asked for again with its errors up to `max_retries` times; `context` and `strict` go to Pydantic, `hooks` are
        told of every attempt. `imports_as` is `module:name` of the response type, for the command line; that of a class
        need not be told. All lines are read and checked before the job exists: one that can't be sent raises
        ParameterError.
        """
        spec = Spec.of(response_model)
        mode = _mode(mode, backend.modes())
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise ParameterError(
                "max_retries", max_retries, "must be an integer of at least 0", "Give 0 for one attempt."
            )
        bench = _bench(backend, spec, context, strict, hooks)
        notes: dict[str, None] = {}

        def prepared() -> Iterator[NewLine]:
            for line in read_lines(lines, defaults):
                made = _prepared(backend, spec, mode, line, strict)
                notes.update(dict.fromkeys(made.notes))
                yield NewLine(line.key, made.kwargs, made.mode or mode, made.strict)

        settings = {
            "backend": backend.name,
            "provider": backend.provider,
            "response_model": imports_as or import_path(response_model),
            "fingerprint": _fingerprint(spec),
            "strict": strict,
            "max_retries": max_retries,
            "model": defaults.get("model") or getattr(backend, "model", None),
        }
        job_id = f"pf{secrets.token_hex(6)}"
        job = Job(job_id, name or _name_of(lines) or job_id, time.time(), settings)
        store = Store(state)
        try:
            store.add_job(job, prepared(), max_retries + 1)
            store.set_notes(job.id, list(notes))
        except BaseException:
            store.close()
            raise
        return cls(store, job, backend, bench)

    @classmethod
    def open(
        cls,
        state: str | Path,
        backend: Backend,
        *,
        response_model: Any,
        job: str | None = None,
        context: Any = None,
        hooks: Any = None,
    ) -> Batch:
        """A job that was made before: by id or name, or the only one of the file. Backend and response type must be as
        they were then (ParameterError)."""
        store = _existing(state)
        try:
            found = store.job(job)
            spec = Spec.of(response_model)
            if found.settings["backend"] != backend.name:
                remedy = f"Give the one that it was made with: {found.settings['backend']}."
                raise ParameterError("backend", backend.name, f"is not that of the job {found.id}", remedy)
            if found.settings["fingerprint"] != _fingerprint(spec):
                reason = f"has another schema than the type of the job {found.id}"
                raise ParameterError("response_model", response_model, reason, "Give the type that it was made with.")
            return cls(store, found, backend, _bench(backend, spec, context, found.settings["strict"], hooks))
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Close the state file. Idempotent."""
        self._store.close()

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- working ----------------------------------------------------------------------------------------------------

    def submit(self) -> BatchStatus:
        """Sends what is to be sent; with a local backend there is nothing to send. Raises the SDK's error if the
        provider refuses, and JobBusyError."""
        if self._rounds is not None:
            with self._store.own(self.id):
                self._rounds.submit()
        return self.status()

    def poll(self) -> BatchStatus:
        """Asks the provider how far it is, fetches and judges what is ready, and sends what has to be asked again."""
        if self._rounds is not None:
            with self._store.own(self.id):
                self._rounds.step()
        return self.status()

    def run(self, *, progress: bool = False, timeout: float | None = None, poll: Backoff | None = None) -> BatchStatus:
        """Works until every line has its result, or `timeout` seconds have passed. May be called again, by another
        process too. `progress` shows a bar on the terminal; `poll` is how long to wait between looks at the provider
        (default: `POLL`)."""
        ends = None if timeout is None else time.monotonic() + timeout
        with self._store.own(self.id), Progress(self.name, progress) as bar:
            if self._rounds is None:
                self._run_here(bar, ends)
            else:
                self._run_there(bar, ends, poll or POLL)
        return self.status()

    def cancel(self) -> BatchStatus:
        """Sends nothing more and asks the provider to cancel what it has. What is done by then is still fetched by
        `poll` or `run`. May be called while another process works on the job."""
        self._store.cancel(self.id)
        if self._rounds is not None:
            self._rounds.cancel()
        return self.status()

    def delete(self) -> None:
        """Forgets the job, and removes what the provider keeps of it (files, results). Raises ParameterError while the
        provider works on it."""
        with self._store.own(self.id):
            status = self.status()
            if status.rounds_running or status.rounds_undecided:
                raise ParameterError("job", self.id, "is not finished", "Cancel it first, and poll until it has ended.")
            if self._rounds is not None:
                self._rounds.delete()
        self._store.delete(self.id)

    def resubmit(self, max_retries: int = 1) -> BatchStatus:
        """Gives each failed or cancelled line up to `max_retries + 1` further attempts: the model is told what was
        wrong with its last answer, where it gave one that more attempts may mend."""
        with self._store.own(self.id):
            again = [*self._again("failed"), *self._again("cancelled")]
            self._store.ask_again(self.id, again, max_retries + 1)
        return self.status()

    @property
    def spec(self) -> Spec[Any]:
        """The response type."""
        return self._bench.spec

    # --- looking ----------------------------------------------------------------------------------------------------

    def status(self) -> BatchStatus:
        """Where the job stands, by the state file."""
        return replace(self._status(), usage=self._store.usage(self.id))

    def _status(self) -> BatchStatus:
        counts = self._store.counts(self.id)
        running = self._store.rounds(self.id, "running")
        job = self._store.job(self.id)
        return BatchStatus(
            id=job.id,
            name=job.name,
            provider=self._backend.provider,
            created=job.created,
            total=sum(counts.values()),
            pending=counts.get("pending", 0),
            sent=counts.get("sent", 0),
            done=counts.get("done", 0),
            failed=counts.get("failed", 0),
            cancelled=counts.get("cancelled", 0),
            rounds_running=len(running),
            rounds_undecided=len(self._store.rounds(self.id, "sending")),
            remote_done=sum(one.done + one.failed for one in running),
            notes=job.notes,
        )

    def results(self, state: str | None = None) -> Iterator[LineResult]:
        """The results of all lines in order, or of those in one state. Values are read from the stored answers, so
        validators run again; one that rejects now what it accepted before makes the line's `error`."""
        for line in self._store.lines(self.id, state):
            attempts = self._store.attempts(self.id, line.number)
            response = attempts[-1].response if attempts else None
            value, error = None, self._error(line, attempts)
            if line.state == "done" and response is not None:
                try:
                    value = self._bench.value(line, response)
                except Exception as raised:  # validators are the caller's code
                    error = raised
            yield LineResult(line.number, line.key, line.state, value, error, attempts, response)

    def failures(self) -> Iterator[LineResult]:
        """The results of failed lines."""
        return self.results("failed")

    # ----------------------------------------------------------------------------------------------------------------

    def _run_there(self, bar: Progress, ends: float | None, poll: Backoff) -> None:
        assert self._rounds is not None
        waited, before = 0, None
        while True:
            self._rounds.step()
            status = self._status()
            bar.show(status)
            if status.finished:
                return
            now = (status.pending, status.sent, status.remote_done)
            waited = waited + 1 if now == before else 1
            before = now
            delay = poll.delay(waited) * random.uniform(0.8, 1.2)
            if ends is not None and time.monotonic() + delay > ends:
                return
            time.sleep(delay)

    def _run_here(self, bar: Progress, ends: float | None) -> None:
        options = RunOptions(self._bench.spec, self._bench.context, self._bench.strict, self._bench.hooks)
        backend: Any = self._backend
        tasks = (
            Task(line.number, line.payload, line.allowed - line.attempts - 1)
            for line in self._store.lines(self.id, "pending")
        )
        bar.show(self._status())
        finished = backend.run(tasks, options)
        try:
            for group in finished:
                self._store.record(self.id, [_recorded(one) for one in group], None)
                if bar.is_due():
                    bar.show(self._status())
                if self._store.job(self.id).cancelled or (ends is not None and time.monotonic() > ends):
                    return
        finally:
            finished.close()
            bar.show(self._status())

    def _again(self, state: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
        for line in self._store.lines(self.id, state):
            attempts = self._store.attempts(self.id, line.number)
            response = attempts[-1].response if attempts else None
            # Of any other line the request that it has is still to be answered.
            payload = None
            if response is not None and line.error_type == ValidationFailed.__name__:
                payload = self._bench.ask_again(line, attempts, response)
            yield line.number, payload

    def _error(self, line: LineRow, attempts: list[Any]) -> Exception | None:
        if line.state != "failed":
            return None
        return LineFailed(line.error or "", attempts, line.error_type or "")


def _recorded(one: Any) -> Recorded:
    state = "done" if one.error is None else "failed"
    return Recorded(one.number, state, one.attempts, one.response, error=one.error)


def _bench(backend: Backend, spec: Spec[Any], context: Any, strict: bool | None, hooks: Any) -> Bench:
    told = Observer(hooks).hooks  # which refuses what can't be called from here
    return Bench(spec, backend.provider, backend.read, backend.reask, context, strict, told)


def _mode(mode: Any, known: tuple[Mode, ...]) -> Mode:
    if mode is None:
        return known[0]
    with suppress(ValueError):
        if Mode(mode) in known:
            return Mode(mode)
    raise ParameterError("mode", mode, "is none that the provider has", f"Use one of {', '.join(known)}.")


def _prepared(backend: Backend, spec: Spec[Any], mode: Mode, line: Line, strict: bool | None) -> Prepared:
    try:
        made = backend.prepare(spec, mode, line.kwargs, strict)
        json.dumps(made.kwargs, allow_nan=False)
    except ParameterError as error:
        raise type(error)(f"line {line.key}: {error.field}", error.value, error.reason, error.remedy) from error
    return made


def _fingerprint(spec: Spec[Any]) -> str:
    return hashlib.sha256(json.dumps(spec.json_schema, sort_keys=True).encode()).hexdigest()[:16]


def _name_of(lines: Any) -> str | None:
    return Path(lines).stem if isinstance(lines, (str, Path)) else None


def import_path(response_model: Any) -> str | None:
    """`module:Name` of a class that can be imported, so that other processes find it; else None."""
    if not inspect.isclass(response_model) or "<" in response_model.__qualname__:
        return None
    if response_model.__module__ in ("__main__", "builtins"):
        return None
    return f"{response_model.__module__}:{response_model.__qualname__}"


def list_jobs(state: str | Path) -> list[Mapping[str, Any]]:
    """The jobs of a state file, the newest first: id, name, created, settings, notes, lines by state, rounds, usage."""
    with closing(_existing(state)) as store:
        return [_told(store, job) for job in store.jobs()]


def find_job(state: str | Path, name: str | None = None) -> Mapping[str, Any]:
    """The job of that id or name, or the only one, told as by `list_jobs`. Raises ParameterError."""
    with closing(_existing(state)) as store:
        return _told(store, store.job(name))


def _existing(state: str | Path) -> Store:
    if not Path(state).exists():
        raise ParameterError("state", str(state), "does not exist", "Make a job with Batch.create.")
    return Store(state)


def _told(store: Store, job: Job) -> Mapping[str, Any]:
    return {
        **{name: getattr(job, name) for name in ("id", "name", "created", "cancelled", "settings", "notes")},
        "lines": store.counts(job.id),
        "rounds": store.rounds(job.id),
        "usage": store.usage(job.id),
    }
