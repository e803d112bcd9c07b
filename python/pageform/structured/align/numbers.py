"""Numbers written for people: separators, currencies, units, magnitudes, percent.

A text is read in every way it can be meant; the field's bounds, its type and its name may rule readings out. It counts
only if a single value is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any, NamedTuple

from ..json_tree import CutText, Number, repair
from .fit import Fit, misfit
from .outline import DECIMAL
from .units import (
    CURRENCY_AFTER,
    CURRENCY_BEFORE,
    GROUPS_BY_COMMA,
    Hint,
    Unsure,
    currency,
    read_suffix,
)

_MAX_CHARACTERS = 120
_MAX_DIGITS = 400
_EXACT = Context(prec=2 * _MAX_DIGITS)
_SIGNS = {"−": "-", "–": "-", "‒": "-", "﹣": "-", "-": "-", "+": "+"}
_GAPS = "\u00a0\u2009\u202f\u2007 '’_"
_ABOUT = re.compile(
    r"(?:about|approximately|approx\.?|around|roughly|circa|ca\.?|c\.|~|≈)\s*(?=[\d+\-−$€£.])", re.IGNORECASE
)
_BODY = re.compile(rf"\d[\d.,{_GAPS}]*(?:[eE][-+]?\d{{1,3}}(?!\w))?|\.\d+")
_PERCENT = re.compile(r"percent|percentage|\bpct\b|per cent|%", re.IGNORECASE)
_FRACTION = re.compile(
    r"\b(?:fraction|ratio|probability|prob|likelihood|proportion)\b"
    r"|\bbetween 0(?:\.0)? and 1(?:\.0)?\b|\b0(?:\.0)?\s*(?:-|–|to)\s*1(?:\.0)?\b(?!\d)",
    re.IGNORECASE,
)


class _Reading(NamedTuple):
    """One way to understand a text as a number."""

    value: Decimal
    rules: tuple[str, ...]


def fit_number(text: str, node: Mapping[str, Any], hint: Hint, rules: frozenset[str]) -> Fit:
    """A text for a number: `node` is the number's schema, `hint` what the field says of itself."""
    if isinstance(text, CutText):
        return misfit(text, "the text breaks off in a number")
    whole = _is_whole(node)
    try:
        readings = [one for one in _readings(text, node, hint) if rules.issuperset(one.rules)]
    except Unsure as unsure:
        return misfit(text, str(unsure), ambiguous=True)
    if whole:
        readings = [one for one in readings if one.value == one.value.to_integral_value()]
    if len({one.value for one in readings}) > 1:
        readings = [one for one in readings if _within(one.value, node)] or readings
    values = {one.value for one in readings}
    if not values:
        return misfit(text, "the text is no number")
    if len(values) > 1:
        shown = " or ".join(format(value, "f") for value in sorted(values))
        return misfit(text, f"{text!r} can mean {shown}", ambiguous=True)
    best = min(readings, key=lambda one: len(one.rules))
    written = format(best.value.to_integral_value() if whole else best.value, "f")
    after: Any = written if node.get(DECIMAL) else Number(written)
    log = tuple(repair(rule, (), text, after) for rule in best.rules)
    return Fit(after, sum(entry.cost for entry in log), log)


def _readings(text: str, node: Mapping[str, Any], hint: Hint) -> list[_Reading]:
    text = text.strip().strip("*").strip()
    if not text or len(text) > _MAX_CHARACTERS:
        return []
    used: list[str] = []
    about = _ABOUT.match(text)
    if about:
        used.append("approximate")
        text = text[about.end() :]
    bracketed = text.startswith("(") and text.endswith(")")
    if bracketed:  # as accountants write a negative amount
        text = text[1:-1].strip()
    sign, text = _sign(text)
    money = currency(CURRENCY_BEFORE.match(text))
    if money:
        inner, text = _sign(text[len(money) :])
        sign = sign or inner
    body = _BODY.match(text)
    if body is None or (bracketed and (sign or not (money or re.fullmatch(r"[\d.,\s]+", text)))):
        return []
    digits = body.group().rstrip(_GAPS)
    rest = text[len(digits) :]
    if digits[-1:] in (".", ",") and not rest.strip():  # the end of a sentence
        digits = digits[:-1]
    suffix = read_suffix(rest, money, hint)
    if suffix is None:
        return []
    money = money or currency(CURRENCY_AFTER.match(rest))
    negative = sign == "-" or bracketed
    readings = []
    for value, how in _bodies(digits, money.strip() in GROUPS_BY_COMMA, money.strip() == "€", _is_whole(node)):
        scaled = value.scaleb(suffix.power, _EXACT)
        readings.append(_Reading(scaled.copy_negate() if negative else scaled, (*used, *suffix.rules, *how)))
    if suffix.percent:
        shift = 0 if _as_percent(node, hint) else -2
        readings = [one._replace(value=one.value.scaleb(shift, _EXACT)) for one in readings]
    return [one if one.rules else one._replace(rules=("number",)) for one in readings]


