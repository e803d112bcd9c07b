"""Why one text gave no value. Each reason is a class of its own, so that a caller can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ..core.completion import Fault
from .bounded import bounded, shorten
from .diagnose import diagnose, summary
from .errors import EmptyAnswer, Rejected
from .spec import Spec


class ParseError(Rejected):
    """One text gave no value of the type. `text` is the text, `faults` say what was wrong; `errors()` as dicts."""

    def __init__(self, message: str, text: str = "", faults: Sequence[Fault] = ()) -> None:
        self.message, self.text = message, text
        self.faults = tuple(faults) or (Fault((), "", self.kind, message),)
        super().__init__(message, text, self.faults)

    def __str__(self) -> str:
        return self.message

    @property
    def kind(self) -> str:
        """The error's name for machines, such as `truncated`."""
        name = type(self).__name__
        return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")

    def errors(self) -> list[dict[str, Any]]:
        """What was wrong: dicts with `loc`, `path`, `type`, `msg`, `input`, `expected` and `suggestion`."""
        return [fault.as_dict() for fault in self.faults]


class Invalid(ParseError):
    """There was JSON, but not of the type: Pydantic's `ValidationError` is the `__cause__`."""

    @classmethod
    def by(cls, error: ValidationError, spec: Spec[Any], text: str) -> Invalid:
        """What Pydantic said of the text."""
        faults = diagnose(error, spec)
        return cls(f"{summary(faults)}\nThe answer was {shorten(text)}", text, faults)


class Ambiguous(ParseError):
    """There are several readings that mean different values, and nothing says which is meant."""

    @classmethod
    def of(cls, unclear: Sequence[Fault], error: ValidationError, spec: Spec[Any], text: str) -> Ambiguous:
        """The places that can be read in several ways, then what else Pydantic said of the text."""
        places = {fault.loc for fault in unclear}
        told = [replace(fault, input=bounded(fault.input)) for fault in unclear]
        faults = (*told, *(fault for fault in diagnose(error, spec) if fault.loc not in places))
        return cls(f"{summary(faults)}\nThe answer was {shorten(text)}", text, faults)


class Malformed(ParseError):
    """The JSON is broken in a way that no rule in force can mend."""


class Truncated(ParseError):
    """The text breaks off inside the JSON, so that data is missing."""


class NotFound(ParseError):
    """The text holds nothing that could be a value of the type: a refusal, say, or a question."""


class EmptyText(ParseError, EmptyAnswer):
    """The text is empty."""


class NotText(ParseError):
    """The bytes are not UTF-8, or the string holds halves of surrogate pairs."""


class TooLarge(ParseError):
    """The text is longer than the layers of leniency may look at."""


class TooDeep(ParseError):
    """The JSON is nested deeper than `max_depth`."""


class TooComplex(ParseError):
    """Reading the text takes more steps than a text of its length may take."""
