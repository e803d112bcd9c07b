"""A reader of nearly-JSON that knows what it forgives: each departure from JSON is a rule that is named in a log.

Recursive descent over the text, in linear time. What no rule explains is an error, never a guess: data that can't be
read must not vanish.
"""

from __future__ import annotations

from typing import Any

from .json_tree import CutText, Number
from .tolerant_cursor import Cursor, Unreadable
from .tolerant_text import (
    BARE_KEY,
    CALL,
    COMMAS,
    ELLIPSIS,
    KEY_AHEAD,
    QUOTES,
    Place,
    Unclear,
    find_bare_end,
    json_number,
    read_bare,
    read_quoted,
)

_LEFT_OUT = object()
"""Stands for a value that is not there: `...`, or nothing at all."""


class Reader(Cursor):
    """Reads one value of `text[start:end]`, which begins with a bracket or a quote.

    After `read`, `at` is where the value ended, `log` holds what was forgiven, and `cut` tells whether data is missing
    at the end. Raises `Unreadable`.
    """

    def read(self) -> Any:
        """The value."""
        value = self._value("root")
        self._swallow_surplus_closers()
        return value

    def read_members(self) -> Any:
        """The object whose members begin at the start, without its opening brace."""
        self._forgive("opener", self.at, "", "{")
        return self._members()

    # --- values -------------------------------------------------------------------------------------------------------

    def _value(self, place: Place) -> Any:
        letter = self.text[self.at]
        if letter == "{":
            self.at += 1
            return self._members()
        if letter == "[":
            self.at += 1
            return self._items("]")
        if letter == "(":
            return self._tuple()
        if letter in QUOTES:
            return self._string(place)
        call = CALL.match(self.text, self.at, self.end)
        if call:
            self._forgive("call", self.at, call.group(), "{")
            self.at = call.end()
            return self._members(")")
        return self._bare(place)

    def _members(self, closer: str = "}") -> dict[str, Any] | list[Any]:
        self._open(closer)
        made: dict[str, Any] = {}
        first = self.at
        comma = False
        while True:
            self._skip()
            if self._ended(comma or not made):
                break
            letter = self.text[self.at]
            if letter in "}])":
                if self._closes(letter, comma):
                    break
                continue
            if letter in COMMAS:
                comma = self._extra_comma(comma or not made)
                continue
            if letter == "{" and not made and not comma:
                return self._doubled()
            if ELLIPSIS.match(self.text, self.at, self.end):
                self._left_out()
                comma = False
                continue
            if made and not comma:
                self._missing_comma()
            key = self._key()
            if (
                not made
                and self.at < self.end
                and self.text[self.at] in ",}"
                and closer == "}"
                and "tuple" in self.rules
            ):
                return self._set(first)
            self._member(made, key)
            comma = self._comma()
        self._shut()
        return made

    def _member(self, made: dict[str, Any], key: str) -> None:
        self._colon(key)
        self._path.append(key)
        self._skip()
        if self._cut_here("a key without a value"):
            value = _LEFT_OUT
        elif self.text[self.at] in ",}]":
            self._forgive("missing_value", self.at, key, None)
            value = _LEFT_OUT
        elif ELLIPSIS.match(self.text, self.at, self.end):
            value = self._left_out()
        else:
            value = self._value("object" if self._closers[-1] == "}" else "call")
        if key in made:
            self._forgive("duplicate_key", self.at, made[key], None if value is _LEFT_OUT else value)
        if value is not _LEFT_OUT:
            made[key] = value
        self._path.pop()

    def _items(self, closer: str) -> list[Any]:
        self._open(closer)
        made: list[Any] = []
        comma = False
        while True:
            self._skip()
            if self._ended(comma or not made):
                break
            letter = self.text[self.at]
            if letter in "}])":
                if self._closes(letter, comma):
                    break
                continue
            if letter in COMMAS:
                raise Unreadable(self.at, "nothing stands between two commas: an item may be missing", "unclear")
            if ELLIPSIS.match(self.text, self.at, self.end):
                self._left_out()
                comma = self._comma()
                continue
            if made and "}" in self._closers[:-1] and KEY_AHEAD.match(self.text, self.at, self.end):
                self._forgive("missing_closer", self.at, "", closer)
                self._implied.add(closer)
                break
            if made and not comma:
                self._missing_comma()
            self._path.append(len(made))
            value = self._value("array")
            self._path.pop()
            if value is not _LEFT_OUT:
                made.append(value)
            comma = self._comma()
        self._shut()
        return made

    def _tuple(self) -> Any:
        self._forgive("tuple", self.at, "(", "[")
        start = self.at
        self.at += 1
        made = self._items(")")
        if len(made) == 1 and self.text[start + 1 : self.at - 1].rstrip()[-1:] != ",":
            return made[0]  # brackets around one value
        return made

    def _set(self, first: int) -> list[Any]:
        """Python's {1, 2}: what looked like the first key is the first item."""
        self._forgive("tuple", self.at, "{", "[")
        self._closers.pop()
        self.at = first
        return self._items("}")

    def _doubled(self) -> dict[str, Any] | list[Any]:
        self._forgive("doubled_braces", self.at, "{{", "{")
        self.at += 1
        made = self._members()
        self._skip()
        if self.at < self.end and self.text[self.at] == "}":
            self.at += 1
        elif not self._ended(False):
            raise Unreadable(self.at, "{{ is not closed by }}")
        self._shut()
        return made

    # --- text and words -----------------------------------------------------------------------------------------------

    def _string(self, place: Place) -> Any:
        start = self.at
        pieces: list[str] = []
        while True:
            try:
                read = read_quoted(
                    self.text, self.at, self.end, place, bool({"]", ")"} & set(self._closers)), len(self._closers)
                )
            except Unclear as unclear:
                self.at = unclear.at
                raise Unreadable(unclear.at, str(unclear), unclear.kind) from None
            self.at = read.end
            pieces.append(read.value)
            for rule in sorted(read.rules):
                self._forgive(rule, start, self.text[start : read.end][:200], read.value)
            if not read.closed:
                return self._cut_text("".join(pieces))
            self._skip()
            if place != "key" and self.at < self.end and self.text[self.at] == "+":
                self._forgive("concatenation", self.at, "+", "")
                self.at += 1
                self._skip()
                if self.at < self.end and self.text[self.at] in QUOTES:
                    continue
                raise Unreadable(self.at, "nothing follows the +")
            return "".join(pieces)

    def _cut_text(self, value: str) -> str:
        self._cut("text without its closing quote", value)
        return CutText(value)

    def _bare(self, place: Place) -> Any:
        start = self.at
        fast = json_number(self.text, start, self.end)
        if fast is not None and self.text[fast[1] : fast[1] + 1] in ("}", "]"):
            self.at = fast[1]
            return fast[0]
        stop = find_bare_end(self.text, start, self.end, place, self._closers[-1] if self._closers else "")
        word = self.text[start:stop].strip()
        if not word or (stop < self.end and self.text[stop] in '"{['):
            raise Unreadable(start, f"a value was expected, not {self.text[start : start + 20]!r}")
        value, rule = read_bare(word)
        self.at = start + len(self.text[start:stop].rstrip())
        if self.at >= len(self.text) and isinstance(value, (str, Number)):  # more of it may have been to come
            return self._cut_word(word, value)
        if rule:
            self._forgive(rule, start, word, value)
        return value

    def _cut_word(self, word: str, value: Any) -> Any:
        self._cut("a value that may go on", word)
        return value if isinstance(value, Number) else _LEFT_OUT

    def _key(self) -> str:
        start = self.at
        if self.text[start] in QUOTES:
            read = self._string("key")
            if isinstance(read, CutText):
                self.at = self.end
            return str(read)
        match = BARE_KEY.match(self.text, start, self.end)
        if match is None:
            if self._only_word_left():
                self._cut("a key that may go on", self.text[start:])
                self.at = self.end
                return ""
            raise Unreadable(start, f"a key was expected, not {self.text[start : start + 20]!r}")
        self.at = match.end()
        key = match.group().rstrip()
        if self._closers[-1] != ")":
            self._forgive("unquoted_key", start, key, key)
        return key

    def _only_word_left(self) -> bool:
        rest = self.text[self.at : self.at + 81]
        return len(rest) <= 80 and self.end == len(self.text) and rest.replace("_", "").strip().isalnum()

    def _colon(self, key: str) -> None:
        self._skip()
        if self.at >= self.end:
            return  # the missing value is reported
        if self.text.startswith("=>", self.at):
            self._forgive("separator", self.at, "=>", ":")
            self.at += 2
        elif self.text[self.at] == "=" and self._closers[-1] == ")":
            self.at += 1  # a call was forgiven as a whole
        elif self.text[self.at] in "=：":
            self._forgive("separator", self.at, self.text[self.at], ":")
            self.at += 1
        elif self.text[self.at] == ":":
            self.at += 1
        else:
            raise Unreadable(self.at, f"a colon was expected after the key {key!r}")

    def _left_out(self) -> Any:
        match = ELLIPSIS.match(self.text, self.at, self.end)
        assert match is not None
        self._forgive("ellipsis", self.at, match.group(), None)
        self.at = match.end()
        return _LEFT_OUT
