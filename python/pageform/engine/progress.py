"""The progress bar of long `generate` calls."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import rich.progress

    from .ticket import Ticket

_DELAY = 1.0
"""Seconds a call must last before a bar appears: short calls stay silent."""


class Progress:
    """A bar of finished requests with tokens per second. `show=None` shows it on a terminal after a second."""

    def __init__(self, total: int, show: bool | None) -> None:
        self._total = total
        self._show = sys.stderr.isatty() if show is None else show
        self._delay = _DELAY if show is None else 0.0
        self._start = time.monotonic()
        self._done = 0
        self._tokens = 0
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, ticket: Ticket) -> None:
        """Counts one finished request."""
        self._done += 1
        if not self._show or self._total < 2:
            return
        elapsed = time.monotonic() - self._start
        if ticket.future.exception() is None:
            self._tokens += ticket.future.result().usage.completion_tokens
        if self._bar is None:
            if elapsed < self._delay:
                return
            self._open()
        assert self._bar is not None
        assert self._task is not None
        self._bar.update(self._task, completed=self._done, rate=f"{self._tokens / max(elapsed, 1e-9):.0f} tok/s")

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("pageform"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rate]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("generate", total=self._total, rate="")
        self._bar.start()
