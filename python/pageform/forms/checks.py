"""Judging the fields of an answer one by one: what Pydantic says of a value before the rest of the object is there.

A `Check` follows a type's core schema into its fields and items. Only what a value's own text decides is judged early:
where a validator sees or changes the input of a whole object first (mode "before", "wrap" or "plain"), and in unions,
it stops at that object, which is judged when it closes. The final validation of the whole answer has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails

from ..structured.faults import relocated
from ..structured.slow import slow_validator_of

Core = Mapping[str, Any]

NOT_JUDGED: Any = object()
"""In place of a value that was not judged by itself."""

_ASIDE = frozenset({"serialization", "metadata", "function", "default", "expected", "cls", "config"})
"""Keys of a core schema that hold no schemas by which values are validated."""

_BY_NAME = frozenset({"fields", "choices"})
"""Keys that hold schemas by names of the caller's."""

_OPEN = ("default", "nullable", "model", "dataclass", "definitions")
"""Kinds of schema that hand the text of a value on as it is."""


class Verdict(Exception):
    """A value was judged and is not valid. `faults` are placed as in the object around it, for a field of one."""

    def __init__(self, faults: list[InitErrorDetails]) -> None:
        self.faults = faults
        super().__init__(faults)


class Check:
    """Judges the values of one place of a type, and leads to those inside it. Thread-safe; built lazily and kept."""

    def __init__(self, schema: Core, definitions: Mapping[str, Core], config: Any = None, field: _Field | None = None):
        self._definitions, self._config, self._field = definitions, config, field
        self._schema = schema
        self._children: dict[Any, Check | None] = {}
        self._members: Mapping[str, tuple[int, str]] | None = None  # JSON key → place and name of a field

    @classmethod
    def of(cls, adapter: TypeAdapter[Any]) -> Check:
        """The check of a whole answer."""
        schema: Core = adapter.core_schema
        definitions: dict[str, Core] = {}
        if schema["type"] == "definitions":
            definitions = {one["ref"]: one for one in schema["definitions"]}
            schema = schema["schema"]
        return cls(schema, definitions)

    @property
    def is_field(self) -> bool:
        """Whether errors place the value under its key, as in the object around it."""
        return self._field is not None

    @property
    def sees_siblings(self) -> bool:
        """Whether a validator of the field wants the values before it (`info.data`)."""
        return self._field is not None and self._field.sees_siblings

    def field(self, key: str) -> Check | None:
        """The check of an object's value under a JSON key; None where it can't be judged by itself."""
        return self._child(key)

    def item(self) -> Check | None:
        """The check of a list's items."""
        return self._child(None)

    @cached_property
    def can_fail(self) -> bool:
        """Whether a validator of the caller's may refuse a value of this place, or one inside it."""
        return any(_may_refuse(part) for part in self._parts(self._schema))

    @cached_property
    def can_fail_as_whole(self) -> bool:
        """The same without what `field` and `item` judge by themselves."""
        found = self._inside()
        if found is None:
            return self.can_fail
        schema, around = self._schema, []
        while schema is not found[0]:
            around.append(schema)
            schema = self._definitions[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
        return any(map(_may_refuse, [*around, schema]))

    @cached_property
    def slow(self) -> bool:
        """Whether a value of this place, or one inside it, has a slow validator."""
        functions = (
            part["function"] for part in self._parts(self._schema) if isinstance(part.get("function"), Mapping)
        )
        return any(slow_validator_of(function.get("function")) is not None for function in functions)

    def judge(self, text: bytes, before: Mapping[str, bytes], context: Any, strict: bool | None) -> Any:
        """What validation makes of a value's JSON, `NOT_JUDGED` where that is left to what is around it. Raises
        `Verdict` if it is not valid.

        `before` is the JSON of the object's earlier fields by key, for a field with `sees_siblings`. Whatever else the
        caller's validators raise goes through.
        """
        if self._validator is None:
            return NOT_JUDGED
        if self._field is not None:
            members = {**before, self._field.key: text} if self.sees_siblings else {self._field.key: text}
            text = b"{" + b",".join(_quoted(key) + b":" + value for key, value in members.items()) + b"}"
        try:
            value = self._validator.validate_json(text, context=context, strict=strict)
        except ValidationError as error:
            faults = relocated(error)
            if self._field is not None:  # those of its siblings are told elsewhere
                faults = [fault for fault in faults if fault.get("loc", ())[:1] == (self._field.key,)]
            if faults:
                raise Verdict(faults) from None
            return NOT_JUDGED
        if self._field is None:
            return value
        members = value[0] if isinstance(value, tuple) else value  # of a model or dataclass: with what else it has
        return members.get(self._field.name, NOT_JUDGED)

    def _parts(self, schema: Core) -> Iterator[Core]:
        """A schema and all that are nested in it, each once."""
        waiting: list[Any] = [schema]
        seen: set[str] = set()
        while waiting:
            part = waiting.pop()
            if isinstance(part, Mapping):
                kind = part.get("type")
                if isinstance(kind, str):
                    yield part
                if kind == "definition-ref" and part["schema_ref"] not in seen:
                    seen.add(part["schema_ref"])
                    waiting.append(self._definitions[part["schema_ref"]])
                for key, inner in part.items():
                    if key in _BY_NAME and isinstance(inner, Mapping):
                        waiting.extend(inner.values())
                    elif key not in _ASIDE:
                        waiting.append(inner)
            elif isinstance(part, (list, tuple)):
                waiting.extend(part)

    # --- the schema -------------------------------------------------------------------------------------------------

    @cached_property
    def _validator(self) -> Any:
        """None for a schema that makes no sense apart from the whole; its values are judged with that."""
        from pydantic_core import SchemaError, SchemaValidator

        schema: Any = self._schema if self._field is None else self._field.container
        if self._definitions:
            schema = {"type": "definitions", "schema": schema, "definitions": list(self._definitions.values())}
        try:
            return SchemaValidator(schema, self._config)
        except SchemaError:
            return None

    def _child(self, key: str | None) -> Check | None:
        if key not in self._children:
            self._children[key] = self._make(key)
        return self._children[key]

    def _make(self, key: str | None) -> Check | None:
        found = self._inside()
        if found is None:
            return None
        schema, config = found
        if key is None:
            items = schema.get("items_schema") if schema["type"] == "list" else None
            return None if items is None else Check(items, self._definitions, config)
        if self._members is None:
            self._members = _by_key(schema)
        if key not in self._members:
            return None
        place, name = self._members[key]
        field = _Field(key, name, place, schema)
        return Check(field.schema, self._definitions, config, field)

    def _inside(self) -> tuple[Core, Any] | None:
        """The list or the fields behind wrappers that change nothing, and the configuration that holds there."""
        schema, config = self._schema, self._config
        for _ in range(64):
            kind = schema["type"]
            if kind == "definition-ref":
                schema = self._definitions[schema["schema_ref"]]
            elif kind == "function-after":  # runs once the value is there: what is inside is judged before
                schema = schema["schema"]
            elif kind in _OPEN:
                if schema.get("root_model") or schema.get("custom_init"):
                    return None
                config = schema.get("config", config)
                schema = schema["schema"]
            elif kind in ("list", "model-fields", "typed-dict", "dataclass-args"):
                return schema, config
            else:
                return None
        return None


class _Field:
    """One field of an object's schema, alone or with those before it."""

    def __init__(self, key: str, name: str, place: int, fields: Core) -> None:
        self.key, self.name, self._place, self._fields = key, name, place, fields
        members = fields["fields"]
        self._member: Core = members[place] if isinstance(members, list) else members[name]
        self.schema: Core = self._member["schema"]
        self.sees_siblings = any(_sees_data(part) for part in _own(self.schema))

    @cached_property
    def container(self) -> Core:
        """The schema of an object that has nothing but the field, and those before it if it looks at them."""
        members = self._fields["fields"]
        kept: Any
        if isinstance(members, list):
            kept = members[: self._place + 1] if self.sees_siblings else [self._member]
        elif self.sees_siblings:
            kept = dict(islice(members.items(), self._place + 1))
        else:
            kept = {self.name: self._member}
        inside = {**self._fields, "fields": kept, "extra_behavior": "ignore", "computed_fields": []}
        if self._fields["type"] != "model-fields":
            inside.pop("computed_fields")
        inside.pop("extras_schema", None)
        return inside


def _by_key(fields: Core) -> dict[str, tuple[int, str]]:
    """Place and name of each field by its JSON key, but of those with a path or choices as alias: the whole object
    is asked about them."""
    found: dict[str, tuple[int, str]] = {}
    members = fields.get("fields", {})
    named = ((one["name"], one) for one in members) if isinstance(members, list) else members.items()
    for place, (name, member) in enumerate(named):
        alias = member.get("validation_alias")
        if alias is None or isinstance(alias, str):
            found.setdefault(name if alias is None else alias, (place, name))
    return found


def _may_refuse(schema: Core) -> bool:
    """Whether code of the caller's runs here, apart from what is inside."""
    if schema["type"].startswith("function-") or schema["type"] == "call":
        return True
    return any(schema.get(key) for key in ("post_init", "custom_init"))


def _own(schema: Core) -> Iterator[Core]:
    """A schema and those nested in it, as far as they belong to the same object."""
    yield schema
    for key in ("schema", "items_schema", "values_schema", "keys_schema", "json_schema", "lax_schema", "strict_schema"):
        inner = schema.get(key)
        if isinstance(inner, Mapping) and "type" in inner and inner["type"] not in ("model", "dataclass", "typed-dict"):
            yield from _own(inner)
    for choice in [*schema.get("choices", ()), *schema.get("steps", ())]:
        inner = choice[0] if isinstance(choice, tuple) else choice
        if isinstance(inner, Mapping):
            yield from _own(inner)


def _sees_data(schema: Core) -> bool:
    function = schema.get("function")
    with_info = isinstance(function, Mapping) and function.get("type") == "with-info"
    return with_info or bool(schema.get("default_factory_takes_data"))


def _quoted(key: str) -> bytes:
    import json

    return json.dumps(key, ensure_ascii=False).encode()
