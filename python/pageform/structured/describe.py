"""Docstrings become descriptions: of the type itself, and of the fields that it documents."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

_HEADING = r"(?:(?:keyword )?(?:args|arguments)|params|(?:other )?parameters|attributes)"
_SECTION = re.compile(rf"{_HEADING}[ \t]*:?[ \t]*", re.IGNORECASE)
"""A Google or NumPy heading of a section about fields."""
_FIELD = re.compile(r"[:@](?:param|parameter|arg|argument|attribute|key|keyword|var|ivar|cvar|type|vartype)\b.*:")
"""A field of reST or Epydoc."""


class DescribedSchema(GenerateJsonSchema):
    """Pydantic's generator, with fields described by docstrings and without the titles that it makes of their names.

    A description that was given for a field (`Field(description=…)`) is never replaced.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: a title that repeats the name costs tokens and says nothing. Titles that were given are kept."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return self._described(super().model_schema(schema), schema["cls"], schema["schema"])

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return self._described(super().dataclass_schema(schema), schema["cls"], schema["schema"])

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return self._described(super().typed_dict_schema(schema), schema.get("cls"), schema)

    def call_schema(self, schema: core_schema.CallSchema) -> JsonSchemaValue:
        arguments: Any = schema["arguments_schema"]
        names = [argument["name"] for argument in arguments.get("arguments_schema", ())]
        return _named_items(super().call_schema(schema), schema["function"], names)

    def named_tuple_schema(self, schema: Any) -> JsonSchemaValue:
        """From Pydantic 2.14 on; earlier a NamedTuple is a call."""
        return _named_items(super().named_tuple_schema(schema), schema["cls"], [f["name"] for f in schema["fields"]])

    def _described(self, described: JsonSchemaValue, cls: Any, fields_schema: Any) -> JsonSchemaValue:
        properties: dict[str, Any] = described.get("properties", {})
        names = _names_by_key(fields_schema) if self.by_alias else {}
        own, notes = read_docstring(cls)
        known = {*properties, *names.values()}
        whole = bool(notes) and not notes.keys() <= known  # it documents more than the fields
        for base in cls.__mro__[1:] if inspect.isclass(cls) else ():
            notes = {**read_docstring(base)[1], **notes}
        for key, value in properties.items():
            note = notes.get(names.get(key, key), notes.get(key))
            if note is not None and "description" not in value:
                value["description"] = note
        if not whole and described.get("description", "").strip() == inspect.cleandoc(cls.__doc__ or ""):
            described.pop("description", None)
            if own:
                described["description"] = own
        return described


def read_docstring(documented: Any) -> tuple[str | None, dict[str, str]]:
    """The docstring without what it says of single fields, and that by field. Google, NumPy, reST and Epydoc styles."""
    text = inspect.cleandoc(getattr(documented, "__doc__", None) or "")
    rest = _without_fields(text)
    if rest == text:
        return text or None, {}
    import docstring_parser  # 30 ms: only for docstrings that have something for it

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:  # it looks like a section and is none
        return text, {}
    notes = {param.arg_name: _one_line(param.description) for param in parsed.params if param.description}
    return (rest or None, notes) if notes else (text, {})


def _without_fields(text: str) -> str:
    """The docstring without sections and entries about fields; all else stays as it is."""
    kept: list[str] = []
    lines = text.splitlines()
    inside = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        underlined = following.startswith("---")
        if _SECTION.fullmatch(line) and (underlined or line.rstrip().endswith(":")):
            inside = "numpy" if underlined else "indented"
        elif _FIELD.match(line):
            inside = "indented"
        elif (inside == "indented" and line and not line[0].isspace()) or (inside == "numpy" and underlined):
            inside = ""
        if not inside:
            kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _names_by_key(fields_schema: Any) -> dict[str, str]:
    """JSON key → field name, of the fields that have an alias."""
    while "fields" not in fields_schema and isinstance(fields_schema.get("schema"), Mapping):
        fields_schema = fields_schema["schema"]  # a model validator wraps the fields
    fields = fields_schema.get("fields", {})
    pairs = fields.items() if isinstance(fields, Mapping) else [(field["name"], field) for field in fields]
    names: dict[str, str] = {}
    for name, field in pairs:
        alias = field.get("validation_alias")
        paths = [alias] if isinstance(alias, str) else alias or []
        for path in paths:
            names.setdefault(path if isinstance(path, str) else path[0], name)
    return names


def _named_items(described: JsonSchemaValue, documented: Any, names: list[str]) -> JsonSchemaValue:
    """The items of a NamedTuple have no keys in JSON: their names become titles."""
    _, notes = read_docstring(documented)
    for name, item in zip(names, described.get("prefixItems", ()), strict=False):
        item.setdefault("title", name)
        if name in notes:
            item.setdefault("description", notes[name])
    return described


def _one_line(text: str) -> str:
    return " ".join(text.split())
