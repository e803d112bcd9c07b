"""What the bytes of an answer are, where it is more than one thing: thoughts, then text or a form, or calls of tools.

    …thoughts…</think>\\n\\n{"name":"Ann"}
    Let me look.\\n<tool_call>\\n{"name": "weather", "arguments": {"city": "Rome"}}\\n</tool_call>

`scan` is a pure function of a state and the next bytes, so that any earlier place can be gone back to. What it finds
does not depend on how the bytes are cut into tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from ..text.tool_formats import ToolFormat

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = b'"\\{}'


class Mode(Enum):
    """What the next byte belongs to."""

    THOUGHTS = auto()
    GAP = auto()
    """Newlines between the thoughts and the answer."""
    START = auto()
    """The first byte of an answer that is calls if it is a brace."""
    TEXT = auto()
    """Text or a form, until a call begins."""
    PLAIN = auto()
    """Text that nothing ends."""
    HEAD = auto()
    """A call up to its arguments, if it is another call."""
    ARGUMENTS = auto()
    TAIL = auto()
    """A call behind its arguments."""


class Kind(Enum):
    """What a piece of an answer is."""

    THOUGHT = auto()
    TEXT = auto()
    CALL = auto()
    """A call has begun: the piece is the tool's name."""
    ARGUMENTS = auto()
    CALLED = auto()
    """The arguments are complete."""


class Piece(NamedTuple):
    """Some bytes of one kind. `left` counts the bytes that had been fed and lay behind its beginning."""

    kind: Kind
    data: bytes
    left: int


class At(NamedTuple):
    """Where an answer stands. `held` are bytes of which is not known yet what they are."""

    mode: Mode
    held: bytes = b""
    calls: int = 0
    """Calls whose arguments are complete."""
    depth: int = 0
    quoted: bool = False
    escaped: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of an answer. It begins with thoughts if they have an `end`, and may be calls if there are `calls`."""

    end: bytes | None = None
    calls: ToolFormat | None = None

    @property
    def start(self) -> At:
        return At(Mode.THOUGHTS if self.end is not None else self.answer)

    @property
    def answer(self) -> Mode:
        """How what comes after the thoughts begins."""
        if self.calls is None:
            return Mode.PLAIN
        return Mode.START if self.calls.at_start else Mode.TEXT

    def head(self, number: int) -> bytes:
        """What stands before the name in the call of that number."""
        assert self.calls is not None
        return ((self.calls.between if number else self.calls.begin) + self.calls.before_name).encode()


def scan(layout: Layout, at: At, data: bytes) -> tuple[At, list[Piece]]:
    """The state after some more bytes, and the pieces that they bring."""
    pieces: list[Piece] = []
    while data:
        at, data = _STEPS[at.mode](layout, at, data, pieces)
    return at, pieces


def _until(tag: bytes, kind: Kind, at: At, data: bytes, pieces: list[Piece]) -> bytes | None:
    """What follows `tag` in held and new bytes, None if it has not come; what is surely before it becomes a piece."""
    text = at.held + data
    place = text.find(tag)
    size = place if place >= 0 else len(text) - _begun(tag, text)
    if size:
        pieces.append(Piece(kind, text[:size], min(len(text), len(data))))
    return text[place + len(tag) :] if place >= 0 else None


def _begun(tag: bytes, text: bytes) -> int:
    """How many of the last bytes of a text may be the beginning of a tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)


def _thoughts(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    assert layout.end is not None
    rest = _until(layout.end, Kind.THOUGHT, at, data, pieces)
    if rest is not None:
        return At(Mode.GAP), rest
    text = at.held + data
    return At(Mode.THOUGHTS, text[len(text) - _begun(layout.end, text) :]), b""


def _gap(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    rest = data.lstrip(b"\n")
    return (At(layout.answer) if rest else at), rest


def _start(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    return At(Mode.HEAD if data[0] == _OPEN else Mode.PLAIN), data


def _text(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    assert layout.calls is not None
    trigger = layout.calls.trigger.encode()
    rest = _until(trigger, Kind.TEXT, at, data, pieces)
    if rest is not None:
        return At(Mode.HEAD, trigger), rest
    text = at.held + data
    return At(Mode.TEXT, text[len(text) - _begun(trigger, text) :]), b""


def _plain(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    pieces.append(Piece(Kind.TEXT, data, len(data)))
    return at, b""


def _head(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    assert layout.calls is not None
    text, head, after = at.held + data, layout.head(at.calls), layout.calls.after_name.encode()
    place = text.find(after, len(head) + 1)
    if place < 0:
        return at._replace(held=text), b""
    pieces.append(Piece(Kind.CALL, text[len(head) : place], 0))
    return At(Mode.ARGUMENTS, calls=at.calls), text[place + len(after) :]


def _arguments(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    """An object ends with the brace that closes its first one."""
    _, _, calls, depth, quoted, escaped = at
    for i, byte in enumerate(data):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = byte == _BACKSLASH, byte != _QUOTE
        elif byte == _QUOTE:
            quoted = True
        elif byte == _OPEN:
            depth += 1
        elif byte == _CLOSE:
            depth -= 1
            if depth == 0:
                pieces.append(Piece(Kind.ARGUMENTS, data[: i + 1], len(data)))
                pieces.append(Piece(Kind.CALLED, b"", len(data) - i - 1))
                return _called(layout, At(Mode.TAIL, calls=calls + 1)), data[i + 1 :]
    pieces.append(Piece(Kind.ARGUMENTS, data, len(data)))
    return At(Mode.ARGUMENTS, b"", calls, depth, quoted, escaped), b""


def _called(layout: Layout, at: At) -> At:
    return at if layout.calls is not None and layout.calls.tail else at._replace(mode=Mode.HEAD)


def _tail(layout: Layout, at: At, data: bytes, pieces: list[Piece]) -> tuple[At, bytes]:
    assert layout.calls is not None
    text, size = at.held + data, len(layout.calls.tail.encode())
    if len(text) < size:
        return at._replace(held=text), b""
    return At(Mode.HEAD, calls=at.calls), text[size:]


_STEPS = {
    Mode.THOUGHTS: _thoughts,
    Mode.GAP: _gap,
    Mode.START: _start,
    Mode.TEXT: _text,
    Mode.PLAIN: _plain,
    Mode.HEAD: _head,
    Mode.ARGUMENTS: _arguments,
    Mode.TAIL: _tail,
}
