"""Text inside nearly-JSON: where a string really ends, what its escapes mean, what words without quotes stand for.

A quote ends a string only if what follows could follow a string there; any other quote is part of the text. Each look
ahead is bounded, so that reading stays linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from .json_tree import CutText, Number

Place = Literal["key", "object", "call", "array", "root"]
"""Where a value or key stands."""

SPACE = re.compile(r"[\s\ufeff\u200b\u2060]*")
QUOTES = {'"': '"', "'": "'", "`": "`", "“": '”“"', "„": '“”"', "‘": "’'", "’": "’'", "”": '”"', "«": "»"}
"""Opening quotes with the quotes that may close them."""

KEY_AHEAD = re.compile(
    r"""(?:"(?:[^"\\\n]|\\.){0,120}"|'(?:[^'\\\n]|\\.){0,120}'|“[^”"\n]{0,120}[”"]|`[^`\n]{0,120}`)\s{0,99}[:=：]"""
    r"""|[^\W\d][\w$.\-]{0,60}\s{0,99}(?::|：|=>)"""
)
"""A quoted key, or a bare one of a single word, with its colon."""

BARE_KEY = re.compile(r"""[^\s"'{}\[\],:;=<>`(：，；][^"'{}\[\],:;=<>\n`：，；]{0,80}(?=:(?!//)|=|：)""")
"""A key without quotes, of several words perhaps, up to its colon."""

COMMAS = ",;，；"
COLONS = ":："
"""What separates members, and keys from values; Chinese and Japanese have signs of their own."""
CALL = re.compile(r"[A-Za-z_][\w.]{0,60}\(\s{0,99}(?=[A-Za-z_]\w{0,60}\s{0,9}=(?!=))")
"""The beginning of an object as Python shows it: User(name='Ann', age=31)."""
ELLIPSIS = re.compile(r"\.{3,}|…")

_KEYWORD = re.compile(r"[A-Za-z_]\w{0,60}\s{0,9}=(?!=)")
_KEY_CUT = re.compile(r"""["'“][^"'“”\n]{0,120}["'”]?\s{0,9}\Z""")
"""A key in which the text breaks off."""
_ARRAY_ITEM = re.compile(
    r"""["'“‘\[{(\]`]|-?\.?\d|(?:true|false|null|True|False|None|NaN|undefined|Infinity)\b|//|/\*|#|\.\.\.|…|$"""
)
_BARE_ITEM = re.compile(r"[^\W\d_][^\"'\n,\[\]{}]{0,60}[,\]]")
_WHOLE_STRING = re.compile(r"""["'“][^"'“”\n]{0,200}["'”]\s{0,9}[,\]}]""")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_LOOSE_NUMBER = re.compile(r"([-+]?)(\d+(?:_\d+)*)?(?:(\.)(\d+(?:_\d+)*)?)?([eE][-+]?\d+)?")
_HEX = re.compile(r"([-+]?)0[xX]([0-9a-fA-F]{1,64})")
_WORDS = {"true": True, "false": False, "null": None, "none": None, "undefined": None, "nil": None}
_NOT_NUMBERS = {"nan": "NaN", "infinity": "Infinity", "inf": "Infinity", "math.inf": "Infinity", "math.nan": "NaN"}
_CALL = re.compile(
    r"""(?:[\w.]*\.)?(Decimal|UUID|ObjectId|ISODate|date|datetime)\(\s*(?:(["'])([^"'()]*)\2|(\d{1,6}(?:\s{0,9},\s{0,9}\d{1,6}){0,6}))\s*,?\s*\)"""
)
_MEMBER = re.compile(r"""<[A-Za-z_]\w*\.\w+:\s*(?:(["'])([^"'<>]*)\1|(-?\d+))>""")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNICODE = re.compile(r"u([0-9a-fA-F]{4})")
_HEX_ESCAPE = re.compile(r"x([0-9a-fA-F]{2})")
_CONTENT = {
    closers: re.compile(rf"[^\\\x00-\x1f\ud800-\udfff{re.escape(closers)}]+") for closers in set(QUOTES.values())
}


