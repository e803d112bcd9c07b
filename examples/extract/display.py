"""Shows the records as they come in: a live table on a terminal, one line a record anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .documents import Document
from .outcome import Outcome

ROWS_AROUND = 6
"""Lines of the screen that the table's frame, its heading and the progress bar take."""


class Display:
    """Context manager; call `show(outcome)` for each finished document, in any order."""

    def __init__(self, documents: list[Document], console: Console) -> None:
        self._documents = documents
        self._console = console
        self._finished: list[Outcome] = []
        self._progress = Progress(
            TextColumn("extracting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._progress.add_task("extracting", total=len(documents))
        self._live = Live(self._screen(), console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
            self._console.print(table(sorted(self._finished, key=lambda outcome: outcome.document.number)))

    def show(self, outcome: Outcome) -> None:
        """Adds one finished document."""
        self._finished.append(outcome)
        self._progress.advance(self._task)
        if self._console.is_terminal:
            self._live.update(self._screen())
            return
        document = outcome.document
        counter = f"[{len(self._finished)}/{len(self._documents)}]"
        line = f"{counter:>8} #{document.number:<3} {document.kind:<8} {describe(outcome)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _screen(self) -> RenderableType:
        """The latest rows that fit, above the progress bar. The whole table is printed at the end."""
        height = max(3, self._console.height - ROWS_AROUND)
        return Group(table(self._finished[-height:], one_line=True), self._progress)


def table(outcomes: Iterable[Outcome], one_line: bool = False) -> Table:
    """A row a document; `one_line` cuts long records so that a row is one line high."""
    result = Table(expand=True, header_style="bold")
    result.add_column("#", justify="right")
    result.add_column("kind", no_wrap=True)
    result.add_column("record", ratio=1, no_wrap=one_line, overflow="ellipsis" if one_line else "fold")
    result.add_column("tokens", justify="right")
    result.add_column("seconds", justify="right")
    for outcome in outcomes:
        style = "" if outcome.error is None else "red"
        number, kind = str(outcome.document.number), outcome.document.kind
        tokens, seconds = str(outcome.usage.completion_tokens), f"{outcome.seconds:.1f}"
        result.add_row(number, kind, Text(describe(outcome), style), tokens, seconds)
    return result


def describe(outcome: Outcome) -> str:
    """The record on one line, or what went wrong."""
    if outcome.error is not None:
        return f"{type(outcome.error).__name__}: {outcome.error}".replace("\n", " ")
    assert outcome.record is not None
    return brief(outcome.record.model_dump(mode="json"))


def brief(value: Any) -> str:
    """Nested data in few characters: `shop Mill · items [(Oat milk, 2, 1.85)] · total 3.7`."""
    if isinstance(value, dict):
        return " · ".join(f"{name} {_inner(item)}" for name, item in value.items())
    return _inner(value)


def _inner(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(_inner(item) for item in value.values()) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_inner(item) for item in value) + "]"
    return "-" if value is None else str(value)
