"""Models of `pydantic.v1` as response types: a thin bridge into Pydantic v2's validation and JSON schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from .faults import failed, fault


class V1Bridge:
    """Metadata of `Annotated[Model, V1Bridge(Model)]`: `Model.parse_obj` validates, its errors become Pydantic v2's."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        anything = core_schema.any_schema()
        return core_schema.no_info_plain_validator_function(self.validate, json_schema_input_schema=anything)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        marks = handler(schema)  # a generator may note that a function decides in the end
        return {**marks, **_Described(self.model, handler).reference()}

    def validate(self, value: Any) -> Any:
        """An instance of the model."""
        import pydantic.v1

        if isinstance(value, self.model):
            return value
        try:
            return self.model.parse_obj(value)
        except pydantic.v1.ValidationError as error:
            faults = []
            for one in error.errors():
                loc = tuple(step for step in one["loc"] if step != "__root__")
                faults.append(fault(one["type"], one["msg"], loc, _at(value, loc)))
            raise failed(self.model.__name__, faults) from None


class _Described:
    """Version 1's JSON schema of a model, its definitions among those that Pydantic v2 is just collecting."""

    def __init__(self, model: Any, handler: Any) -> None:
        from pydantic.v1.schema import get_flat_models_from_model, get_model_name_map, model_process_schema

        flat = get_flat_models_from_model(model)
        self._names = get_model_name_map(flat)
        self._process = model_process_schema
        self._model, self._models = model, sorted(flat, key=lambda one: self._names[one])
        self._generator = handler.generate_json_schema

    def reference(self) -> JsonSchemaValue:
        """The reference to the model's definition, after all definitions that it needs have been added."""
        references = {}
        for model in self._models:
            core_ref = f"{model.__module__}.{model.__qualname__}:{id(model)}"
            references[self._names[model]] = self._generator.get_cache_defs_ref_schema(core_ref)
        for model in self._models:
            defs_ref, _ = references[self._names[model]]
            if defs_ref not in self._generator.definitions:
                described, _, _ = self._process(model, model_name_map=self._names)
                self._generator.definitions[defs_ref] = self._modern(model, described, references)
        return dict(references[self._names[self._model]][1])

    def _modern(self, model: Any, described: dict[str, Any], references: Mapping[str, Any]) -> dict[str, Any]:
        """The definition in the dialect of Pydantic v2: references, tuples, and null where `Optional` allows it."""
        modern: dict[str, Any] = _modern_node(described, references)
        for field in getattr(model, "__fields__", {}).values():
            place = modern.get("properties", {})
            if field.allow_none and field.alias in place and place[field.alias] != {}:
                value = place[field.alias]
                notes = {key: value.pop(key) for key in ("title", "description", "default") if key in value}
                place[field.alias] = {"anyOf": [value, {"type": "null"}], **notes}
        for value in modern.get("properties", {}).values():
            if value.get("title", "").replace(" ", "_").lower() in modern["properties"]:
                del value["title"]  # made up from the name
        return modern


def _modern_node(node: Any, references: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_modern_node(part, references) for part in node]
    if not isinstance(node, dict):
        return node
    made = {
        key: part if key in ("default", "enum", "const") else _modern_node(part, references)
        for key, part in node.items()
    }
    if isinstance(made.get("$ref"), str):
        made.update(references[made["$ref"].rsplit("/", 1)[-1]][1])
    if isinstance(made.get("allOf"), list) and len(made["allOf"]) == 1:  # around references with a title or default
        made.update(made.pop("allOf")[0])
    if isinstance(made.get("items"), list):
        made["prefixItems"] = made.pop("items")
    return made


def _at(value: Any, loc: Sequence[Any]) -> Any:
    """The input at a place, or the innermost one around it."""
    for step in loc:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return value
    return value