@dataclass(slots=True)
class Quoted:
    """A string that was read. `end` is after its closing quote; `rules` are those that it needed."""

    value: str
    end: int
    closed: bool
    rules: set[str]


class Unclear(ValueError):
    """It can't be told where a string ends. `at` is where that shows; `kind` as in `Unreadable`."""

    def __init__(self, at: int, reason: str, kind: str = "unclear") -> None:
        self.at, self.kind = at, kind
        super().__init__(reason)


def read_quoted(text: str, start: int, end: int, place: Place, in_array: bool, depth: int) -> Quoted:
    """The string whose opening quote is at `start`. `in_array` tells whether any list is open around it."""
    quote = text[start]
    closers = QUOTES[quote]
    triple = quote * 3
    if quote in "\"'" and text.startswith(triple, start):
        close = text.find(triple, start + 3, end)
        if close >= 0 and place != "key":
            return Quoted(text[start + 3 : close], close + 3, True, {"quotes"})
    rules: set[str] = set() if quote == '"' else {"quotes"}
    pieces: list[str] = []
    inner = 0
    at = start + 1
    content = _CONTENT[closers]
    while at < end:
        match = content.match(text, at, end)
        if match:
            pieces.append(match.group())
            at = match.end()
            continue
        letter = text[at]
        if letter == "\\":
            piece, at, rule = _escape(text, at, end)
            pieces.append(piece)
            if rule:
                rules.add(rule)
        elif letter in closers:
            if _closes(text, at + 1, end, place, in_array, depth, inner):
                if inner:
                    _see_that_quotes_are_text("".join(pieces), at, inner, closers)
                return Quoted("".join(pieces), at + 1, True, rules)
            rules.add("inner_quote")
            inner += 1
            pieces.append(letter)
            at += 1
        else:
            rules.add("control_character" if letter < " " else "surrogate")
            pieces.append(letter if letter < " " else "\ufffd")
            at += 1
    if inner:  # one of the quotes that were passed over may have been its end
        raise Unclear(end, "a string has no end, unless one of the quotes inside is its end", "malformed")
    value = "".join(pieces)
    if _search(r"""["'“”]\s*[:}\]]|[}\]]\s*\Z""", value):
        raise Unclear(end, "a string has no end: its closing quote is missing, or opens it", "malformed")
    return Quoted(CutText(value), end, False, rules)


def _see_that_quotes_are_text(value: str, at: int, inner: int, closers: str) -> None:
    """See that quotes that were passed over are part of the text. Raises `Unclear`."""
    quote = "['‘’]" if "'" in closers else '["“”]' if '"' in closers else re.escape(closers)
    if _search(rf"{quote}\s*(?::|[}}\]]|,\s*\Z)|[{{\[]\s*{quote}|\A[^\"]*{quote}[^\w\"]*{quote}", value):
        raise Unclear(at, "quotes inside a string are not escaped, and it may have ended before")
    if inner % 2 and _search(rf"\A\s*{quote}|{quote}\s*\Z|[,;]\s*{quote}|{quote}\s*[,;]", value):
        raise Unclear(at, "a quote inside a string may be part of it, or end it, or be one too many")
    if inner % 2 and '"' in closers and not _search(rf"\d{quote}", value):  # as in 27" screen
        raise Unclear(at, "a single quote inside a string may be one too many")


