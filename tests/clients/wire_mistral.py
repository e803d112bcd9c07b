"""Mistral's chat completions, as a server writes them."""

from __future__ import annotations

import itertools
from typing import Any

from mistralai.client.models import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionStreamRequest,
    CompletionChunk,
)
from scripted_server import Reply, event, json_reply, stream_reply
from strict_types import check_model, check_params
from wires import Pieces, Said, with_pieces

FINISH = {"stop": "stop", "length": "length", "filter": "error"}
ORDER = {
    "system": {"system", "user", "assistant"},
    "user": {"user", "assistant", "system"},
    "assistant": {"user", "tool"},
    "tool": {"tool", "assistant"},
}
"""Which role may follow which (mistral_common's validator)."""


class MistralWire:
    """`thinking` is what the model thinks before each answer. Arguments may come as an object instead of a text."""

    path = "/v1/chat/completions"

    def __init__(self, thinking: str = "", arguments_as_objects: bool = False) -> None:
        self.thinking, self.arguments_as_objects = thinking, arguments_as_objects

    def reply(self, said: Said) -> Reply:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self._content(said),
            "tool_calls": None,
            "prefix": False,
        }
        if said.calls:
            message["tool_calls"] = [self._call(index, call, call.arguments) for index, call in enumerate(said.calls)]
        choice = {"index": 0, "message": message, "finish_reason": self._finish(said)}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "scripted", "choices": [choice]}
        answer["usage"] = _usage(said.usage)
        check_model(ChatCompletionResponse, answer)
        return json_reply(answer)

    def stream(self, said: Said, pieces: Pieces = Pieces()) -> Reply:  # noqa: B008 - frozen
        deltas: list[tuple[dict[str, Any], bool]] = [({"role": "assistant", "content": ""}, False)]
        for piece in pieces.cut(self.thinking):
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": piece}]}
            deltas.append(({"content": [thought]}, False))
        deltas += [({"content": piece}, True) for piece in pieces.cut(said.text)]
        for index, call in enumerate(said.calls):
            deltas.append(({"tool_calls": [self._call(index, call, "")]}, False))
            for piece in pieces.cut(call.arguments):
                more = {"index": index, "function": {"name": "", "arguments": piece}}
                deltas.append(({"tool_calls": [more]}, True))
        chunks = [(_chunk(delta, None), counts) for delta, counts in deltas]
        if said.finish is not None:
            last = _chunk({"content": ""}, self._finish(said))
            chunks.append(({**last, "usage": _usage(said.usage)} if said.usage else last, True))
        for chunk, _ in chunks:
            check_model(CompletionChunk, chunk)
        written = [(event(chunk), counts) for chunk, counts in chunks]
        end_of_all = [(event("[DONE]"), False)] if said.finish is not None else []
        return stream_reply(with_pieces([*written, *end_of_all], pieces.before))

    def error(self, status: int, message: str = "no") -> Reply:
        error = {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": "3000"}
        return json_reply(error, status)

    def check(self, request: dict[str, Any]) -> None:
        check_params(ChatCompletionStreamRequest if request.get("stream") else ChatCompletionRequest, request)
        roles = [message["role"] for message in request["messages"]]
        for before, after in itertools.pairwise(roles):
            assert after in ORDER[before], f"unexpected role {after} after role {before}"
        assert roles[-1] in ("user", "tool")
        for message in request["messages"]:
            assert message["role"] != "assistant" or message.get("content") or message.get("tool_calls"), (
                "empty message"
            )

    def _content(self, said: Said) -> Any:
        if not self.thinking:
            return said.text
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": self.thinking}]}
        return [thought, {"type": "text", "text": said.text}] if said.text else [thought]

    def _call(self, index: int, call: Any, arguments: str) -> dict[str, Any]:
        import json

        written = json.loads(arguments) if self.arguments_as_objects and arguments else arguments
        return {
            "id": call.id,
            "type": "function",
            "index": index,
            "function": {"name": call.name, "arguments": written},
        }

    def _finish(self, said: Said) -> str:
        assert said.finish is not None
        assert said.refusal is None, "the API has no refusals"
        return "tool_calls" if said.calls and said.finish == "stop" else FINISH[said.finish]


def _chunk(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [choice]}


def _usage(usage: tuple[int, int, int] | None) -> dict[str, Any]:
    """The API always tells it; the SDK's type has no place for cached tokens, but takes any."""
    prompt, completion, _ = usage or (0, 0, 0)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
