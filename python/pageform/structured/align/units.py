"""What may stand before and after the digits of a number: currencies, magnitudes, units, percent."""

from __future__ import annotations

import re
from typing import NamedTuple

_CODES = (
    "USD EUR GBP JPY CHF CNY RMB INR CAD AUD NZD SEK NOK DKK PLN CZK HUF RON BGN TRY RUB UAH BRL MXN ZAR KRW SGD HKD "
    "THB ILS AED SAR EGP NGN KES ARS CLP COP PEN VND IDR MYR PHP TWD"
)
CODES = frozenset(_CODES.split())
_SYMBOLS = {
    "$": CODES & {"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN", "ARS", "CLP", "COP", "TWD"},
    "US$": {"USD"}, "€": {"EUR"}, "£": {"GBP"}, "¥": {"JPY", "CNY", "RMB"}, "₹": {"INR"}, "₩": {"KRW"},
    "₽": {"RUB"}, "₺": {"TRY"}, "euro": {"EUR"}, "euros": {"EUR"},
}  # fmt: skip
GROUPS_BY_COMMA = frozenset(("$", "US$", "£", "¥", "₹", "USD", "GBP", "JPY", "INR", "CA$", "A$", "C$", "HK$"))
"""Currencies whose users group by commas, so that $1,234 has one reading."""

_CURRENCY = (
    r"US\$|CA\$|A\$|C\$|HK\$|R\$|[$€£¥₹₩₽₺₪฿₫₴]|kr\.?(?!\w)|zł|Kč|Fr\.|Rs\.?(?!\w)|[A-Z]{3}(?![A-Za-z])"
    r"|(?:dollars?|euros?|pounds?|yen|rupees?)\b"
)
CURRENCY_BEFORE = re.compile(rf"(?:{_CURRENCY})\s*")
CURRENCY_AFTER = re.compile(rf"\s*(?:{_CURRENCY})")

_MAGNITUDES = {
    "k": 3, "hundred": 2, "thousand": 3, "tsd": 3, "million": 6, "millions": 6, "mio": 6, "mln": 6, "mn": 6,
    "billion": 9, "billions": 9, "bn": 9, "bln": 9, "trillion": 12, "trillions": 12, "tn": 12,
    "lakh": 5, "lakhs": 5, "crore": 7, "crores": 7,
}  # fmt: skip
_OF_MONEY = {"m": 6, "mm": 6, "b": 9, "t": 12}
"""Magnitudes beside a currency; elsewhere they may be units."""
_MAGNITUDE = re.compile(r"\s*([A-Za-z]+)\.?(?![A-Za-z])")

_UNIT_WORDS = {
    "kg": "kg kgs kilogram kilograms kilo kilos", "g": "g gram grams gr", "mg": "mg milligram milligrams",
    "lb": "lb lbs", "oz": "oz ounce ounces", "km": "km kms kilometer kilometers kilometre kilometres",
    "m": "m meter meters metre metres", "cm": "cm centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres", "mi": "mi mile miles", "ft": "ft foot feet",
    "in": "inch inches", "ms": "ms msec millisecond milliseconds", "s": "s sec secs second seconds",
    "min": "min mins minute minutes", "h": "h hr hrs hour hours", "d": "d day days", "week": "week weeks",
    "month": "month months", "year": "year years yr yrs", "l": "l liter liters litre litres",
    "ml": "ml milliliter milliliters millilitre millilitres", "kb": "kb", "mb": "mb", "gb": "gb", "tb": "tb",
    "c": "c celsius °c", "f": "f fahrenheit °f", "k": "kelvin",
}  # fmt: skip
_UNITS = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}
_UNIT = re.compile(r"\s*[A-Za-zÀ-ɏµμ°Ω\"″'′]+[²³]?(?:(?: per |/|·|-| )[A-Za-zÀ-ɏµμ°Ω]+[²³]?)?\.?\s*[.!]?")
"""One word or two: km/h, square feet, units sold."""
_MORE = (
    "or and to of more less than minus plus at not but over under dozen dozens half point about times x vs per cent "
    "score unknown maybe approx ish pm am th st nd rd"
)
_NO_UNITS = frozenset(_MORE.split())
"""Words that say more of a number than what is counted."""


