"""What Pydantic checks, as a JSON schema to decode under.

Pydantic's own schema describes inputs for people and for forms; it is silent about time zones, `Decimal` digits, keys
that are not text, whitespace stripping and, above all, validators. Here each core schema either becomes keywords that
say exactly what validation accepts (or less), or is marked with what the keywords can't say.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..core.errors import SchemaError
from ..structured.spec import FIELD, Spec
from . import formats

UNENFORCED = "x-unenforced"
"""Keyword of the schemas made here: list of [keyword, value] that validation checks and the other keywords don't."""

_TRUSTED = frozenset(
    {
        "wrap_val",  # URLs: their core schema says it all
        "decode",  # Base64Bytes and its kin: the format says it all
        "path_validator",
        "ip_v4_address_validator",
        "ip_v6_address_validator",
        "ip_v4_network_validator",
        "ip_v6_network_validator",
        "ip_v4_interface_validator",
        "ip_v6_interface_validator",
        "sequence_validator",
        "defaultdict_validator",
        "SecretStr",
        "SecretBytes",
    }
)
"""Pydantic's own validator functions that accept all that their schema describes."""


def decode_schema(spec: Spec[Any]) -> dict[str, Any]:
    """The JSON schema of a spec for decoding, with `UNENFORCED` marks. Raises `SchemaError` if there is none."""
    try:
        return spec.adapter.json_schema(by_alias=True, mode="validation", schema_generator=_DecodeSchema)
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise SchemaError(
            FIELD,
            spec.response_type,
            f"it can't be written as JSON ({str(error).splitlines()[0]})",
            "Replace the field by a type that JSON can carry, or annotate it with pydantic.WithJsonSchema.",
        ) from error


