"""What kind of file some bytes are, by their first bytes; names and declared types are not believed."""

from __future__ import annotations

_PREFIXES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", "audio/webm"),
)
_CONTAINERS = {(b"RIFF", b"WEBP"): "image/webp", (b"RIFF", b"WAVE"): "audio/wav", (b"FORM", b"AIFF"): "audio/aiff"}
"""First four bytes and bytes 8 to 12."""
_BRANDS = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"avif": "image/avif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
}
"""Major brands of ISO base media files (bytes 8 to 12, after `ftyp`)."""
_PDF_HEADER_WITHIN = 1024
"""Readers accept a PDF whose header starts within its first 1024 bytes (Adobe's PDF reference 1.7, note 13)."""


def media_type_of(content: bytes) -> str | None:
    """The media type of a file's content, None for what is neither an image, audio nor a PDF that is known here."""
    head = content[:12]
    for prefix, media_type in _PREFIXES:
        if head.startswith(prefix):
            return media_type
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    container = _CONTAINERS.get((head[:4], head[8:12]))
    if container is not None:
        return container
    if b"%PDF-" in content[: _PDF_HEADER_WITHIN + 5]:
        return "application/pdf"
    return _frame_type(head)


def _frame_type(head: bytes) -> str | None:
    """Bare MPEG audio frames, which have no header but eleven set bits. Layer 0 is AAC in ADTS; of MPEG's own layers,
    a bit rate of 15, a sample rate of 3 and version 1 are not used."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        return "audio/aac" if head[1] & 0xF0 == 0xF0 else None
    return "audio/mpeg" if version != 1 and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3 else None
