"""The outline of a type that partial objects are built along: which values may be shown while they grow.

Models, dataclasses, TypedDicts, lists, dicts with text keys and plain text are live: they are shown from their first
byte on. Everything else (numbers, enums, literals, dates, sets, tuples …) is shown when it is complete.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import AliasChoices, BaseModel, RootModel, TypeAdapter
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

_ALIASES = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))
"""What `type X = …` makes, in typing_extensions and (from Python 3.12 on) in typing."""


class Whole:
    """A value that is shown once it is complete, validated as its type."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    @cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        try:
            return TypeAdapter(self._annotation)
        except Exception:  # a type that only makes sense inside its model; it stays hidden until the end
            return None

    def read(self, text: str) -> tuple[bool, Any]:
        """Whether the complete JSON `text` validates, and its value."""
        if self._adapter is None:
            return False, None
        try:
            return True, self._adapter.validate_json(text)
        except Exception:  # validators are the caller's code; the final validation reports the fault
            return False, None


class Text:
    """Plain text, shown while it grows."""


@dataclass
class ListOf:
    """A list, shown while it grows."""

    item: Shape


@dataclass
class DictOf:
    """A dict with text keys, shown while it grows."""

    value: Shape


class Record:
    """A model, dataclass or TypedDict, shown from its opening brace on with what is known of it."""

    def __init__(self, cls: type, fields: Callable[[], dict[str, tuple[str, Shape]]]) -> None:
        self.cls = cls
        self._read_fields = fields

    @cached_property
    def fields(self) -> dict[str, tuple[str, Shape]]:
        """JSON key → (attribute name, shape). Read on first use, since types may refer to themselves."""
        return self._read_fields()

    def new(self) -> Any:
        """An instance with defaults where fields have them and None elsewhere. Runs no validator and no `__init__`."""
        if is_typeddict(self.cls):
            return {}
        if issubclass(self.cls, BaseModel):
            return _blank_model(self.cls)
        made = object.__new__(self.cls)
        for field in dataclasses.fields(cast(Any, self.cls)):
            default = None if field.default is dataclasses.MISSING else field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            object.__setattr__(made, field.name, default)
        return made

    def put(self, made: Any, key: str, value: Any) -> None:
        """Set the field that a JSON key names; keys that name none are ignored."""
        if key not in self.fields:
            return
        name = self.fields[key][0]
        if isinstance(made, BaseModel):
            made.__dict__[name] = value
            made.__pydantic_fields_set__.add(name)
        elif isinstance(made, dict):
            made[name] = value
        else:
            object.__setattr__(made, name, value)


@dataclass
class Root:
    """A `RootModel`: its JSON is that of its one field."""

    cls: type[RootModel[Any]]
    inner: Shape


@dataclass
class OneOf:
    """A union that a value's first character may not settle. `whole` validates the complete value."""

    options: list[Shape]
    whole: Whole


Shape = Whole | Text | ListOf | DictOf | Record | Root | OneOf


def shape_of(annotation: Any, _records: dict[Any, Shape] | None = None) -> Shape:
    """The shape of any type; a type that refers to itself gives a shape that does."""
    records: dict[Any, Shape] = {} if _records is None else _records
    bare = annotation
    while True:
        if get_origin(bare) is Annotated:
            bare = get_args(bare)[0]
        elif isinstance(bare, _ALIASES):
            bare = bare.__value__
        else:
            break
    origin, args = get_origin(bare), get_args(bare)
    if bare is str:
        return Text()
    if origin is list and args:
        return ListOf(shape_of(args[0], records))
    if origin is dict and args[0] is str:
        return DictOf(shape_of(args[1], records))
    if origin in (Union, types.UnionType):
        options = [shape_of(arg, records) for arg in args if arg is not type(None)]
        single = len(options) == 1 and not isinstance(options[0], Root)  # a RootModel may hold null itself
        return options[0] if single else OneOf(options, Whole(annotation))
    record_type = origin or bare
    if isinstance(record_type, type) and (
        is_typeddict(record_type) or dataclasses.is_dataclass(record_type) or issubclass(record_type, BaseModel)
    ):
        return _record(bare, record_type, records)
    return Whole(annotation)


def _record(key: Any, cls: type, records: dict[Any, Shape]) -> Shape:
    if key in records:
        return records[key]
    if issubclass(cls, RootModel):
        inner = cls.model_fields["root"]
        return Root(cls, shape_of(_annotated(inner), records))
    if issubclass(cls, BaseModel):
        shape = Record(cls, lambda: _model_fields(cls, records))
    else:
        shape = Record(cls, lambda: _hinted_fields(cls, records))
    records[key] = shape
    return shape


def _model_fields(cls: type[BaseModel], records: dict[Any, Shape]) -> dict[str, tuple[str, Shape]]:
    by_name = bool(cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name"))
    fields: dict[str, tuple[str, Shape]] = {}
    for name, field in cls.model_fields.items():
        entry = (name, shape_of(_annotated(field), records))
        for key in _keys(name, field, by_name):
            fields[key] = entry
    return fields


def _keys(name: str, field: FieldInfo, by_name: bool) -> list[str]:
    """The JSON keys that a field is read from."""
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    keys = [choice for choice in choices if isinstance(choice, str)]
    return [*keys, name] if by_name or alias is None else keys


def _hinted_fields(cls: type, records: dict[Any, Shape]) -> dict[str, tuple[str, Shape]]:
    hints = get_type_hints(cls, include_extras=True)
    names = hints if is_typeddict(cls) else [field.name for field in dataclasses.fields(cast(Any, cls))]
    return {name: (name, shape_of(_unrequired(hints[name]), records)) for name in names}


def _unrequired(annotation: Any) -> Any:
    """The type inside TypedDict's `Required[…]`, `NotRequired[…]` and `ReadOnly[…]`."""
    while str(get_origin(annotation)).rsplit(".", 1)[-1] in ("Required", "NotRequired", "ReadOnly"):
        annotation = get_args(annotation)[0]
    return annotation


def _annotated(field: FieldInfo) -> Any:
    metadata = list(field.metadata)
    if field.discriminator is not None:
        metadata.append(FieldInfo(discriminator=field.discriminator))
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


def _blank_model(cls: type[BaseModel]) -> BaseModel:
    """`model_construct` without `model_post_init`, and with None for required fields."""
    made = cls.__new__(cls)
    values = {}
    for name, field in cls.model_fields.items():
        takes_data = field.default_factory is not None and field.default_factory_takes_validated_data
        known = not field.is_required() and not takes_data
        values[name] = field.get_default(call_default_factory=True) if known else None
    private = {name: attribute.get_default() for name, attribute in cls.__private_attributes__.items()}
    object.__setattr__(made, "__dict__", values)
    object.__setattr__(made, "__pydantic_fields_set__", set())
    object.__setattr__(made, "__pydantic_extra__", {} if cls.model_config.get("extra") == "allow" else None)
    object.__setattr__(made, "__pydantic_private__", private or None)
    return made
