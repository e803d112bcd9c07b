"""Media in messages, spelled as each provider wants it.

`encode_kwargs` is called once for a call, before `Provider.prepare`: what it returns holds nothing but plain parts of
the wire format, and is sent again as it is when the model is asked again. A URL stays one where the provider fetches
URLs itself; elsewhere it is fetched here, under a guard. What a provider can't take is an error that names the part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..media.base import CacheControl, Media
from ..media.errors import MediaError
from ..media.guard import Guard
from ..media.kinds import PDF, Audio, Image


class Wire(StrEnum):
    """A way to write messages. Services that speak OpenAI's chat API are OPENAI."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    COHERE = "cohere"
    MISTRAL = "mistral"
    GENAI = "genai"


class UnsupportedMedia(MediaError):
    """The provider does not take this kind of part, or not in this message."""


Part = dict[str, Any]
_CONVERSATION = ("messages", "input", "contents")
"""What SDKs call the argument that holds the messages."""
_PARTS = ("content", "parts", "output")
"""What messages call the parts in them."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a wire format takes one kind of media: `part` writes it, `types` are those it takes, `by_url` says whether it
    fetches URLs itself."""

    part: Callable[[Any], Part]
    types: frozenset[str]
    by_url: bool = True


@dataclass(frozen=True, slots=True)
class _Rules:
    text: Callable[[str, str], Part]
    """Text and role → part."""
    kinds: Mapping[type[Media], _Kind]
    roles: frozenset[str] = frozenset(("user",))
    """Roles whose messages may hold media."""


def encode_messages(
    messages: Sequence[Any], wire: Wire, guard: Guard | None = None, field: str = "messages"
) -> list[Any]:
    """The messages with all media, and text beside it, as plain parts of the wire format, in new messages.

    A content may be text, one part, or a list of text, media and parts that are already in its own form, which pass
    unchanged. Text parts (`{"type": "text", "text": …}`) are spelled for it. May fetch, and block: see `fetches`.
    Raises UnsupportedMedia, MediaError, FetchRefused or FetchFailed, each naming the part.
    """
    encoder = _Encoder(_RULES[Wire(wire)], Wire(wire), guard or Guard())
    return [encoder.message(message, f"{field}[{number}]") for number, message in enumerate(messages)]


def encode_kwargs(kwargs: Mapping[str, Any], wire: Wire, guard: Guard | None = None) -> dict[str, Any]:
    """An SDK's kwargs with their conversation encoded: `messages`, or `input` (Responses), or `contents` (GenAI)."""
    encoded = dict(kwargs)
    for name in _CONVERSATION:
        if isinstance(kwargs.get(name), (list, tuple)):
            encoded[name] = encode_messages(kwargs[name], wire, guard, name)
    return encoded


def fetches(kwargs: Mapping[str, Any], wire: Wire) -> bool:
    """Whether `encode_kwargs` will fetch something: async callers let it run in a thread then."""
    media = [part for name in _CONVERSATION for part in _media_in(kwargs.get(name))]
    return any(part.url is not None and not _sent_as_url(part, _RULES[Wire(wire)]) for part in media)


class _Encoder:
    def __init__(self, rules: _Rules, wire: Wire, guard: Guard) -> None:
        self.rules, self.wire, self.guard = rules, wire, guard

    def message(self, message: Any, field: str) -> Any:
        if isinstance(message, (str, Media)) and self.wire is Wire.GENAI:  # `contents` may hold them bare
            return self.part(message, "user", field)
        if not isinstance(message, Mapping):
            return message
        role = str(message.get("role", "user"))
        changed = {}
        for key in _PARTS:
            content = message.get(key)
            if isinstance(content, Media):
                content = [content]
            if isinstance(content, (list, tuple)):
                changed[key] = [self.part(part, role, f"{field}.{key}[{i}]") for i, part in enumerate(content)]
        return {**message, **changed} if changed else message

    def part(self, part: Any, role: str, field: str) -> Any:
        if isinstance(part, str):
            return self.rules.text(part, role)
        if isinstance(part, Media):
            return self.media(part, role, field)
        if isinstance(part, Mapping):
            if part.get("type") == "text" and isinstance(part.get("text"), str):
                extra = {key: value for key, value in part.items() if key not in ("type", "text")}
                return {**self.rules.text(part["text"], role), **extra}
            return self.message(part, field) if _media_in(part) else part  # a tool's result that holds media
        if part is None or isinstance(part, (bytes, int, float, Sequence)) or hasattr(part, "__fspath__"):
            remedy = 'Give text, Image, Audio or PDF (Image.from_path("…")), or a part of the provider\'s own.'
            raise MediaError(field, type(part).__name__, "is no part of a message", remedy)
        return part  # an object of the SDK

    def media(self, media: Media, role: str, field: str) -> Part:
        kind = next((kind for cls, kind in self.rules.kinds.items() if isinstance(media, cls)), None)
        if kind is None:
            taken = " and ".join(sorted(cls.KIND for cls in self.rules.kinds))
            raise UnsupportedMedia(field, media, f"{self.wire} takes no {media.KIND}", f"It takes {taken}.")
        if role not in self.rules.roles:
            allowed = " or ".join(sorted(self.rules.roles))
            reason = f"{self.wire} takes no {media.KIND} in a message of role {role}"
            raise UnsupportedMedia(field, media, reason, f"Put it into a message of role {allowed}.")
        if media.url is not None and not _sent_as_url(media, self.rules):
            from ..media.fetch import load

            try:
                media = load(media, self.guard)
            except MediaError as error:
                raise type(error)(field, error.value, error.reason, error.remedy) from error
        if media.media_type is not None and media.media_type not in kind.types:
            reason = f"{self.wire} takes no {media.KIND} of type {media.media_type}"
            raise UnsupportedMedia(field, media, reason, f"Convert it to one of {', '.join(sorted(kind.types))}.")
        return kind.part(media)


