"""From a response type or JSON schema to the schema that is decoded under, and an account of what was changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..core.errors import FIELD, ParameterError, SchemaError
from .shortest import ShortestTexts

Guarantee = Literal["full"]
"""What a caller may demand of a form. "full": the grammar holds all that validation checks, so that every answer that
is complete is valid."""


@dataclass(frozen=True, slots=True)
class Unenforced:
    """A constraint that validation checks and the grammar doesn't: the answer may fail it. `path` is like `items[].sku`
    and empty for the answer itself."""

    path: str
    keyword: str
    value: Any

    def __str__(self) -> str:
        return f"{self.path or 'the answer'}: {self.keyword} {self.value!r}"


@dataclass(frozen=True, slots=True)
class Added:
    """A bound on decoding that the type does not have, so that an answer of a small model comes to an end."""

    path: str
    keyword: str
    value: Any

    def __str__(self) -> str:
        return f"{self.path or 'the answer'}: {self.keyword} {self.value!r}"


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Bounds given to what has none of its own. A 135M model that begins to ramble in a string fills any of them, so
    they are set where real answers end: 512 characters are about 130 tokens."""

    string_length: int = 512
    key_length: int = 64
    array_items: int = 64
    map_items: int = 64
    any_depth: int = 4
    """Levels of lists and objects inside a value of any type."""
    schema_depth: int = 200
    """Deeper nesting of the schema itself is refused."""
    schema_parts: int = 50_000
    """So is a schema of more parts, each counted as often as it has to be looked at: about a second of work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is decoded. `schema` is a JSON schema in which objects are closed and their properties ordered; the text is
    JSON as `json.dumps` spaces it. Whatever it admits validates, except for what `unenforced` lists."""

    schema: dict[str, Any]
    unenforced: tuple[Unenforced, ...] = ()
    added: tuple[Added, ...] = ()
    parameter: str = FIELD
    """The caller's parameter, as errors name it."""
    source: Any = field(default=None, compare=False, repr=False)
    """What was planned: a `Spec`, or the JSON schema."""

    def promise(self, guarantee: Guarantee | None) -> None:
        """Raises `SchemaError` if the caller demands more than the grammar holds, `ParameterError` for no demand."""
        if guarantee is None:
            return
        if guarantee not in get_args(Guarantee):
            raise ParameterError("guarantee", guarantee, "is unknown", 'Use "full", or None.')
        if self.unenforced:
            listed = "; ".join(str(one) for one in self.unenforced[:5])
            more = f"; and {len(self.unenforced) - 5} more" if len(self.unenforced) > 5 else ""
            raise SchemaError(
                self.parameter,
                self.source,
                f'guarantee="full", but only validation can check: {listed}{more}',
                "Remove these constraints, or leave guarantee out: answers are validated anyway, and asked for again.",
            )

    @property
    def min_tokens(self) -> int:
        """So many tokens are enough for an answer, whatever the tokenizer: the bytes of the shortest one. `Form` has a
        `min_tokens` for its own tokenizer, which is less."""
        return int(ShortestTexts(self.schema).of(self.schema))


def plan(source: Any, limits: PlanLimits | None = None, promote: bool | None = None) -> Plan:
    """Plan a response type (anything `Spec.of` takes) or a JSON schema (`dict` or `bool`).

    Objects are closed, so that a model can't invent properties. With `promote`, which is the default for types, every
    property is required: a small model skips what it may skip, and an explicit null or default value means the same. A
    property stays optional where requiring it would never end (a recursive type). Raises `SchemaError` for what is
    malformed, unsupported or satisfied by nothing, with the place, the value and a remedy.
    """
    from .decode_schema import decode_schema
    from .planner import Planner

    chosen = limits or PlanLimits()
    if isinstance(source, (Mapping, bool)):
        return Planner(source, "json_schema", chosen, bool(promote)).plan(source)
    from ..structured.spec import Spec

    spec = Spec.of(source)
    schema = decode_schema(spec)
    return Planner(schema, FIELD, chosen, True if promote is None else promote).plan(spec)
