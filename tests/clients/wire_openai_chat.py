"""OpenAI's chat completions, as a server writes them."""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from scripted_server import Reply, event, json_reply, stream_reply
from strict_types import check_model, check_params
from wires import Pieces, Said, with_gates

FINISH = {"stop": "stop", "length": "length", "filter": "content_filter"}


class OpenAIChatWire:
    """`response` and `chunk` are the SDK's types that replies must fit."""

    path = "/chat/completions"
    response: Any = ChatCompletion
    chunk: Any = ChatCompletionChunk
    params: Any = CompletionCreateParamsNonStreaming
    stream_params: Any = CompletionCreateParamsStreaming
    refusals = True

    def reply(self, said: Said) -> Reply:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
        if self.refusals:
            message["refusal"] = said.refusal
        if said.calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in said.calls
            ]
        content = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": self._finish(said)}],
        }
        if said.usage is not None:
            content["usage"] = self.usage(said)
        check_model(self.response, content)
        return json_reply(content)

    def stream(self, said: Said, pieces: Pieces = Pieces()) -> Reply:  # noqa: B008 - frozen
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in pieces.cut(said.text)]
        deltas += [{"refusal": piece} for piece in pieces.cut(said.refusal or "")]
        heads = 0
        for index, call in enumerate(said.calls):
            function = {"name": call.name, "arguments": ""}
            deltas.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
            heads = heads or len(deltas) - 1
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
                for piece in pieces.cut(call.arguments)
            ]
        chunks = [self._chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        if said.finish is not None:
            chunks.append(self._chunk([{"index": 0, "delta": {}, "finish_reason": self._finish(said)}]))
        if said.usage is not None and said.finish is not None:
            chunks.append(self._with_usage(said))
        for chunk in chunks:
            check_model(self.chunk, chunk)
        events = [event(chunk) for chunk in chunks] + ([event("[DONE]")] if said.finish is not None else [])
        return stream_reply(with_gates(events, heads + 1 if said.calls else 1, pieces.before))

    def error(self, status: int, message: str = "no") -> Reply:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return json_reply({"error": error}, status, {"x-should-retry": "false"})

    def check(self, request: dict[str, Any]) -> None:
        check_params(self.stream_params if request.get("stream") else self.params, request)

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
        return {**head, "choices": choices, **more}

    def _with_usage(self, said: Said) -> dict[str, Any]:
        return self._chunk([], usage=self.usage(said))

    def usage(self, said: Said) -> dict[str, Any]:
        assert said.usage is not None
        prompt, completion, cached = said.usage
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def _finish(self, said: Said) -> str:
        assert said.finish is not None
        return "tool_calls" if said.calls and said.finish == "stop" else FINISH[said.finish]
