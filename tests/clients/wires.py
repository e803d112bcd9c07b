"""What a scripted model says, apart from any provider, and how a wire format puts it into replies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from scripted_server import Part, Reply

Finish = Literal["stop", "length", "filter"]


@dataclass(frozen=True)
class Called:
    """A tool call that the model makes: `arguments` is text as the model wrote it, valid or not. Formats that carry
    arguments as objects can't carry others: there the model writes them as text."""

    name: str
    arguments: str
    id: str = "call_1"


@dataclass(frozen=True)
class Said:
    """One answer of the scripted model. `usage` counts prompt, completion and cached tokens; None for none reported."""

    text: str = ""
    calls: tuple[Called, ...] = ()
    refusal: str | None = None
    finish: Finish | None = "stop"
    usage: tuple[int, int, int] | None = (10, 5, 4)

    def with_objects(self) -> Said:
        """The answer in a format whose calls carry objects."""
        kept = tuple(call for call in self.calls if _is_object(call.arguments))
        written = "".join(call.arguments for call in self.calls if call not in kept)
        return replace(self, calls=kept, text=self.text + written)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@dataclass(frozen=True)
class Pieces:
    """How a stream is cut: into pieces of `size` characters of the answer's text or arguments. `before` puts gates and
    cuts before the piece of that number, counted from 0 over the whole stream; the last piece is the one that finishes.
    """

    size: int = 4
    before: Mapping[int, Part] = field(default_factory=dict)

    def cut(self, text: str) -> list[str]:
        return [text[at : at + self.size] for at in range(0, len(text), self.size)]


class Wire(Protocol):
    """A wire format, spoken from the server's side. Each reply is checked against the SDK's types when it is made."""

    path: str
    """The end of the path that requests come to."""

    def reply(self, said: Said) -> Reply:
        """The whole answer at once."""

    def stream(self, said: Said, pieces: Pieces = Pieces()) -> Reply:
        """The answer as a stream. A `finish` of None ends it without the provider's own end."""

    def error(self, status: int, message: str = "no") -> Reply:
        """The provider's error of an HTTP status, told not to be retried by SDKs that listen to that."""

    def check(self, request: dict[str, Any]) -> None:
        """Raises unless a request's JSON fits the SDK's parameter types."""


def with_gates(events: list[bytes], first: int, before: Mapping[int, Part]) -> list[Part]:
    """Events with gates and cuts put before the pieces that they are meant for; `first` is the event of piece 0."""
    parts: list[Part] = []
    for number, one in enumerate(events, start=-first):
        if number in before:
            parts.append(before[number])
        parts.append(one)
    return parts


def with_pieces(events: Iterable[tuple[bytes, bool]], before: Mapping[int, Part]) -> list[Part]:
    """The same for events of which each says whether it is a piece."""
    parts: list[Part] = []
    number = 0
    for one, is_piece in events:
        if is_piece and number in before:
            parts.append(before[number])
        number += is_piece
        parts.append(one)
    return parts
