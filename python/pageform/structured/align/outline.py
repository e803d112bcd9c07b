"""The schema that values are aligned with: Pydantic's own JSON schema of inputs, with what it leaves out.

Added are the other names of fields (a field's own name where it has an alias, further aliases), the names of enum
members, and marks for decimals. Types that JSON Schema can't express accept anything here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from ...core.errors import SchemaError
from ..describe import DescribedSchema
from ..spec import Spec

NAMES = "x-names"
"""Keyword of an object: other name → property."""
THROUGH = "x-through"
"""Keyword of an object: keys inside which alias paths find properties."""
MEMBERS = "x-members"
"""Keyword of an enum: member name → value."""
DECIMAL = "x-decimal"
"""Keyword of a number that is kept exactly: text is as good as a number."""

Node = Mapping[str, Any]


class Outline:
    """A schema with its definitions. Treat it as read-only."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._definitions = {
            f"#/{part}/{name}": node for part in ("$defs", "definitions") for name, node in root.get(part, {}).items()
        }

    def resolve(self, node: Any) -> Node:
        """The node that a reference leads to; what can't be resolved, or is no object, accepts anything."""
        seen: set[str] = set()
        while isinstance(node, Mapping):
            if "$ref" in node:
                target = node["$ref"]
                if target in seen:
                    return {}
                seen.add(target)
                node = self.root if target == "#" else self._definitions.get(target, {})
            elif len(node.get("allOf", ())) == 1:
                node = node["allOf"][0]
            else:
                return node
        return {}

    def kinds(self, node: Any = None, depth: int = 8) -> frozenset[str]:
        """The JSON types that a node accepts, "any" among them if it says nothing."""
        node = self.resolve(self.root if node is None else node)
        options = node.get("anyOf") or node.get("oneOf")
        if options and depth:
            return frozenset().union(*(self.kinds(option, depth - 1) for option in options))
        named = node.get("type")
        if isinstance(named, str):
            return frozenset([named])
        if isinstance(named, list):
            return frozenset(named)
        values = node.get("enum", [node["const"]] if "const" in node else None)
        return frozenset(map(_kind, values)) if values is not None else frozenset(["any"])

    def titles(self) -> frozenset[str]:
        """The names of the classes in it."""
        nodes = [self.root, *self._definitions.values()]
        return frozenset(
            node["title"] for node in nodes if isinstance(node, Mapping) and str(node.get("title", "")).isidentifier()
        )

    def property_names(self) -> frozenset[str]:
        """All property names, wherever they are."""
        found: set[str] = set()
        todo: list[Any] = [self.root]
        while todo:
            node = todo.pop()
            if isinstance(node, Mapping):
                if isinstance(node.get("properties"), Mapping):
                    found |= set(node["properties"]) | set(node.get(NAMES, ()))
                todo += node.values()
            elif isinstance(node, list):
                todo += node
        return frozenset(found)


@lru_cache(maxsize=64)
def outline_of(spec: Spec[Any]) -> Outline:
    """The outline of a spec."""
    if isinstance(spec.response_type, Mapping):  # a JSON schema given as such
        return Outline(spec.json_schema)
    try:
        return Outline(spec.adapter.json_schema(by_alias=True, mode="validation", schema_generator=_Generator))
    except Exception:  # a type's own schema hook may raise anything; nothing is aligned then
        try:
            return Outline(spec.json_schema)
        except SchemaError:
            return Outline({})


class _Generator(DescribedSchema):
    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> JsonSchemaValue:
        return _with_names(super().model_fields_schema(schema), schema["fields"])

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return _with_names(super().typed_dict_schema(schema), schema["fields"])

    def dataclass_args_schema(self, schema: core_schema.DataclassArgsSchema) -> JsonSchemaValue:
        return _with_names(super().dataclass_args_schema(schema), {field["name"]: field for field in schema["fields"]})

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        made = super().enum_schema(schema)
        made[MEMBERS] = {member.name: value for member in schema["members"] if _is_json(value := member.value)}
        return made

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        made = super().decimal_schema(schema)
        number = next(
            (option for option in made.get("anyOf", ()) if option.get("type") == "number"), {"type": "number"}
        )
        return {**number, DECIMAL: True}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def _with_names(made: JsonSchemaValue, fields: Mapping[str, Any]) -> JsonSchemaValue:
    """Add what else a property may be called, and the keys that alias paths lead through."""
    properties = made.get("properties", {})
    names: dict[str, str] = {}
    through: set[str] = set()
    for name, field in fields.items():
        paths = _alias_paths(field.get("validation_alias"))
        through |= {path[0] for path in paths if len(path) > 1}
        keys = [path[0] for path in paths if len(path) == 1] + [name]
        known = next((key for key in keys if key in properties), None)
        if known is not None:
            names.update({key: known for key in keys if key not in properties})
    return {**made, **({NAMES: names} if names else {}), **({THROUGH: sorted(through)} if through else {})}


def _alias_paths(alias: Any) -> list[list[Any]]:
    """Pydantic keeps an alias as text, as one path, or as a list of paths."""
    if alias is None:
        return []
    if isinstance(alias, str):
        return [[alias]]
    return list(alias) if alias and isinstance(alias[0], list) else [list(alias)]


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "any"
