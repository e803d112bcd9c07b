"""Where a reader of nearly-JSON stands: position, open brackets, what was forgiven; and the signs between values."""

from __future__ import annotations

import re
from typing import Any

from .json_tree import Repair, repair
from .tolerant_text import BARE_KEY, COMMAS, QUOTES, SPACE, starts_comment

_CLOSERS = re.compile(r"[}\]]+")
MEMBERS_FOLLOW = re.compile(
    r"""[\s}\]]{0,99},?\s{0,99}(?:"[^"\n]{0,120}"|'[^'\n]{0,120}'|“[^”\n]{0,120}”)\s{0,99}[:：]"""
)


class Unreadable(ValueError):
    """The text can't be read from `at` on. `kind` is "malformed", "unclear", "truncated" or "deep"."""

    def __init__(self, at: int, reason: str, kind: str = "malformed") -> None:
        self.at, self.reason, self.kind = at, reason, kind
        super().__init__(reason)


class Cursor:
    """A position in `text[:end]`. `log` holds what was forgiven; `cut` tells whether data is missing at the end."""

    def __init__(self, text: str, start: int, end: int, rules: frozenset[str], max_depth: int) -> None:
        self.text, self.at, self.end = text, start, end
        self.rules, self.max_depth = rules, max_depth
        self.log: list[Repair] = []
        self.cut = False
        self._path: list[str | int] = []
        self._closers: list[str] = []
        self._implied: set[str] = set()
        self._surplus: set[str] = set()

    def _comma(self) -> bool:
        """Read the comma after a value, if there is one."""
        self._skip()
        if self.at >= self.end or self.text[self.at] not in COMMAS:
            return False
        if self.text[self.at] != ",":
            self._forgive("separator", self.at, self.text[self.at], ",")
        self.at += 1
        return True

    def _extra_comma(self, expected: bool) -> bool:
        if expected:
            self._forgive("extra_comma", self.at, ",", "")
        self.at += 1
        return True

    def _missing_comma(self) -> None:
        letter = self.text[self.at]
        if self._comma_before():  # it stood before a bracket that was missing
            return
        if letter not in QUOTES and letter not in "{[":
            keyed = self._closers[-1] == "}" and BARE_KEY.match(self.text, self.at, self.end) is not None
            number = self._closers[-1] != "}" and (letter.isdigit() or letter == "-")
            if not self._line_before() or not (keyed or number):  # prose after a text that broke off is no item
                raise Unreadable(self.at, f"a comma or a closing bracket was expected, not {self._next(20)!r}")
        self._forgive("missing_comma", self.at, "", ",")

    def _comma_before(self) -> bool:
        start = self.at
        while start > 0 and self.text[start - 1].isspace():
            start -= 1
        return self.text[start - 1 : start] == ","

    def _line_before(self) -> bool:
        """Whether a line ended between the last value and here."""
        start = self.at
        while start > 0 and self.text[start - 1].isspace():
            start -= 1
            if self.text[start] == "\n":
                return True
        return False

    def _next(self, count: int) -> str:
        return self.text[self.at : min(self.at + count, self.end)]

    def _skip(self) -> None:
        """Pass over space and comments; a code fence or a closing tag ends the text."""
        while True:
            match = SPACE.match(self.text, self.at, self.end)
            if match:
                self.at = match.end()
            if self.at < self.end and starts_comment(self.text, self.at):
                self._comment()
                continue
            if self.text.startswith(("```", "~~~", "</"), self.at):
                self.end = min(self.end, self.at)
            return

    def _comment(self) -> None:
        start = self.at
        block = self.text.startswith("/*", start)
        stop = self.text.find("*/" if block else "\n", start, self.end)
        self.at = self.end if stop < 0 else stop + 2 * block
        if block and stop < 0:
            raise Unreadable(start, "the text breaks off in a comment", "truncated")
        self._forgive("comment", start, self.text[start : min(self.at, start + 200)], "")

    def _open(self, closer: str) -> None:
        self._closers.append(closer)
        if len(self._closers) > self.max_depth:
            raise Unreadable(self.at, f"more than {self.max_depth} levels deep", "deep")

    def _shut(self) -> None:
        self._closers.pop()

    def _closes(self, letter: str, comma: bool) -> bool:
        """Read a closing bracket; whether it closes what is open here."""
        expected = self._closers[-1]
        if letter == expected:
            self.at += 1
            if len(self._closers) == 1 and letter == "}" and self._goes_on():
                self._forgive("extra_closer", self.at - 1, letter, "")
                return False
            if comma:
                self._forgive("trailing_comma", self.at, ",", "")
            return True
        after = SPACE.match(self.text, self.at + 1, self.end)
        crossed = after is not None and self.text[after.end() : after.end() + 1] == expected
        if letter in self._closers[:-1] and not crossed:
            self._forgive("missing_closer", self.at, "", expected)
            self._implied.add(expected)
            return True
        self._extra_closer(letter)
        self.at += 1
        return False

    def _extra_closer(self, letter: str) -> None:
        if letter in self._implied:
            raise Unreadable(self.at, f"a {letter} follows that seemed to be missing before", "unclear")
        self._forgive("extra_closer", self.at, letter, "")
        self._surplus.add(letter)

    def _goes_on(self) -> bool:
        """Whether members follow the brace that seemed to be the last."""
        return MEMBERS_FOLLOW.match(self.text, self.at, self.end) is not None

    def _swallow_surplus_closers(self) -> None:
        match = _CLOSERS.match(self.text, self.at, self.end)
        if match and "extra_closer" in self.rules:
            for letter in sorted(set(match.group())):
                self._extra_closer(letter)
            self.at = match.end()

    def _ended(self, expecting: bool) -> bool:
        """Whether the text ends here although a bracket is open. `expecting` tells that more was announced."""
        if self.at < self.end:
            return False
        if self._closers[-1] in self._surplus:
            raise Unreadable(
                self.at, f"a {self._closers[-1]} is missing that stands where it closes nothing", "unclear"
            )
        if expecting:
            self._cut("more was to come", "")
        else:
            self._forgive("missing_closer", self.at, "", self._closers[-1])
        return True

    def _cut_here(self, what: str) -> bool:
        if self.at < self.end:
            return False
        self._cut(what, "")
        return True

    def _cut(self, what: str, before: str) -> None:
        if "cut" not in self.rules:
            raise Unreadable(self.at, f"the text breaks off: {what}", "truncated")
        if not self.cut:
            self._forgive("cut", self.at, before, what)
        self.cut = True

    def _forgive(self, rule: str, at: int, before: Any, after: Any) -> None:
        if rule not in self.rules:
            kind = "truncated" if rule == "missing_closer" and at >= self.end else "malformed"
            raise Unreadable(at, f"rule {rule!r} would be needed for {self.text[at : at + 20]!r}", kind)
        self.log.append(repair(rule, tuple(self._path), before, after))


def where(text: str, at: int) -> str:
    """A position as people count it."""
    line = text.count("\n", 0, at) + 1
    return f"line {line}, character {at - text.rfind(chr(10), 0, at)}"
