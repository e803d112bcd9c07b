"""Telling media from text: what `autodetect_images` does to a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import CacheControl, Media
from .errors import MediaError
from .kinds import KINDS, Image
from .sniff import media_type_of

_SUFFIXES = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".webp", ".heic", ".heif"), 0),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".weba"), 1),
    ".pdf": 2,
}
"""Ending of a URL's path → number in KINDS. Only for URLs, whose bytes are not at hand."""


def detect(source: str | Path | bytes) -> Media:
    """The image, recording or document that `source` is. Raises MediaError if it is none.

    A URL is judged by the ending of its path, all else by its bytes. A string that names an existing file is read:
    don't pass on strings that strangers wrote.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://", "gs://")):
        path = source.partition("?")[0].partition("#")[0]
        number = _SUFFIXES.get("." + path.rpartition(".")[2].lower())
        if number is None:
            remedy = "Use Image.from_url, Audio.from_url or PDF.from_url."
            raise MediaError("url", path, "does not end like the name of an image, a recording or a PDF", remedy)
        return KINDS[number].from_url(source)
    errors = []
    for kind in KINDS:
        try:
            return kind.autodetect(source)
        except MediaError as error:
            errors.append(error)
    # Of three complaints the one by the kind that the bytes are of says most; without any, all say the same.
    content = bytes(source) if isinstance(source, (bytes, bytearray)) else b""
    media_type = media_type_of(content)
    fitting = [error for kind, error in zip(KINDS, errors, strict=True) if media_type in kind.TYPES]
    raise (fitting or errors)[0]


def detect_messages(messages: Sequence[Any]) -> list[Any]:
    """A conversation with the strings that are media replaced by them, in new messages.

    A part of a content list may be a URL, a data URI, a path or base64 text, or `{"type": "image", "source": …,
    "cache_control": …}`; a content that is one string is looked at too. Text stays text, and so does what the user did
    not write: what a model or a tool said names no file to read.
    """
    return [_detected_in(message) for message in messages]


def _detected_in(message: Any) -> Any:
    if not isinstance(message, Mapping) or message.get("role", "user") != "user":
        return message
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        parts: Any = [_detected(part) for part in content]
    else:
        parts = _detected(content)
    return message if parts is content or parts == content else {**message, "content": parts}


def _detected(part: Any) -> Any:
    if isinstance(part, str):
        try:
            return detect(part)
        except MediaError:
            return part
    if isinstance(part, Mapping) and part.get("type") == "image" and isinstance(part.get("source"), (str, Path, bytes)):
        image = Image.autodetect(part["source"])
        control = part.get("cache_control")
        return image if not control else image.with_cache_control(CacheControl(control.get("ttl")).ttl)
    return part
