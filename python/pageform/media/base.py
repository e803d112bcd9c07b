"""A part of a message that is no text: bytes of a known kind, or where to find them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote, unquote

from .errors import MediaError
from .guard import checked_url, shown
from .sniff import media_type_of

GOOGLE_STORAGE = "https://storage.googleapis.com/"
"""Where objects of Google Cloud Storage that are public can be fetched over https."""
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class CacheControl:
    """Asks the provider to keep the prompt up to and including this part. `ttl` of None is the provider's default."""

    ttl: Literal["5m", "1h"] | None = None

    def __post_init__(self) -> None:
        if self.ttl not in (None, "5m", "1h"):
            raise MediaError("ttl", self.ttl, "is not a lifetime that providers have", 'Use "5m", "1h" or None.')


@dataclass(frozen=True, slots=True)
class Media:
    """Use a kind: `Image`, `Audio` or `PDF`. Holds `content` or a `url`, never both.

    `media_type` is read off the content; for a URL it is what the caller says, or None. `name` is the file name that
    providers show the model. `cache_control` matters where a provider has it (Anthropic) and nothing is lost elsewhere.
    """

    KIND: ClassVar[str] = "media"
    TYPES: ClassVar[frozenset[str]] = frozenset()
    DECLARED: ClassVar[frozenset[str]] = frozenset()
    """What servers may call such a file; `"image/"` stands for all types below it."""
    MAX_BYTES: ClassVar[int] = 0
    """Largest content, in bytes, that is taken unless the caller allows more."""

    content: bytes | None = field(default=None, repr=False)
    url: str | None = None
    media_type: str | None = None
    name: str | None = None
    cache_control: CacheControl | None = None

    def __post_init__(self) -> None:
        if (self.content is None) == (self.url is None):
            remedy = "Give exactly one of content and url, or use from_path, from_url or from_base64."
            raise MediaError(self.KIND, self.url, "needs either its bytes or a URL", remedy)
        if self.content is not None:
            object.__setattr__(self, "media_type", self._type_of(self.content))
        elif self.media_type is None and len(self.TYPES) == 1:
            object.__setattr__(self, "media_type", *self.TYPES)
        elif self.media_type is not None and self.media_type not in self.TYPES:
            self._refuse_type(self.media_type)

    def __repr__(self) -> str:
        where = shown(self.url) if self.url is not None else f"{len(self.content or b'')} bytes"
        return f"{type(self).__name__}({self.media_type or 'unknown type'}, {where})"

    # --- where it comes from -----------------------------------------------------------------------------------------

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str | None = None, max_bytes: int | None = None) -> Self:
        """The content itself. Raises MediaError when it is empty, too large or of another kind."""
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise MediaError(cls.KIND, type(content).__name__, "is not bytes", "Use from_path or from_base64.")
        cls._check_size(len(content), name or "the content", max_bytes)
        return cls(content=bytes(content), name=name)

    @classmethod
    def from_path(cls, path: str | Path, *, max_bytes: int | None = None) -> Self:
        """A local file, read now. Raises MediaError when it is no regular file, empty, too large or of another kind."""
        path = Path(path)
        limit = cls.MAX_BYTES if max_bytes is None else max_bytes
        try:
            if not path.is_file():  # a pipe or a device might never end
                remedy = "Give the path of an existing file."
                raise MediaError("path", str(path), "is no file" if path.exists() else "does not exist", remedy)
            with path.open("rb") as file:
                content = file.read(limit + 1)
        except (OSError, ValueError) as error:
            if isinstance(error, MediaError):
                raise
            raise MediaError("path", str(path), f"can't be read: {error}", "Check the path and its rights.") from error
        return cls.from_bytes(content, name=path.name, max_bytes=limit)

    @classmethod
    def from_base64(cls, data_uri: str, *, max_bytes: int | None = None) -> Self:
        """A data URI (`data:image/png;base64,…`). The type that it declares is not believed: the bytes decide."""
        header = _DATA_URI.match(data_uri) if isinstance(data_uri, str) else None
        if header is None:
            remedy = "Give data:<type>;base64,<data>, or use from_raw_base64 for the data alone."
            raise MediaError(cls.KIND, _clip(data_uri), "is not a base64 data URI", remedy)
        return cls.from_raw_base64(data_uri[header.end() :], max_bytes=max_bytes)

    @classmethod
    def from_raw_base64(cls, data: str, *, max_bytes: int | None = None) -> Self:
        """Base64 text without a header; white space in it is skipped."""
        if not isinstance(data, str):
            raise MediaError(cls.KIND, type(data).__name__, "is not base64 text", "Use from_bytes for bytes.")
        cls._check_size(len(data) * 3 // 4 - 2, "the base64 text", max_bytes)
        try:
            content = base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise MediaError(cls.KIND, _clip(data), f"is not base64: {error}", "Check where it was cut.") from error
        return cls.from_bytes(content, max_bytes=max_bytes)

    @classmethod
    def from_url(cls, url: str, *, media_type: str | None = None) -> Self:
        """An http or https URL, which the provider fetches where it takes URLs, and pageform under its guard elsewhere.
        Nothing is fetched now. gs: and data: URLs are taken too."""
        if isinstance(url, str) and url.startswith("gs://"):
            return cls.from_gs_url(url, media_type=media_type)
        if isinstance(url, str) and url.startswith("data:"):
            return cls.from_base64(url)
        parts = checked_url(url)
        return cls(url=url, media_type=media_type, name=_name_in(parts.path))

    @classmethod
    def from_gs_url(cls, url: str, *, media_type: str | None = None) -> Self:
        """An object of Google Cloud Storage: `gs://bucket/object`. Google's models read it as it is if `media_type` is
        given; else, and for others, it must be public."""
        bucket, _, name = url.removeprefix("gs://").partition("/") if isinstance(url, str) else ("", "", "")
        if not isinstance(url, str) or not url.startswith("gs://") or not bucket or not name or not url.isprintable():
            raise MediaError("url", _clip(url), "is not a gs:// URL", "Give gs://bucket/object.")
        return cls(url=url, media_type=media_type, name=_name_in(name))

    @classmethod
    def autodetect(cls, source: str | Path | bytes) -> Self:
        """From whatever `source` is: bytes, a path, an http(s), gs or data URL, or base64 text.

        A string that names an existing file is read: don't pass on strings that strangers wrote.
        """
        if isinstance(source, (bytes, bytearray)):
            return cls.from_bytes(source)
        if isinstance(source, Path):
            return cls.from_path(source)
        if not isinstance(source, str):
            remedy = "Give bytes, a path, a URL or base64 text."
            raise MediaError(cls.KIND, type(source).__name__, "is no source of media", remedy)
        if re.match(r"(?:data:|gs://|https?://)", source, re.IGNORECASE):
            return cls.from_url(source)
        if _is_file(source):
            return cls.from_path(source)
        try:
            return cls.from_raw_base64(source)
        except MediaError as error:
            reason = "is neither a URL, an existing file nor base64 of such a file"
            raise MediaError(cls.KIND, _clip(source), reason, error.remedy) from error

    @classmethod
    def autodetect_safely(cls, source: str | Path | bytes) -> Self | str:
        """Like `autodetect`, but a source that is no such media comes back as text."""
        try:
            return cls.autodetect(source)
        except MediaError:
            return str(source)

    # --- what it is --------------------------------------------------------------------------------------------------

    def with_cache_control(self, ttl: Literal["5m", "1h"] | None = None) -> Self:
        """The same part, asking the provider to cache the prompt up to it."""
        return replace(self, cache_control=CacheControl(ttl))

    def loaded(self, content: bytes) -> Self:
        """The same part with the bytes that its URL led to. Raises MediaError when they are of another kind."""
        self._check_size(len(content), shown(self.url or ""), None)
        return replace(self, content=content, url=None, media_type=None)

    @property
    def data(self) -> str | None:
        """The content as base64 text, None for a URL."""
        return None if self.content is None else base64.b64encode(self.content).decode("ascii")

    @property
    def data_uri(self) -> str | None:
        """The content as a data URI, None for a URL."""
        return None if self.content is None else f"data:{self.media_type};base64,{self.data}"

    @property
    def web_url(self) -> str | None:
        """The URL as http or https, None for content."""
        if self.url is not None and self.url.startswith("gs://"):
            return GOOGLE_STORAGE + quote(self.url.removeprefix("gs://"))
        return self.url

    @classmethod
    def _check_size(cls, size: int, what: str, max_bytes: int | None) -> None:
        limit = cls.MAX_BYTES if max_bytes is None else max_bytes
        if size > limit:
            reason = f"is larger than the {limit} bytes allowed for {cls.KIND}"
            raise MediaError(cls.KIND, what, reason, "Make it smaller, or allow more with max_bytes.")

    @classmethod
    def _type_of(cls, content: bytes) -> str:
        if not content:
            raise MediaError(cls.KIND, content, "is empty", "Give a file with content.")
        media_type = media_type_of(content)
        if media_type not in cls.TYPES:
            cls._refuse_type(media_type)
        return str(media_type)

    @classmethod
    def _refuse_type(cls, media_type: str | None) -> None:
        what = "of a type that is not known here" if media_type is None else f"not a type of {cls.KIND} that is taken"
        reason, remedy = f"is {what}", f"{cls.__name__} takes {', '.join(sorted(cls.TYPES))}."
        raise MediaError(cls.KIND, media_type, reason, remedy)


def _name_in(path: str) -> str | None:
    return unquote(path).rsplit("/", 1)[-1] or None


def _is_file(source: str) -> bool:
    """Whether a string names an existing file; long texts and odd characters are no names."""
    try:
        return len(source) < 4096 and Path(source).is_file()
    except (OSError, ValueError):
        return False


def _clip(value: Any) -> Any:
    return value[:60] + "…" if isinstance(value, str) and len(value) > 60 else value
