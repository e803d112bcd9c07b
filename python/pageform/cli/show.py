"""How the command line shows things: tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from ..batch import BatchStatus
from ..core.completion import Usage

_STATES = ("pending", "sent", "done", "failed", "cancelled")


def on_terminal() -> bool:
    """Whether somebody looks at the progress."""
    return sys.stderr.isatty()


def problem(text: str) -> None:
    """What went wrong, for people, on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print("error:", style="bold red", end=" ")
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(text)


def note(text: str) -> None:
    """A line beside the result, on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(text)


def status(found: BatchStatus) -> None:
    """A job in a few lines."""
    lines = {state: getattr(found, state) for state in _STATES}
    _tell(found.id, found.name, found.provider, found.created, found.state, lines, found.usage, found.notes)
    if found.rounds_running or found.rounds_undecided:
        undecided = f", {found.rounds_undecided} perhaps sent" if found.rounds_undecided else ""
        _print(f"  rounds     {found.rounds_running} running, {found.remote_done} lines answered there{undecided}")


def job(found: Mapping[str, Any]) -> None:
    """The same of a job that is not opened."""
    lines = {state: found["lines"].get(state, 0) for state in _STATES}
    settings = found["settings"]
    state = _state(found)
    _tell(
        found["id"], found["name"], settings["provider"], found["created"], state, lines, found["usage"], found["notes"]
    )
    for one in found["rounds"]:
        _print(f"  round {one.number:<4} {one.state}, {one.total} lines, {one.remote or 'not sent'} {one.message}")


def jobs(found: Sequence[Mapping[str, Any]]) -> None:
    """All jobs as a table."""
    if not found:
        note("no jobs")
        return
    rows = [
        (
            one["id"],
            one["name"],
            one["settings"]["provider"],
            str(one["settings"]["model"] or ""),
            _time(one["created"]),
            _state(one),
            *(str(one["lines"].get(state, 0)) for state in _STATES),
        )
        for one in found
    ]
    _table(("id", "name", "provider", "model", "created", "state", *_STATES), rows)


def remote_jobs(found: Iterable[Any]) -> None:
    """A provider's own jobs as a table."""
    rows = [(one.id, str(one.state), _time(one.created), str(one.total), one.key) for one in found]
    _table(("id", "state", "created", "lines", "round"), rows)


def _tell(
    id: str,
    name: str,
    provider: str,
    created: float,
    state: str,
    lines: Mapping[str, int],
    usage: Usage,
    notes: Sequence[str],
) -> None:
    _print(f"{id}  {name}  {state}")
    _print(f"  provider   {provider}, created {_time(created)}")
    shown = ", ".join(f"{count} {name}" for name, count in lines.items() if count)
    _print(f"  lines      {sum(lines.values())}: {shown}")
    _print(f"  tokens     {usage.prompt_tokens} in, {usage.completion_tokens} out")
    for one in notes:
        _print(f"  note       {one}")


def _state(found: Mapping[str, Any]) -> str:
    lines = found["lines"]
    if not lines.get("pending") and not lines.get("sent"):
        return "cancelled" if lines.get("cancelled") else "finished"
    return "running" if any(lines.get(state) for state in ("sent", "done", "failed")) else "created"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in (titles, *rows):
            print("\t".join(row))
        return
    table = Table(box=None, header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in (*_STATES, "lines") else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print(text: str) -> None:
    Console(highlight=False, markup=False, soft_wrap=True).print(text)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