def _sign(text: str) -> tuple[str, str]:
    if text[:1] in _SIGNS:
        return _SIGNS[text[0]], text[1:].lstrip()
    return "", text


def _is_whole(node: Mapping[str, Any]) -> bool:
    return bool(node.get("type") == "integer")


def _bodies(digits: str, by_comma: bool, by_dot: bool, whole: bool) -> list[tuple[Decimal, tuple[str, ...]]]:
    """Every value that digits with separators may have, and the rules that it takes.

    `by_comma` and `by_dot` tell that the currency's users group thousands so; a `whole` number is never 1,000 for 1.
    """
    separated = ("thousands",)
    exponent = re.search(r"[eE][-+]?\d+$", digits)
    power = exponent.group() if exponent else ""
    digits = digits[: len(digits) - len(power)]
    for gap in _GAPS:
        if gap in digits:
            if not re.fullmatch(rf"\d{{1,3}}(?:{gap}\d{{3}})+(?:[.,]\d+)?", digits):
                return []
            return [(value, separated) for value in _plain(digits.replace(gap, "").replace(",", ".") + power)]
    commas, dots = digits.count(","), digits.count(".")
    if not commas and dots <= 1:
        readings: list[tuple[Decimal, tuple[str, ...]]] = [(value, ()) for value in _plain(digits + power)]
        if by_dot and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", digits):
            readings += [(value, separated) for value in _plain(digits.replace(".", ""))]
        return readings
    texts: list[str] = []
    if commas and dots:
        point, group = (",", ".") if digits.rindex(",") > digits.rindex(".") else (".", ",")
        before, _, fraction = digits.rpartition(point)
        if point not in before and _grouped(before, group):
            texts.append(f"{before.replace(group, '')}.{fraction}")
    else:
        mark = "," if commas else "."
        grouped = _grouped(digits, mark)
        if grouped:
            texts.append(digits.replace(mark, ""))
        if digits.count(mark) == 1 and not (grouped and (by_comma or whole)):
            texts.append(digits.replace(mark, "."))
    return [(value, separated) for text in texts for value in _plain(text + power)]


def _grouped(digits: str, mark: str) -> bool:
    """Whether a separator groups by thousands, or as in India by hundreds from the second group on."""
    escaped = re.escape(mark)
    return (
        re.fullmatch(rf"[1-9]\d{{0,2}}(?:{escaped}\d{{3}})+", digits) is not None
        or re.fullmatch(rf"[1-9]\d?(?:{escaped}\d{{2}})+{escaped}\d{{3}}", digits) is not None
    )


def _plain(text: str) -> list[Decimal]:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return []
    return [value] if abs(value.adjusted()) < _MAX_DIGITS else []


def _as_percent(node: Mapping[str, Any], hint: Hint) -> bool:
    """Whether 15% is 15 rather than 0.15, by what the field says of itself."""
    if _is_whole(node):
        return True
    upper = node.get("maximum", node.get("exclusiveMaximum"))
    bounded = isinstance(upper, (int, float))
    as_percent = bool(_PERCENT.search(hint.words)) or (bounded and upper > 1)
    as_fraction = bool(_FRACTION.search(hint.words)) or (bounded and upper <= 1)
    if as_percent == as_fraction:
        raise Unsure(
            "a percentage can be written as 15 or as 0.15, and the field does not say which: give it a bound such as "
            "le=1 or le=100, or a name or description with `percent` or `fraction`"
        )
    return as_percent


def _within(value: Decimal, node: Mapping[str, Any]) -> bool:
    def bound(key: str, default: str) -> Decimal:
        given = node.get(key)
        return Decimal(str(given)) if isinstance(given, (int, float)) else Decimal(default)

    return bound("minimum", "-Infinity") <= value <= bound("maximum", "Infinity") and bound(
        "exclusiveMinimum", "-Infinity"
    ) < value < bound("exclusiveMaximum", "Infinity")
