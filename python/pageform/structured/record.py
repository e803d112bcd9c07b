"""Objects with named fields as partial objects need them: models, dataclasses and TypedDicts."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from .annotations import wrap

if TYPE_CHECKING:
    from .shape import Shape

MISSING: Any = object()
"""Stands for a value where there is none."""

_IMMUTABLE = (str, int, float, bool, bytes, type(None))


class Record:
    """A class of objects with named fields, shown from the opening brace on with what is known of them."""

    def __init__(self, cls: type, shape_of: Callable[[Any], Shape]) -> None:
        self.cls = cls
        self._shape_of = shape_of
        self.is_dict = is_typeddict(cls)
        self._is_model = issubclass(cls, BaseModel)

    @cached_property
    def fields(self) -> dict[str, tuple[str, Shape]]:
        """JSON key → (attribute name, shape). Read on first use, since types may refer to themselves."""
        entries = _model_fields(self.cls) if self._is_model else _hinted_fields(self.cls)
        return {key: entry for keys, name, hint in entries for entry in [(name, self._shape_of(hint))] for key in keys}

    @cached_property
    def wanted(self) -> frozenset[str]:
        """The fields that must have a value before an object is shown."""
        return frozenset(name for name, shape in self.fields.values() if shape.options.not_null)

    @cached_property
    def size(self) -> int:
        """How many fields an object has."""
        return len({name for name, _ in self.fields.values()})

    @cached_property
    def _defaults(self) -> tuple[dict[str, Any], list[tuple[str, Callable[[], Any]]]]:
        """The defaults that all objects may share, and what makes the others."""
        shared: dict[str, Any] = {}
        made: list[tuple[str, Callable[[], Any]]] = []
        for name, default, factory in _defaults_of(self.cls):
            shared[name] = None if factory is not None else default
            if factory is not None:
                made.append((name, factory))
            elif not isinstance(default, _IMMUTABLE):
                made.append((name, lambda default=default: copy.deepcopy(default)))  # type: ignore[misc]
        return shared, made

    def new(self) -> Any:
        """An object with defaults where fields have them and None elsewhere. Runs no validator and no `__init__`."""
        if self.is_dict:
            return {}
        shared, made = self._defaults
        values = {**shared, **{name: make() for name, make in made}} if made else dict(shared)
        return self._with(values, set())

    def put(self, made: Any, name: str, value: Any) -> None:
        """Set a field, by its attribute name."""
        if self._is_model:
            made.__dict__[name] = value
            made.__pydantic_fields_set__.add(name)
        elif self.is_dict:
            made[name] = value
        else:
            object.__setattr__(made, name, value)

    def peek(self, made: Any, name: str) -> tuple[Any, bool]:
        """A field's value, and whether it was set."""
        if self._is_model:
            return made.__dict__[name], name in made.__pydantic_fields_set__
        return (made.get(name, MISSING), name in made) if self.is_dict else (getattr(made, name), True)

    def restore(self, made: Any, name: str, was: tuple[Any, bool]) -> None:
        """Make a field what `peek` found it to be, here or in another object."""
        value, is_set = was
        if is_set:
            self.put(made, name, value)
        elif self._is_model:
            made.__dict__[name] = value
            made.__pydantic_fields_set__.discard(name)
        else:
            made.pop(name, None)

    def copy(self, made: Any) -> Any:
        """Another object with the same values."""
        if self.is_dict:
            return dict(made)
        if self._is_model:
            return self._with(dict(made.__dict__), set(made.__pydantic_fields_set__))
        return self._with({name: getattr(made, name) for name in self._defaults[0]}, set())

    def tidy(self, made: Any) -> None:
        """Forget what properties have cached in an object."""
        values = getattr(made, "__dict__", None)
        if not self.is_dict and values is not None and len(values) > len(self._defaults[0]):
            for name in values.keys() - self._defaults[0].keys():
                del values[name]

    def parts(self, made: Any) -> list[Any]:
        """What an object is made of that someone else might hold, itself first."""
        return [made, made.__dict__, made.__pydantic_fields_set__] if self._is_model else [made]

    def _with(self, values: dict[str, Any], fields_set: set[str]) -> Any:
        made: Any = object.__new__(self.cls)
        if not self._is_model:
            for name, value in values.items():
                object.__setattr__(made, name, value)
            return made
        cls = cast(type[BaseModel], self.cls)
        private = {name: attribute.get_default() for name, attribute in cls.__private_attributes__.items()}
        object.__setattr__(made, "__dict__", values)
        object.__setattr__(made, "__pydantic_fields_set__", fields_set)
        object.__setattr__(made, "__pydantic_extra__", {} if cls.model_config.get("extra") == "allow" else None)
        object.__setattr__(made, "__pydantic_private__", private or None)
        return made


def annotation_of(field: FieldInfo) -> Any:
    """A field's annotation with its metadata put back."""
    tagged = () if field.discriminator is None else (FieldInfo(discriminator=field.discriminator),)
    return wrap(field.annotation, (*field.metadata, *tagged))


def _model_fields(cls: type) -> Iterator[tuple[list[str], str, Any]]:
    """The JSON keys, attribute name and annotation of each field of a model."""
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    by_name = bool(config.get("populate_by_name") or config.get("validate_by_name"))
    fields = getattr(cls, "__pydantic_fields__", None) or {}
    for name, field in fields.items():
        yield _keys(name, field, by_name), name, annotation_of(field)


def _keys(name: str, field: FieldInfo, by_name: bool) -> list[str]:
    """The JSON keys that a field is read from."""
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    keys = [choice for choice in choices if isinstance(choice, str)]
    return [*keys, name] if by_name or alias is None else keys


def _hinted_fields(cls: type) -> Iterator[tuple[list[str], str, Any]]:
    if hasattr(cls, "__pydantic_fields__"):
        yield from _model_fields(cls)
        return
    hints = get_type_hints(cls, include_extras=True)
    names = hints if is_typeddict(cls) else [field.name for field in dataclasses.fields(cast(Any, cls))]
    for name in names:
        field = FieldInfo.from_annotation(_unrequired(hints[name]))
        yield _keys(name, field, False), name, annotation_of(field)


def _unrequired(annotation: Any) -> Any:
    """The type inside TypedDict's `Required[…]`, `NotRequired[…]` and `ReadOnly[…]`."""
    while str(get_origin(annotation)).rsplit(".", 1)[-1] in ("Required", "NotRequired", "ReadOnly"):
        annotation = get_args(annotation)[0]
    return annotation


def _defaults_of(cls: type) -> Iterator[tuple[str, Any, Callable[[], Any] | None]]:
    """(attribute name, default, default factory) of each field; None as the default of required ones."""
    if issubclass(cls, BaseModel):
        for name, field in cls.model_fields.items():
            if field.default_factory is not None and not field.default_factory_takes_validated_data:
                yield name, None, cast(Callable[[], Any], field.default_factory)
            else:
                known = not field.is_required() and field.default_factory is None
                yield name, field.default if known else None, None
        return
    for entry in dataclasses.fields(cast(Any, cls)):
        factory = None if entry.default_factory is dataclasses.MISSING else entry.default_factory
        default = None if entry.default is dataclasses.MISSING else entry.default
        if isinstance(default, FieldInfo):  # a dataclass of Pydantic's
            factory = cast(Any, default.default_factory)
            default = None if default.is_required() else default.default
        yield entry.name, default, factory
