"""What is wrong with an answer: the error that rejected it as a bounded list of faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..core.completion import Fault
from .bounded import bounded, cut
from .schema_place import SchemaPlaces, Step, brief, options
from .suggest import Place, suggestion

if TYPE_CHECKING:
    from .spec import Spec

_LISTED = 100
"""Faults of one answer that are kept; the number of the others is told."""
COUNTED = 20_000
"""With more faults than this none is listed: Pydantic can only list all of them, at 5 µs and 600 bytes each."""
_SHOWN = 20
"""Faults that a text for people or models shows."""
_MESSAGE = 500
"""Characters of one fault's message."""

_EXPECTED = {
    "int": "integer",
    "float": "number",
    "decimal": "number",
    "bool": "true or false",
    "string": "string",
    "list": "list",
    "tuple": "list",
    "set": "list",
    "dict": "object",
    "model": "object",
    "dataclass": "object",
    "date": "date such as 2024-12-31",
    "datetime": "date and time such as 2024-12-31T08:30:00",
    "time": "time such as 08:30:00",
    "uuid": "UUID",
    "url": "URL",
    "json": "JSON",
}
"""By the first word of Pydantic's error types, for places that no schema is known of."""


def diagnose(error: BaseException | None, spec: Spec[Any] | None = None) -> tuple[Fault, ...]:
    """The faults of one rejected answer. `spec`, its response type, makes `expected` and `suggestion` more exact."""
    if error is None:
        return ()
    if not isinstance(error, ValidationError):
        own: Sequence[Fault] = getattr(error, "faults", ())  # a ParseError knows more than its message
        return tuple(own) or (Fault((), "", type(error).__name__, cut(str(error), _MESSAGE)),)
    count = error.error_count()
    if count > COUNTED:
        return (Fault((), "", "too_many_faults", f"{count} values are not valid, too many to list"),)
    places = SchemaPlaces(_schema(spec))
    errors = error.errors(include_url=False)
    missing: dict[tuple[Step, ...], list[str]] = {}
    for one in errors[:_LISTED]:
        if one["type"] == "missing":
            missing.setdefault(one["loc"][:-1], []).append(str(one["loc"][-1]))
    listed = [_fault(one, places, missing.get(one["loc"][:-1], [])) for one in errors[:_LISTED]]
    if count > _LISTED:
        listed.append(Fault((), "", "more_faults", f"{count - _LISTED} more faults"))
    return tuple(listed)


def summary(faults: BaseException | Sequence[Fault] | None) -> str:
    """The faults of one rejected answer, one a line; an error's own where an error is given."""
    if faults is None or isinstance(faults, BaseException):
        faults = diagnose(faults)
    lines = [str(fault) for fault in faults[:_SHOWN]]
    return "\n".join([*lines, f"and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""]).rstrip()


def path(loc: Sequence[Step]) -> str:
    """A place as it is written in Python: `items[2].price`."""
    parts = [f"[{step}]" if isinstance(step, int) else f".{cut(step, 80)}" for step in loc]
    return cut("".join(parts).removeprefix("."))


def _schema(spec: Spec[Any] | None) -> Mapping[str, Any]:
    try:
        return spec.json_schema if spec is not None else {}
    except Exception:  # a type without a JSON schema, or whose own schema hook raises: the faults are told without it
        return {}


def _fault(error: Any, places: SchemaPlaces, missing: list[str]) -> Fault:
    """`missing` are the keys that the same object lacks. What kind of value a union's branch wants is no suggestion: it
    may be the wrong branch."""
    loc, kind, details, value = error["loc"], error["type"], error.get("ctx") or {}, error["input"]
    nodes, place = places.at(loc)
    others = missing
    if kind == "missing" and isinstance(value, Mapping):
        known = places.keys(loc[:-1])
        others = [str(name) for name in value if name not in known]
    found = Place(value, options(nodes), str(place[-1]) if place else "", others)
    in_union = len(place) < len(loc)
    mend = None if in_union and kind.endswith("_type") else suggestion(kind, found, details)
    return Fault(
        loc=tuple(step if isinstance(step, int) else cut(step, 80) for step in loc),
        path=path(place),
        type=kind,
        msg=cut(error["msg"], _MESSAGE),
        input=bounded(value),
        expected=brief(nodes) or _expected(kind, details),
        suggestion=mend,
    )


def _expected(kind: str, details: Mapping[str, Any]) -> str | None:
    if "expected" in details:
        return cut(str(details["expected"]))
    return _EXPECTED.get(kind.split("_")[0])
