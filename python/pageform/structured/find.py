"""FIND: the values in a text that could be the answer.

One pass from left to right. What is read as a value is passed over as a whole, so that fences, tags and brackets inside
its strings mean nothing. Reasoning is set aside. A piece that looks like JSON and can't be read is remembered as a
failure and never searched for smaller pieces: half of a broken answer is not the answer.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .json_tree import Repair, repair
from .leniency import Leniency
from .repair import Meter, ReadValue, guess, read_members, read_value
from .tolerant_cursor import Unreadable
from .tolerant_text import KEY_AHEAD, SPACE

_ANSWER = (
    "answer final_answer final output result response json json_output structured_output tool_call toolcall "
    "function_call functioncall"
)
ANSWER_TAGS = frozenset(_ANSWER.split())
_THINKING = "think thinking thought thoughts reasoning scratchpad reflection analysis"
THINKING_TAGS = frozenset(_THINKING.split())

_MARK = re.compile(r"[{\[]|```|~~~|<(/?)([A-Za-z_][\w-]{0,60})(?:\s[^<>\n]{0,100})?>")
_LIKE_JSON = re.compile(r"""[{\[]\s*(?:["'“‘{\[}\]]|-?\d|//|/\*|\\["n]|\w{1,40}\s?(?::|=>))""")
_BALANCE = re.compile(r'"(?:[^"\\\n]++|\\.){0,200}+"|[{}\[\]]|```')
_ESCAPED = re.compile(r"""[{\[](?:\s|\\[nrt])*\\["nrt]""")
_ESCAPED_STRETCH = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_MOST_CANDIDATES = 5_000
"""JSON values in one text. An answer has a few; its lines may be some hundreds."""
_ENTITIES = re.compile(r"[{\[]\s*&(?:quot|#0{0,4}34|#x22);")
_STRAY_CLOSER = re.compile(r"[a-z0-9\"]|[^{\[\n`<]{0,300}?[}\]]")
"""On the line that a value ends in: what touches it, or a bracket that closes none of the text after it."""
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "u": "\\u"}
"""What escapes outside of JSON's own stand for; those of characters are left for the JSON to read."""
_LANGUAGE = re.compile(r"[\w+.-]{0,20}[ \t]*")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value that was found, and how it was marked as the answer."""

    read: ReadValue
    tagged: bool = False
    fenced: bool = False
    log: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A piece of the text that looks like JSON and can't be read."""

    start: int
    end: int
    error: Unreadable
    tagged: bool = False
    fenced: bool = False


@dataclass(slots=True)
class Found:
    """What a text holds. `pieces` are the plain texts that could be a value by themselves."""

    candidates: list[Candidate] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    pieces: list[Candidate] = field(default_factory=list)
    thinking: list[tuple[int, int]] = field(default_factory=list)
    exhausted: bool = False


def find(text: str, leniency: Leniency, names: Iterable[str] = ()) -> Found:
    """All values in the text, in their order. `names` are those of the type and of the classes in it."""
    return _Search(text, leniency, names).run()


class _Search:
    def __init__(self, text: str, leniency: Leniency, names: Iterable[str]) -> None:
        self.text, self.leniency, self.rules = text, leniency, leniency.names
        self.meter = Meter(6 * len(text) + 10_000)
        self.answer_tags = ANSWER_TAGS.union(name.lower() for name in names)
        called = "|".join(re.escape(name) for name in ("dict", *names))
        self.mark = re.compile(rf"{_MARK.pattern}|\b(?:{called})\(\s{{0,99}}(?=[A-Za-z_]\w{{0,60}}\s{{0,9}}=)")
        self.found = Found()
        self.tag = ""
        self.tag_start = 0
        self.fence = ""
        self.fence_start = 0
        self.plain_start = 0

    def run(self) -> Found:
        if not self.leniency.find:
            self._whole()
            return self.found
        at = self._region_start(0)
        while at < len(self.text) and not self._exhausted():
            match = self.mark.search(self.text, at)
            if match is None:
                break
            mark = match.group()
            if mark in ("{", "[") or mark[0] not in "`~<":
                at = self._bracket(match.start())
            elif mark in ("```", "~~~"):
                at = self._fence(mark, match.end())
            else:
                at = self._tag(match)
        self._close_pieces()
        if len(self.found.candidates) > 1:
            self.found.candidates = [one for one in self.found.candidates if not _words_in_brackets(one.read)]
        self.found.exhausted = self._exhausted()
        return self.found

    def _exhausted(self) -> bool:
        return self.meter.spent or len(self.found.candidates) > _MOST_CANDIDATES

    # --- marks --------------------------------------------------------------------------------------------------------

    def _fence(self, mark: str, at: int) -> int:
        if not self.fence:
            language = _LANGUAGE.match(self.text, at)
            self.fence, self.fence_start = mark, language.end() if language else at
            return self._region_start(self.fence_start)
        if mark == self.fence:
            self._piece(self.fence_start, at - len(mark), "fence")
            self.fence = ""
        return at

    def _tag(self, match: re.Match[str]) -> int:
        closing, name = match.group(1), match.group(2).lower()
        if name in THINKING_TAGS:
            return self._thinking(closing, name, match)
        if name in self.answer_tags:
            if closing and name == self.tag:
                self._piece(self.tag_start, match.start(), "tag")
                self.tag = ""
            elif not closing:
                self.tag, self.tag_start = name, match.end()
                return self._region_start(match.end())
        return match.end()

    def _thinking(self, closing: str, name: str, match: re.Match[str]) -> int:
        """Set reasoning aside: from its opening tag, or from the beginning if that was part of the prompt."""
        if closing:
            self.found.thinking = [(0, match.end())]
            self.found.candidates.clear()
            self.found.failures.clear()
            self.found.pieces.clear()
            self.fence = self.tag = ""
            end = match.end()
        else:
            close = re.compile(rf"</{name}\s{{0,9}}>", re.IGNORECASE).search(self.text, match.end())
            end = close.end() if close else len(self.text)
            self.found.thinking.append((match.start(), end))
        self.plain_start = end
        return self._region_start(end)

    # --- values -------------------------------------------------------------------------------------------------------

    def _region_start(self, at: int) -> int:
        """A string, a member or a tuple that begins a region stands for the whole of it."""
        match = SPACE.match(self.text, at)
        start = match.end() if match else at
        if start >= len(self.text) or self.text[start] not in "\"'“(":
            return at
        end = self._region_end(start)
        self.meter.spend(end - start)
        ahead = KEY_AHEAD.match(self.text, start, end)
        try:
            if ahead and "opener" in self.rules:
                read = read_members(self.text, start, end, self.leniency, self.meter)
            elif not ahead:
                read = read_value(self.text, start, end, self.leniency, self.meter)
                if self.text[read.end : end].strip():
                    return at
            else:
                return at
        except Unreadable as error:
            if ahead:
                self._fail(start, end, error)
                return end
            return at
        self._add(read)
        return read.end

    def _region_end(self, at: int) -> int:
        ends = [self.text.find(self.fence, at)] if self.fence else []
        ends += [self.text.find("</" + self.tag, at)] if self.tag else []
        return min((end for end in ends if end >= 0), default=len(self.text))

    def _bracket(self, start: int) -> int:
        if self.text[start] == "[" and start and (self.text[start - 1].isalnum() or self.text[start - 1] in "])_"):
            return start + 1  # an index, as in code
        if "unescape" in self.rules:
            end = self._escaped(start)
            if end:
                return end
        try:
            read = read_value(self.text, start, len(self.text), self.leniency, self.meter)
        except Unreadable as error:
            return self._unreadable(start, error)
        if self.text[start] == "[" and self.text[read.end : read.end + 1] == "(":
            return read.end  # a link in Markdown
        if _STRAY_CLOSER.match(self.text, read.end):
            reason = "text touches it or a stray bracket follows: part of the value may stand outside of it"
            return self._unreadable(start, Unreadable(read.end, reason, "unclear"))
        self._add(read)
        return read.end

    def _unreadable(self, start: int, error: Unreadable) -> int:
        if not _LIKE_JSON.match(self.text, start):
            return start + 1
        end = self._balanced(start)
        read = guess(self.text, start, end, self.leniency) if error.kind == "malformed" else None
        if read is not None and not _STRAY_CLOSER.match(self.text, end):
            self._add(read)
        else:
            self._fail(start, end, error)
        return end

    def _balanced(self, start: int) -> int:
        """Where the brackets that open at `start` are closed, strings apart; a code fence ends them too."""
        depth = 0
        for match in _BALANCE.finditer(self.text, start):
            letter = match.group()[0]
            if letter == "`":
                return match.start()
            if letter != '"':
                depth += 1 if letter in "{[" else -1
                if depth == 0:
                    self.meter.spend(match.end() - start)
                    return match.end()
        self.meter.spend(2 * (len(self.text) - start))
        return len(self.text)

    def _escaped(self, start: int) -> int:
        """Read JSON whose quotes are all escaped, as in a string or in HTML; where it ends, 0 if it is none."""
        if _ESCAPED.match(self.text, start):
            match = _ESCAPED_STRETCH.match(self.text, start)
            written = match.group() if match else ""
            unescaped = re.sub(r"\\(.)", lambda one: _UNESCAPED.get(one[1], one[1]), written)
        elif _ENTITIES.match(self.text, start):
            written = self.text[start : self._balanced(start)]
            unescaped = html.unescape(written)
        else:
            return 0
        self.meter.spend(2 * len(written))
        try:
            read = read_value(unescaped, 0, len(unescaped), self.leniency, self.meter)
        except Unreadable:
            return 0
        if unescaped[read.end :].strip(" \t\r\n`"):
            return 0
        log = (repair("unescape", (), written[:200], unescaped[:200]),)
        self._add(ReadValue(read.value, start, start + len(written), read.log, read.cut), log)
        return start + len(written)

    def _fail(self, start: int, end: int, error: Unreadable) -> None:
        self.found.failures.append(Failure(start, end, error, bool(self.tag), bool(self.fence)))

    def _add(self, read: ReadValue, log: tuple[Repair, ...] = ()) -> None:
        around: list[Repair] = []
        if self.tag:
            around.append(repair("tag", (), f"<{self.tag}>", ""))
        if self.fence:
            around.append(repair("fence", (), self.fence, ""))
        if all(one.rule in self.rules for one in around):
            self.found.candidates.append(Candidate(read, bool(self.tag), bool(self.fence), (*around, *log)))

    # --- plain text ---------------------------------------------------------------------------------------------------

    def _piece(self, start: int, end: int, rule: str) -> None:
        """The content of a fence or tag, as a value in itself."""
        if rule in self.rules:
            log = (repair(rule, (), self.fence or f"<{self.tag}>", ""),)
            read = ReadValue(self.text[start:end].strip(), start, end)
            self.found.pieces.append(Candidate(read, rule == "tag", rule == "fence", log))

    def _close_pieces(self) -> None:
        """What an open tag or fence holds, and the whole text."""
        if self.tag:
            self._piece(self.tag_start, len(self.text), "tag")
        if self.fence:
            self._piece(self.fence_start, len(self.text), "fence")
        rest = self.text[self.plain_start :].strip()
        if rest:
            self.found.pieces.append(Candidate(ReadValue(rest, self.plain_start, len(self.text))))

    def _whole(self) -> None:
        """Without FIND the answer is the whole text or nothing."""
        start = len(self.text) - len(self.text.lstrip())
        if start == len(self.text):
            return
        end = len(self.text.rstrip())
        try:
            read = read_value(self.text, start, end, self.leniency, self.meter)
            if read.end < end:
                raise Unreadable(read.end, "text follows the JSON")
        except Unreadable as error:
            self.found.failures.append(Failure(start, end, error))
        else:
            self.found.candidates.append(Candidate(read))


def _words_in_brackets(read: ReadValue) -> bool:
    """Whether a value is like [see above]: prose rather than a list, if there is any other value."""
    bare = sum(entry.rule == "unquoted_value" for entry in read.log)
    return isinstance(read.value, list) and bare == len(read.value) > 0 and all(isinstance(v, str) for v in read.value)
