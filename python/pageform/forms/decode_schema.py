"""What Pydantic checks, as a JSON schema to decode under.

Pydantic's own schema describes inputs for people and for forms; it is silent about time zones, `Decimal` digits, keys
that are not text, whitespace stripping and, above all, validators. Here each core schema either becomes keywords that
say exactly what validation accepts (or less), or is marked with what the keywords can't say.
"""

from __future__ import annotations

import enum
import functools
import json
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import WithJsonSchema
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaValidator, core_schema, to_jsonable_python

from ..core.errors import SchemaError
from ..structured.dict_schema import DictSchema
from ..structured.spec import FIELD, Spec
from . import formats, moments
from .hashing import is_hashable
from .nodes import BY_KIND

UNENFORCED = "x-unenforced"
"""Keyword of the schemas made here: list of [keyword, value] that validation checks and the other keywords don't."""
NARROWED = "x-narrowed"
"""The same for what validation accepts and the other keywords don't."""
EMPTY = "x-empty"
"""Keyword of a schema that nothing satisfies: [value, why]."""

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
        *(f"IPvAny{kind}._validate" for kind in ("Address", "Network", "Interface")),
        "Secret.__get_pydantic_core_schema__.<locals>.<lambda>",
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


_NARROWING = BY_KIND["string"] | BY_KIND["number"] | {"enum", "const"}
_TEXTS = formats.TEXT_AS_BASE64
_SCALARS: list[JsonSchemaValue] = [{"type": kind} for kind in ("null", "boolean", "number", "string")]


