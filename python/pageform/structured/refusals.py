"""What can't be a response type, though Pydantic would take it for something or refuse it in words that don't help."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from ..core.errors import FIELD as FIELD
from ..core.errors import SchemaError


def refuse_values(response_type: Any) -> None:
    """Turn away values that stand where a type should."""
    if response_type is None or isinstance(response_type, (str, bytes, int, float, list, tuple, BaseModel)):
        raise SchemaError(
            FIELD,
            response_type,
            "it is a value, not a type",
            "Give the class itself, or a JSON schema as a dict.",
        )
    if inspect.isroutine(response_type):  # Pydantic would call it with what the model says
        raise SchemaError(
            FIELD,
            response_type,
            "it is a function, not a type",
            "Give a model with the function's parameters as fields, and call the function with its values.",
        )


def refuse_async_validators(response_type: Any, core_schema: Any) -> None:
    """Turn away types with `async def` validators: Pydantic would take the coroutine for the value."""
    for function in _functions(core_schema, set()):
        if inspect.iscoroutinefunction(function):
            raise SchemaError(
                FIELD,
                response_type,
                f"its validator {function.__qualname__} is async, and Pydantic calls validators without awaiting them",
                "Make it a plain function, or check the value after the answer came.",
            )


def _functions(node: Any, seen: set[int]) -> Iterator[Any]:
    """All validator functions of a core schema."""
    if id(node) in seen or not isinstance(node, (Mapping, list)):
        return
    seen.add(id(node))
    if isinstance(node, list):
        for part in node:
            yield from _functions(part, seen)
        return
    function = node.get("function")
    if str(node.get("type")).startswith("function-") and isinstance(function, Mapping):
        called = function.get("function")
        while isinstance(called, functools.partial):
            called = called.func
        yield called
    for key, part in node.items():
        if key not in ("metadata", "serialization", "cls", "config"):
            yield from _functions(part, seen)
