"""OpenAI's Responses API, as a server writes it."""

from __future__ import annotations

from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)
from scripted_server import Reply, event, json_reply, stream_reply
from strict_types import check_model, check_params
from wires import Pieces, Said, with_pieces

REASONS = {"length": "max_output_tokens", "filter": "content_filter"}


class OpenAIResponsesWire:
    """Each output begins with a reasoning item, as those of OpenAI's models do."""

    path = "/responses"

    def reply(self, said: Said) -> Reply:
        content = self.response(said, self.items(said))
        check_model(Response, content)
        return json_reply(content)

    def stream(self, said: Said, pieces: Pieces = Pieces()) -> Reply:  # noqa: B008 - frozen
        events: list[tuple[dict[str, Any], bool]] = [
            ({"type": "response.created", "response": self.response(Said(finish=None, usage=None), [])}, False)
        ]
        for index, item in enumerate(self.items(said)):
            events += self._item(index, item, pieces)
        if said.finish is not None:
            kind = "completed" if said.finish == "stop" else "incomplete"
            events.append(({"type": f"response.{kind}", "response": self.response(said, self.items(said))}, False))
        sent = []
        for number, (content, is_piece) in enumerate(events):
            numbered = {**content, "sequence_number": number}
            check_model(ResponseStreamEvent, numbered)
            sent.append((event(numbered, content["type"]), is_piece))
        return stream_reply(with_pieces(sent, pieces.before))

    def error(self, status: int, message: str = "no") -> Reply:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return json_reply({"error": error}, status, {"x-should-retry": "false"})

    def check(self, request: dict[str, Any]) -> None:
        check_params(
            ResponseCreateParamsStreaming if request.get("stream") else ResponseCreateParamsNonStreaming, request
        )

    def items(self, said: Said) -> list[dict[str, Any]]:
        """The items of the output."""
        items: list[dict[str, Any]] = [{"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"}]
        parts: list[dict[str, Any]] = []
        if said.text:
            parts.append({"type": "output_text", "text": said.text, "annotations": [], "logprobs": []})
        if said.refusal:
            parts.append({"type": "refusal", "refusal": said.refusal})
        if parts:
            items.append(
                {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": parts}
            )
        for call in said.calls:
            item = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            items.append({"id": f"fc_{call.id}", "status": "completed", **item})
        return items

    def response(self, said: Said, output: list[dict[str, Any]]) -> dict[str, Any]:
        status = {None: "in_progress", "stop": "completed"}.get(said.finish, "incomplete")
        content: dict[str, Any] = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "scripted",
            "status": status,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": {"reason": REASONS[said.finish]} if said.finish in REASONS else None,
        }
        if said.usage is not None:
            prompt, completion, cached = said.usage
            content["usage"] = {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                "output_tokens": completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt + completion,
            }
        return content

    def _item(self, index: int, item: dict[str, Any], pieces: Pieces) -> list[tuple[dict[str, Any], bool]]:
        """The events of one item."""
        begun = {name: value for name, value in item.items() if name != "encrypted_content"}
        place = {"item_id": item["id"], "output_index": index}
        grown: list[tuple[dict[str, Any], bool]] = []
        if item["type"] == "function_call":
            begun["arguments"] = ""
            kind = "response.function_call_arguments.delta"
            grown = [({"type": kind, "delta": one, **place}, True) for one in pieces.cut(item["arguments"])]
        elif item["type"] == "message":
            begun["content"] = []
            for number, part in enumerate(item["content"]):
                at = {**place, "content_index": number}
                empty = {**part, ("text" if "text" in part else "refusal"): ""}
                grown.append(({"type": "response.content_part.added", "part": empty, **at}, False))
                if "text" in part:
                    kind = "response.output_text.delta"
                    grown += [
                        ({"type": kind, "delta": d, "logprobs": [], **at}, True) for d in pieces.cut(part["text"])
                    ]
                else:
                    kind = "response.refusal.delta"
                    grown += [({"type": kind, "delta": d, **at}, True) for d in pieces.cut(part["refusal"])]
        if "status" in begun:
            begun["status"] = "in_progress"
        return [
            ({"type": "response.output_item.added", "output_index": index, "item": begun}, False),
            *grown,
            ({"type": "response.output_item.done", "output_index": index, "item": item}, False),
        ]
