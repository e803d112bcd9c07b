"""Single words: yes and no, nothing, and the options of enums and literals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ..json_tree import CutText, Number
from .fit import Fit, changed, misfit
from .outline import MEMBERS

_YES = frozenset(("yes", "y", "true", "t", "on", "1", "yep", "yeah", "✓", "✔", "✅", "☑"))
_NO = frozenset(("no", "n", "false", "f", "off", "0", "nope", "✗", "✘", "❌"))
_NOTHING = frozenset(
    ("", "n/a", "na", "n.a", "none", "null", "nil", "-", "--", "—", "–", "not available", "not applicable", "nothing")
)
_VAGUE = frozenset(
    f"{negated}{word}"
    for negated, words in (
        ("not ", ("specified", "provided", "given", "mentioned", "found", "stated", "known")),
        ("", ("unknown", "unspecified", "tbd", "missing", "undefined", "?", "no data", "unclear")),
    )
    for word in words
)
_PREFIX = re.compile(r"<?(?:[A-Za-z_]\w*\.)+([A-Za-z_]\w*)(?::\s*[^<>]*>)?")
"""How Python shows a member: Color.RED, <Color.RED: 1>."""
_BULLET = re.compile(r"\s*(?:[-*•–]|\d{1,3}[.)])\s+(\S.*?)\s*")
_JOINTS = re.compile(r"(?<=\w)[\s_\-./]+(?=[^\W\d])|(?<=[^\W\d])[\s_\-./]+(?=\w)|_+")


def fit_boolean(text: str, rules: frozenset[str]) -> Fit:
    """A text for true or false."""
    word = _bare(text)
    if isinstance(text, CutText) or "boolean" not in rules or word not in _YES | _NO:
        return misfit(text, "the text is neither yes nor no")
    return changed("boolean", text, word in _YES)


def nothing(text: str, rules: frozenset[str]) -> Fit | None:
    """A text for null, if it stands for nothing."""
    word = _bare(text)
    for rule, words in (("null", _NOTHING), ("vague_null", _VAGUE)):
        if word in words and rule in rules and not isinstance(text, CutText):
            return changed(rule, text, None)
    return None


def fit_option(value: Any, node: Mapping[str, Any], rules: frozenset[str]) -> Fit:
    """A value for an enum or a literal: as it is, or the only option that it can mean."""
    options: Sequence[Any] = node["enum"] if "enum" in node else [node["const"]]
    if any(_same(value, option) for option in options):
        return Fit(value)
    equal = [option for option in options if isinstance(value, Number) and _same_number(value.text, option)]
    if equal and "enum_case" in rules:  # 2.0 for 2
        return changed("enum_case", value, _tree(equal[0]))
    if isinstance(value, Number):
        written = [option for option in options if isinstance(option, str) and option == value.text]
        return changed("enum_case", value, written[0]) if written and "enum_case" in rules else _no_option(value)
    if isinstance(value, CutText) or not isinstance(value, str):
        return _no_option(value)
    for rule, found in (
        ("enum_case", _by_spelling(value, options)),
        ("enum_name", _by_name(value, node.get(MEMBERS, {}))),
        ("enum_typo", _by_typo(value, options, node.get(MEMBERS, {}))),
    ):
        distinct = [option for index, option in enumerate(found) if option not in found[:index]]
        if len(distinct) > 1:
            return misfit(value, f"{value!r} can mean {' or '.join(map(repr, distinct))}", ambiguous=True)
        if distinct and rule in rules:
            return changed(rule, value, _tree(distinct[0]))
    return _no_option(value)


def mentioned(text: str, node: Mapping[str, Any]) -> list[Any]:
    """The options that a sentence mentions as whole words."""
    options: Sequence[Any] = node["enum"] if "enum" in node else [node["const"]]
    found = []
    for option in options:
        if isinstance(option, str) and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text, re.IGNORECASE):
            found.append(option)
    return found


def bullets(text: str) -> list[str]:
    """The items of a text that is a list in Markdown; none if a line is no item, or there is only one."""
    matches = [_BULLET.fullmatch(line) for line in text.strip().splitlines() if line.strip()]
    items = [match.group(1) for match in matches if match]
    return items if len(items) == len(matches) > 1 else []


def squeezed(text: str) -> str:
    """A word in one case, without what joins its parts: inProgress, IN_PROGRESS and "in progress" are one.

    Signs that carry meaning stay: C++ is not C, A- is not A, 1.0 is not 10.
    """
    return _JOINTS.sub("", text.strip(" \t\r\n\"'`*.,:;?!()[]").casefold())


def typo(given: str, meant: str) -> bool:
    """Whether one is the other misspelt by one letter (inserted, left out, changed or swapped).

    Short words, other first letters and other digits are no misspellings: `unpaid` is not `paid`, `q1` not `q2`.
    """
    if min(len(given), len(meant)) < 5 or given[0] != meant[0] or abs(len(given) - len(meant)) > 1:
        return False
    if re.sub(r"\D", "", given) != re.sub(r"\D", "", meant):
        return False
    start = next((i for i, (a, b) in enumerate(zip(given, meant, strict=False)) if a != b), min(len(given), len(meant)))
    rest, wanted = given[start:], meant[start:]
    if len(given) == len(meant):
        return rest[1:] == wanted[1:] or (rest[:2] == wanted[:2][::-1] and rest[2:] == wanted[2:])
    return rest[1:] == wanted or rest == wanted[1:]


def _no_option(value: Any) -> Fit:
    return misfit(value, "the value is none of the options")


def _by_spelling(value: str, options: Sequence[Any]) -> list[Any]:
    shown = _PREFIX.fullmatch(value.strip())
    for text in (value, shown.group(1) if shown else ""):
        key = squeezed(text)
        exact = [
            option for option in options if isinstance(option, str) and option.casefold() == text.strip().casefold()
        ]
        if exact:
            return exact
        found = [option for option in options if squeezed(option if isinstance(option, str) else str(option)) == key]
        found = [option for option in found if isinstance(option, str) or _same_number(text, option)]
        if key and found:
            return found
    return []


def _same_number(text: str, option: Any) -> bool:
    """Whether a text writes the option; -1 is not 1."""
    if isinstance(option, bool) or option is None:
        return text.strip().casefold() == str(option).casefold()
    try:
        return Decimal(text.strip()) == Decimal(str(option))
    except InvalidOperation:
        return False


def _by_name(value: str, members: Mapping[str, Any]) -> list[Any]:
    shown = _PREFIX.fullmatch(value.strip())
    key = squeezed(shown.group(1) if shown else value)
    return [option for name, option in members.items() if squeezed(name) == key]


def _by_typo(value: str, options: Sequence[Any], members: Mapping[str, Any]) -> list[Any]:
    key = squeezed(value)
    found = [option for option in options if isinstance(option, str) and typo(key, squeezed(option))]
    return found + [option for name, option in members.items() if typo(key, squeezed(name)) and option not in found]


def _bare(text: str) -> str:
    return text.strip().strip("*\"'`").rstrip(".!").strip().casefold()


def _tree(option: Any) -> Any:
    if isinstance(option, (int, float)) and not isinstance(option, bool):
        return Number(str(option))
    return option


def _same(value: Any, option: Any) -> bool:
    """Whether they are equal as JSON: 1 is no true."""
    if isinstance(value, Number):
        return type(option) in (int, float) and value.text == str(option)
    return type(value) is type(option) and value == option
