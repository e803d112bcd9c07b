"""Cohere's chat API, version 2, as a server writes it."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from typing import Any

from cohere.v2.client import V2Client
from cohere.v2.types import V2ChatResponse, V2ChatStreamResponse
from scripted_server import Reply, event, json_reply, stream_reply
from strict_types import check_model
from wires import Pieces, Said, with_pieces

FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "filter": "ERROR_TOXIC"}

Event = tuple[dict[str, Any], bool]


class CohereWire:
    """`thinking` is what the model thinks before each answer, `plan` what it plans before it calls a tool."""

    path = "/v2/chat"

    def __init__(self, thinking: str = "", plan: str = "") -> None:
        self.thinking, self.plan = thinking, plan

    def reply(self, said: Said) -> Reply:
        message: dict[str, Any] = {"role": "assistant"}
        if said.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in said.calls
            ]
        if said.calls and self.plan:
            message["tool_plan"] = self.plan
        content = [{"type": kind, kind: text} for kind, text in self._content(said)]
        if content:
            message["content"] = content
        answer: dict[str, Any] = {"id": "1", "finish_reason": _finish(said), "message": message}
        if said.usage is not None:
            answer["usage"] = _usage(said.usage)
        check_model(V2ChatResponse, answer)
        return json_reply(answer)

    def stream(self, said: Said, pieces: Pieces = Pieces()) -> Reply:  # noqa: B008 - frozen
        start = {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}}
        events: list[Event] = [(start, False)]
        for index, (kind, text) in enumerate(self._content(said)):
            events += _part(index, kind, text, pieces)
        for piece in pieces.cut(self.plan) if said.calls else ():
            events.append(({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}, False))
        for index, call in enumerate(said.calls):
            opened = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            events.append((_of_call("tool-call-start", index, opened), False))
            for piece in pieces.cut(call.arguments):
                events.append((_of_call("tool-call-delta", index, {"function": {"arguments": piece}}), True))
            events.append(({"type": "tool-call-end", "index": index}, False))
        if said.finish is not None:
            end: dict[str, Any] = {"finish_reason": _finish(said)}
            if said.usage is not None:
                end["usage"] = _usage(said.usage)
            events.append(({"type": "message-end", "id": "1", "delta": end}, True))
        for one, _ in events:
            check_model(V2ChatStreamResponse, one)
        written = [(event(one, str(one["type"])), counts) for one, counts in events]
        end_of_all = [(event("[DONE]"), False)] if said.finish is not None else []
        return stream_reply(with_pieces([*written, *end_of_all], pieces.before))

    def error(self, status: int, message: str = "no") -> Reply:
        return json_reply({"id": "1", "message": message}, status)

    def check(self, request: dict[str, Any]) -> None:
        types = _parameters()
        unknown = request.keys() - types.keys() - {"stream"}
        assert not unknown, f"the SDK's parameters are not {unknown}"
        for name, value in request.items():
            if name != "stream":
                check_model(types[name], value)
        assert request.get("tool_choice") in (None, "REQUIRED", "NONE")
        assert "response_format" not in request or not request.get("tools"), "refused together by the API"
        _check_turns(request["messages"])

    def _content(self, said: Said) -> Iterator[tuple[str, str]]:
        if self.thinking:
            yield "thinking", self.thinking
        if said.text:
            yield "text", said.text


def _parameters() -> dict[str, Any]:
    """The types of the arguments of `chat`, without those of the SDK itself."""
    hints = typing.get_type_hints(V2Client.chat)
    return {
        name: hints[name]
        for name in inspect.signature(V2Client.chat).parameters
        if name not in ("self", "request_options")
    }


def _check_turns(messages: list[dict[str, Any]]) -> None:
    """What the API refuses though its types allow it."""
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        assert None not in message.values(), f"messages[{number}] has an empty field: {message}"
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls, f"messages[{number}] answers no call"
            assert isinstance(json.loads(message["content"]), dict)
            open_calls.discard(message["tool_call_id"])
        else:
            assert not open_calls, f"messages[{number}] comes while {open_calls} have no results"
        if message["role"] == "assistant":
            assert message.get("content") or message.get("tool_calls"), f"messages[{number}] is empty"
            open_calls = {call["id"] for call in message.get("tool_calls", ())}
    assert not open_calls, f"{open_calls} have no results"


def _finish(said: Said) -> str:
    assert said.finish is not None
    if said.refusal is not None:
        return "ERROR_TOXIC"
    return "TOOL_CALL" if said.calls and said.finish == "stop" else FINISH[said.finish]


def _usage(usage: tuple[int, int, int]) -> dict[str, Any]:
    prompt, completion, cached = (float(count) for count in usage)
    tokens = {"input_tokens": prompt, "output_tokens": completion}
    return {"billed_units": {"input_tokens": 1.0, "output_tokens": 1.0}, "tokens": tokens, "cached_tokens": cached}


def _part(index: int, kind: str, text: str, pieces: Pieces) -> Iterator[Event]:
    yield {"type": "content-start", "index": index, "delta": {"message": {"content": {"type": kind, kind: ""}}}}, False
    for piece in pieces.cut(text):
        delta = {"message": {"content": {kind: piece}}}
        yield {"type": "content-delta", "index": index, "delta": delta}, kind == "text"
    yield {"type": "content-end", "index": index}, False


def _of_call(kind: str, index: int, call: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": {"tool_calls": call}}}
