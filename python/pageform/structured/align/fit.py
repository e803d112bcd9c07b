"""What aligning a value with a schema gave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..json_tree import Path, Repair, repair


class TooManySteps(Exception):
    """Aligning took more steps than it may."""


class Mismatch(NamedTuple):
    """A place that does not fit. `ambiguous` says which readings there are, if there are several."""

    path: Path
    reason: str
    value: Any
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """A value as the schema wants it, as far as possible. Paths are relative to the value."""

    value: Any
    cost: float = 0
    log: tuple[Repair, ...] = ()
    faults: tuple[Mismatch, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.faults

    def under(self, step: str | int) -> Fit:
        """The same seen from the list or object around it."""
        if not self.log and not self.faults:
            return self
        log = tuple(entry._replace(path=(step, *entry.path)) for entry in self.log)
        faults = tuple(fault._replace(path=(step, *fault.path)) for fault in self.faults)
        return Fit(self.value, self.cost, log, faults)

    def after(self, log: Iterable[Repair], cost: float | None = None) -> Fit:
        """The same when some repairs came before; they cost what their rules cost, or `cost`."""
        entries = tuple(log)
        extra = sum(entry.cost for entry in entries) if cost is None else cost
        return Fit(self.value, self.cost + extra, entries + self.log, self.faults)


def changed(rule: str, before: Any, after: Any) -> Fit:
    """A value that became another by one rule."""
    entry = repair(rule, (), before, after)
    return Fit(after, entry.cost, (entry,))


def misfit(value: Any, reason: str, ambiguous: bool = False) -> Fit:
    """A value that stays as it is, for Pydantic to judge."""
    return Fit(value, 0, (), (Mismatch((), reason, value, ambiguous),))