class _DecodeSchema(GenerateJsonSchema):
    """Pydantic's generator with exact leaves and marks."""

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Stay silent: its warnings are about defaults, which a decode schema has no use for."""

    # --- scalars -----------------------------------------------------------------------------------------------------

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        described = super().str_schema(schema)
        pattern = schema.get("pattern")
        if isinstance(pattern, re.Pattern):
            described["pattern"] = pattern.pattern
            if pattern.flags & ~re.UNICODE:
                _mark(described, "pattern flags", str(re.RegexFlag(pattern.flags)))
        strips = schema.get("strip_whitespace", self._config.str_strip_whitespace)
        if strips and ("pattern" in described or described.get("minLength", 0) > 0):
            # These are checked on the stripped text, so decode text that stripping leaves alone. (A maxLength alone
            # does not need it, and a pattern beside a length makes masks some ten times slower.)
            bare = r"^(?:\S(?:[\s\S]*\S)?)?$"
            described["allOf"] = [{"type": "string", "pattern": bare}]
        if schema.get("ascii_only"):
            described.setdefault("allOf", []).append({"type": "string", "pattern": r"^[\x00-\x7f]*$"})
        return described

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        described = super().bytes_schema(schema)
        described.pop("format", None)
        coding = self._config.val_json_bytes
        if coding == "utf8":
            if "maxLength" in described:
                described["pattern"] = r"^[\x20-\x7e]*$"  # one byte a character, so that lengths mean the same
            return described
        lengths = {key: described.pop(key) for key in ("minLength", "maxLength") if key in described}
        if lengths:
            _mark(described, "length of bytes", lengths)
        return {**described, "format": "base64url" if coding == "base64" else "hex"}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A JSON number: exact up to 15 digits, which is all that the planner lets through."""
        described: JsonSchemaValue = {"type": "number"}
        for keyword, core in _BOUNDS:
            bound = schema.get(core)
            if bound is not None:
                described[keyword] = float(bound)  # type: ignore[arg-type]  # mypy does not know which key it is
        multiple_of = schema.get("multiple_of")
        if multiple_of is not None:
            described["multipleOf"] = float(multiple_of)
        digits, places = schema.get("max_digits"), schema.get("decimal_places")
        if digits is not None or places is not None:
            described["x-digits"] = [digits, places]
        return described

    def date_schema(self, schema: core_schema.DateSchema) -> JsonSchemaValue:
        return self._moment({"type": "string", "format": "date"}, schema)

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return self._moment({"type": "string", "format": _zoned("time", schema)}, schema)

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        return self._moment({"type": "string", "format": _zoned("date-time", schema)}, schema)

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return self._moment({"type": "string", "format": "duration"}, schema)

    def _moment(self, described: JsonSchemaValue, schema: Mapping[str, Any]) -> JsonSchemaValue:
        """Bounds of dates and times have no JSON Schema keyword; an offset in seconds has no pattern here."""
        for key in ("le", "ge", "lt", "gt", "now_op"):
            if schema.get(key) is not None:
                _mark(described, key, str(schema[key]))
        if isinstance(schema.get("tz_constraint"), int):
            _mark(described, "tz_constraint", schema["tz_constraint"])
        return described

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        return {"type": "string", "format": "complex"}

    def url_schema(self, schema: core_schema.UrlSchema) -> JsonSchemaValue:
        described = super().url_schema(schema)
        schemes = tuple(re.escape(scheme) for scheme in schema.get("allowed_schemes") or ("https", "http"))
        return {**described, "format": "any", "pattern": formats.url(schemes)}

    def multi_host_url_schema(self, schema: core_schema.MultiHostUrlSchema) -> JsonSchemaValue:
        described = super().multi_host_url_schema(schema)
        schemes = tuple(re.escape(scheme) for scheme in schema.get("allowed_schemes") or ("https", "http"))
        return {**described, "format": "any", "pattern": formats.url(schemes)}

    def json_schema(self, schema: core_schema.JsonSchema) -> JsonSchemaValue:
        return _mark({"type": "string"}, "contentMediaType", "application/json")

    # --- containers --------------------------------------------------------------------------------------------------

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        return self._without_unique(super().set_schema(schema))

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        return self._without_unique(super().frozenset_schema(schema))

    def _without_unique(self, described: JsonSchemaValue) -> JsonSchemaValue:
        """A set takes repeated items and drops them; only a required number of different ones can then be missed."""
        described.pop("uniqueItems", None)
        if described.get("minItems", 0) > 1:
            _mark(described, "uniqueItems", True)
        return described

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        """The keys' schema goes along: the planner makes a pattern of it, since keys need not be text."""
        described = super().dict_schema(schema)
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {"type": "string"}
        values = self.generate_inner(schema["values_schema"]) if "values_schema" in schema else True
        made: JsonSchemaValue = {"type": "object", "x-keys": keys, "additionalProperties": values}
        for keyword in ("minProperties", "maxProperties"):
            if keyword in described:
                made[keyword] = described[keyword]
        return made

    frozendict_schema = ordered_dict_schema = counter_schema = dict_schema

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """The tag decides between the options, so they exclude each other."""
        described = super().tagged_union_schema(schema)
        if callable(schema["discriminator"]):
            _mark(described, "discriminator", _name(schema["discriminator"]))
        return {**{key: value for key, value in described.items() if key != "oneOf"}, "anyOf": described["oneOf"]}

    def _get_alias_name(self, field: Any, name: str) -> str:
        """Refuse fields that are read from a path inside another field only: no key of their own can carry them."""
        alias = field.get("validation_alias", name)
        if isinstance(alias, list):
            paths = alias if isinstance(alias[0], list) else [alias]
            if not any(len(path) == 1 for path in paths):
                raise SchemaError(
                    f"{FIELD}.{name}",
                    alias,
                    "the field is read from a path inside another field (AliasPath)",
                    "Give the field an alias of its own, or nest a model.",
                )
        return super()._get_alias_name(field, name)

    # --- functions ---------------------------------------------------------------------------------------------------

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return self._mark_function(super().function_before_schema(schema), schema)

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        return self._mark_function(super().function_after_schema(schema), schema)

    def function_wrap_schema(self, schema: core_schema.WrapValidatorFunctionSchema) -> JsonSchemaValue:
        return self._mark_function(super().function_wrap_schema(schema), schema)

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        return self._mark_function(super().function_plain_schema(schema), schema)

    def _mark_function(self, described: JsonSchemaValue, schema: Mapping[str, Any]) -> JsonSchemaValue:
        function = schema["function"]["function"]
        while isinstance(function, functools.partial):
            function = function.func
        own = (getattr(function, "__module__", None) or "").startswith("pydantic.")
        if own and _name(function).rsplit(".", 1)[-1] in _TRUSTED:
            return described
        return _mark(dict(described), "validator", _name(function))


_BOUNDS = (("minimum", "ge"), ("maximum", "le"), ("exclusiveMinimum", "gt"), ("exclusiveMaximum", "lt"))


def _zoned(kind: str, schema: Mapping[str, Any]) -> str:
    constraint = schema.get("tz_constraint")
    if constraint is None:
        return kind
    return f"naive-{kind}" if constraint == "naive" else f"aware-{kind}"


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _mark(described: JsonSchemaValue, keyword: str, value: Any) -> JsonSchemaValue:
    described[UNENFORCED] = [*described.get(UNENFORCED, []), [keyword, value]]
    return described