def _sent_as_url(media: Media, rules: _Rules) -> bool:
    kind = next((kind for cls, kind in rules.kinds.items() if isinstance(media, cls)), None)
    if kind is None:
        return True  # nothing is fetched for what will be refused
    if rules is _RULES[Wire.GENAI]:
        return str(media.url).startswith(("gs://", _GOOGLE_FILES)) and media.media_type is not None
    return kind.by_url


def _media_in(value: Any) -> list[Media]:
    if isinstance(value, Media):
        return [value]
    if isinstance(value, Mapping):
        return [media for key in _PARTS for media in _media_in(value.get(key))]
    return [media for item in value for media in _media_in(item)] if isinstance(value, (list, tuple)) else []


# --- how each wire format writes a part ------------------------------------------------------------------------------


def _place(media: Media) -> str:
    """A URL for providers that take either a web URL or a data URI."""
    return media.web_url or str(media.data_uri)


def _detail(media: Media) -> Part:
    return {"detail": media.detail} if isinstance(media, Image) and media.detail is not None else {}


def _type_and_text(text: str, role: str) -> Part:
    return {"type": "text", "text": text}


def _responses_text(text: str, role: str) -> Part:
    return {"type": "output_text" if role == "assistant" else "input_text", "text": text}


def _file_name(media: Media) -> str:
    return media.name or "document.pdf"


def _image_url(media: Media) -> Part:
    return {"type": "image_url", "image_url": {"url": _place(media), **_detail(media)}}


def _openai_audio(media: Media) -> Part:
    form = "wav" if media.media_type == "audio/wav" else "mp3"
    return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}


def _openai_file(media: Media) -> Part:
    return {"type": "file", "file": {"filename": _file_name(media), "file_data": media.data_uri}}


def _responses_image(media: Media) -> Part:
    return {"type": "input_image", "image_url": _place(media), "detail": "auto", **_detail(media)}


def _responses_file(media: Media) -> Part:
    if media.url is not None:
        return {"type": "input_file", "file_url": media.web_url}
    return {"type": "input_file", "filename": _file_name(media), "file_data": media.data_uri}


def _anthropic(kind: str) -> Callable[[Media], Part]:
    def part(media: Media) -> Part:
        source = (
            {"type": "url", "url": media.web_url}
            if media.url is not None
            else {"type": "base64", "media_type": media.media_type, "data": media.data}
        )
        return {"type": kind, "source": source, **_cache_control(media.cache_control)}

    return part


def _cache_control(control: CacheControl | None) -> Part:
    if control is None:
        return {}
    return {"cache_control": {"type": "ephemeral", **({"ttl": control.ttl} if control.ttl else {})}}


def _mistral_audio(media: Media) -> Part:
    return {"type": "input_audio", "input_audio": media.data}


def _mistral_document(media: Media) -> Part:
    name = {"document_name": media.name} if media.name else {}
    return {"type": "document_url", "document_url": _place(media), **name}


def _genai_text(text: str, role: str) -> Part:
    return {"text": text}


def _genai(media: Media) -> Part:
    if media.url is not None:
        return {"file_data": {"file_uri": media.url, "mime_type": media.media_type}}
    return {"inline_data": {"data": media.content, "mime_type": media.media_type}}


_GOOGLE_FILES = "https://generativelanguage.googleapis.com/"
"""Where files lie that were uploaded with the Files API."""


def _types(kind: str, *names: str) -> frozenset[str]:
    return frozenset(f"{kind}/{name}" for name in names)


_WEB_IMAGES = _types("image", "png", "jpeg", "gif", "webp")
_RULES: Mapping[Wire, _Rules] = {
    Wire.OPENAI: _Rules(
        _type_and_text,
        {
            Image: _Kind(_image_url, _WEB_IMAGES),
            Audio: _Kind(_openai_audio, _types("audio", "wav", "mpeg"), by_url=False),
            PDF: _Kind(_openai_file, PDF.TYPES, by_url=False),
        },
    ),
    Wire.RESPONSES: _Rules(
        _responses_text,
        {Image: _Kind(_responses_image, _WEB_IMAGES), PDF: _Kind(_responses_file, PDF.TYPES)},
        # The output of a tool is an item without a role.
    ),
    Wire.ANTHROPIC: _Rules(
        _type_and_text,
        {Image: _Kind(_anthropic("image"), _WEB_IMAGES), PDF: _Kind(_anthropic("document"), PDF.TYPES)},
    ),
    Wire.COHERE: _Rules(_type_and_text, {Image: _Kind(_image_url, _WEB_IMAGES)}),
    Wire.MISTRAL: _Rules(
        _type_and_text,
        {
            Image: _Kind(_image_url, _WEB_IMAGES),
            Audio: _Kind(_mistral_audio, Audio.TYPES, by_url=False),
            PDF: _Kind(_mistral_document, PDF.TYPES),
        },
        frozenset(("user", "tool")),
    ),
    Wire.GENAI: _Rules(
        _genai_text,
        {
            Image: _Kind(_genai, _types("image", "png", "jpeg", "webp", "heic", "heif"), by_url=False),
            Audio: _Kind(_genai, Audio.TYPES, by_url=False),
            PDF: _Kind(_genai, PDF.TYPES, by_url=False),
        },
    ),
}

__all__ = ["UnsupportedMedia", "Wire", "encode_kwargs", "encode_messages", "fetches"]
