"""Looking at the jobs of a state file without anything to work on them with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ..core.errors import ParameterError
from .records import Job
from .store import Store


def list_jobs(state: str | Path) -> list[Mapping[str, Any]]:
    """The jobs of a state file, the newest first: id, name, created, settings, notes, lines by state, rounds, usage."""
    with closing(existing(state)) as store:
        return [_told(store, job) for job in store.jobs()]


def find_job(state: str | Path, name: str | None = None) -> Mapping[str, Any]:
    """The job of that id or name, or the only one, told as by `list_jobs`. Raises ParameterError."""
    with closing(existing(state)) as store:
        return _told(store, store.job(name))


def existing(state: str | Path) -> Store:
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
