"""Small files made here: a picture, a recording, a document, and the heads of other formats."""

from __future__ import annotations

import io
import struct
import wave
import zlib


def png(width: int = 4, height: int = 3, color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A picture of one colour that any viewer shows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + bytes(color) * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(samples: int = 80) -> bytes:
    """A hundredth of a second of a saw tooth, 8 kHz, 16 bits, mono."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", (i % 20 - 10) * 1000) for i in range(samples)))
    return buffer.getvalue()


def pdf(text: str = "Hello") -> bytes:
    """One page with one line of text, with a correct table of objects."""
    stream = f"BT /F1 24 Tf 40 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return (
        out
        + head
        + table
        + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (
            len(objects) + 1,
            len(out),
        )
    )


GIF = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"

HEADS = {
    "image/png": png(),
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01",
    "image/gif": GIF,
    "image/webp": b"RIFF\x1a\0\0\0WEBPVP8L\r\0\0\0/\0\0\0",
    "image/heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "image/heif": b"\0\0\0\x18ftypmif1\0\0\0\0mif1",
    "audio/wav": wav(),
    "audio/mpeg": b"ID3\x04\0\0\0\0\0\0TAG",
    "audio/flac": b"fLaC\0\0\0\x22",
    "audio/ogg": b"OggS\0\x02\0\0\0\0\0\0",
    "audio/mp4": b"\0\0\0\x20ftypM4A \0\0\0\0",
    "audio/aac": b"\xff\xf1\x50\x80\x2e\x7f\xfc\x21",
    "audio/aiff": b"FORM\0\0\0\x2eAIFFCOMM",
    "audio/webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01",
    "application/pdf": pdf(),
}
"""Media type → content that begins like such a file."""
