"""Media in messages: what each provider is sent, checked against the SDKs' own parameter types."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import pytest
from media_samples import GIF, HEADS, pdf, png, wav
from strict_types import check_params

from pageform.clients.encode import UnsupportedMedia, Wire, encode_kwargs, encode_messages, fetches
from pageform.media import PDF, Audio, Image, MediaError

PNG, WAV, DOCUMENT = png(), wav(), pdf()
IMAGE = Image.from_bytes(PNG, name="red.png")
IMAGE_URL = Image.from_url("https://example.com/red.png?sig=1")
AUDIO = Audio.from_bytes(WAV, name="tone.wav")
PAGES = PDF.from_bytes(DOCUMENT, name="page.pdf")
PAGES_URL = PDF.from_url("https://example.com/page.pdf")
B64 = {name: base64.b64encode(data).decode() for name, data in (("png", PNG), ("wav", WAV), ("pdf", DOCUMENT))}


def checker(wire: Wire) -> Callable[[Any], Any]:
    """Validates an encoded message with the SDK's own types; unknown keys are errors too."""
    if wire is Wire.OPENAI:
        from openai.types.chat import ChatCompletionMessageParam as OpenAIMessage

        return lambda message: check_params(OpenAIMessage, message)
    if wire is Wire.RESPONSES:
        from openai.types.responses import EasyInputMessageParam

        return lambda message: check_params(EasyInputMessageParam, message)
    if wire is Wire.ANTHROPIC:
        from anthropic.types import MessageParam

        return lambda message: check_params(MessageParam, message)
    if wire is Wire.COHERE:
        from cohere.types.content import ImageUrlContent, TextContent

        parts = {"text": TextContent, "image_url": ImageUrlContent}
        return lambda message: [parts[part["type"]].model_validate(part, strict=True) for part in message["content"]]
    if wire is Wire.MISTRAL:
        from mistralai.client.models import ToolMessage, UserMessage

        def check(message: Any) -> Any:
            back = {"user": UserMessage, "tool": ToolMessage}[message["role"]].model_validate(message)
            assert not any(type(chunk).__name__ == "UnknownContentChunk" for chunk in back.content)
            assert back.model_dump(mode="json", exclude_unset=True)["content"] == message["content"]

        return check
    from google.genai import types

    return lambda message: types.Content.model_validate({"role": "user", "parts": message["content"]})


