"""Dates, times and durations between bounds, as patterns beside the one of their format."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import formats, ranges

BOUNDS = ("ge", "gt", "le", "lt")
_SECOND = dt.timedelta(seconds=1)


@dataclass
class Moments:
    """A format and a pattern for it; `missed` bounds are not held, `empty` says why nothing lies between them."""

    format: str
    pattern: str | None = None
    missed: dict[str, Any] = field(default_factory=dict)
    narrowed: str | None = None
    empty: str | None = None


def dates(core: Mapping[str, Any]) -> Moments:
    """Dates between a core schema's bounds."""
    bounds = bounds_of(core)
    if not bounds:
        return Moments("date")
    if any(type(bound) is not dt.date for bound in bounds.values()):
        return Moments("date", missed=bounds)
    day, low, high = dt.timedelta(days=1), dt.date.min, dt.date.max
    try:
        low = max(bounds.get("ge", low), bounds["gt"] + day if "gt" in bounds else low)
        high = min(bounds.get("le", high), bounds["lt"] - day if "lt" in bounds else high)
    except OverflowError:
        return Moments("date", empty=f"no date lies {_between(bounds)}")
    if low > high:
        return Moments("date", empty=f"no date lies {_between(bounds)}")
    return Moments("date", f"^{ranges.fixed(low.isoformat(), high.isoformat())}$")


def datetimes(core: Mapping[str, Any]) -> Moments:
    """Dates with times between a core schema's bounds: all without a zone if the bounds have none, else all in UTC."""
    bounds, kind = bounds_of(core), zoned("date-time", core)
    aware = {bound.tzinfo is not None for bound in bounds.values() if isinstance(bound, dt.datetime)}
    if len(aware) != bool(bounds) or kind == ("naive-date-time" if True in aware else "aware-date-time"):
        return Moments(kind, missed=bounds)
    if not bounds:
        return Moments(kind)
    zone = "Z" if True in aware else ""
    try:
        flat = {
            key: bound.astimezone(dt.UTC).replace(tzinfo=None) if zone else bound.replace(tzinfo=None)
            for key, bound in bounds.items()
        }
    except OverflowError:
        return Moments(kind, missed=bounds)
    made = _seconds(flat, dt.datetime.min, dt.datetime.max.replace(microsecond=0), zone)
    made.format = "aware-date-time" if zone else "naive-date-time"
    if made.empty:
        made.empty = f"no time lies {_between(bounds)}"
    return made


def times(core: Mapping[str, Any]) -> Moments:
    """Times of a day between a core schema's bounds, which have no zone."""
    bounds, kind = bounds_of(core), zoned("time", core)
    if not bounds:
        return Moments(kind)
    if kind == "aware-time" or any(not isinstance(bound, dt.time) or bound.tzinfo for bound in bounds.values()):
        return Moments(kind, missed=bounds)
    day = dt.date(2000, 1, 1)
    flat = {key: dt.datetime.combine(day, bound) for key, bound in bounds.items()}
    made = _seconds(flat, dt.datetime.combine(day, dt.time()), dt.datetime.combine(day, dt.time(23, 59, 59)), "")
    made.format = "naive-time"
    if made.pattern:
        made.pattern = made.pattern.replace("2000-01-01T", "")
    if made.empty:
        made.empty = f"no time lies {_between(bounds)}"
    return made


def durations(core: Mapping[str, Any]) -> Moments:
    """Durations of either sign; bounds of zero are held, as the sign says."""
    bounds, zero = bounds_of(core), dt.timedelta(0)
    at_zero = {key for key, bound in bounds.items() if bound == zero}
    missed = {key: bound for key, bound in bounds.items() if key not in at_zero}
    if not at_zero:
        return Moments("timedelta", missed=missed)
    options = [] if at_zero & {"gt", "lt"} else ["PT0S"]
    options += [] if at_zero & {"ge", "gt"} else [f"-{formats.DURATION}"]
    options += [] if at_zero & {"le", "lt"} else [formats.DURATION]
    if not options:
        return Moments("timedelta", empty=f"no duration lies {_between(bounds)}")
    return Moments("any", f"^(?:{'|'.join(options)})$", missed)


def zoned(kind: str, core: Mapping[str, Any]) -> str:
    """The format of a time with or without a zone, as its core schema wants it."""
    constraint = core.get("tz_constraint")
    if constraint is None:
        return kind
    return f"naive-{kind}" if constraint == "naive" else f"aware-{kind}"


def _seconds(bounds: Mapping[str, dt.datetime], first: dt.datetime, last: dt.datetime, zone: str) -> Moments:
    """Texts between bounds, to the second: fractions of a second are only written where any of them is inside."""
    low, high, at_end = first, last, False
    try:
        for key, bound in bounds.items():
            whole = bound.replace(microsecond=0)
            if key in ("ge", "gt"):
                low = max(low, whole if key == "ge" and whole == bound else whole + _SECOND)
            else:
                includes = key == "le" or whole < bound
                if (whole - _SECOND, not includes) < (high, not at_end):
                    high, at_end = whole - _SECOND, includes
    except OverflowError:
        return Moments("", empty="nothing")
    options = [f"{ranges.fixed(low.isoformat(), high.isoformat())}(?:\\.[0-9]{{1,6}})?"] if low <= high else []
    if at_end and low <= high + _SECOND:
        options.append((high + _SECOND).isoformat())
    if not options:
        return Moments("", empty="nothing")
    return Moments("", f"^(?:{'|'.join(options)}){zone}$", narrowed=f"to the second{', in UTC' if zone else ''}")


def bounds_of(core: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds that a core schema has."""
    return {key: core[key] for key in BOUNDS if core.get(key) is not None}


def _between(bounds: Mapping[str, Any]) -> str:
    words = {"ge": "from", "gt": "after", "le": "up to", "lt": "before"}
    return " and ".join(f"{words[key]} {bound}" for key, bound in bounds.items())
