"""Numbers: ranges, multiples and digits as keywords that llguidance enforces exactly.

JSON numbers have no end, so every number gets one. Up to 15 significant digits a decimal fraction survives the way
through a double unchanged and in order; comparing decimal text with a bound is then the same as comparing doubles, and
what the grammar admits is what validation accepts. Fraction digits are limited by `multipleOf`, which llguidance counts
on the text, down to 1e-10. Bounds become inclusive ones on the grid of those decimals: llguidance's ranges that are
open below are wrong where the bound is an integer (above 1 and below 1.9 it admits 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from . import ranges

DIGITS = 15
"""Significant digits of a decoded number."""

_MAX_INTEGER = 10**DIGITS - 1
_EXACT = 2**53
"""Integers up to here are exact as doubles, which is how llguidance reads bounds."""
_MAX_I64 = 2**63 - 1024
_MAX_COEFFICIENT = 2**32 - 1
_MAX_PLACES = 10
"""llguidance refuses a `multipleOf` below 1e-10."""

_DEFAULT_GRIDS = ((12, 3), (9, 6), (5, 9))
"""(digits before the point, digits after it): amounts of money, moments in seconds, and measured values."""
_DEFAULT_ENDS = frozenset(10**whole - Fraction(1, 10**places) for whole, places in _DEFAULT_GRIDS)
_LAST_GRIDS = ((DIGITS, 0), (8, 7), (0, _MAX_PLACES))
"""Used where the type's own bounds leave no room in the default grids."""
_ZERO = Fraction(0)
_PLAIN_FROM = Fraction(1, 10_000)
"""Smaller numbers are written with an exponent in JSON's canonical form."""


class Empty(Exception):
    """No number satisfies the keywords; the message says why."""


@dataclass(frozen=True)
class Range:
    """The bounds of a number node; None where there is none."""

    low: Fraction | None
    low_open: bool
    high: Fraction | None
    high_open: bool

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Range:
        """Read the four bound keywords. Raises `Empty` if they contradict each other."""
        low, low_open = _tightest(schema, "minimum", "exclusiveMinimum", max)
        high, high_open = _tightest(schema, "maximum", "exclusiveMaximum", min)
        if low is not None and high is not None and (low > high or (low == high and (low_open or high_open))):
            raise Empty(f"no number lies between {_shown(low)} and {_shown(high)}")
        return cls(low, low_open, high, high_open)

    def within(self, digits: int) -> Range | None:
        """The part whose numbers have at most so many digits before the point, None if there is none."""
        low, low_open, high, high_open = self.low, self.low_open, self.high, self.high_open
        end = Fraction(10**digits)
        if low is None or low <= -end:
            low, low_open = -end, True
        if high is None or high >= end:
            high, high_open = end, True
        if low > high or (low == high and (low_open or high_open)):
            return None
        return Range(low, low_open, high, high_open)

    def on_grid(self, step: Fraction) -> Range | None:
        """The range from its first to its last multiple of `step`, None if it holds none. Both ends must be known."""
        assert self.low is not None
        assert self.high is not None
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        first += self.low_open and first * step == self.low
        last -= self.high_open and last * step == self.high
        return Range(first * step, False, last * step, False) if first <= last else None

    def keywords(self) -> dict[str, Any]:
        """The range as JSON Schema keywords."""
        made = {}
        if self.low is not None:
            made["exclusiveMinimum" if self.low_open else "minimum"] = _plain(self.low)
        if self.high is not None:
            made["exclusiveMaximum" if self.high_open else "maximum"] = _plain(self.high)
        return made


@dataclass
class Planned:
    """A planned number, and the keywords that could not be kept. `text` is a pattern for the same written as text,
    `digits` says which numbers there are between the bounds."""

    schema: dict[str, Any]
    missed: dict[str, Any]
    digits: str | None = None
    text: str | None = None
    needs_point: bool = False
    """Whether only texts will do, and only those with a point."""


def plan_integer(schema: Mapping[str, Any]) -> Planned:
    """An integer node. Raises `Empty`."""
    span = Range.of(schema)
    missed: dict[str, Any] = {}
    low = None if span.low is None else math.floor(span.low) + 1 if span.low_open else math.ceil(span.low)
    high = None if span.high is None else math.ceil(span.high) - 1 if span.high_open else math.floor(span.high)
    if low is not None and high is not None and low > high:
        raise Empty(f"no integer lies between {_shown(span.low)} and {_shown(span.high)}")
    bottom = low if low is not None else min(-_MAX_INTEGER, 10 * (high or 0))
    top = high if high is not None else max(_MAX_INTEGER, 10 * (low or 0))
    bottom, top = max(_up_to_double(bottom), -_MAX_I64), min(_down_to_double(top), _MAX_I64)
    if bottom > top:
        missed = {key: schema[key] for key in _BOUND_KEYWORDS if key in schema}
        bottom, top = -_MAX_INTEGER, _MAX_INTEGER
    made = {"type": "integer", "minimum": bottom, "maximum": top}
    digits = None if (bottom, top) == (low, high) else f"{max(len(str(abs(bottom))), len(str(abs(top))))} digits"
    if "multipleOf" in schema:
        step = Fraction(repr(schema["multipleOf"])).numerator
        first = math.ceil(Fraction(bottom, step)) * step
        if first > top and not missed:
            raise Empty(f"no multiple of {schema['multipleOf']} lies between {bottom} and {top}")
        if step > _MAX_COEFFICIENT:
            missed["multipleOf"] = schema["multipleOf"]
        elif step > 1:
            made["multipleOf"] = step
    return Planned(made, missed, digits)


