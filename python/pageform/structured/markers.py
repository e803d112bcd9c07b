"""Words that a response type is marked with."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Partial(Generic[T]):
    """`response_model=Partial[User]`: a stream of users that grow field by field, the last one validated.

    Only a mark: values are instances of `User` itself, and `Partial` has no instances.
    """

    def __new__(cls) -> Partial[T]:
        raise TypeError("Partial only marks a response type: Partial[User]")
