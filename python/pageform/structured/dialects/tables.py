"""The providers' dialects. Beside each, where its rules are stated."""

from __future__ import annotations

from dataclasses import replace

from .base import Limits, Rules

_RANGES = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_NONE: frozenset[str] = frozenset()

# "Structured outputs" in OpenAI's guides: supported properties, and limits on the objects of a schema. What its SDK
# makes of Pydantic's schemas (openai.lib._pydantic) is a fixed point of these rules, which a test checks.
OPENAI = Rules(
    provider="OpenAI's strict mode",
    string=frozenset({"pattern", "format"}),
    number=_RANGES,
    array=frozenset({"minItems", "maxItems"}),
    object=_NONE,
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    lookaround=False,
    tuples=False,
    one_of=False,
    closed=True,
    all_required=True,
    anything=False,
    beside_references=False,
    annotations=frozenset({"title"}),
    limits=Limits(properties=5000, depth=10, enum_values=1000, characters=120_000),
)

# "Structured outputs" in Groq's guides: strict mode asks for all properties, closed objects and null for the optional
# ones, as OpenAI's does. It names no keywords beyond, so only those that OpenAI names are sent.
GROQ = replace(OPENAI, provider="Groq's strict mode")

# "Structured outputs" in Anthropic's guides, and what its SDK puts into words (anthropic.lib._parse._transform).
ANTHROPIC = Rules(
    provider="Anthropic's structured output",
    string=frozenset({"format"}),
    number=_NONE,
    array=frozenset({"minItems"}),
    object=_NONE,
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}),
    max_min_items=1,
    lookaround=False,
    tuples=False,
    one_of=False,
    closed=True,
    anything=False,
    beside_references=False,
    recursion="none",
    annotations=frozenset({"title"}),
    limits=Limits(optional=24, unions=16),
)

# The docstring of `GenerateContentConfig.response_json_schema` in google-genai.
GEMINI = Rules(
    provider="Gemini",
    string=frozenset({"format"}),
    number=frozenset({"minimum", "maximum"}),
    array=frozenset({"minItems", "maxItems"}),
    object=_NONE,
    formats=frozenset({"date-time", "date", "time"}),
    lookaround=False,
    one_of=False,
    const=False,
    enum_types=frozenset({"string", "number", "integer"}),
    ordering=True,
    beside_references=False,
    recursion="optional",
    annotations=frozenset({"title"}),
)

# `google.genai.types.Schema`, a part of OpenAPI 3.0 for models and clouds that don't take JSON Schema.
GEMINI_OPENAPI = Rules(
    provider="Gemini's OpenAPI schemas",
    string=frozenset({"format", "pattern", "minLength", "maxLength"}),
    number=frozenset({"minimum", "maximum"}),
    array=frozenset({"minItems", "maxItems"}),
    object=frozenset({"minProperties", "maxProperties"}),
    formats=frozenset({"date-time"}),
    lookaround=False,
    tuples=False,
    one_of=False,
    const=False,
    enum_types=frozenset({"string"}),
    ordering=True,
    null_type=False,
    maps=False,
    references=False,
    recursion="none",
    annotations=frozenset({"title", "default"}),
)

# "Structured outputs" in Cohere's guides: the supported and the unsupported features of JSON Schema; at most 200 fields
# in strict tools.
COHERE = Rules(
    provider="Cohere's structured output",
    string=frozenset({"pattern", "format"}),
    number=_NONE,
    array=_NONE,
    object=_NONE,
    formats=frozenset({"date-time", "uuid", "date", "time"}),
    lookaround=False,
    tuples=False,
    one_of=False,
    some_required=True,
    annotations=frozenset({"title"}),
    limits=Limits(properties=200),
)

# What mistralai's own helper makes of Pydantic's schemas (mistralai.extra.utils): closed objects, all else as it is.
MISTRAL = Rules(provider="Mistral's strict mode", closed=True)
