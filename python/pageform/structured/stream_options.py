"""How a value is shown in partial objects: `Stream`, as metadata of a type or as decorator of a class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

_C = TypeVar("_C", bound=type)
_ATTRIBUTE = "__stream_options__"


@dataclass(frozen=True, slots=True)
class Stream:
    """Options for partial objects; they change nothing about the final value.

        class Invoice(BaseModel):
            number: Annotated[str, Stream(done=True)]        # appears when its last character has come
            total: Annotated[float, Stream(not_null=True)]   # the invoice itself appears when the total is known
            lines: list[Annotated[Line, Stream(done=True)]]  # lines appear complete

        @Stream(done=True)
        class Line(BaseModel): ...                           # the same wherever Line is used

    `done`: the value is not shown before it is complete (and valid). `not_null`: the object whose field this is, is not
    shown before the field has a value, and at the latest when the object closes.
    """

    done: bool = False
    not_null: bool = False

    def __call__(self, cls: _C) -> _C:
        """Sets the options of a class; subclasses inherit them."""
        setattr(cls, _ATTRIBUTE, self)
        return cls

    def __or__(self, other: Stream) -> Stream:
        return Stream(self.done or other.done, self.not_null or other.not_null)


def stream_options(metadata: Iterable[Any], cls: Any) -> Stream:
    """The options that an annotation's metadata and its class give together."""
    options = getattr(cls, _ATTRIBUTE, Stream()) if isinstance(cls, type) else Stream()
    for item in metadata:
        if isinstance(item, Stream):
            options |= item
    return options