def _search(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def _closes(text: str, at: int, end: int, place: Place, in_array: bool, depth: int, inner: int) -> bool:
    """Whether a quote that ends before `at` closes its string, judged by what follows."""
    after = _skip(text, at, end)
    if after >= end or text.startswith("```", after):
        return True
    letter = text[after]
    if place == "key":
        return True  # an unescaped quote in a key is too rare to look for
    if place == "root":
        return text.startswith("</", after)
    broken = "\n" in text[at:after]
    if letter == "/" and text[after + 1 : after + 2] in ("/", "*"):
        return True
    if letter == "#":
        return after > at
    if letter == "+":
        following = _skip(text, after + 1, end)
        return following < end and text[following] in QUOTES
    if letter in ")]}":
        return _closer_fits(text, after, end, place, in_array, depth, inner)
    if letter in COMMAS:
        following = _skip(text, after + 1, end)
        if following >= end:
            return True
        if place == "array":
            return _next_item(text, following, after, inner)
        return (
            text[following] in "}])"
            or _key_ahead(text, following, end, place)
            or starts_comment(text, following)
            or ELLIPSIS.match(text, following, end) is not None
            or text[following] == ","
            or _KEY_CUT.match(text, following, end) is not None
            or (BARE_KEY.match(text, following, end) is not None and "\n" in text[after:following])
        )
    if letter in QUOTES and after > at:
        return _string_follows(text, after, end, place, broken, inner)
    return place != "array" and broken and KEY_AHEAD.match(text, after, end) is not None


def _string_follows(text: str, after: int, end: int, place: Place, broken: bool, inner: int) -> bool:
    """Whether a quote that another string follows ends its own: then a comma is missing."""
    if KEY_AHEAD.match(text, after, end):
        return True
    whole = broken or _WHOLE_STRING.match(text, after, end) is not None
    if place == "array":
        if whole and inner:
            raise Unclear(after, "quotes inside a string are not escaped, and a comma may be missing")
        return whole
    if whole:
        raise Unclear(after, "a string follows a string: it may go on there, or a comma or colon may be missing")
    return False


def _closer_fits(text: str, after: int, end: int, place: Place, in_array: bool, depth: int, inner: int) -> bool:
    """Whether the bracket at `after` may close what is open, so that the quote before it closes a string."""
    closer = text[after]
    following = _skip(text, after + 1, end)
    if closer != "}":
        return in_array or following >= end or text.startswith("```", following)
    if following >= end or "\n" in text[after:following] or text[following] in ",}])/#`;<":
        return True
    if inner % 2:
        raise Unclear(after, "quotes inside a string are not escaped, and the brace may stand inside or outside of it")
    return depth < 2 or place not in ("object", "call") or text[following] in QUOTES


def _next_item(text: str, following: int, comma: int, inner: int) -> bool:
    """Whether a comma in a list is followed by another item rather than by more of the same text."""
    if _ARRAY_ITEM.match(text, following) is None:
        return not inner and _BARE_ITEM.match(text, following) is not None
    if inner % 2 and text[following] in QUOTES:
        raise Unclear(comma, "quotes inside a string are not escaped, and the comma may stand inside or outside of it")
    return True


def _escape(text: str, at: int, end: int) -> tuple[str, int, str]:
    """The text that an escape stands for, where it ends, and the rule that it needed, if any."""
    letter = text[at + 1 : at + 2] if at + 1 < end else ""
    if not letter:
        return "", end, ""
    if letter in _ESCAPES:
        return _ESCAPES[letter], at + 2, ""
    match = _UNICODE.match(text, at + 1, end)
    if match:
        return _code_point(text, int(match.group(1), 16), match.end(), end)
    match = _HEX_ESCAPE.match(text, at + 1, end)
    if match:
        return chr(int(match.group(1), 16)), match.end(), "escape"
    if letter == "'":
        return "'", at + 2, "escape"
    if letter == "\n":
        return "", at + 2, "escape"
    return "\\", at + 1, "escape"


def _code_point(text: str, code: int, after: int, end: int) -> tuple[str, int, str]:
    if not 0xD800 <= code < 0xE000:
        return chr(code), after, ""
    low = _UNICODE.match(text, after + 1, end) if text[after : after + 1] == "\\" else None
    if code < 0xDC00 and low and 0xDC00 <= int(low.group(1), 16) < 0xE000:
        return chr(0x10000 + (code - 0xD800) * 0x400 + int(low.group(1), 16) - 0xDC00), low.end(), ""
    return "\ufffd", after, "surrogate"


def _skip(text: str, at: int, end: int) -> int:
    match = SPACE.match(text, at, end)
    return match.end() if match else at


def find_bare_end(text: str, at: int, end: int, place: Place, closer: str) -> int:
    """Where a value without quotes ends: before a bracket, a line's end, a comment, or a comma that separates."""
    while at < end:
        letter = text[at]
        if letter in '\n}]"{[`' or letter == closer:
            return at
        if letter in "/#" and text[at - 1].isspace() and starts_comment(text, at):
            return at
        if letter == "<" and text.startswith("</", at):
            return at
        if letter == "(":
            call = _CALL.match(text, _word_start(text, at), end)
            if call and call.end() > at:
                at = call.end()
                continue
        if letter in COMMAS:
            following = _skip(text, at + 1, end)
            if place not in ("object", "call") or following >= end or text[following] in "}],":
                return at
            if _key_ahead(text, following, end, place) or starts_comment(text, following):
                return at
            if ELLIPSIS.match(text, following, end) or "\n" in text[at:following]:
                return at
        at += 1
    return end


def _key_ahead(text: str, at: int, end: int, place: Place) -> bool:
    found = KEY_AHEAD.match(text, at, end) or (_KEYWORD.match(text, at, end) if place == "call" else None)
    return found is not None


def _word_start(text: str, at: int) -> int:
    start = at
    while start > 0 and at - start < 40 and (text[start - 1].isalnum() or text[start - 1] in "._"):
        start -= 1
    return start


def starts_comment(text: str, at: int) -> bool:
    """Whether a comment begins here, if this is no text."""
    return text[at] == "#" or text.startswith(("//", "/*"), at)


def json_number(text: str, at: int, end: int) -> tuple[Number, int] | None:
    """A number in JSON's own spelling."""
    match = _JSON_NUMBER.match(text, at, end)
    return (Number(match.group()), match.end()) if match else None


def read_bare(word: str) -> tuple[Any, str]:
    """What a word without quotes stands for, and the rule by which ("" for JSON's own words and numbers)."""
    if word in ("true", "false", "null"):
        return _WORDS[word], ""
    if _JSON_NUMBER.fullmatch(word):
        return Number(word), ""
    lowered = word.lower()
    if lowered in _WORDS:
        return _WORDS[lowered], "literal"
    unsigned = lowered.lstrip("+-")
    if unsigned in _NOT_NUMBERS and len(lowered) - len(unsigned) < 2:
        minus = "-" if lowered.startswith("-") and unsigned not in ("nan", "math.nan") else ""
        return Number(minus + _NOT_NUMBERS[unsigned]), "not_a_number"
    match = _HEX.fullmatch(word)
    if match:
        return Number(f"{'-' if match.group(1) == '-' else ''}{int(match.group(2), 16)}"), "number_spelling"
    number = _loose_number(word)
    if number is not None:
        return number, "number_spelling"
    return _call(word)


def _loose_number(word: str) -> Number | None:
    """Numbers such as +5, .5, 5. and 1_000; not 007, which may be a code."""
    match = _LOOSE_NUMBER.fullmatch(word)
    if match is None or not (match.group(2) or match.group(4)):
        return None
    sign, whole, _, fraction, exponent = match.groups()
    whole = (whole or "0").replace("_", "")
    if len(whole) > 1 and whole.startswith("0"):
        return None
    text = ("-" if sign == "-" else "") + whole
    if fraction or match.group(3):
        text += "." + (fraction or "0").replace("_", "")
    return Number(text + (exponent or ""))


def _call(word: str) -> tuple[Any, str]:
    match = _CALL.fullmatch(word)
    if match:
        name, _, quoted, numbers = match.groups()
        if quoted is not None:
            return quoted, "call"
        return (_moment(name, [int(part) for part in numbers.split(",")]) or word), "call"
    match = _MEMBER.fullmatch(word)
    if match:
        return (match.group(2) if match.group(2) is not None else Number(match.group(3))), "call"
    return word, "unquoted_value"


def _moment(name: str, parts: list[int]) -> str | None:
    """date(2024, 1, 5) and datetime(2024, 1, 5, 10, 0) in ISO's spelling."""
    if name == "date" and len(parts) == 3:
        return f"{parts[0]:04}-{parts[1]:02}-{parts[2]:02}"
    if name == "datetime" and 3 <= len(parts) <= 6:
        hour, minute, second = (*parts[3:], 0, 0, 0)[:3]
        return f"{parts[0]:04}-{parts[1]:02}-{parts[2]:02}T{hour:02}:{minute:02}:{second:02}"
    return None
