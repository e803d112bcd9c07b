"""Making Pydantic's `ValidationError` from faults that were found elsewhere, or at another place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

_KNOWN = frozenset(get_args(ErrorType))


def fault(kind: str, message: str, loc: Sequence[int | str], given: Any) -> InitErrorDetails:
    """One fault: its type such as `value_error`, a sentence, where it is, and the value there."""
    # Braces in a message without context are printed as they are.
    return {"type": PydanticCustomError(cast(Any, kind), cast(Any, message)), "loc": tuple(loc), "input": given}


def failed(title: str, faults: Iterable[InitErrorDetails]) -> ValidationError:
    """The error of a value of a type called `title`."""
    return ValidationError.from_exception_data(title, list(faults), "json")


def relocated(error: ValidationError, before: Sequence[int | str] = (), drop: int = 0) -> list[InitErrorDetails]:
    """The faults of an error, each without the first `drop` steps of its place and with the steps of `before`."""
    faults: list[InitErrorDetails] = []
    for one in error.errors(include_url=False):
        loc = (*before, *one["loc"][drop:])
        if one["type"] in _KNOWN:
            known: InitErrorDetails = {"type": one["type"], "loc": loc, "input": one["input"]}
            faults.append({**known, "ctx": one["ctx"]} if "ctx" in one else known)
        else:
            faults.append(fault(one["type"], one["msg"], loc, one["input"]))
    return faults
