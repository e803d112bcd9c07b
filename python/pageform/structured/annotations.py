"""Reading and rewriting type annotations."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import typing_extensions
from pydantic import BaseModel
from typing_extensions import TypeAliasType

ALIASES = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))
"""What `type X = …` makes, in typing_extensions and (from Python 3.12 on) in typing."""


def peel(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type inside `Annotated[…]` and `type` aliases, and all metadata that was around it, the innermost first."""
    metadata: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            metadata = (*annotation.__metadata__, *metadata)
            annotation = annotation.__origin__
        elif isinstance(annotation, ALIASES):
            annotation = annotation.__value__
        else:
            return annotation, metadata


def wrap(annotation: Any, metadata: tuple[Any, ...]) -> Any:
    """`Annotated[annotation, *metadata]`, or the annotation itself where there is no metadata."""
    return Annotated[(annotation, *metadata)] if metadata else annotation


def identity(annotation: Any) -> tuple[Any, ...]:
    """What tells types apart that compare equal: `int | str` and `str | int`, `Literal[1]` and `Literal[True]`.

    It holds ids, so it is meaningful only beside a reference to the type.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (typing.Literal, typing_extensions.Literal):
        return (id(origin), *((type(arg), arg) for arg in args))
    if origin is Annotated:
        return (id(origin), identity(annotation.__origin__), *annotation.__metadata__)
    if origin is None or isinstance(annotation, list):
        return (id(annotation),)
    return (id(origin), *(identity(arg) for arg in args))


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The options of a union, with unions inside it flattened; of any other type that type alone."""
    bare, _ = peel(annotation)
    if get_origin(bare) not in (Union, types.UnionType):
        return (annotation,)
    return tuple(member for option in get_args(bare) for member in union_members(option))


def is_record(annotation: Any) -> bool:
    """Whether it is a class whose JSON is an object with named fields: a model of either Pydantic, a dataclass, or a
    TypedDict."""
    bare, _ = peel(annotation)
    cls = get_origin(bare) or bare
    if not inspect.isclass(cls):
        return False
    return issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls) or is_typeddict(cls) or is_v1_model(cls)


def is_v1_model(cls: Any) -> bool:
    """Whether it is a model class of `pydantic.v1` (which this does not import)."""
    mro = cls.__mro__ if inspect.isclass(cls) else ()
    return any(base.__module__.startswith("pydantic.v1.") and base.__name__ == "BaseModel" for base in mro)


def rewrite(annotation: Any, leaf: Callable[[Any], Any], _inside: tuple[Any, ...] = ()) -> Any:
    """The annotation with `leaf` applied to every class that is written in it, inside list, union, Annotated and so on.

    What `leaf` returns unchanged stays the very same object. A `type` alias that refers to itself stays as it is there.
    """
    if any(annotation is alias for alias in _inside):
        return annotation
    if isinstance(annotation, ALIASES):
        value = annotation.__value__
        rewritten = rewrite(value, leaf, (*_inside, annotation))
        return annotation if rewritten is value else rewritten
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = rewrite(annotation.__origin__, leaf, _inside)
        return annotation if inner is annotation.__origin__ else wrap(inner, annotation.__metadata__)
    if origin in (None, typing.Literal, typing_extensions.Literal) or not args:
        return leaf(annotation) if inspect.isclass(annotation) else annotation
    changed = tuple(arg if isinstance(arg, list) else rewrite(arg, leaf, _inside) for arg in args)
    if all(new is old for new, old in zip(changed, args, strict=True)):
        return annotation
    if origin in (Union, types.UnionType):
        return Union[changed]  # noqa: UP007 - `|` does not take all that may stand in a union
    generic: Any = origin
    return generic[changed] if inspect.isclass(origin) else annotation.copy_with(changed)


def portable_typeddict(cls: Any) -> Any:
    """Before Python 3.12 Pydantic does not take `typing.TypedDict`: the same type made with typing_extensions.

    Values of either are plain dicts. Raises `TypeError` for one that refers to itself.
    """
    if sys.version_info >= (3, 12) or not is_typeddict(cls) or type(cls).__module__ != "typing":
        return cls
    return _portable(cls, ())


def _portable(cls: Any, around: tuple[Any, ...]) -> Any:
    if sys.version_info >= (3, 12) or not is_typeddict(cls) or type(cls).__module__ != "typing":
        return cls
    if cls in around:
        raise TypeError(f"{cls.__name__} refers to itself; make it with typing_extensions.TypedDict")
    fields = {}
    for key, hint in get_type_hints(cls, include_extras=True).items():
        needed = key in cls.__required_keys__
        while get_origin(hint) in (typing.Required, typing.NotRequired):
            needed = get_origin(hint) is typing.Required  # written as text, it is not in __required_keys__
            (hint,) = get_args(hint)
        inner = rewrite(hint, lambda one: _portable(one, (*around, cls)))
        fields[key] = typing.Required[inner] if needed else typing.NotRequired[inner]
    # Through `globals`, since a type checker wants the fields of a TypedDict written out.
    made = getattr(typing_extensions, "TypedDict")(cls.__name__, fields)  # noqa: B009
    made.__doc__, made.__module__ = cls.__doc__, cls.__module__
    if hasattr(cls, "__pydantic_config__"):
        made.__pydantic_config__ = cls.__pydantic_config__
    return made
