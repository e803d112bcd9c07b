"""A shortest text that a regular expression matches, read off its parse tree."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_SAMPLES = "a0 -_.:/@A"
"""What is taken of a class, the first of these that is in it: letters make fewer tokens than digits."""


def example(pattern: str) -> str | None:
    """A text of the fewest characters in which `pattern` is found; None for what this can't read, such as look-around.

    The syntax is Python's. Alternatives and repetitions are taken at their shortest, one by one. Anchors are ignored,
    so that callers have to check the text.
    """
    try:
        parser: Any = re._parser  # type: ignore[attr-defined]
        return _sequence(parser.parse(pattern))
    except (re.error, _Unreadable, OverflowError, RecursionError):
        return None


class _Unreadable(Exception):
    """The pattern holds something that has no simple example."""


def _sequence(items: Iterable[tuple[Any, Any]]) -> str:
    return "".join(_item(str(code), argument) for code, argument in items)


def _item(code: str, argument: Any) -> str:
    if code == "LITERAL":
        return chr(argument)
    if code == "NOT_LITERAL":
        return _member([("NEGATE", None), ("LITERAL", argument)])
    if code == "ANY":
        return "a"
    if code == "IN":
        return _member(argument)
    if code == "BRANCH":
        return min((_sequence(option) for option in argument[1]), key=len)
    if code in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, _, repeated = argument
        return _sequence(repeated) * least if least else ""
    if code == "SUBPATTERN":
        return _sequence(argument[-1])
    if code == "ATOMIC_GROUP":
        return _sequence(argument)
    if code == "AT":
        return ""
    raise _Unreadable(code)


def _member(items: list[tuple[Any, Any]]) -> str:
    negated = str(items[0][0]) == "NEGATE"
    shown = "".join(_shown(str(code), argument) for code, argument in items[negated:])
    member = re.compile(f"[{'^' if negated else ''}{shown}]")
    for char in _SAMPLES:
        if member.fullmatch(char):
            return char
    code, argument = str(items[0][0]), items[0][1]
    if code in ("LITERAL", "RANGE"):
        return chr(argument if code == "LITERAL" else argument[0])
    raise _Unreadable(shown)


def _shown(code: str, argument: Any) -> str:
    """A member of a class as it is written."""
    if code == "LITERAL":
        return re.escape(chr(argument))
    if code == "RANGE":
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    written = _CATEGORIES.get(str(argument)) if code == "CATEGORY" else None
    if written is None:
        raise _Unreadable(code)
    return written


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
}
