"""Python's names of types where a JSON schema should have JSON's: "dict", "float", "tuple", as tool definitions do."""

from __future__ import annotations

from typing import Any

_JSON_NAMES = {
    "dict": "object",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "str": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "None": "null",
    "NoneType": "null",
}
_ANYTHING = ("any", "Any")


def json_types(given: Any) -> Any:
    """The value of a schema's `type` with JSON's names; None where any type is meant. What is unknown stays."""
    if isinstance(given, str):
        return None if given in _ANYTHING else _JSON_NAMES.get(given, given)
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        named = [json_types(name) for name in given]
        return None if None in named else named
    return given
