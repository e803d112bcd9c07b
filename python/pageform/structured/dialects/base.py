"""What a dialect is: the part of JSON Schema that a provider enforces, and what became of a schema in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .nodes import words


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest schema that a provider takes; None where it names no bound."""

    properties: int | None = None
    depth: int | None = None
    """Levels of objects and arrays inside each other, references followed."""
    enum_values: int | None = None
    characters: int | None = None
    """In names of properties and definitions and in values of enums, all together."""
    optional: int | None = None
    """Properties that need not be there."""
    unions: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What schemas of a provider may hold. The defaults are JSON Schema as it is."""

    provider: str
    """As messages name it."""
    string: frozenset[str] | None = None
    """Keywords of strings that are enforced; None for all. Likewise the next ones."""
    number: frozenset[str] | None = None
    array: frozenset[str] | None = None
    object: frozenset[str] | None = None
    """Likewise, beside properties, required and additionalProperties."""
    formats: frozenset[str] | None = None
    max_min_items: int | None = None
    """The largest `minItems` that is enforced."""
    lookaround: bool = True
    """Whether patterns may look around and refer back."""
    tuples: bool = True
    """`prefixItems`."""
    one_of: bool = True
    """`oneOf`; otherwise it becomes `anyOf`."""
    const: bool = True
    """`const`; otherwise it becomes an `enum` of one."""
    enum_types: frozenset[str] = frozenset({"string", "number", "integer", "boolean"})
    null_type: bool = True
    """`"type": "null"`; otherwise `nullable` says it, as in OpenAPI 3.0."""
    closed: bool = False
    """Every object must exclude further properties, so that there are no objects with any keys."""
    maps: bool = True
    """`additionalProperties`, and so objects with any keys."""
    all_required: bool = False
    """Every property must be required: what is optional may be null instead."""
    some_required: bool = False
    """Every object must require a property at least."""
    ordering: bool = False
    """`propertyOrdering` keeps properties in their order."""
    anything: bool = True
    """A schema that admits every value."""
    references: bool = True
    """`$ref`; otherwise definitions are written out where they are used."""
    beside_references: bool = True
    """Whether a `$ref` may have a description beside it."""
    recursion: Literal["free", "optional", "none"] = "free"
    """Whether types may refer to themselves: always, inside properties that are not required, or never."""
    annotations: frozenset[str] = frozenset({"title", "default", "examples"})
    """Annotations that are taken besides `description`. Others are put into words there."""
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Dropped:
    """A constraint of the type that the provider will not enforce: validation does. `path` is like `items[].sku`, empty
    for the answer itself."""

    path: str
    keyword: str
    value: Any

    def __str__(self) -> str:
        return f"{self.path or 'the answer'}: {words(self.keyword, self.value)}"


@dataclass(frozen=True, slots=True)
class Adapted:
    """A schema in a provider's dialect.

    `obstacles` tell why the provider would refuse it, or misread it; empty if it may be sent. What `dropped` holds is
    left to validation, and stands in the descriptions that the model reads.
    """

    schema: dict[str, Any]
    dropped: tuple[Dropped, ...] = ()
    obstacles: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was adapted."""

    @property
    def sendable(self) -> bool:
        """Whether the provider takes the schema."""
        return not self.obstacles

    @property
    def notes(self) -> tuple[str, ...]:
        """All that is not as the type says, one sentence each."""
        return (*self.obstacles, *(f"not enforced by the provider: {one}" for one in self.dropped))
