"""The models that Instructor puts around what is no model, and what it keeps beside a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, create_model

from ...structured.spec import Spec
from .dsl import IterableModel, ListResponse


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A response type as it is asked for, and how the caller's value is taken out."""

    kind: Any
    unwrap: Callable[[Any], Any]

    @classmethod
    def of(cls, response_model: Any) -> Wrapped:
        """Lists go under `tasks`, everything else that is no object under `content`, as Instructor names them."""
        spec = Spec.of(response_model)
        if spec.kind == "parallel" or spec.envelope is None:
            return cls(response_model, lambda value: value)
        if spec.item is not None and spec.item.envelope is None:
            made = IterableModel(spec.item.response_type)
            return cls(made, lambda value: value.tasks)
        made = create_model("Response", __doc__="The answer.", content=(response_model, ...))
        return cls(made, lambda value: value.content)


def keep_response(value: Any, response: Any) -> Any:
    """The value with the provider's response as `_raw_response`, where its class has room for that."""
    if isinstance(value, BaseModel):
        object.__setattr__(value, "_raw_response", response)
    elif isinstance(value, list):
        return ListResponse(value, response)
    return value
