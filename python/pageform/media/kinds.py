"""The kinds of media: which files each takes, and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Media
from .errors import MediaError

_MIB = 1 << 20
Detail = Literal["low", "high", "auto", "original"]


@dataclass(frozen=True, slots=True, repr=False)
class Image(Media):
    """A picture: `Image.from_path("scan.png")`, `Image.from_url("https://…")`.

    `detail` says how closely the model shall look, where the provider lets one choose (the OpenAI dialects, Cohere,
    Mistral).
    """

    KIND: ClassVar[str] = "image"
    TYPES: ClassVar[frozenset[str]] = frozenset(
        ("image/png", "image/jpeg", "image/gif", "image/webp", "image/heic", "image/heif")
    )
    DECLARED: ClassVar[frozenset[str]] = frozenset(("image/",))
    MAX_BYTES: ClassVar[int] = 20 * _MIB

    detail: Detail | None = None

    def __post_init__(self) -> None:
        Media.__post_init__(self)
        if self.detail not in (None, "low", "high", "auto", "original"):
            raise MediaError("detail", self.detail, "is unknown", 'Use "low", "high", "auto" or "original".')


@dataclass(frozen=True, slots=True, repr=False)
class Audio(Media):
    """A recording: `Audio.from_path("call.wav")`."""

    KIND: ClassVar[str] = "audio"
    TYPES: ClassVar[frozenset[str]] = frozenset(
        f"audio/{name}" for name in ("wav", "mpeg", "flac", "ogg", "mp4", "aac", "aiff", "webm")
    )
    DECLARED: ClassVar[frozenset[str]] = frozenset(
        ("audio/", "application/ogg", "video/mp4", "video/ogg", "video/webm")
    )
    MAX_BYTES: ClassVar[int] = 25 * _MIB


@dataclass(frozen=True, slots=True, repr=False)
class PDF(Media):
    """A document: `PDF.from_path("contract.pdf")`."""

    KIND: ClassVar[str] = "PDF"
    TYPES: ClassVar[frozenset[str]] = frozenset(("application/pdf",))
    DECLARED: ClassVar[frozenset[str]] = frozenset(("application/pdf", "application/x-pdf"))
    MAX_BYTES: ClassVar[int] = 32 * _MIB


KINDS: tuple[type[Media], ...] = (Image, Audio, PDF)