def plan_number(schema: Mapping[str, Any], digits: tuple[int | None, int | None] | None = None) -> Planned:
    """A number node; `digits` are a Decimal's max_digits and decimal_places. Raises `Empty`."""
    span = Range.of(schema)
    missed: dict[str, Any] = {}
    if "multipleOf" in schema:
        step = Fraction(repr(schema["multipleOf"]))
        if span.low is not None and span.high is not None and span.on_grid(step) is None:
            raise Empty(
                f"no multiple of {schema['multipleOf']} lies between {_shown(span.low)} and {_shown(span.high)}"
            )
        places = _places(step)
        allowed = _MAX_PLACES if digits is None or digits[1] is None else digits[1]
        if places is not None and places <= allowed and step * 10**places <= _MAX_COEFFICIENT:
            near = span.within(_whole_digits(digits, places))
            on_grid = near and near.on_grid(step)
            if near and on_grid and _whole_digits(digits, 0):
                options = [_multiples(on_grid, schema["multipleOf"]), *_shortened(on_grid, step)]
                for coarser in _coarser(step, places):
                    inside = near.on_grid(coarser)
                    options += [_multiples(inside, float(coarser))] if inside else []
                return _either(options, missed, _digits([(_whole_digits(digits, places), places)]))
        missed["multipleOf"] = schema["multipleOf"]
    grids = _DEFAULT_GRIDS if digits is None else _decimal_grids(*digits)
    # Where no digit may stand before the point, the zero there counts if nothing follows the point, and a JSON number
    # loses what follows: 0.0 is read as 0.
    needs_point = digits is not None and all(whole == 0 for whole, _ in grids)
    own = digits is not None and digits[0] is not None and digits[0] <= DIGITS
    if digits is not None and own and span.within(max(whole for whole, _ in grids)) is None:
        within = f"between {_shown(span.low)} and {_shown(span.high)}"
        raise Empty(f"no number of {digits[0]} digits, {digits[1] or 0} of them decimals, lies {within}")
    pieces = _on_grids(span, grids) or ([] if digits else _on_grids(span, _LAST_GRIDS))
    if not pieces:
        missed.update({key: schema[key] for key in _BOUND_KEYWORDS if key in schema})
        return Planned({"type": "number"}, missed)
    options = [_multiples(on_grid, _written(places)) for on_grid, _, places in pieces]
    options += [option for on_grid, _, places in reversed(pieces) for option in _shortened(on_grid, _step(places))]
    planned = _either(options, missed, _digits([(whole, places) for _, whole, places in pieces], _cuts_zero(span)))
    if "multipleOf" not in schema:
        planned.text = _text(span, digits or (None, None))
        planned.needs_point = needs_point
    elif needs_point and digits is not None:
        missed["max_digits"] = digits[0]
    return planned


def _text(span: Range, digits: tuple[int | None, int | None]) -> str:
    """The numbers of a range as text, with any number of decimals that leaves enough digits before the point."""
    total = min(digits[0] or DIGITS, DIGITS)
    most = min(total if digits[1] is None else digits[1], total, _MAX_PLACES)
    texts = []
    for places in range(most + 1):
        near = span.within(min(total - places, _most_whole(*digits)))
        on_grid = near and near.on_grid(_step(places))
        if on_grid is not None:
            texts.append(ranges.decimals(on_grid.low or _ZERO, on_grid.high or _ZERO, places))
    return f"^(?:{'|'.join(texts)})$"


_BOUND_KEYWORDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def _on_grids(span: Range, grids: tuple[tuple[int, int], ...]) -> list[tuple[Range, int, int]]:
    """The range on each grid that has points in it, with its digits before and after the point, the finest last; that
    alone if it covers the whole range."""
    pieces: list[tuple[Range, int, int]] = []
    for whole, places in sorted(grids, key=lambda grid: -grid[1]):
        near = span.within(whole)
        on_grid = near and near.on_grid(_step(places))
        if near and on_grid:
            pieces.insert(0, (on_grid, whole, places))
            if near == span:
                break
    return pieces


def _cuts_zero(span: Range) -> bool:
    """Whether llguidance takes 0 but not 0.0, which it does at the upper end and below a short range."""
    return span.high == 0 or (span.low == 0 and span.high is not None and span.high < Fraction(1, 10))


