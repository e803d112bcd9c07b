"""The outline of a type that partial objects are built along: how each of its values is shown while it grows.

Models, dataclasses, TypedDicts, lists, dicts with text keys and plain text grow: they are shown from their first byte
on. Everything else (numbers, enums, literals, dates, sets, tuples …) is shown when it is complete.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import types
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.fields import FieldInfo

from .annotations import identity, peel
from .record import Record, annotation_of
from .stream_options import Stream, stream_options
from .tags import Tagged, tagged

_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SCALARS = (
    *(int, float, bool, type(None), decimal.Decimal, bytes, uuid.UUID),
    *(datetime.date, datetime.time, datetime.timedelta),
)


class Text:
    """Plain text, shown while it grows."""


@dataclass(frozen=True)
class ListOf:
    """A list, shown while it grows."""

    item: Shape


@dataclass(frozen=True)
class DictOf:
    """A dict with text keys, shown while it grows."""

    value: Shape


@dataclass(frozen=True)
class Root:
    """A `RootModel`: its JSON is that of its one field."""

    cls: type[RootModel[Any]]
    inner: Shape


@dataclass(frozen=True)
class OneOf:
    """A union: what a value is may be told by its first character, or by the value of a tag."""

    options: list[Shape]

    def fitting(self, first: str) -> Iterator[Shape]:
        """The options that begin with `first`, unions among them resolved."""
        for option in self.options:
            if isinstance(option.form, OneOf):
                yield from option.form.fitting(first)
            elif option.may_begin(first):
                yield option

    def settle(self, first: str) -> Form | None:
        """How a value that begins with `first` grows; None if it is to be shown when complete."""
        fitting = list(self.fitting(first))
        if first == '"' and any(isinstance(option.form, Text) for option in fitting):
            # Of a string Pydantic makes a number only where no option is text.
            fitting = [option for option in fitting if option.bare not in (int, float, bool)]
        if len(fitting) == 1:
            return fitting[0].form
        records = [option.form for option in fitting if isinstance(option.form, Record)]
        return tagged(records) if len(records) == len(fitting) > 0 else None


Form = Text | ListOf | DictOf | Record | Root | OneOf | Tagged


class Shape:
    """A type as partial objects see it: `form` says how a value grows, None that it is shown when complete.

    Everything is worked out on first use, since types may refer to themselves.
    """

    def __init__(self, annotation: Any, memo: dict[tuple[Any, ...], Shape] | None = None) -> None:
        self.annotation = annotation
        self._memo: dict[tuple[Any, ...], Shape] = {} if memo is None else memo
        self._grown: dict[str, tuple[Form | None, tuple[type[RootModel[Any]], ...]]] = {}
        self.bare, self.metadata = peel(annotation)

    @cached_property
    def options(self) -> Stream:
        """What the type itself says about how it is shown; `X | None` says what X does."""
        options = stream_options(self.metadata, self.bare)
        if get_origin(self.bare) in (Union, types.UnionType):
            inner = [self._inner(arg) for arg in get_args(self.bare) if arg is not type(None)]
            options |= inner[0].options if len(inner) == 1 else Stream()
        return options

    @cached_property
    def form(self) -> Form | None:
        """How a value grows, None if not at all."""
        return None if self.options.done or "left_to_right" in map(_union_mode, self.metadata) else self._form()

    def grown(self, first: str) -> tuple[Form | None, tuple[type[RootModel[Any]], ...]]:
        """How a value that begins with `first` grows, unions settled, and the RootModels around it, outermost first.

        None where it is to be shown when complete, or is not what the type says.
        """
        if first not in self._grown:
            self._grown[first] = self._settled(first)
        return self._grown[first]

    @cached_property
    def is_constrained(self) -> bool:
        """Whether a string may be something else than plain text to the type."""
        if get_origin(self.bare) in (Union, types.UnionType):
            return bool(self.metadata) or any(self._inner(arg).is_constrained for arg in get_args(self.bare))
        return bool(self.metadata) or isinstance(self.form, Root)

    @cached_property
    def adapter(self) -> TypeAdapter[Any] | None:
        """What validates complete values; None for a type that only makes sense inside its model."""
        try:
            return TypeAdapter(self.annotation)
        except Exception:  # a type's own schema hook may raise anything
            return None

    @cached_property
    def beginnings(self) -> str:
        """All of what `may_begin` knows that the JSON of a value may begin with."""
        return "".join(first for first in '{["0tfnNI' if self.may_begin(first))

    def may_begin(self, first: str) -> bool:
        """Whether the JSON of a value can begin with `first`, which is one of `{["0tfnNI` (0 for any number)."""
        form = self.form
        if first == "n" and type(None) in get_args(self.bare):
            return True
        if isinstance(form, Root):
            return form.inner.may_begin(first)
        if isinstance(form, OneOf):
            return any(option.may_begin(first) for option in form.options)
        if form is None:
            return first not in "{[" or not _is_scalar(self.bare)
        return first == ('"' if isinstance(form, Text) else "[" if isinstance(form, ListOf) else "{")

    def _settled(self, first: str) -> tuple[Form | None, tuple[type[RootModel[Any]], ...]]:
        form, wraps = self.form, ()
        while isinstance(form, (Root, OneOf)):
            if isinstance(form, Root):
                wraps, form = (*wraps, form.cls), form.inner.form  # type: ignore[assignment]
            else:
                form = form.settle(first)
        wanted = '"' if isinstance(form, Text) else "[" if isinstance(form, ListOf) else "{"
        return (form, wraps) if first == wanted else (None, ())

    def _inner(self, annotation: Any) -> Shape:
        """The shape of a type inside this one; equal types share theirs, and with it the validator."""
        try:
            return self._memo.setdefault(identity(annotation), Shape(annotation, self._memo))
        except TypeError:  # not hashable
            return Shape(annotation, self._memo)

    def _form(self) -> Form | None:
        bare = self.bare
        origin, args = get_origin(bare), get_args(bare)
        if bare is str:
            return Text()
        if origin in _LISTS and args:
            return ListOf(self._inner(args[0]))
        if origin in _DICTS and args and peel(args[0])[0] is str:
            return DictOf(self._inner(args[1]))
        if origin in (Union, types.UnionType):
            options = [self._inner(arg) for arg in args if arg is not type(None)]
            single = len(options) == 1 and not isinstance(options[0].form, Root)  # a RootModel may hold null itself
            return options[0].form if single else OneOf(options)
        cls = origin or bare
        if not isinstance(cls, type):
            return None
        if issubclass(cls, RootModel):
            return Root(cls, self._inner(annotation_of(cls.model_fields["root"])))
        if is_typeddict(cls) or dataclasses.is_dataclass(cls) or issubclass(cls, BaseModel):
            return Record(cls, self._inner)
        return None


def shape_of(annotation: Any) -> Shape:
    """The shape of any type."""
    return Shape(annotation)


def _union_mode(item: Any) -> str | None:
    if not isinstance(item, FieldInfo):
        return getattr(item, "union_mode", None)
    return next((mode for entry in item.metadata if (mode := getattr(entry, "union_mode", None))), None)


def _is_scalar(bare: Any) -> bool:
    """Whether no value of the type is an object or array."""
    if get_origin(bare) is Literal:
        return True
    if not isinstance(bare, type):
        return False
    if issubclass(bare, enum.Enum):
        return all(isinstance(member.value, (str, *_SCALARS)) for member in bare)
    return issubclass(bare, _SCALARS)
