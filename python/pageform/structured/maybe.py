"""Answers that may be missing: a result, or the reason why there is none."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Optional, TypeVar

from pydantic import BaseModel, Field, create_model

from .spec import Spec

T = TypeVar("T")


if TYPE_CHECKING:

    class MaybeBase(BaseModel, Generic[T]):
        """What is known of the classes of `Maybe`."""

        maybe_of: ClassVar[Any]
        result: T | None
        error: bool
        message: str | None


class _Maybe:
    """What the classes of `Maybe` can do, besides being models. No model itself, which takes 40 ms to import."""

    maybe_of: ClassVar[Any] = None
    """The response type of `result`."""

    def __bool__(self) -> bool:
        return self.result is not None  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_unpickled, (self.maybe_of, dict(self), set(self.model_fields_set)))  # type: ignore[call-overload,attr-defined]


def Maybe(response_type: type[T]) -> type[MaybeBase[T]]:
    """A model class for an answer of the type, or none with a message why. Truthy if and only if there is a result.

        person = engine.generate(prompt, response_model=Maybe(Person))
        if person: use(person.result)
        else: print(person.message)

    The same type gives the same class. Raises `SchemaError` for what can't be a response type.
    """
    made: type[MaybeBase[T]] = _made(Spec.of(response_type))
    return made


@lru_cache(maxsize=256)
def _made(spec: Spec[Any]) -> Any:
    described = f"{spec.description} " if spec.description else ""
    optional: Any = Optional[spec.annotation]  # noqa: UP045 - not everything takes `|`
    made: Any = create_model(
        f"Maybe{spec.name}"[:64],
        __base__=(_Maybe, BaseModel),
        __doc__="An answer, or the reason why there is none.",
        result=(optional, Field(None, description=f"{described}Null if it can't be given.")),
        error=(bool, Field(False, description="Whether the result can't be given.")),
        message=(str | None, Field(None, description="Why the result can't be given, or null.")),
    )
    made.maybe_of = spec.response_type
    return made


def _unpickled(response_type: Any, values: dict[str, Any], given: set[str]) -> Any:
    return Maybe(response_type).model_construct(_fields_set=given, **values)
