"""Ranges as patterns, against arithmetic."""

from __future__ import annotations

import datetime as dt
import re
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from pageform.forms import ranges

NUMBERS = st.one_of(st.integers(-40, 40), st.integers(-(10**7), 10**7))


@settings(max_examples=150, deadline=None)
@given(NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=10))
def test_whole_numbers(one: int, other: int, probes: list[int]) -> None:
    low, high = sorted((one, other))
    pattern = re.compile(ranges.whole(low, high))
    for value in {*probes, low, high, low - 1, high + 1, (low + high) // 2, 0, -low, *range(low, min(high, low + 30))}:
        assert bool(pattern.fullmatch(str(value))) == (low <= value <= high), value
    assert not pattern.fullmatch("00")
    assert not pattern.fullmatch("-0")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4), NUMBERS, NUMBERS, st.lists(st.tuples(NUMBERS, st.integers(0, 5)), max_size=15))
def test_decimals(places: int, one: int, other: int, probes: list[tuple[int, int]]) -> None:
    low, high = sorted((one, other))
    pattern = re.compile(ranges.decimals(Fraction(low, 10**places), Fraction(high, 10**places), places))
    near = [(low + step, places) for step in range(-3, 4)] + [(high + step, places) for step in range(-3, 4)]
    for digits, written in [*probes, *near]:
        text = f"{'-' if digits < 0 else ''}{abs(digits) // 10**written}"
        text += f".{abs(digits) % 10**written:0{written}}" if written else ""
        value = Fraction(digits, 10**written)
        inside = Fraction(low, 10**places) <= value <= Fraction(high, 10**places) and written <= places
        assert bool(pattern.fullmatch(text)) == inside, text
        short = text.rstrip("0").rstrip(".") if "." in text else text
        if inside:
            assert pattern.fullmatch(short), "zeros at the end may be left out"
    for wrong in ("-0", "-0.0", "1.", ".5", "007", ""):
        assert not pattern.fullmatch(wrong)


@settings(max_examples=150, deadline=None)
@given(st.dates(), st.dates(), st.lists(st.dates(), max_size=20))
def test_dates(one: dt.date, other: dt.date, probes: list[dt.date]) -> None:
    low, high = sorted((one, other))
    pattern = re.compile(ranges.fixed(low.isoformat(), high.isoformat()))
    for day in (*probes, low, high, dt.date.min, dt.date.max):
        assert bool(pattern.fullmatch(day.isoformat())) == (low <= day <= high)
