"""Media in messages: what each provider is sent, checked against the SDKs' own parameter types."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import pytest
from media_samples import GIF, HEADS, pdf, png, wav
from pydantic import TypeAdapter

from pageform.clients.encode import Dialect, UnsupportedMedia, encode_kwargs, encode_messages, fetches
from pageform.media import PDF, Audio, Image, MediaError

PNG, WAV, DOCUMENT = png(), wav(), pdf()
IMAGE = Image.from_bytes(PNG, name="red.png")
IMAGE_URL = Image.from_url("https://example.com/red.png?sig=1")
AUDIO = Audio.from_bytes(WAV, name="tone.wav")
PAGES = PDF.from_bytes(DOCUMENT, name="page.pdf")
PAGES_URL = PDF.from_url("https://example.com/page.pdf")
B64 = {name: base64.b64encode(data).decode() for name, data in (("png", PNG), ("wav", WAV), ("pdf", DOCUMENT))}


def checker(dialect: Dialect) -> Callable[[Any], Any]:
    """Validates an encoded message with the SDK's own types; for TypedDicts extra keys are errors too."""
    if dialect is Dialect.OPENAI:
        from openai.types.chat import ChatCompletionMessageParam as OpenAIMessage

        return lambda message: _same(TypeAdapter(OpenAIMessage), message)
    if dialect is Dialect.RESPONSES:
        from openai.types.responses import EasyInputMessageParam

        return lambda message: _same(TypeAdapter(EasyInputMessageParam), message)
    if dialect is Dialect.ANTHROPIC:
        from anthropic.types import MessageParam

        return lambda message: _same(TypeAdapter(MessageParam), message)
    if dialect is Dialect.COHERE:
        from cohere.types.content import ImageUrlContent, TextContent

        parts = {"text": TextContent, "image_url": ImageUrlContent}
        return lambda message: [parts[part["type"]].model_validate(part, strict=True) for part in message["content"]]
    if dialect is Dialect.MISTRAL:
        from mistralai.client.models import ToolMessage, UserMessage

        def check(message: Any) -> Any:
            back = {"user": UserMessage, "tool": ToolMessage}[message["role"]].model_validate(message)
            assert not any(type(chunk).__name__ == "UnknownContentChunk" for chunk in back.content)
            assert back.model_dump(mode="json", exclude_unset=True)["content"] == message["content"]

        return check
    from google.genai import types

    return lambda message: types.Content.model_validate({"role": "user", "parts": message["content"]})


