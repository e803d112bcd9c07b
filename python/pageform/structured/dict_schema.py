"""JSON schemas given as dicts, as response types: values are plain dicts, lists and scalars."""

from __future__ import annotations

import copy
import datetime as dt
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from ..core.errors import SchemaError
from .faults import failed, fault
from .refusals import FIELD
from .schema_walk import everywhere, follow, map_parts
from .type_names import json_types

_UNIT = re.compile(r"P(?!$)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)")


class DictSchema:
    """Metadata of `Annotated`: Pydantic validates by the JSON schema. Raises `SchemaError` for one that is malformed.

    References must stay inside the schema: nothing is ever fetched.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema: dict[str, Any] = copy.deepcopy(dict(schema))
        for node in everywhere(self.schema):
            _name_types(node)
        self._validator = _validator(schema, self.schema)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema with its references into Pydantic's `$defs`, wherever they pointed to before."""
        generator: Any = handler.generate_json_schema  # type: ignore[attr-defined]
        pointers = {node["$ref"] for node in everywhere(self.schema) if "$ref" in node}
        known = {}
        for pointer in sorted(pointers):
            name = pointer.rsplit("/", 1)[-1].replace("#", "") or str(self.schema.get("title", "root"))
            known[pointer] = generator.get_cache_defs_ref_schema(f"schema.{name}:{id(self)}{pointer}")

        def rebased(node: Any) -> dict[str, Any]:
            made = map_parts(
                {key: value for key, value in node.items() if key not in ("$defs", "definitions")}, rebased
            )
            return {**made, **known[made["$ref"]][1]} if "$ref" in made else made

        for pointer, (defs_ref, _) in known.items():
            target = follow(pointer, self.schema)
            generator.definitions[defs_ref] = rebased(target) if isinstance(target, Mapping) else target
        return rebased(copy.deepcopy(self.schema))

    def check(self, value: Any) -> Any:
        """The value itself. Raises pydantic's `ValidationError` with all faults."""
        faults = [
            fault(f"json_schema.{error.validator}", error.message, tuple(error.absolute_path), error.instance)
            for error in sorted(
                self._validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path))
            )
        ]
        if faults:
            raise failed(str(self.schema.get("title", "answer")), faults)
        return value


def _name_types(node: Any) -> None:
    if "type" in node:
        named = json_types(node.pop("type"))
        if named is not None:
            node["type"] = named


def _validator(given: Any, schema: dict[str, Any]) -> Any:
    import jsonschema  # 100 ms: only for schemas given as dicts
    import referencing

    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    if schema and not any(key in cls.VALIDATORS or key == "$ref" for key in schema):
        known = "type, properties, items, enum, anyOf or $ref"
        raise SchemaError(FIELD, given, "it holds no keyword of JSON Schema", f"Give a schema with {known}.")
    try:
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its root"
        raise SchemaError(FIELD, given, f"it is no JSON schema: {error.message} (at {where})", "Correct it.") from error
    for pointer in [node["$ref"] for node in everywhere(schema) if "$ref" in node]:
        if not _resolves(pointer, schema):
            raise SchemaError(FIELD, given, f"its reference {pointer!r} leads nowhere in it", "Define the target.")
    exact = jsonschema.validators.extend(cls, {"multipleOf": _multiple_of})
    return exact(schema, registry=referencing.Registry(), format_checker=_formats(cls))


def _multiple_of(validator: Any, step: Any, value: Any, schema: Any) -> Iterator[Any]:
    """Exact, as the numbers are written: jsonschema divides floats, by which 0.9 is no multiple of 0.3."""
    from jsonschema import ValidationError

    if validator.is_type(value, "number") and Fraction(repr(value)) % Fraction(repr(step)):
        yield ValidationError(f"{value!r} is not a multiple of {step!r}")


def _formats(cls: Any) -> Any:
    """The draft's own checks, and those of dates and times, for which it wants libraries of their own."""
    from jsonschema import FormatChecker

    checker = FormatChecker(())
    checker.checkers = dict(cls.FORMAT_CHECKER.checkers)
    for name, check in (("date-time", _date_time), ("time", _time), ("duration", _duration)):
        checker.checks(name, ValueError)(check)
    return checker


def _date_time(value: Any) -> bool:
    return not isinstance(value, str) or ("T" in value.upper() and dt.datetime.fromisoformat(value) is not None)


def _time(value: Any) -> bool:
    return not isinstance(value, str) or dt.time.fromisoformat(value) is not None


def _duration(value: Any) -> bool:
    return not isinstance(value, str) or _UNIT.fullmatch(value) is not None


def _resolves(pointer: Any, root: Any) -> bool:
    try:
        return isinstance(follow(pointer, root), (Mapping, bool))
    except (LookupError, AttributeError):
        return False
