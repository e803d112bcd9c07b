"""Groq's chat completions: OpenAI's, in Groq's own types."""

from __future__ import annotations

from typing import Any

from groq.types.chat import ChatCompletion, ChatCompletionChunk
from groq.types.chat.completion_create_params import CompletionCreateParams
from wire_openai_chat import OpenAIChatWire
from wires import Said


class GroqWire(OpenAIChatWire):
    """It reports a stream's usage unasked, in an addition of its own, and writes no refusals."""

    response: Any = ChatCompletion
    chunk: Any = ChatCompletionChunk
    params: Any = CompletionCreateParams
    stream_params: Any = CompletionCreateParams
    refusals = False

    def _with_usage(self, said: Said) -> dict[str, Any]:
        return self._chunk([], x_groq={"id": "req_1", "usage": self.usage(said)})
