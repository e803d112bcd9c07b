"""Ranges of numbers and dates as regular expressions, for values that come as text.

All take inclusive ends. The idea is the usual one: digit by digit along both ends, and any digits once a text is
strictly between them.
"""

from __future__ import annotations

import re
from fractions import Fraction

_DIGIT = "[0-9]"


def fixed(low: str, high: str) -> str:
    """The texts from `low` to `high` of their shape: digits, with the same separators at the same places."""
    if not low:
        return ""
    first, last, rest = low[0], high[0], low[1:]
    if _bottom(low) == low and _top(high) == high:
        return _any(low)
    if first == last:
        return _literal(first) + fixed(rest, high[1:])
    options = []
    middle_from, middle_to = int(first), int(last)
    if rest != _bottom(rest):
        options.append(first + fixed(rest, _top(rest)))
        middle_from += 1
    upper = ""
    if high[1:] != _top(rest):
        upper = last + fixed(_bottom(rest), high[1:])
        middle_to -= 1
    if middle_from <= middle_to:
        options.append(_digits(middle_from, middle_to) + _any(rest))
    return _either([*options, upper] if upper else options)


def whole(low: int, high: int) -> str:
    """The integers from `low` to `high`, without leading zeros."""
    if low < 0:
        below = "-" + whole(max(1, -high), -low)
        return below if high < 0 else _either([below, whole(0, high)])
    options = []
    while low <= high:
        length, most = len(str(low)), len(str(high + 1)) - 1
        if low == 10 ** (length - 1) and most >= length:  # all numbers of some lengths
            options.append(f"[1-9]{_DIGIT}{{{length - 1},{most - 1}}}")
            low = 10**most
            continue
        end = min(high, 0 if low == 0 else 10**length - 1)
        options.append(fixed(str(low), str(end)))
        low = end + 1
    return _either(options)


def decimals(low: Fraction, high: Fraction, places: int) -> str:
    """The decimals from `low` to `high`, which are multiples of 10**-places, with at most so many places written."""
    if low < 0:
        below = "-" + decimals(max(Fraction(1, 10**places), -high), -low, places)
        return below if high < 0 else _either([below, decimals(Fraction(0), high, places)])
    first, last = divmod(int(low * 10**places), 10**places), divmod(int(high * 10**places), 10**places)
    zeros, nines = "0" * places, "9" * places
    begin, end = (f"{part:0{places}}" if places else "" for _, part in (first, last))
    if first[0] == last[0]:
        return str(first[0]) + _fraction(begin, end)
    options, middle_from, middle_to = [], first[0], last[0]
    if begin != zeros and places:
        options.append(str(first[0]) + _fraction(begin, nines))
        middle_from += 1
    if end != nines and places:
        options.append(str(last[0]) + _fraction(zeros, end))
        middle_to -= 1
    if middle_from <= middle_to:
        options.append(whole(middle_from, middle_to) + _fraction(zeros, nines))
    return _either(options)


def _fraction(low: str, high: str) -> str:
    """The point and the digits after it; nothing at all where the fraction may be zero."""
    if not low:
        return ""
    pattern = rf"\.{_places(low, high, empty=False)}"
    return pattern if low.strip("0") else f"(?:{pattern})?"


def _places(low: str, high: str, empty: bool = True) -> str:
    """Up to as many digits as the ends have, read as if zeros followed; with `empty`, none where that is zero."""
    if not low:
        return ""
    zero = not low.strip("0")
    if zero and not high.strip("9"):
        return f"{_DIGIT}{{{0 if empty else 1},{len(low)}}}"
    first, last, rest = low[0], high[0], low[1:]
    if first == last:
        options = [first + _places(rest, high[1:])]
    else:
        options = [first + _places(rest, "9" * len(rest))]
        if int(last) - int(first) > 1:
            options.append(_digits(int(first) + 1, int(last) - 1) + f"{_DIGIT}{{0,{len(rest)}}}")
        options.append(last + _places("0" * len(rest), high[1:]))
    pattern = _either(options)
    return f"(?:{pattern})?" if zero and empty else pattern


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"


def _digits(low: int, high: int) -> str:
    return str(low) if low == high else f"[{low}-{high}]"


def _any(shape: str) -> str:
    pattern = "".join(_DIGIT if char.isdigit() else _literal(char) for char in shape)
    return re.sub(r"(?:\[0-9\]){3,}", lambda run: f"{_DIGIT}{{{len(run[0]) // len(_DIGIT)}}}", pattern)


def _literal(char: str) -> str:
    return rf"\{char}" if char in ".+*?()[]{}|^$\\" else char


def _bottom(shape: str) -> str:
    return "".join("0" if char.isdigit() else char for char in shape)


def _top(shape: str) -> str:
    return "".join("9" if char.isdigit() else char for char in shape)
