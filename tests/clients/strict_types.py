"""Judging JSON by the types of an SDK, stricter than the SDK itself: no unknown key, no coercion."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter


def check_params(params: Any, content: Mapping[str, Any]) -> None:
    """Raise unless JSON is an instance of an SDK's parameter type (TypedDicts), with no key that it does not have."""
    taken = _plain(_adapter(params).validate_python(content, strict=True))
    lost = sorted(_missing(content, taken))
    assert not lost, f"the SDK's parameter types do not have {', '.join(lost)}"


def check_model(model: Any, content: Any) -> Any:
    """The SDK's response object of JSON; raises unless it fits strictly, with no key that the type does not have."""
    made = _adapter(model).validate_json(json.dumps(content), strict=True)
    unknown = sorted(_extras(made))
    assert not unknown, f"the SDK's response types do not have {', '.join(unknown)}"
    return made


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _plain(value: Any) -> Any:
    """Validated data with Pydantic's lazy iterators run to their ends (only then they validate)."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (str, bytes, int, float, bool)) or value is None:
        return value
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(by_alias=True, exclude_unset=True))
    return [_plain(item) for item in value]


def _missing(given: Any, taken: Any, path: str = "") -> Iterator[str]:
    """Paths of what is in `given` and was dropped or changed in `taken`."""
    if isinstance(given, Mapping) and isinstance(taken, Mapping):
        for key, value in given.items():
            where = f"{path}.{key}".lstrip(".")
            if key in taken:
                yield from _missing(value, taken[key], where)
            else:
                yield where
    elif isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        for index, (one, other) in enumerate(zip(given, taken, strict=True)):
            yield from _missing(one, other, f"{path}[{index}]")
    elif given != taken or type(given) is not type(taken):
        yield path


def _extras(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}".lstrip(".")
        for name in value.model_fields_set:
            yield from _extras(getattr(value, name, None), f"{path}.{name}".lstrip("."))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _extras(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _extras(item, f"{path}[{index}]")
