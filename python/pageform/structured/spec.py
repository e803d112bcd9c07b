"""Any response type behind one face: a `Spec` names it, shows its JSON schema and turns text into its values."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin

import typing_extensions
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import InitErrorDetails
from typing_extensions import TypedDict

from ..core.errors import FIELD as FIELD
from ..core.errors import SchemaError
from .annotations import (
    ALIASES,
    identity,
    is_record,
    is_v1_model,
    peel,
    portable_typeddict,
    rewrite,
    union_members,
    wrap,
)
from .describe import DescribedSchema
from .faults import failed, fault, relocated
from .markers import Partial
from .refusals import refuse_async_validators, refuse_values
from .shape import Shape, shape_of

T = TypeVar("T")
D = TypeVar("D")

Kind = Literal["value", "iterable", "parallel", "partial"]

_NAME_LENGTH = 64
"""The longest name of a tool that all providers take."""
_KEPT = 256
"""Specs kept for types that are asked for again."""


class Spec(Generic[T]):
    """A response type: a Pydantic model, dataclass, TypedDict, NamedTuple, Enum, Literal, Union, list, int, …, or a
    JSON schema given as a dict.

    The text of an answer is the JSON of the value itself, also where that is no object (`list[Item]`, `int`). Values
    are what `TypeAdapter(response_type).validate_json` gives: instances of the caller's own classes. Immutable, kept
    for types that are asked for again, shared by threads.

    `kind` says how values come:
    - `iterable`: `list[Item]` and `Iterable[Item]`; the value is a list, whose `item`s a stream may give one by one.
    - `parallel`: the same of several classes, `Iterable[Weather | Search]`; each of the `members` may be a tool.
    - `partial`: `Partial[User]`; the value is a `User`, and a stream shows it while it grows.
    - `value`: everything else.
    """

    def __init__(self, response_type: Any, annotation: Any, adapter: TypeAdapter[T], kind: Kind) -> None:
        self.response_type = response_type
        self.annotation = annotation
        """What Pydantic validates: the response type with marks and what Pydantic doesn't know replaced."""
        self.adapter = adapter
        self.kind: Kind = kind
        self._core = _core_schema(response_type)
        self._adapted: dict[Any, Any] = {}

    @classmethod
    def of(cls, response_type: Any) -> Spec[Any]:
        """The spec of a type; a `Spec` is returned as it is. Raises `SchemaError` for what can't be one."""
        if isinstance(response_type, Spec):
            return response_type
        try:
            hash(response_type)
        except TypeError:  # a JSON schema, or metadata in Annotated
            return _make(response_type)
        spec = _kept(response_type, identity(response_type))
        if spec._core is not _core_schema(response_type):  # the model was rebuilt
            return _make(response_type)
        return spec

    def __reduce__(self) -> tuple[Any, ...]:
        return (Spec.of, (self.response_type,))

    def __repr__(self) -> str:
        return f"Spec({self.name})"

    # --- what it is called -------------------------------------------------------------------------------------------

    @cached_property
    def name(self) -> str:
        """An identifier for the type: its own name where it has one, such as `Invoice` or `list_Invoice`."""
        if isinstance(self.response_type, dict):
            shown = str(self.response_type.get("title", ""))
        else:
            shown = _shown(self.response_type)
        name = re.sub(r"[^A-Za-z0-9_]+", "_", shown).strip("_") or "answer"
        if len(name) > _NAME_LENGTH:  # cut names must still differ
            name = f"{name[: _NAME_LENGTH - 9]}_{hashlib.sha256(shown.encode()).hexdigest()[:8]}"
        return name

    @property
    def tool_name(self) -> str:
        """A name that every provider takes for a tool: letters, digits and `_`, at most 64."""
        return self.name

    @cached_property
    def description(self) -> str | None:
        """What the type's own docstring says of it, or None (docstrings that Python generates don't count).

        What the docstring says of single fields stands in their descriptions in `json_schema`.
        """
        described = self._root.get("description")
        return described if isinstance(described, str) else None

    # --- its schemas -------------------------------------------------------------------------------------------------

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """The JSON schema that Pydantic gives for inputs, properties under their aliases. Treat it as read-only."""
        try:
            return self.adapter.json_schema(by_alias=True, mode="validation", schema_generator=DescribedSchema)
        except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
            raise SchemaError(
                FIELD,
                self.response_type,
                f"it has no JSON schema ({_briefly(error)})",
                "Replace the field by a type that JSON can carry, or annotate it with pydantic.WithJsonSchema.",
            ) from error

    @cached_property
    def _root(self) -> Mapping[str, Any]:
        """The schema of the value itself, without reference."""
        schema: Any = self.json_schema
        while "$ref" in schema and schema["$ref"].startswith("#/$defs/"):  # a type that refers to itself
            rest = {key: value for key, value in schema.items() if key not in ("$ref", "$defs")}
            schema = {**self.json_schema["$defs"][schema["$ref"].removeprefix("#/$defs/")], **rest}
        return schema  # type: ignore[no-any-return]

    @cached_property
    def envelope(self) -> str | None:
        """Where a provider takes only objects, the key that values are put under; None if they are objects anyway."""
        if self._root.get("type") == "object":
            return None
        return "content" if self.item is None else "tasks"

    @cached_property
    def object_schema(self) -> dict[str, Any]:
        """The JSON schema of an object that holds the value: `json_schema`, in the envelope if it needs one.

        Its root is never a reference. Treat it as read-only.
        """
        definitions = {"$defs": self.json_schema["$defs"]} if "$defs" in self.json_schema else {}
        if self.envelope is None:
            return {**self._root, **definitions}
        inner = {key: value for key, value in self.json_schema.items() if key != "$defs"}
        return {
            "type": "object",
            "title": self.name,
            "properties": {self.envelope: inner},
            "required": [self.envelope],
            "additionalProperties": False,
            **definitions,
        }

    def adapted(self, dialect: Callable[[dict[str, Any]], D]) -> D:
        """`dialect(object_schema)`, made once; see `dialects`."""
        if dialect not in self._adapted:
            self._adapted[dialect] = dialect(self.object_schema)
        return cast(D, self._adapted[dialect])

    # --- its parts ---------------------------------------------------------------------------------------------------

    @cached_property
    def item(self) -> Spec[Any] | None:
        """The spec of one item of a list; None for everything else."""
        bare, _ = peel(self.annotation)
        args = get_args(bare)
        return Spec.of(args[0]) if get_origin(bare) is list and args else None

    @cached_property
    def unbounded(self) -> Spec[Any]:
        """The spec of a list without bounds on the number of its items and the like: one part of several."""
        return self if self.item is None else Spec.of(list[self.item.annotation])  # type: ignore[name-defined]

    @cached_property
    def members(self) -> dict[str, Spec[Any]]:
        """Tool name → spec of each class that the items of a `parallel` type may be of; empty for every other kind."""
        if self.kind != "parallel" or self.item is None:
            return {}
        members: dict[str, Spec[Any]] = {}
        for member in union_members(self.item.annotation):
            spec = Spec.of(member)
            name, number = spec.tool_name, 2
            while name in members:
                name = f"{spec.tool_name[: _NAME_LENGTH - 4]}_{number}"
                number += 1
            members[name] = spec
        return members

    @cached_property
    def shape(self) -> Shape:
        """The outline that partial objects are built along."""
        return shape_of(self.annotation)

    # --- its values --------------------------------------------------------------------------------------------------

    def validate(self, text: str | bytes, context: Any = None, strict: bool | None = None, envelope: bool = False) -> T:
        """The value that `text` stands for. Raises pydantic's `ValidationError`, or whatever a validator raises.

        With `envelope` the text is that of an object after `object_schema`. Errors have the places in the value.
        """
        if not envelope or self.envelope is None:
            return self.adapter.validate_json(text, context=context, strict=strict)
        try:
            return self._enveloped.validate_json(text, context=context, strict=strict)[self.envelope]  # type: ignore[no-any-return]
        except ValidationError as error:
            raise failed(self.name, relocated(error, drop=1)) from error.__cause__

    def validate_python(self, data: Any, context: Any = None, strict: bool | None = None, envelope: bool = False) -> T:
        """The value that parsed JSON stands for: the verdict is that of `validate` on its text.

        Data that JSON can't carry (dates, instances) is validated as Python objects.
        """
        try:
            text = json.dumps(data)
        except (TypeError, ValueError):
            adapter: Any = self._enveloped if envelope and self.envelope else self.adapter
            value = adapter.validate_python(data, context=context, strict=strict)
            return value[self.envelope] if adapter is not self.adapter else value  # type: ignore[no-any-return]
        return self.validate(text, context, strict, envelope)

    def validate_calls(
        self, calls: Iterable[tuple[str, str | bytes]], context: Any = None, strict: bool | None = None
    ) -> T:
        """The list of a `parallel` type from tool calls: pairs of a tool's name and its arguments as JSON text.

        One `ValidationError` tells the faults of all calls, each under the number of its call.
        """
        values: list[Any] = []
        faults: list[InitErrorDetails] = []
        for number, (name, arguments) in enumerate(calls):
            member = self.members.get(name)
            if member is None:
                known = ", ".join(self.members)
                faults.append(
                    fault("tool_unknown", f"There is no tool of that name; there are {known}", (number,), name)
                )
                continue
            try:
                values.append(member.validate(arguments, context, strict, envelope=True))
            except ValidationError as error:
                faults += relocated(error, before=(number,))
        if faults:
            raise failed(self.name, faults)
        return self.gathered(values, context)

    def gathered(self, values: list[Any], context: Any = None) -> T:
        """The list of items that are valid already: what is left to check are bounds on their number and the like."""
        _, around = peel(self.annotation)
        if not around:
            return cast(T, values)
        listed: TypeAdapter[T] = TypeAdapter(wrap(list[Any], around))
        return listed.validate_python(values, context=context)

    @cached_property
    def _enveloped(self) -> TypeAdapter[Any]:
        return TypeAdapter(TypedDict("Envelope", {self.envelope or "content": self.annotation}))  # type: ignore[operator]


