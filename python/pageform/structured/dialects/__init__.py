"""Dialects of JSON Schema: what each provider enforces of a type, and what is left to validation.

    adapted = openai_strict(spec.object_schema)
    adapted.schema       # to be sent, if
    adapted.sendable     # the provider takes it; `adapted.obstacles` say why not
    adapted.dropped      # constraints that stand in the descriptions only
    restore_text(answer, spec.object_schema)   # what a dialect made of "not given" is undone

Each dialect is a pure function from a schema to an `Adapted`; a table of rules drives the one walk that all share.
Validation of the answer always has the last word, so a dialect may allow too much, never silently, and never too little
but for properties beyond those of the type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import tables
from .adapt import adapt
from .base import Adapted, Dropped, Limits, Rules
from .restore import restore, restore_text

Schema = Mapping[str, Any]


def openai_strict(schema: Schema) -> Adapted:
    """For `strict: true` of OpenAI's tools and of its `json_schema` response format."""
    return adapt(schema, tables.OPENAI)


def groq_strict(schema: Schema) -> Adapted:
    """For `strict: true` of Groq's `json_schema` response format."""
    return adapt(schema, tables.GROQ)


def anthropic_strict(schema: Schema) -> Adapted:
    """For `strict: true` of Anthropic's tools and for its `output_config.format`."""
    return adapt(schema, tables.ANTHROPIC)


def gemini(schema: Schema) -> Adapted:
    """For google-genai's `response_json_schema` and `parameters_json_schema`."""
    return adapt(schema, tables.GEMINI)


def gemini_openapi(schema: Schema) -> Adapted:
    """For google-genai's `response_schema`: the fields of `types.Schema` under their JSON names."""
    return adapt(schema, tables.GEMINI_OPENAPI)


def cohere(schema: Schema) -> Adapted:
    """For Cohere's `response_format` and its tools under `strict_tools`."""
    return adapt(schema, tables.COHERE)


def mistral_strict(schema: Schema) -> Adapted:
    """For `strict: true` of Mistral's tools and of its `json_schema` response format."""
    return adapt(schema, tables.MISTRAL)


__all__ = [
    "Adapted",
    "Dropped",
    "Limits",
    "Rules",
    "adapt",
    "anthropic_strict",
    "cohere",
    "gemini",
    "gemini_openapi",
    "groq_strict",
    "mistral_strict",
    "openai_strict",
    "restore",
    "restore_text",
]
