"""Token by token, what a laid-out answer says: its thoughts, its text, its calls of tools."""

from __future__ import annotations

import codecs
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core.errors import IllegalTransition
from ..core.reasoning import ReasoningDelta
from .layout import At, Kind, Layout, Mode, scan


@dataclass(slots=True)
class WrittenCall:
    """A call as it stands in the text. `text` is the JSON of its arguments, all of it once the call `is_complete`."""

    number: int
    name: str
    text: str = ""
    is_complete: bool = False


Part = ReasoningDelta | WrittenCall


@dataclass(frozen=True, slots=True)
class _Mark:
    """How things stood after a token: all that is needed to go back to it."""

    at: At
    size: int
    thought: int
    held: bytes
    texts: int
    thoughts: int
    calls: int
    arguments: int
    lead: bytes = b""


@dataclass(slots=True)
class Segmenter:
    """Has the interface of `text.IncrementalDetokenizer`: `push` returns what a token adds to the text, which thoughts
    and the wording of calls are no part of.

    `bytes_of` gives the bytes of a token, none for those that text leaves out. `strips` tells that the first space of
    the text is an artefact.
    """

    layout: Layout
    bytes_of: Callable[[int], bytes]
    strips: bool = False
    calls: list[WrittenCall] = field(default_factory=list)
    is_closing: bool = False
    """Whether the end tag of the thoughts is being forced: what has come of it is no thought then."""
    last_arguments: str = ""
    """What the last token added to the arguments of a call."""
    _at: At = field(init=False)
    _size: int = 0  # bytes of all tokens
    _thought: int = 0  # bytes of the thoughts, which come first
    _held: bytes = b""  # of an incomplete character
    _texts: list[str] = field(default_factory=list)
    _thoughts: list[str] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _marks: list[_Mark] = field(default_factory=list)
    _tail: str | None = None
    _parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._at = self.layout.start
        self._marks.append(self._mark())

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def text(self) -> str:
        """The text so far, without what is held back."""
        return "".join(self._texts) + (self._tail or "")

    @property
    def thoughts(self) -> str:
        """The thoughts so far."""
        return "".join(self._thoughts)

    @property
    def is_thinking(self) -> bool:
        """Whether the thoughts have not ended yet."""
        return self._at.mode is Mode.THOUGHTS

    @property
    def num_thought_tokens(self) -> int:
        """Tokens with some byte of the thoughts in them."""
        return bisect_left(self._starts, self._thought)

    def push(self, token_id: int) -> str:
        """Takes the next token and returns the text that it completes."""
        if self._tail is not None:
            raise IllegalTransition("a token was pushed into a flushed segmenter")
        data = self.bytes_of(token_id)
        if self.strips and self._size == 0 and data.startswith(b" "):
            data = data[1:]
        self._starts.append(self._size)
        self._size += len(data)
        was_thinking = self.is_thinking
        self._at, pieces = scan(self.layout, self._at, data)
        added: list[str] = []
        lead, self.last_arguments = b"", ""
        for kind, piece, left in pieces:
            if kind is not Kind.THOUGHT and was_thinking:
                was_thinking = self._end_thoughts()
            if kind is Kind.THOUGHT:
                self._thought += len(piece)
                self._think(piece)
            elif kind is Kind.CALL:
                self.calls.append(WrittenCall(len(self.calls), piece.decode("utf-8", "replace")))
            elif kind is Kind.CALLED:
                self.calls[-1].is_complete = True
                self._parts.append(self.calls[-1])
            else:
                if left < len(data) and not lead and not added:
                    lead = data[: len(data) - left]
                text = self._decode(piece)
                if kind is Kind.ARGUMENTS:
                    self.calls[-1].text += text
                    self.last_arguments += text
                else:
                    added.append(text)
        if was_thinking and not self.is_thinking:
            self._end_thoughts()
        text = "".join(added)
        self._texts.append(text)
        self._marks.append(self._mark(lead))
        return text

    def lead(self, token: int) -> bytes:
        """The bytes of a token that stand before the text or arguments that begin in it."""
        return self._marks[token + 1].lead if token + 1 < len(self._marks) else b""

    def flush(self) -> str:
        """Ends the answer: returns text that was held back."""
        if self._tail is not None:
            return ""
        is_text = self._at.mode is Mode.TEXT or (self.is_thinking and not self.is_closing)
        held = self._at.held if is_text else b""
        rest = (self._held + held).decode("utf-8", "replace")
        if self.is_thinking:
            self._thought += len(held)
            self._think_text(rest)
            self._tail = ""
        else:
            self._tail = rest if not self.calls else ""
        return self._tail

    def truncate(self, n_tokens: int) -> None:
        """Forgets all but the first tokens."""
        mark = self._marks[n_tokens]
        self._at, self._size, self._thought, self._held = mark.at, mark.size, mark.thought, mark.held
        del self._texts[mark.texts :], self._thoughts[mark.thoughts :], self.calls[mark.calls :]
        del self._starts[n_tokens:], self._marks[n_tokens + 1 :]
        if self.calls:
            last = self.calls[-1]
            last.text, last.is_complete = last.text[: mark.arguments], mark.at.calls == len(self.calls)
        self._tail = None
        self.is_closing = False

    def after(self, token_id: int) -> tuple[int, bool]:
        """How many tokens of thoughts there are if this one comes next, those that may be the end tag included, and
        whether that ends the thoughts."""
        data = self.bytes_of(token_id)
        at, pieces = scan(self.layout, self._at, data)
        thought = self._thought + sum(len(piece.data) for piece in pieces if piece.kind is Kind.THOUGHT)
        if at.mode is Mode.THOUGHTS:
            return len(self._starts) + 1, False
        return bisect_left([*self._starts, self._size], thought), True

    def take_parts(self) -> list[Part]:
        """Thoughts and complete calls that have come since this was asked last."""
        parts, self._parts = self._parts, []
        return parts

    @property
    def held_tag(self) -> bytes:
        """The last bytes of the thoughts, which the end tag may begin with."""
        return self._at.held if self.is_thinking else b""

    def lacking(self, token_id: int | None = None) -> int:
        """Bytes that the last character lacks, after one token more if that is given."""
        data = self._held + (self.bytes_of(token_id) if token_id is not None else b"")
        return _lacking(data)

    def _end_thoughts(self) -> bool:
        """Thoughts whose last character is incomplete (no grammar allows that) keep it to themselves."""
        if self._held:
            self._held = b""
            self._think_text("\ufffd")
        return False

    def _think(self, piece: bytes) -> None:
        self._think_text(self._decode(piece))

    def _think_text(self, text: str) -> None:
        if text:
            self._thoughts.append(text)
            self._parts.append(ReasoningDelta(text))

    def _decode(self, data: bytes) -> str:
        data = self._held + data
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._held = data[used:]
        return text

    def _mark(self, lead: bytes = b"") -> _Mark:
        size = len(self.calls[-1].text) if self.calls else 0
        counts = (len(self._texts), len(self._thoughts), len(self.calls), size)
        return _Mark(self._at, self._size, self._thought, self._held, *counts, lead)


def _lacking(data: bytes) -> int:
    """Bytes that the last character of some UTF-8 text lacks."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return max(0, size - back)
        if byte < 0x80:
            return 0
    return 0
