"""Any response type behind one face: a `Spec` names it, shows its JSON schema and turns text into its values."""

from __future__ import annotations

import inspect
import re
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from ..core.errors import SchemaError
from .shape import Shape, shape_of

T = TypeVar("T")

FIELD = "response_model"
"""How errors name the caller's parameter."""


class Spec(Generic[T]):
    """A response type: a Pydantic v2 model, dataclass, TypedDict, NamedTuple, Enum, Literal, Union, list, int, ….

    The text of an answer is the JSON of the value itself, also where that is no object (`list[Item]`, `int`). Values
    are what `TypeAdapter(response_type).validate_json` gives: instances of the caller's own classes.
    """

    def __init__(self, response_type: Any, adapter: TypeAdapter[T]) -> None:
        self.response_type = response_type
        self.adapter = adapter

    @classmethod
    def of(cls, response_type: Any) -> Spec[Any]:
        """The spec of a type; a `Spec` is returned as it is. Raises `SchemaError` for what Pydantic can't handle."""
        if isinstance(response_type, Spec):
            return response_type
        _refuse_lookalikes(response_type)
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(response_type)
            adapter.rebuild(raise_errors=True)
        except Exception as error:  # Pydantic, or a type's own schema hook, may raise anything here
            raise SchemaError(
                FIELD,
                response_type,
                f"Pydantic can't build a validator for it ({_briefly(error)})",
                "Use a Pydantic model, dataclass, TypedDict, Enum, Literal, Union, list or scalar type whose forward "
                "references are all defined.",
            ) from error
        return cls(response_type, adapter)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Spec.of, (self.response_type,))

    def __repr__(self) -> str:
        return f"Spec({self.name})"

    @cached_property
    def name(self) -> str:
        """An identifier for the type: its own name where it has one, such as `Invoice` or `list_Invoice`."""
        if inspect.isclass(self.response_type) and not getattr(self.response_type, "__args__", None):
            shown = self.response_type.__name__
        else:
            shown = re.sub(r"\b(?:\w+\.)+", "", str(self.response_type)).replace("<class '", "").replace("'>", "")
        return re.sub(r"[^A-Za-z0-9_]+", "_", shown).strip("_")[:64] or "answer"

    @cached_property
    def description(self) -> str | None:
        """The type's own docstring, or None (docstrings that Python generates don't count)."""
        schema = self.json_schema
        if "$ref" in schema:  # a type that refers to itself
            schema = schema["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
        described = schema.get("description")
        return described if isinstance(described, str) else None

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """The JSON schema that Pydantic gives for inputs, properties under their aliases. Treat it as read-only."""
        try:
            return self.adapter.json_schema(by_alias=True, mode="validation")
        except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
            raise SchemaError(
                FIELD,
                self.response_type,
                f"it has no JSON schema ({_briefly(error)})",
                "Replace the field by a type that JSON can carry, or annotate it with pydantic.WithJsonSchema.",
            ) from error

    @cached_property
    def shape(self) -> Shape:
        """The outline that partial objects are built along."""
        return shape_of(self.response_type)

    def validate(self, text: str | bytes, context: Any = None, strict: bool | None = None) -> T:
        """The value that `text` stands for. Raises pydantic's `ValidationError`, or whatever a validator raises."""
        return self.adapter.validate_json(text, context=context, strict=strict)


def _refuse_lookalikes(response_type: Any) -> None:
    """Turn away what Pydantic would take silently for something else, or refuse in words that don't help."""
    if inspect.isclass(response_type) and _is_v1_model(response_type):
        raise SchemaError(
            FIELD,
            response_type,
            "it is a pydantic.v1 model",
            "Derive it from pydantic.BaseModel (v2).",
        )
    if response_type is None or isinstance(response_type, (dict, str, bytes, int, float, BaseModel)):
        raise SchemaError(
            FIELD,
            response_type,
            "it is a value, not a type",
            "Give the class itself; for a JSON schema use SamplingParams(json_schema=…).",
        )


def _is_v1_model(cls: type) -> bool:
    return any(base.__module__.startswith("pydantic.v1.") and base.__name__ == "BaseModel" for base in cls.__mro__)


def _briefly(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