EXPECTED: dict[Wire, dict[Any, dict[str, Any]]] = {
    Wire.OPENAI: {
        "Hi": {"type": "text", "text": "Hi"},
        IMAGE: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64['png']}"}},
        IMAGE_URL: {"type": "image_url", "image_url": {"url": "https://example.com/red.png?sig=1"}},
        AUDIO: {"type": "input_audio", "input_audio": {"data": B64["wav"], "format": "wav"}},
        PAGES: {
            "type": "file",
            "file": {"filename": "page.pdf", "file_data": f"data:application/pdf;base64,{B64['pdf']}"},
        },
        Image(content=PNG, detail="low"): {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{B64['png']}", "detail": "low"},
        },
    },
    Wire.RESPONSES: {
        "Hi": {"type": "input_text", "text": "Hi"},
        IMAGE: {"type": "input_image", "image_url": f"data:image/png;base64,{B64['png']}", "detail": "auto"},
        IMAGE_URL: {"type": "input_image", "image_url": "https://example.com/red.png?sig=1", "detail": "auto"},
        PAGES: {
            "type": "input_file",
            "filename": "page.pdf",
            "file_data": f"data:application/pdf;base64,{B64['pdf']}",
        },
        PAGES_URL: {"type": "input_file", "file_url": "https://example.com/page.pdf"},
    },
    Wire.ANTHROPIC: {
        "Hi": {"type": "text", "text": "Hi"},
        IMAGE: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64["png"]}},
        IMAGE_URL: {"type": "image", "source": {"type": "url", "url": "https://example.com/red.png?sig=1"}},
        PAGES: {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": B64["pdf"]},
        },
        PAGES_URL: {"type": "document", "source": {"type": "url", "url": "https://example.com/page.pdf"}},
        IMAGE.with_cache_control(): {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": B64["png"]},
            "cache_control": {"type": "ephemeral"},
        },
        PAGES_URL.with_cache_control("1h"): {
            "type": "document",
            "source": {"type": "url", "url": "https://example.com/page.pdf"},
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
    },
    Wire.COHERE: {
        "Hi": {"type": "text", "text": "Hi"},
        IMAGE: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64['png']}"}},
        IMAGE_URL: {"type": "image_url", "image_url": {"url": "https://example.com/red.png?sig=1"}},
    },
    Wire.MISTRAL: {
        "Hi": {"type": "text", "text": "Hi"},
        IMAGE: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64['png']}"}},
        IMAGE_URL: {"type": "image_url", "image_url": {"url": "https://example.com/red.png?sig=1"}},
        AUDIO: {"type": "input_audio", "input_audio": B64["wav"]},
        PAGES: {
            "type": "document_url",
            "document_url": f"data:application/pdf;base64,{B64['pdf']}",
            "document_name": "page.pdf",
        },
        PAGES_URL: {
            "type": "document_url",
            "document_url": "https://example.com/page.pdf",
            "document_name": "page.pdf",
        },
    },
    Wire.GENAI: {
        "Hi": {"text": "Hi"},
        IMAGE: {"inline_data": {"data": PNG, "mime_type": "image/png"}},
        AUDIO: {"inline_data": {"data": WAV, "mime_type": "audio/wav"}},
        PAGES: {"inline_data": {"data": DOCUMENT, "mime_type": "application/pdf"}},
        PDF.from_url("gs://bucket/page.pdf"): {
            "file_data": {"file_uri": "gs://bucket/page.pdf", "mime_type": "application/pdf"}
        },
        PDF.from_url("https://generativelanguage.googleapis.com/v1beta/files/abc"): {
            "file_data": {
                "file_uri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
                "mime_type": "application/pdf",
            }
        },
    },
}
ROWS = [(wire, part) for wire, parts in EXPECTED.items() for part in parts]


@pytest.mark.parametrize(("wire", "part"), ROWS, ids=lambda value: repr(value))
def test_each_part_is_what_the_sdk_takes(wire: Wire, part: Any) -> None:
    [message] = encode_messages([{"role": "user", "content": ["Look:", part]}], wire)
    assert message["role"] == "user"
    assert message["content"][1] == EXPECTED[wire][part]
    checker(wire)(message)


@pytest.mark.parametrize("wire", Wire)
def test_a_part_alone_is_a_content(wire: Wire) -> None:
    [message] = encode_messages([{"role": "user", "content": IMAGE}], wire)
    assert message["content"] == [EXPECTED[wire][IMAGE]]


@pytest.mark.parametrize("wire", Wire)
def test_messages_are_not_changed_and_plain_ones_are_passed_on(wire: Wire) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ["What is this?", IMAGE, {"type": "custom", "x": [1]}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ]
    before = copy.deepcopy(messages)
    encoded = encode_messages(messages, wire)
    assert messages == before
    assert encoded[0] is messages[0]
    assert encoded[2] is messages[2]
    assert encoded[1]["name"] == "ann"
    assert encoded[1]["content"][2] == {"type": "custom", "x": [1]}


UNSUPPORTED = [
    (Wire.RESPONSES, "user", AUDIO, "responses takes no audio"),
    (Wire.ANTHROPIC, "user", AUDIO, "anthropic takes no audio"),
    (Wire.COHERE, "user", AUDIO, "cohere takes no audio"),
    (Wire.COHERE, "user", PAGES, "cohere takes no PDF"),
    (Wire.OPENAI, "system", IMAGE, "no image in a message of role system"),
    (Wire.OPENAI, "tool", IMAGE, "no image in a message of role tool"),
    (Wire.ANTHROPIC, "assistant", PAGES, "no PDF in a message of role assistant"),
    (Wire.OPENAI, "user", Audio(content=HEADS["audio/flac"]), "no audio of type audio/flac"),
    (Wire.ANTHROPIC, "user", Image(content=HEADS["image/heic"]), "no image of type image/heic"),
    (Wire.GENAI, "user", Image(content=GIF), "no image of type image/gif"),
]


