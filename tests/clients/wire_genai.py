"""Google's GenerateContent, as the Gemini API writes it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from google.genai import types
from scripted_server import Reply, event, json_reply, stream_reply
from strict_types import check_model
from wires import Pieces, Said, with_pieces

FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY"}
SIGNATURE = base64.b64encode(b"signed thought").decode()
REQUEST: dict[str, Any] = {
    "contents": list[types.Content],
    "systemInstruction": types.Content,
    "tools": list[types.Tool],
    "toolConfig": types.ToolConfig,
    "safetySettings": list[types.SafetySetting],
    "generationConfig": types.GenerationConfig,
    "cachedContent": str,
}


class GenaiWire:
    """`signed`: parts carry signatures of thoughts, and thoughts come before them. `ids`: calls have ids."""

    path = "enerateContent"
    """Both `…:generateContent` and `…:streamGenerateContent`."""

    def __init__(self, signed: bool = False, ids: bool = True) -> None:
        self.signed, self.ids = signed, ids

    def reply(self, said: Said) -> Reply:
        if said.refusal is not None:
            return _written(_blocked(said))
        said = said.with_objects()
        parts = [*self._thoughts(), *([{"text": said.text}] if said.text else []), *self._calls(said)]
        return _written(_response(said, parts, said.finish))

    def stream(self, said: Said, pieces: Pieces = Pieces()) -> Reply:  # noqa: B008 - frozen
        if said.refusal is not None:
            return stream_reply([_event(_blocked(said))])
        said = said.with_objects()
        parts = [(part, False) for part in self._thoughts()]
        parts += [({"text": piece}, True) for piece in pieces.cut(said.text)]
        parts += [(part, True) for part in self._calls(said)]
        chunks = [(_response(said, [part], None), counts) for part, counts in parts]
        if said.finish is not None:
            chunks.append((_response(said, [{"text": ""}], said.finish), True))
        return stream_reply(with_pieces([(_event(chunk), counts) for chunk, counts in chunks], pieces.before))

    def error(self, status: int, message: str = "no") -> Reply:
        return json_reply({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}, status)

    def check(self, request: dict[str, Any]) -> None:
        unknown = request.keys() - REQUEST.keys()
        assert not unknown, f"the SDK's types do not have {unknown}"
        for name, value in request.items():
            check_model(REQUEST[name], value)
        assert "responseJsonSchema" not in request.get("generationConfig", {}) or "tools" not in request
        for content in request["contents"]:
            assert content.get("role") in ("user", "model"), content
            assert content.get("parts"), "a content without parts"
            assert all(part for part in content["parts"]), "an empty part"

    def _thoughts(self) -> Iterator[dict[str, Any]]:
        if self.signed:
            yield {"text": "Let me think.", "thought": True}

    def _calls(self, said: Said) -> Iterator[dict[str, Any]]:
        for call in said.calls:
            numbered = {"id": call.id} if self.ids else {}
            signed = {"thoughtSignature": SIGNATURE} if self.signed else {}
            yield {"functionCall": {**numbered, "name": call.name, "args": json.loads(call.arguments)}, **signed}


def _response(said: Said, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish is not None:
        candidate["finishReason"] = FINISH[finish]
    return {"candidates": [candidate], "modelVersion": "scripted", "responseId": "1", **_usage(said)}


def _blocked(said: Said) -> dict[str, Any]:
    return {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": said.refusal}, **_usage(said)}


def _usage(said: Said) -> dict[str, Any]:
    if said.usage is None:
        return {}
    prompt, completion, cached = said.usage
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": completion, "totalTokenCount": prompt + completion}
    return {"usageMetadata": {**counts, "cachedContentTokenCount": cached}}


def _written(response: dict[str, Any]) -> Reply:
    check_model(types.GenerateContentResponse, response)
    return json_reply(response)


def _event(response: dict[str, Any]) -> bytes:
    check_model(types.GenerateContentResponse, response)
    return event(response)
