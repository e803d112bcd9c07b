"""How a fault can be mended, where that can be told from the value: the nearest option, the number without its unit, …

A suggestion is only made where one reading of the value stands out; a wrong one would lead the model astray.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import Any

from .bounded import cut

_LONGEST = 200
"""Texts longer than this are not compared: the time that takes is quadratic."""
_MOST = 200
"""Options or keys that are compared."""

_BITS = 256
"""Integers longer than this are left alone: printing them takes quadratic time."""

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_DAY_AND_MONTH = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})")
_FENCE = re.compile(r"\s*```")
_YES = frozenset({"yes", "y", "ja", "oui", "si", "on", "true", "1"})
_NO = frozenset({"no", "n", "nein", "non", "off", "false", "0"})


@dataclass(frozen=True, slots=True)
class Place:
    """What is known about the place of a fault: the value there, the options that the type gives it, its key, and the
    keys that may be meant instead (of a missing key, those that the type doesn't know; of a key too many, those that
    are missing)."""

    value: Any
    options: Sequence[Any] = ()
    key: str = ""
    others: Sequence[str] = ()


def suggestion(kind: str, place: Place, details: Mapping[str, Any]) -> str | None:
    """What to do about a fault of that Pydantic type; `details` is its `ctx`."""
    make = _BY_TYPE.get(kind)
    if make is None or (isinstance(place.value, int) and place.value.bit_length() > _BITS):
        return None
    if place.value is None and kind.endswith(("_type", "_parsing", "enum", "literal_error")):
        return "Give a value instead of null"
    return make(place, details)


def nearest(text: str, options: Sequence[Any]) -> Any | None:
    """The option that `text` most likely means: the same but for case and separators, or close by edit distance."""
    if not 0 < len(text) <= _LONGEST:
        return None
    by_name = {_plain(str(option)): option for option in options[:_MOST] if len(str(option)) <= _LONGEST}
    close = get_close_matches(_plain(text), by_name, n=2, cutoff=0.7)
    if not close:
        return None
    if (
        len(close) == 2
        and _plain(text) != close[0]
        and _distance(_plain(text), close[0]) == _distance(_plain(text), close[1])
    ):
        return None  # two are equally near
    return by_name[close[0]]


def _plain(text: str) -> str:
    return re.sub(r"[\s_\-./]+", "", text).casefold()


def _distance(a: str, b: str) -> int:
    """Levenshtein's edit distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def _option(place: Place, details: Mapping[str, Any]) -> str | None:
    options = place.options or re.findall(r"'([^']*)'", str(details.get("expected", "")))
    found = nearest(str(place.value), options) if isinstance(place.value, (str, int, float)) else None
    return None if found is None else f"Did you mean {_dump(found)}?"


def _missing(place: Place, details: Mapping[str, Any]) -> str | None:
    found = nearest(place.key, place.others)
    return None if found is None else f"Rename the key {_dump(found)} to {_dump(place.key)}"


def _extra(place: Place, details: Mapping[str, Any]) -> str:
    found = nearest(place.key, place.others)
    return "Leave this key out" if found is None else f"Rename the key {_dump(place.key)} to {_dump(found)}"


def _number(place: Place, details: Mapping[str, Any]) -> str | None:
    text = place.value
    if not isinstance(text, str) or len(text) > _LONGEST or not any(c.isdigit() for c in text):
        return None
    found = _NUMBER.search(text)
    rest = "" if found is None else (text[: found.start()] + text[found.end() :]).strip()
    if found is None or "%" in rest or any(c.isdigit() or c in ".,-" for c in rest):
        return "Write a plain number"
    plain = found.group().replace(",", "").lstrip("+")
    return f"Leave out {'the unit' if rest else 'the separators'}: {plain}"


def _integer(place: Place, details: Mapping[str, Any]) -> str | None:
    found = _number(place, details)
    return "Write a whole number" if found is not None and re.search(r"[.eE]", found.partition(":")[2]) else found


def _whole(place: Place, details: Mapping[str, Any]) -> str:
    return "Write a whole number, without a fraction"


def _bool(place: Place, details: Mapping[str, Any]) -> str | None:
    word = str(place.value).strip().casefold() if isinstance(place.value, (str, int, float)) else ""
    if word in _YES or word in _NO:
        return f"Write {'true' if word in _YES else 'false'}"
    return "Write true or false"