@pytest.mark.parametrize(("wire", "role", "part", "reason"), UNSUPPORTED)
def test_what_a_provider_cannot_take_is_an_error_that_names_the_part(
    wire: Wire, role: str, part: Any, reason: str
) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": role, "content": ["Look:", part]}]
    with pytest.raises(UnsupportedMedia, match=reason) as caught:
        encode_messages(messages, wire)
    assert caught.value.field == "messages[1].content[1]"
    assert caught.value.remedy
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("odd", [b"bytes", 7, None, ["nested"], __import__("pathlib").Path("x.png")])
def test_what_is_no_part_is_an_error(odd: Any) -> None:
    with pytest.raises(MediaError, match="is no part of a message") as caught:
        encode_messages([{"role": "user", "content": ["Hi", odd]}], Wire.OPENAI)
    assert caught.value.field == "messages[0].content[1]"


def test_media_within_a_tools_result() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": ["A plot:", IMAGE]}
    [message] = encode_messages([{"role": "user", "content": [result]}], Wire.ANTHROPIC)
    parts = EXPECTED[Wire.ANTHROPIC]
    assert message["content"] == [{**result, "content": [{"type": "text", "text": "A plot:"}, parts[IMAGE]]}]
    checker(Wire.ANTHROPIC)(message)
    output = {"type": "function_call_output", "call_id": "c1", "output": [IMAGE]}
    [item] = encode_messages([output], Wire.RESPONSES)
    assert item == {**output, "output": [EXPECTED[Wire.RESPONSES][IMAGE]]}
    [message] = encode_messages([{"role": "tool", "content": [IMAGE], "tool_call_id": "c"}], Wire.MISTRAL)
    checker(Wire.MISTRAL)(message)


def test_the_conversation_is_found_under_each_sdks_name() -> None:
    messages = [{"role": "user", "content": ["Hi", IMAGE]}]
    for name, wire in (("messages", Wire.OPENAI), ("input", Wire.RESPONSES), ("contents", Wire.GENAI)):
        kwargs = encode_kwargs({"model": "m", name: messages}, wire)
        assert kwargs["model"] == "m"
        assert kwargs[name][0]["content"] == [EXPECTED[wire]["Hi"], EXPECTED[wire][IMAGE]]
    assert encode_kwargs({"input": "plain text"}, Wire.RESPONSES) == {"input": "plain text"}
    mixed = encode_kwargs({"contents": ["Hi", IMAGE, {"role": "user", "parts": [PAGES]}]}, Wire.GENAI)["contents"]
    genai = EXPECTED[Wire.GENAI]
    assert mixed == [genai["Hi"], genai[IMAGE], {"role": "user", "parts": [genai[PAGES]]}]


def test_text_parts_are_spelled_for_the_dialect_and_keep_their_extras() -> None:
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    [message] = encode_messages([{"role": "user", "content": [part]}], Wire.ANTHROPIC)
    assert message["content"] == [part]
    roles = [{"role": role, "content": [{"type": "text", "text": "Hi"}]} for role in ("user", "assistant")]
    kinds = [message["content"][0]["type"] for message in encode_messages(roles, Wire.RESPONSES)]
    assert kinds == ["input_text", "output_text"]


def test_whether_encoding_will_fetch_is_known_beforehand() -> None:
    def asked(part: Any, wire: Wire) -> bool:
        return fetches({"messages": [{"role": "user", "content": ["Hi", part]}]}, wire)

    assert not fetches({"input": "Hi", "messages": [{"role": "user", "content": "Hi"}]}, Wire.OPENAI)
    assert not any(asked(part, wire) for wire in Wire for part in (IMAGE, AUDIO, PAGES))
    assert [asked(IMAGE_URL, wire) for wire in Wire] == [False] * 5 + [True]
    assert [asked(PAGES_URL, wire) for wire in Wire] == [True, False, False, False, False, True]
    assert asked(Audio.from_url("https://example.com/a.wav"), Wire.MISTRAL)
    assert asked(Image.from_url("gs://b/o.png"), Wire.GENAI)  # its type is not known
    assert not asked(Image.from_url("gs://b/o.png", media_type="image/png"), Wire.GENAI)