@lru_cache(maxsize=_KEPT)
def _kept(response_type: Any, told_apart: tuple[Any, ...]) -> Spec[Any]:
    return _make(response_type)


def _make(response_type: Any) -> Spec[Any]:
    refuse_values(response_type)
    try:
        annotation, kind = _understood(response_type)
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)
    except SchemaError:
        raise
    except Exception as error:  # Pydantic, or a type's own schema hook, may raise anything here
        raise SchemaError(
            FIELD,
            response_type,
            f"Pydantic can't build a validator for it ({_briefly(error)})",
            "Use a Pydantic model, dataclass, TypedDict, Enum, Literal, Union, list or scalar type whose forward "
            "references are all defined.",
        ) from error
    refuse_async_validators(response_type, adapter.core_schema)
    if isinstance(response_type, dict):
        response_type = copy.deepcopy(response_type)  # the caller may go on changing it
    return Spec(response_type, annotation, adapter, kind)


def _understood(response_type: Any) -> tuple[Any, Kind]:
    """What Pydantic is to validate, and how the values come."""
    if isinstance(response_type, dict):
        from .dict_schema import DictSchema

        return Annotated[Any, DictSchema(response_type)], "value"
    kind: Kind = "value"
    annotation = response_type
    bare, around = peel(annotation)
    if get_origin(bare) is Partial:
        kind = "partial"
        annotation = wrap(get_args(bare)[0], around)
        bare, around = peel(annotation)
    if get_origin(bare) in (list, Iterable) or bare in (list, Iterable):
        item: Any = next(iter(get_args(bare)), Any)
        if isinstance(item, TypeVar):  # typing.Iterable without an item
            item = Any
        if get_origin(bare) is not list:
            annotation = wrap(list[item], around)
        if kind == "value":
            members = union_members(item)
            kind = "parallel" if len(members) > 1 and all(map(is_record, members)) else "iterable"
    return rewrite(annotation, _replaced), kind


def _replaced(cls: Any) -> Any:
    """What stands for a class that Pydantic does not take."""
    if is_v1_model(cls):
        from .v1 import V1Bridge

        return Annotated[cls, V1Bridge(cls)]
    return portable_typeddict(cls)


def _core_schema(response_type: Any) -> Any:
    """What changes when a model is rebuilt."""
    return getattr(response_type, "__pydantic_core_schema__", None)


def _shown(response_type: Any) -> str:
    """How a type is written, without modules and metadata."""
    bare, _ = peel(response_type)
    if isinstance(response_type, ALIASES):
        return str(response_type.__name__)
    origin, args = get_origin(bare), get_args(bare)
    if origin is Partial:
        return _shown(args[0])
    if origin in (Literal, typing_extensions.Literal):
        return "_".join(["Literal", *(str(getattr(arg, "value", arg)) for arg in args)])
    if origin in (Union, types.UnionType):
        return "_".join(_shown(arg) for arg in args)
    if bare is type(None):
        return "None"
    if bare is Ellipsis:
        return ""
    name = getattr(bare, "__name__", None) or str(bare)
    return "_".join([name, *map(_shown, args)]) if origin else name


def _briefly(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
