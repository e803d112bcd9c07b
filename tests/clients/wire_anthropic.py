"""Anthropic's Messages API, as a server writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from scripted_server import Reply, event, json_reply, stream_reply
from strict_types import check_model, check_params
from wires import Pieces, Said, with_pieces

FINISH = {"stop": "end_turn", "length": "max_tokens", "filter": "refusal"}
ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
SIGNATURE = "EqQBCgIYAhIM"

Block = dict[str, Any]


class AnthropicWire:
    """`thinking` is what the model thinks before each answer, signed by the API."""

    path = "/v1/messages"

    def __init__(self, thinking: str = "") -> None:
        self.thinking = thinking

    def reply(self, said: Said) -> Reply:
        said = said.with_objects()
        message = {**_head(said), "content": self._whole(said), **_end(said)}
        check_model(Message, message)
        return json_reply(message)

    def stream(self, said: Said, pieces: Pieces = Pieces()) -> Reply:  # noqa: B008 - frozen
        start = {**_head(said), "content": [], "stop_reason": None, "stop_sequence": None}
        if said.usage is not None:
            start["usage"] = {**start["usage"], "output_tokens": 1}
        events: list[tuple[dict[str, Any], bool]] = [({"type": "message_start", "message": start}, False)]
        for index, block in enumerate(self._blocks(said)):
            events.append(({"type": "content_block_start", "index": index, "content_block": _opened(block)}, False))
            for delta, counts in _deltas(block, pieces):
                events.append(({"type": "content_block_delta", "index": index, "delta": delta}, counts))
            events.append(({"type": "content_block_stop", "index": index}, False))
        if said.finish is not None:
            end = _end(said)
            usage = {"output_tokens": said.usage[1] if said.usage else 0}
            events.append(({"type": "message_delta", "delta": end, "usage": usage}, True))
            events.append(({"type": "message_stop"}, False))
        for one, _ in events:
            check_model(RawMessageStreamEvent, one)
        written = [(event(one, str(one["type"])), counts) for one, counts in events]
        written.insert(1, (event({"type": "ping"}, "ping"), False))
        return stream_reply(with_pieces(written, pieces.before))

    def error(self, status: int, message: str = "no") -> Reply:
        error = {"type": ERRORS.get(status, "api_error"), "message": message}
        return json_reply({"type": "error", "error": error, "request_id": "req_1"}, status, {"x-should-retry": "false"})

    def check(self, request: dict[str, Any]) -> None:
        check_params(
            MessageCreateParamsStreaming if request.get("stream") else MessageCreateParamsNonStreaming, request
        )
        _check_turns(request["messages"])
        thinks = request.get("thinking", {}).get("type") in ("enabled", "adaptive")
        assert not thinks or request.get("tool_choice", {"type": "auto"})["type"] in ("auto", "none")

    def _blocks(self, said: Said) -> Iterator[Block]:
        if self.thinking:
            yield {"type": "thinking", "thinking": self.thinking, "signature": SIGNATURE}
        if said.text:
            yield {"type": "text", "text": said.text, "citations": None}
        for call in said.calls:
            yield {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments, "caller": None}

    def _whole(self, said: Said) -> list[Block]:
        return [
            {**block, "input": json.loads(block["input"])} if "input" in block else block
            for block in self._blocks(said)
        ]


def _check_turns(messages: list[dict[str, Any]]) -> None:
    """What the API refuses though its types allow it."""
    for number, message in enumerate(messages):
        content = message["content"]
        assert content, f"messages[{number}] has no content"
        blocks = [] if isinstance(content, str) else content
        for block in blocks:
            assert None not in block.values(), f"messages[{number}] has an empty field: {block}"
            assert block.get("text", "x").strip(), f"messages[{number}] has a text block without text"
        called = {block["id"] for block in blocks if block["type"] == "tool_use"}
        if called:
            answered = messages[number + 1]["content"] if number + 1 < len(messages) else []
            told = {block["tool_use_id"] for block in answered if block["type"] == "tool_result"}
            assert called == told, f"messages[{number}] calls {called}, but only {told} have results"


def _head(said: Said) -> dict[str, Any]:
    prompt, completion, cached = said.usage or (0, 0, 0)
    usage = {
        "input_tokens": prompt - cached,
        "output_tokens": completion,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "usage": usage}


def _end(said: Said) -> dict[str, Any]:
    assert said.finish is not None
    if said.refusal is not None or said.finish == "filter":
        details = {"type": "refusal", "category": None, "explanation": said.refusal}
        return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    reason = "tool_use" if said.calls and said.finish == "stop" else FINISH[said.finish]
    return {"stop_reason": reason, "stop_sequence": None}


def _opened(block: Block) -> Block:
    empty: Block = {"thinking": "", "signature": "", "text": "", "input": {}}
    return {**block, **{name: value for name, value in empty.items() if name in block}}


def _deltas(block: Block, pieces: Pieces) -> Iterator[tuple[dict[str, Any], bool]]:
    """The deltas of a block, and whether they are pieces of the answer."""
    if block["type"] == "text":
        yield from (({"type": "text_delta", "text": piece}, True) for piece in pieces.cut(block["text"]))
    elif block["type"] == "tool_use":
        yield {"type": "input_json_delta", "partial_json": ""}, False
        for piece in pieces.cut(block["input"]):
            yield {"type": "input_json_delta", "partial_json": piece}, True
    else:
        yield from (({"type": "thinking_delta", "thinking": piece}, False) for piece in pieces.cut(block["thinking"]))
        yield {"type": "signature_delta", "signature": block["signature"]}, False