class _DecodeSchema(GenerateJsonSchema):
    """Pydantic's generator with exact leaves and marks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._definitions: dict[str, Any] = {}
        self._functions: dict[int, Any] = {}  # the core schemas of functions that are marked or need no mark, by id

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        """Mark validators also where a type describes its JSON itself, past the methods below.

        What `json_schema_extra` adds can only narrow: it is for readers, and validation knows nothing of it.
        """
        metadata = schema.get("metadata") or {}
        extra = metadata.get("pydantic_js_extra")
        if extra is not None:
            schema = {**schema, "metadata": {key: metadata[key] for key in metadata if key != "pydantic_js_extra"}}
        described = super().generate_inner(schema)
        narrowing = {key: extra[key] for key in extra if key in _NARROWING} if isinstance(extra, dict) else {}
        if narrowing:
            described = {"allOf": [described, narrowing]}
        hooks = [*metadata.get("pydantic_js_functions", ()), *metadata.get("pydantic_js_annotation_functions", ())]
        owners = [getattr(hook, "__self__", None) for hook in hooks]
        if any(isinstance(owner, DictSchema) for owner in owners):
            return described
        if any(isinstance(owner, WithJsonSchema) for owner in owners):
            described = _mark(dict(described), "WithJsonSchema", "validation may ask for more")
        if described.get(UNENFORCED) == [["validator", "EncodedStr.decode_str"]] and described.get("format") in _TEXTS:
            described = {"type": "string", "format": "any", "pattern": _TEXTS[described["format"]]}
            _mark(described, "format", "text of ASCII", NARROWED)
        if str(schema["type"]).startswith("function-") and id(schema) not in self._functions:
            described = self._mark_function(described, schema)
        return described

    def _update_class_schema(self, json_schema: JsonSchemaValue, cls: type[Any], config: Any) -> None:
        """Leave out what a class adds for readers."""
        bare: Any = {**config, "json_schema_extra": None}
        super()._update_class_schema(json_schema, cls, bare)

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
            if {"minLength", "maxLength"} & described.keys():
                _mark(described, "characters", "ASCII", NARROWED)
                described["pattern"] = r"^[\x20-\x7e]*$"  # one byte a character, so that lengths mean the same
            return described
        low, high = described.pop("minLength", 0), described.pop("maxLength", None)
        if coding == "base64":
            return {**described, "format": "any", "pattern": formats.base64_of(low, high)}
        return {**described, "format": "any", "pattern": f"^(?:[0-9a-f]{{2}}){{{low},{'' if high is None else high}}}$"}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A number, exact up to 15 digits, which is all that the planner lets through; or the same as text."""
        described: JsonSchemaValue = {"type": "number", "x-text": True}
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
        return self._moment(moments.dates(schema), schema)

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return self._moment(moments.times(schema), schema)

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        return self._moment(moments.datetimes(schema), schema)

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        config = self._config.config_dict
        if config.get("ser_json_temporal", config.get("ser_json_timedelta")) in ("seconds", "float"):
            return self._moment(moments.Moments("any", missed=moments.bounds_of(schema)), schema, {"type": "number"})
        return self._moment(moments.durations(schema), schema)

    def _moment(
        self, planned: moments.Moments, schema: Mapping[str, Any], described: JsonSchemaValue | None = None
    ) -> JsonSchemaValue:
        """The text of a date or time; "now" and an offset in seconds have no pattern here."""
        if planned.empty:
            return {"type": "string", EMPTY: [str(planned.missed or ""), planned.empty]}
        made = described or {"type": "string", "format": planned.format}
        if planned.pattern:
            made["pattern"] = planned.pattern
        for key, bound in planned.missed.items():
            _mark(made, key, str(bound))
        if schema.get("now_op") is not None:
            _mark(made, "now_op", schema["now_op"])
        if isinstance(schema.get("tz_constraint"), int):
            _mark(made, "tz_constraint", schema["tz_constraint"])
        if planned.narrowed:
            _mark(made, "bounds", planned.narrowed, NARROWED)
        return made

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        return {"type": "string", "format": "complex"}

    def url_schema(self, schema: core_schema.UrlSchema) -> JsonSchemaValue:
        return self._url(super().url_schema(schema), schema)

    def multi_host_url_schema(self, schema: core_schema.MultiHostUrlSchema) -> JsonSchemaValue:
        return self._url(super().multi_host_url_schema(schema), schema)

    def _url(self, described: JsonSchemaValue, schema: Mapping[str, Any]) -> JsonSchemaValue:
        allowed = schema.get("allowed_schemes")
        _mark(described, "format", formats.NARROWED["uri"], NARROWED)
        return {**described, "format": "any", "pattern": formats.url(allowed)}

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        described = super().enum_schema(schema)
        values = [member.value for member in schema["members"]]
        if isinstance(schema["cls"], enum.EnumType) and issubclass(schema["cls"], enum.Flag):
            _mark(described, "enum", "single flags", NARROWED)
        return self._named(described, values, schema)

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return self._named(super().literal_schema(schema), schema["expected"], schema)

    def _named(self, described: JsonSchemaValue, values: Sequence[Any], schema: Any) -> JsonSchemaValue:
        """Only those of some named values that their own JSON stands for, which that of a tuple does not."""
        validator = SchemaValidator(schema)
        kept, lost = [], []
        for value in values:
            written = to_jsonable_python(value.value if isinstance(value, enum.Enum) else value)
            try:
                validator.validate_json(json.dumps(written))
            except ValueError:
                lost.append(value)
            else:
                kept.append(written)
        if not lost:
            return described
        if not kept:
            return {EMPTY: [list(values), "no value of it can be given in JSON"]}
        _mark(described, "enum", f"without {lost!r}", NARROWED)
        return {**{key: value for key, value in described.items() if key != "const"}, "enum": kept}

    def is_subclass_schema(self, schema: core_schema.IsSubclassSchema) -> JsonSchemaValue:
        return self.handle_invalid_for_json_schema(schema, "core_schema.IsSubclassSchema: no JSON stands for a class")

    def json_schema(self, schema: core_schema.JsonSchema) -> JsonSchemaValue:
        return _mark({"type": "string"}, "contentMediaType", "application/json")

    # --- containers --------------------------------------------------------------------------------------------------

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        return self._set(super().set_schema(schema), schema)

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        return self._set(super().frozenset_schema(schema), schema)

    def _set(self, described: JsonSchemaValue, schema: Mapping[str, Any]) -> JsonSchemaValue:
        """A set takes repeated items and drops them; only a required number of different ones can then be missed.

        Its items must be hashable, which of JSON's values only scalars are.
        """
        described.pop("uniqueItems", None)
        items = schema.get("items_schema") or {"type": "any"}
        if items["type"] == "any":
            described["items"] = {"anyOf": _SCALARS}
            _mark(described, "items", "scalars", NARROWED)
        elif not is_hashable(items, self._definitions.get):
            _mark(described, "items", "hashable")
        if described.get("minItems", 0) > 1:
            _mark(described, "uniqueItems", True)
        return described

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        """The keys' schema goes along: the planner makes a pattern of it, since keys need not be text."""
        described = super().dict_schema(schema)
        keys = self._keys(schema["keys_schema"]) if "keys_schema" in schema else {"type": "string"}
        values = self.generate_inner(schema["values_schema"]) if "values_schema" in schema else True
        made: JsonSchemaValue = {"type": "object", "x-keys": keys, "additionalProperties": values}
        for keyword in ("minProperties", "maxProperties"):
            if keyword in described:
                made[keyword] = described[keyword]
        return made

    def _keys(self, schema: Any) -> JsonSchemaValue:
        """The schema of keys; named values as the texts that validation takes for them."""
        if schema["type"] not in ("enum", "literal"):
            return self.generate_inner(schema)
        named = [getattr(one, "value", one) for one in schema.get("members", schema.get("expected", ()))]
        validator, kept = SchemaValidator(core_schema.dict_schema(schema)), []
        for value in named:
            text = value if isinstance(value, str) else json.dumps(to_jsonable_python(value))
            try:
                validator.validate_json(json.dumps({text: None}))
            except ValueError:
                continue
            kept.append(text)
        return {"enum": kept}

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

    def definitions_schema(self, schema: core_schema.DefinitionsSchema) -> JsonSchemaValue:
        self._definitions.update({str(one["ref"]): one for one in schema["definitions"]})
        return super().definitions_schema(schema)

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
        self._functions[id(schema)] = schema
        function = schema["function"]["function"]
        while isinstance(function, functools.partial):
            function = function.func
        if isinstance(function, operator.attrgetter):  # the value of an enum's member
            return described
        own = (getattr(function, "__module__", None) or "").startswith("pydantic.")
        if own and _name(function) == "ByteSize._validate":
            return {"type": "integer", "minimum": 0}
        if own and not _TRUSTED.isdisjoint((_name(function), _name(function).rsplit(".", 1)[-1])):
            return described
        return _mark(dict(described), "validator", _name(function))


_BOUNDS = (("minimum", "ge"), ("maximum", "le"), ("exclusiveMinimum", "gt"), ("exclusiveMaximum", "lt"))


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _mark(described: JsonSchemaValue, keyword: str, value: Any, mark: str = UNENFORCED) -> JsonSchemaValue:
    described[mark] = [*described.get(mark, []), [keyword, value]]
    return described