class Hint(NamedTuple):
    """What a field says of itself: its name, and its name with title and description as words."""

    name: str = ""
    words: str = ""


class Suffix(NamedTuple):
    """What follows the digits: a power of ten, whether it is a percentage, and the rules that say so."""

    power: int = 0
    percent: bool = False
    rules: tuple[str, ...] = ()


class Unsure(ValueError):
    """There are several readings; the message says which."""


def hint_of(name: str, *texts: object) -> Hint:
    """The hint of a field from its name, title and description."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)
    return Hint(name, " ".join([spaced, *(text for text in texts if isinstance(text, str))]))


def currency(match: re.Match[str] | None) -> str:
    """The currency that was matched; three capitals only if they are a currency's code."""
    if match is None:
        return ""
    word = match.group().strip()
    return "" if re.fullmatch(r"[A-Z]{3}", word) and word not in CODES else match.group()


def read_suffix(rest: str, money: str, hint: Hint) -> Suffix | None:
    """What follows the digits, None if that is no suffix of a number. Raises `Unsure`."""
    rules: list[str] = []
    power = 0
    match = _MAGNITUDE.match(rest)
    word = match.group(1) if match else ""
    if match and word.lower() in _MAGNITUDES:
        power = _MAGNITUDES[word.lower()]
    elif match and word == "M" and rest.startswith("M") and _unit_of(hint.name) != "m":
        power = 6
    elif match and word.lower() in _OF_MONEY and (money or currency(CURRENCY_AFTER.match(rest, match.end()))):
        power = _OF_MONEY[word.lower()]
    if match and power:
        rules.append("magnitude")
        rest = rest[match.end() :]
    if rest.strip().rstrip(".") in ("%", "percent", "per cent", "pct", "٪", "％"):
        return None if money or power else Suffix(0, True, ("percent",))
    after = currency(CURRENCY_AFTER.match(rest))
    if after and not money and not rest[len(after) :].strip(" ."):
        money, rest = after, ""
    if money:
        _agree(money.strip(), hint)
        rules.append("currency")
    if rest.strip(" .!"):
        if not _is_unit(rest, hint):
            return None
        rules.append("unit")
    return Suffix(power, False, tuple(rules))


def _is_unit(rest: str, hint: Hint) -> bool:
    unit = rest.strip().rstrip(".!").strip()
    words = set(re.findall(r"[^\W\d_]+", unit.lower()))
    if not _UNIT.fullmatch(rest) or words & _NO_UNITS - ({"per"} if " per " in unit else set()):
        return False
    wanted, given = _unit_of(hint.name), _UNITS.get(unit.lower())
    if (unit in ("M", "B", "G", "T") or (rest.startswith("m") and unit == "m")) and wanted != unit.lower():
        raise Unsure(f"{unit!r} may be a unit or a power of ten")
    if wanted and given and wanted != given:
        raise Unsure(f"the unit {unit!r} differs from the one in the field's name, {wanted!r}")
    return True


def _unit_of(name: str) -> str | None:
    """The unit that a field's name ends in, as weight_kg and distanceKm do."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return _UNITS.get(words[-1].lower()) if len(words) > 1 else None


def _agree(money: str, hint: Hint) -> None:
    """See that a currency is the one in the field's name, if that names one."""
    named = {word.upper() for word in hint.name.replace("-", "_").split("_")} & CODES
    meant = _SYMBOLS.get(money, {money} if money in CODES else None)
    if named and meant and not named & meant:
        raise Unsure(f"the currency {money!r} differs from the one in the field's name")