def _date(place: Place, details: Mapping[str, Any]) -> str:
    found = _DAY_AND_MONTH.fullmatch(place.value.strip()) if isinstance(place.value, str) else None
    if found is not None:
        month, day = sorted(map(int, found.groups()[:2]))
        if month <= 12 < day <= 31:  # otherwise either may be the month
            try:
                return f"Write {date(int(found[3]), month, day).isoformat()}"
            except ValueError:
                pass
    return "Write it as YYYY-MM-DD"


def _string(place: Place, details: Mapping[str, Any]) -> str | None:
    scalar = isinstance(place.value, (bool, int, float))
    return f"Write it in quotes: {_dump(_dump(place.value))}" if scalar else "Write a string"


def _list(place: Place, details: Mapping[str, Any]) -> str | None:
    if isinstance(place.value, str) and place.value.lstrip().startswith("["):
        return "Leave out the quotes around the list"
    return "Put the value into a list: [ … ]"


def _object(place: Place, details: Mapping[str, Any]) -> str | None:
    if isinstance(place.value, str) and place.value.lstrip().startswith("{"):
        return "Leave out the quotes around the object"
    if isinstance(place.value, list):
        return "Give one object instead of a list" if len(place.value) == 1 else "Give an object instead of a list"
    return "Give an object: { … }"


def _too_long(place: Place, details: Mapping[str, Any]) -> str | None:
    limit = details.get("max_length")
    if isinstance(place.value, (str, list)) and isinstance(limit, int):
        unit = "character" if isinstance(place.value, str) else "item"
        over = len(place.value) - limit
        return f"Shorten it by {over} {unit}{'' if over == 1 else 's'}"
    return None


def _json(place: Place, details: Mapping[str, Any]) -> str | None:
    text = place.value.decode(errors="replace") if isinstance(place.value, bytes) else str(place.value)
    if _FENCE.match(text):
        return "Leave out the code fence"
    reason = str(details.get("error", ""))
    if not text.strip() or "column 1" in reason.split() or reason.startswith("expected"):
        return "Answer with JSON only, without any words around it"
    if "trailing characters" in reason:
        return "End the answer with the JSON, without any words after it"
    if "EOF" in reason:
        return "Close every string, list and object"
    return None


def _says(text: str) -> Callable[[Place, Mapping[str, Any]], str | None]:
    return lambda place, details: text


def _dump(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False, default=str), _LONGEST)


_BY_TYPE: dict[str, Callable[[Place, Mapping[str, Any]], str | None]] = {
    "enum": _option,
    "literal_error": _option,
    "union_tag_invalid": lambda place, details: _tag(details),
    "union_tag_not_found": lambda place, details: (
        f"Give the key {details.get('discriminator', '')} that tells the kind"
    ),
    "missing": _missing,
    "extra_forbidden": _extra,
    "unexpected_keyword_argument": _extra,
    "int_parsing": _integer,
    "float_parsing": _number,
    "decimal_parsing": _number,
    "int_from_float": _whole,
    "int_type": _integer,
    "float_type": _number,
    "bool_parsing": _bool,
    "bool_type": _bool,
    "date_parsing": _date,
    "date_from_datetime_parsing": _date,
    "date_from_datetime_inexact": _says("Write the date without a time: YYYY-MM-DD"),
    "datetime_parsing": _says("Write it as YYYY-MM-DDTHH:MM:SS"),
    "datetime_from_date_parsing": _says("Write it as YYYY-MM-DDTHH:MM:SS"),
    "time_parsing": _says("Write it as HH:MM:SS"),
    "time_delta_parsing": _says("Write an ISO 8601 duration such as PT1H30M"),
    "uuid_parsing": _says("Write a UUID of 32 hexadecimal digits in groups of 8-4-4-4-12"),
    "url_parsing": _says("Write a whole URL with its scheme, such as https://example.org"),
    "string_type": _string,
    "string_too_long": _too_long,
    "too_long": _too_long,
    "list_type": _list,
    "tuple_type": _list,
    "set_type": _list,
    "dict_type": _object,
    "model_type": _object,
    "model_attributes_type": _object,
    "dataclass_type": _object,
    "json_invalid": _json,
}


def _tag(details: Mapping[str, Any]) -> str | None:
    found = nearest(str(details.get("tag", "")), re.findall(r"'([^']*)'", str(details.get("expected_tags", ""))))
    return None if found is None else f"Did you mean {_dump(found)}?"
