"""Dates, times and durations in the spellings that have only one reading.

Day and month as numbers are told apart only if one of them is above 12 or both are equal; years have four digits.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

from ..json_tree import CutText
from .fit import Fit, changed, misfit

_MONTH_NAMES = (
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "_ _ _ _ _ _ _ _ sept",
)
_MONTHS = {name: number for names in _MONTH_NAMES for number, name in enumerate(names.split(), start=1) if name != "_"}
_DAYS = {name: number for number, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAY = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)(?:s|nes|rs|ur)?(?:day)?\.?,?\s+", re.IGNORECASE)
_ORDINAL = r"(\d{1,2})(?:st|nd|rd|th)?"
_SHAPES = [
    (re.compile(r"(\d{4})\s*[-/.]\s*(\d{1,2})\s*[-/.]\s*(\d{1,2})(?!\d)"), "ymd"),
    (re.compile(r"(\d{4})(\d{2})(\d{2})(?!\d)"), "ymd"),
    (re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日"), "ymd"),
    (re.compile(r"(\d{1,2})\s*[-/.]\s*(\d{1,2})\s*[-/.]\s*(\d{4})(?!\d)"), "??y"),
    (
        re.compile(rf"(?:the\s+)?{_ORDINAL}(?:\s+of)?[\s.\-/]*({_MONTH})\.?,?[\s\-/]*(\d{{4}})(?!\d)", re.IGNORECASE),
        "dmy",
    ),
    (re.compile(rf"({_MONTH})\.?[\s\-]*{_ORDINAL},?[\s\-]+(\d{{4}})(?!\d)", re.IGNORECASE), "mdy"),
    (re.compile(rf"(\d{{4}})[\s\-,]+({_MONTH})\.?[\s\-]*{_ORDINAL}(?!\d)", re.IGNORECASE), "ymd"),
]
_BETWEEN = re.compile(r"\s*(?:T|,|at|@|-)?\s*", re.IGNORECASE)
_CLOCK = re.compile(
    r"(\d{1,2})(?:[:.h](\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s*(a\.?m\.?|p\.?m\.?)?\s*"
    r"(Z|UTC|GMT|(?:UTC|GMT)?[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_ISO_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:[Zz]|[+-]\d{2}:?\d{2})?)?")
_ISO_TIME = re.compile(r"\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:[Zz]|[+-]\d{2}:?\d{2})?")
_ISO_DURATION = re.compile(r"[-+]?P(?!$)[\dWYMDTHS.,]+|[-+]?\d+:\d{2}(?::\d{2})?", re.IGNORECASE)
_PART = re.compile(r"\s*(?:,|and|&)?\s*(\d+(?:\.\d+)?)\s*([a-z]+)\.?", re.IGNORECASE)
_LENGTHS = {
    "w": "week weeks wk wks w", "d": "day days d", "h": "hour hours hr hrs h", "m": "minute minutes min mins",
    "s": "second seconds sec secs s",
}  # fmt: skip
_LENGTH = {word: unit for unit, words in _LENGTHS.items() for word in words.split()}
_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def fit_moment(text: str, kind: str, rules: frozenset[str]) -> Fit:
    """A text for a string of the format `kind`: "date", "date-time", "time" or "duration"."""
    if isinstance(text, CutText):
        return misfit(text, f"the text breaks off in a {kind}")
    stripped = text.strip().strip("*").strip()
    if len(stripped) > 100:
        return misfit(text, f"the text is no {kind}")
    try:
        fit = _FITTERS[kind](stripped, text)
    except _SeveralDates as several:
        return misfit(text, str(several), ambiguous=True)
    except ValueError:  # a thirteenth month, 30 February
        return misfit(text, f"there is no such {kind}")
    if fit is None or not rules.issuperset(entry.rule for entry in fit.log):
        return misfit(text, f"the text is no {kind}")
    return fit


class _SeveralDates(ValueError):
    pass


def _fit_date(text: str, given: str) -> Fit | None:
    if _ISO_DATE.fullmatch(text):
        return Fit(text) if text == given else changed("date", given, text)
    day, at = _read_date(text)
    if day is None:
        return None
    if at == len(text):
        return changed("date", given, day.isoformat())
    clock = _read_clock(text, at)
    if clock is None:
        return None
    if not re.search(r"[1-9]", clock.partition("+")[0].partition("Z")[0]):  # midnight
        return changed("date", given, day.isoformat())
    return changed("date_part", given, day.isoformat())


def _fit_date_time(text: str, given: str) -> Fit | None:
    if _ISO_MOMENT.fullmatch(text):
        return Fit(text) if text == given else changed("date", given, text)
    day, at = _read_date(text)
    if day is None:
        return None
    if at == len(text):
        return changed("date", given, day.isoformat())
    clock = _read_clock(text, at)
    return None if clock is None else changed("date", given, f"{day.isoformat()}T{clock}")


def _fit_time(text: str, given: str) -> Fit | None:
    if _ISO_TIME.fullmatch(text):
        return Fit(text) if text == given else changed("time", given, text)
    clock = _read_clock(text, 0)
    return None if clock is None else changed("time", given, clock)


def _fit_duration(text: str, given: str) -> Fit | None:
    if _ISO_DURATION.fullmatch(text):
        return Fit(text) if text == given else changed("duration", given, text)
    at = 0
    seconds = 0.0
    units: list[str] = []
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            return None
        word = match.group(2).lower()
        unit = _LENGTH.get(word) or ("m" if word == "m" and units[-1:] == ["h"] else None)
        if unit is None or unit in units:
            return None
        units.append(unit)
        seconds += float(match.group(1)) * _SECONDS[unit]
        at = match.end()
    return changed("duration", given, f"PT{seconds:g}S" if seconds != int(seconds) else f"PT{int(seconds)}S")


_FITTERS: dict[str, Callable[[str, str], Fit | None]] = {
    "date": _fit_date,
    "date-time": _fit_date_time,
    "time": _fit_time,
    "duration": _fit_duration,
}
FORMATS = frozenset(_FITTERS)
"""The string formats that are read here."""


def _read_date(text: str) -> tuple[dt.date | None, int]:
    """The date at the beginning of a text and where it ends. Raises `ValueError` if there is no such day."""
    weekday = _WEEKDAY.match(text)
    at = weekday.end() if weekday else 0
    for pattern, order in _SHAPES:
        match = pattern.match(text, at)
        if match is None:
            continue
        day = _date(order, match.groups())
        if weekday and day.weekday() != _DAYS[weekday.group(1).lower()]:
            raise _SeveralDates(f"{day.isoformat()} is no {weekday.group().strip(' ,')}")
        return day, match.end()
    return None, 0


def _date(order: str, groups: tuple[str, ...]) -> dt.date:
    if order == "??y":
        first, second, year = (int(group) for group in groups)
        if first <= 12 and second <= 12 and first != second:
            raise _SeveralDates("day and month can't be told apart")
        month, day = (second, first) if first > 12 else (first, second)
        return dt.date(year, month, day)
    parts = dict(zip(order, groups, strict=True))
    month = _MONTHS.get(parts["m"].lower()) or int(parts["m"])
    return dt.date(int(parts["y"]), month, int(parts["d"]))


def _read_clock(text: str, at: int) -> str | None:
    """The time of day that is the rest of a text, in ISO's spelling."""
    between = _BETWEEN.match(text, at) if at else None
    match = _CLOCK.fullmatch(text, between.end() if between else at)
    if match is None:
        return None
    hour, minute, second, fraction, half, zone = match.groups()
    if minute is None and half is None:
        return None
    hours = int(hour)
    if half:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if half.lower().startswith("p") else 0)
    written = dt.time(hours, int(minute or 0), int(second or 0)).isoformat()
    if fraction:
        written += f".{fraction[:6]}"
    if zone:
        offset = re.sub(r"(?i)utc|gmt", "", zone)
        written += "Z" if offset.upper() in ("", "Z") else offset if ":" in offset else f"{offset[:3]}:{offset[3:]}"
    return written