def _same(adapter: TypeAdapter[Any], message: Any) -> None:
    """Validates, and looks that the type knows every key: pydantic drops those of a TypedDict that it doesn't."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else [plain(i) for i in value]

    assert plain(adapter.validate_python(message)) == message


EXPECTED: dict[Dialect, dict[Any, dict[str, Any]]] = {
    Dialect.OPENAI: {
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
    Dialect.RESPONSES: {
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
    Dialect.ANTHROPIC: {
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
    Dialect.COHERE: {
        "Hi": {"type": "text", "text": "Hi"},
        IMAGE: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64['png']}"}},
        IMAGE_URL: {"type": "image_url", "image_url": {"url": "https://example.com/red.png?sig=1"}},
    },
    Dialect.MISTRAL: {
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
    Dialect.GENAI: {
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
ROWS = [(dialect, part) for dialect, parts in EXPECTED.items() for part in parts]


@pytest.mark.parametrize(("dialect", "part"), ROWS, ids=lambda value: repr(value))
def test_each_part_is_what_the_sdk_takes(dialect: Dialect, part: Any) -> None:
    [message] = encode_messages([{"role": "user", "content": ["Look:", part]}], dialect)
    assert message["role"] == "user"
    assert message["content"][1] == EXPECTED[dialect][part]
    checker(dialect)(message)


@pytest.mark.parametrize("dialect", Dialect)
def test_a_part_alone_is_a_content(dialect: Dialect) -> None:
    [message] = encode_messages([{"role": "user", "content": IMAGE}], dialect)
    assert message["content"] == [EXPECTED[dialect][IMAGE]]


@pytest.mark.parametrize("dialect", Dialect)
def test_messages_are_not_changed_and_plain_ones_are_passed_on(dialect: Dialect) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ["What is this?", IMAGE, {"type": "custom", "x": [1]}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ]
    before = copy.deepcopy(messages)
    encoded = encode_messages(messages, dialect)
    assert messages == before
    assert encoded[0] is messages[0]
    assert encoded[2] is messages[2]
    assert encoded[1]["name"] == "ann"
    assert encoded[1]["content"][2] == {"type": "custom", "x": [1]}


UNSUPPORTED = [
    (Dialect.RESPONSES, "user", AUDIO, "responses takes no audio"),
    (Dialect.ANTHROPIC, "user", AUDIO, "anthropic takes no audio"),
    (Dialect.COHERE, "user", AUDIO, "cohere takes no audio"),
    (Dialect.COHERE, "user", PAGES, "cohere takes no PDF"),
    (Dialect.OPENAI, "system", IMAGE, "no image in a message of role system"),
    (Dialect.OPENAI, "tool", IMAGE, "no image in a message of role tool"),
    (Dialect.ANTHROPIC, "assistant", PAGES, "no PDF in a message of role assistant"),
    (Dialect.OPENAI, "user", Audio(content=HEADS["audio/flac"]), "no audio of type audio/flac"),
    (Dialect.ANTHROPIC, "user", Image(content=HEADS["image/heic"]), "no image of type image/heic"),
    (Dialect.GENAI, "user", Image(content=GIF), "no image of type image/gif"),
]


@pytest.mark.parametrize(("dialect", "role", "part", "reason"), UNSUPPORTED)
def test_what_a_provider_cannot_take_is_an_error_that_names_the_part(
    dialect: Dialect, role: str, part: Any, reason: str
) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": role, "content": ["Look:", part]}]
    with pytest.raises(UnsupportedMedia, match=reason) as caught:
        encode_messages(messages, dialect)
    assert caught.value.field == "messages[1].content[1]"
    assert caught.value.remedy
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("odd", [b"bytes", 7, None, ["nested"], __import__("pathlib").Path("x.png")])
def test_what_is_no_part_is_an_error(odd: Any) -> None:
    with pytest.raises(MediaError, match="is no part of a message") as caught:
        encode_messages([{"role": "user", "content": ["Hi", odd]}], Dialect.OPENAI)
    assert caught.value.field == "messages[0].content[1]"


def test_media_within_a_tools_result() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": ["A plot:", IMAGE]}
    [message] = encode_messages([{"role": "user", "content": [result]}], Dialect.ANTHROPIC)
    parts = EXPECTED[Dialect.ANTHROPIC]
    assert message["content"] == [{**result, "content": [{"type": "text", "text": "A plot:"}, parts[IMAGE]]}]
    checker(Dialect.ANTHROPIC)(message)
    output = {"type": "function_call_output", "call_id": "c1", "output": [IMAGE]}
    [item] = encode_messages([output], Dialect.RESPONSES)
    assert item == {**output, "output": [EXPECTED[Dialect.RESPONSES][IMAGE]]}
    [message] = encode_messages([{"role": "tool", "content": [IMAGE], "tool_call_id": "c"}], Dialect.MISTRAL)
    checker(Dialect.MISTRAL)(message)


def test_the_conversation_is_found_under_each_sdks_name() -> None:
    messages = [{"role": "user", "content": ["Hi", IMAGE]}]
    for name, dialect in (("messages", Dialect.OPENAI), ("input", Dialect.RESPONSES), ("contents", Dialect.GENAI)):
        kwargs = encode_kwargs({"model": "m", name: messages}, dialect)
        assert kwargs["model"] == "m"
        assert kwargs[name][0]["content"] == [EXPECTED[dialect]["Hi"], EXPECTED[dialect][IMAGE]]
    assert encode_kwargs({"input": "plain text"}, Dialect.RESPONSES) == {"input": "plain text"}
    mixed = encode_kwargs({"contents": ["Hi", IMAGE, {"role": "user", "parts": [PAGES]}]}, Dialect.GENAI)["contents"]
    genai = EXPECTED[Dialect.GENAI]
    assert mixed == [genai["Hi"], genai[IMAGE], {"role": "user", "parts": [genai[PAGES]]}]


def test_text_parts_are_spelled_for_the_dialect_and_keep_their_extras() -> None:
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    [message] = encode_messages([{"role": "user", "content": [part]}], Dialect.ANTHROPIC)
    assert message["content"] == [part]
    roles = [{"role": role, "content": [{"type": "text", "text": "Hi"}]} for role in ("user", "assistant")]
    kinds = [message["content"][0]["type"] for message in encode_messages(roles, Dialect.RESPONSES)]
    assert kinds == ["input_text", "output_text"]


def test_whether_encoding_will_fetch_is_known_beforehand() -> None:
    def asked(part: Any, dialect: Dialect) -> bool:
        return fetches([{"role": "user", "content": ["Hi", part]}], dialect)

    assert not fetches([{"role": "user", "content": "Hi"}], Dialect.OPENAI)
    assert not any(asked(part, dialect) for dialect in Dialect for part in (IMAGE, AUDIO, PAGES))
    assert [asked(IMAGE_URL, dialect) for dialect in Dialect] == [False] * 5 + [True]
    assert [asked(PAGES_URL, dialect) for dialect in Dialect] == [True, False, False, False, False, True]
    assert asked(Audio.from_url("https://example.com/a.wav"), Dialect.MISTRAL)
    assert asked(Image.from_url("gs://b/o.png"), Dialect.GENAI)  # its type is not known
    assert not asked(Image.from_url("gs://b/o.png", media_type="image/png"), Dialect.GENAI)
