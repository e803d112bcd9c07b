"""Instructor's modes, and what each is among pageform's three."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ...structured.answer import Mode as PlainMode


class Mode(Enum):
    """Instructor's names. Those of single providers are old names of the general ones."""

    FUNCTIONS = "function_call"
    PARALLEL_TOOLS = "parallel_tool_call"
    TOOLS = "tool_call"
    TOOLS_STRICT = "tools_strict"
    JSON = "json_mode"
    JSON_O1 = "json_o1"
    MD_JSON = "markdown_json_mode"
    JSON_SCHEMA = "json_schema_mode"
    RESPONSES_TOOLS = "responses_tools"
    RESPONSES_TOOLS_WITH_INBUILT_TOOLS = "responses_tools_with_inbuilt_tools"
    XAI_JSON = "xai_json"
    XAI_TOOLS = "xai_tools"
    ANTHROPIC_TOOLS = "anthropic_tools"
    ANTHROPIC_REASONING_TOOLS = "anthropic_reasoning_tools"
    ANTHROPIC_JSON = "anthropic_json"
    ANTHROPIC_PARALLEL_TOOLS = "anthropic_parallel_tools"
    MISTRAL_TOOLS = "mistral_tools"
    MISTRAL_STRUCTURED_OUTPUTS = "mistral_structured_outputs"
    VERTEXAI_TOOLS = "vertexai_tools"
    VERTEXAI_JSON = "vertexai_json"
    VERTEXAI_PARALLEL_TOOLS = "vertexai_parallel_tools"
    GEMINI_JSON = "gemini_json"
    GEMINI_TOOLS = "gemini_tools"
    GENAI_TOOLS = "genai_tools"
    GENAI_JSON = "genai_json"
    GENAI_STRUCTURED_OUTPUTS = "genai_structured_outputs"
    COHERE_TOOLS = "cohere_tools"
    COHERE_JSON_SCHEMA = "json_object"
    CEREBRAS_TOOLS = "cerebras_tools"
    CEREBRAS_JSON = "cerebras_json"
    FIREWORKS_TOOLS = "fireworks_tools"
    FIREWORKS_JSON = "fireworks_json"
    WRITER_TOOLS = "writer_tools"
    WRITER_JSON = "writer_json"
    BEDROCK_TOOLS = "bedrock_tools"
    BEDROCK_JSON = "bedrock_json"
    PERPLEXITY_JSON = "perplexity_json"
    OPENROUTER_STRUCTURED_OUTPUTS = "openrouter_structured_outputs"

    @property
    def plain(self) -> PlainMode:
        """The mode of pageform that it stands for."""
        if self in (Mode.JSON_SCHEMA, Mode.JSON_O1, Mode.COHERE_JSON_SCHEMA) or "STRUCTURED" in self.name:
            return PlainMode.SCHEMA
        return PlainMode.TEXT if "JSON" in self.name else PlainMode.TOOLS

    @property
    def is_strict(self) -> bool | None:
        """Whether the provider's own strict schemas are asked for; None where the mode is nothing but that."""
        return None if self.plain is PlainMode.SCHEMA else self is Mode.TOOLS_STRICT

    def arguments(self, wire: str) -> dict[str, Any]:
        """What the mode adds to the SDK's own arguments in a wire format."""
        if self is Mode.JSON and wire == "openai":
            return {"response_format": {"type": "json_object"}}
        if self is Mode.PARALLEL_TOOLS and wire == "openai":
            return {"tool_choice": "auto"}
        return {}
