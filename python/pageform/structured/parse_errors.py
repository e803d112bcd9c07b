"""Why one text gave no value. Each error has a type of its own, so that a caller can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from .errors import StructuredError, describe, shorten, summary

Fault = dict[str, Any]


class ParseError(StructuredError, ValueError):
    """One text gave no value of the type. `text` is the text, `errors()` says what was wrong with it."""

    def __init__(self, message: str, text: str = "", faults: Sequence[Fault] = ()) -> None:
        self.text = text
        self.faults = list(faults)
        super().__init__(message)

    @property
    def last_text(self) -> str:
        """The text that was read."""
        return self.text

    def errors(self) -> list[Fault]:
        """What was wrong: dicts with `loc`, `type`, `msg` and `input`, as Pydantic's own."""
        if self.faults:
            return [dict(fault) for fault in self.faults]
        return [{"loc": (), "type": self.kind, "msg": self.message, "input": None}]

    @property
    def kind(self) -> str:
        """The error's name for machines, such as `truncated`."""
        return _snake(type(self).__name__)

    def _state(self) -> dict[str, Any]:
        return {"message": self.message, "text": self.text, "faults": _plain(self.faults)}


class Rejected(ParseError):
    """There was JSON, but not of the type: Pydantic's `ValidationError` is the `__cause__`."""

    @classmethod
    def by(cls, error: ValidationError, text: str) -> Rejected:
        """What Pydantic said of the text."""
        return cls(f"{summary(error)}\nThe answer was {shorten(text)}", text, describe(error))


class Ambiguous(ParseError):
    """There are several readings that mean different values, and nothing says which is meant."""


class Malformed(ParseError):
    """The JSON is broken in a way that no rule in force can mend."""


class Truncated(ParseError):
    """The text breaks off inside the JSON, so that data is missing."""


class NotFound(ParseError):
    """The text holds nothing that could be a value of the type: a refusal, say, or a question."""


class EmptyAnswer(ParseError):
    """The text is empty."""


class NotText(ParseError):
    """The bytes are not UTF-8, or the string holds halves of surrogate pairs."""


class TooLarge(ParseError):
    """The text is longer than the layers of leniency may look at."""


class TooDeep(ParseError):
    """The JSON is nested deeper than `max_depth`."""


class TooComplex(ParseError):
    """Reading the text takes more steps than a text of its length may take."""


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _plain(faults: Sequence[Fault]) -> list[Fault]:
    """Faults whose inputs can be pickled."""
    plain = []
    for fault in faults:
        shown = fault.get("input")
        keep = shown is None or isinstance(shown, (str, int, float, bool))
        plain.append({**fault, "input": shown if keep else repr(shown)[:300]})
    return plain
