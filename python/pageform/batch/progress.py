"""A bar on the terminal while a batch is worked on."""

from __future__ import annotations

import time
from typing import Any

from .results import BatchStatus


class Progress:
    """Shows lines with a result, out of all. Does nothing where it is not wanted."""

    def __init__(self, name: str, wanted: bool) -> None:
        self._name, self._wanted = name, wanted
        self._bar: Any = None
        self._task: Any = None
        self._shown = 0.0

    def __enter__(self) -> Progress:
        if self._wanted:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            text = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self._bar = Progress(*text, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def is_due(self) -> bool:
        """Whether the bar is worth being brought up to date: not more often than anyone can see."""
        return self._bar is not None and time.monotonic() - self._shown > 0.2

    def show(self, status: BatchStatus) -> None:
        """Bring the bar up to date."""
        if self._bar is None:
            return
        self._shown = time.monotonic()
        over = status.done + status.failed + status.cancelled
        parts = [f"{status.failed} failed" if status.failed else ""]
        parts += [f"{status.sent} sent in {status.rounds_running} rounds" if status.sent else ""]
        parts += [f"{status.remote_done} of them answered" if status.remote_done else ""]
        note = ", ".join(part for part in parts if part)
        self._bar.update(self._task, completed=over, total=status.total, note=note)