def _step(places: int) -> Fraction:
    return Fraction(1, 10**places)


def _written(places: int) -> float:
    return 1 if places == 0 else float(f"1e-{places}")


def _digits(grids: list[tuple[int, int]], ends_at_zero: bool = False) -> str:
    """What the digits of a number are at most, for a report."""
    shown = [f"{whole} digits" if not places else f"{whole} digits and {places} decimals" for whole, places in grids]
    return f"{' or '.join(shown)}, no exponent, no -0{', 0 without decimals' if ends_at_zero else ''}"


def _coarser(step: Fraction, places: int) -> list[Fraction]:
    """Multiples of a step that have fewer decimals: llguidance wants 0.5 written as 0.50 where the step is 0.25."""
    if step.numerator == 1 and step.denominator == 10**places:
        return []
    found = []
    for fewer in range(places - 1, 0, -1):
        scale = step.denominator * 10**fewer
        found.append(Fraction(math.lcm(step.numerator * 10**fewer, step.denominator), scale))
    return [one for one in dict.fromkeys(found) if one != step]


def _multiples(on_grid: Range, step: float) -> dict[str, Any]:
    """The multiples of `step` from end to end; a single one is a constant."""
    low = on_grid.low
    if low is not None and low == on_grid.high and (low == 0 or abs(low) >= _PLAIN_FROM):
        return {"const": _plain(low)}
    return {"type": "number", **on_grid.keywords(), "multipleOf": step}


def _shortened(on_grid: Range, step: Fraction) -> list[dict[str, Any]]:
    """The numbers that begin the decimals of a bound, such as 0.9 and 0.99 below 0.999.

    llguidance admits them only with more decimals (0.990), which would push a model that has written 0.9 towards 0.99.
    """
    found: list[float] = []
    for end, sign in ((on_grid.high, 1), (on_grid.low, -1)):
        if end is None or sign * end <= 0 or abs(end) in _DEFAULT_ENDS:
            continue
        for places in range(1, _MAX_PLACES):
            value = sign * Fraction(math.floor(abs(end) * 10**places), 10**places)
            inside = on_grid.low is not None and on_grid.high is not None and on_grid.low <= value <= on_grid.high
            if value == end:
                break
            if inside and value.denominator > 1 and abs(value) >= _PLAIN_FROM and (value / step).denominator == 1:
                found.append(float(value))
    return [{"enum": sorted(set(found))}] if found else []


def _either(options: list[dict[str, Any]], missed: dict[str, Any], digits: str) -> Planned:
    return Planned(options[0] if len(options) == 1 else {"anyOf": options}, missed, digits)


def _decimal_grids(max_digits: int | None, places: int | None) -> tuple[tuple[int, int], ...]:
    """Grids on which no number has more digits or decimal places than a Decimal may have."""
    total = min(max_digits or DIGITS, DIGITS)
    if places is None:
        choices = sorted({0, min(2, total - 1), min(total - 1, _MAX_PLACES)})
    else:
        choices = [min(places, total, _MAX_PLACES)]
    return tuple((min(total - choice, _most_whole(max_digits, places)), choice) for choice in choices)


def _most_whole(max_digits: int | None, places: int | None) -> int:
    """Digits before the point that a Decimal may have: those that its decimal places leave, used or not."""
    return DIGITS if max_digits is None else max_digits - (places or 0)


def _whole_digits(digits: tuple[int | None, int | None] | None, places: int) -> int:
    total = DIGITS if digits is None or digits[0] is None else min(digits[0], DIGITS)
    return max(min(total - places, _most_whole(*(digits or (None, None)))), 0)


def _places(step: Fraction) -> int | None:
    """Decimal places of a number, None if it has more than the grammar can count."""
    return next((places for places in range(_MAX_PLACES + 1) if (step * 10**places).denominator == 1), None)


def _tightest(schema: Mapping[str, Any], closed: str, opened: str, pick: Any) -> tuple[Fraction | None, bool]:
    at_closed = Fraction(repr(schema[closed])) if _finite(schema.get(closed)) else None
    at_open = Fraction(repr(schema[opened])) if _finite(schema.get(opened)) else None
    if at_open is None or at_closed is None:
        return (at_closed, False) if at_open is None else (at_open, True)
    return (at_open, True) if at_closed == at_open or pick(at_closed, at_open) == at_open else (at_closed, False)


def _finite(value: Any) -> bool:
    return value is not None and (isinstance(value, int) or math.isfinite(value))


def _up_to_double(value: int) -> int:
    """The smallest integer that is a double and at least `value`."""
    if abs(value) <= _EXACT or abs(value) > _MAX_I64:
        return value
    near = int(float(value))
    return near if near >= value else int(math.nextafter(float(value), math.inf))


def _down_to_double(value: int) -> int:
    return -_up_to_double(-value)


def _plain(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def _shown(value: Fraction | None) -> str:
    return "any" if value is None else str(_plain(value))
