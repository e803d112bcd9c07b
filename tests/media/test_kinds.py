"""Images, recordings and documents: where they come from, what they are taken for, what is refused."""

from __future__ import annotations

import base64
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_samples import HEADS, pdf, png, wav

from pageform.media import PDF, Audio, CacheControl, FetchRefused, Image, Media, MediaError, detect, detect_messages
from pageform.media.sniff import media_type_of

KINDS = {"image": Image, "audio": Audio, "application": PDF}


def kind_of(media_type: str) -> type[Media]:
    return KINDS[media_type.split("/")[0]]


@pytest.mark.parametrize("media_type", HEADS)
def test_the_bytes_say_what_a_file_is(media_type: str, tmp_path: Path) -> None:
    content, kind = HEADS[media_type], kind_of(media_type)
    lying = tmp_path / "file.txt"
    lying.write_bytes(content)
    text = base64.b64encode(content).decode()
    ways = [
        kind.from_bytes(content),
        kind.from_path(lying),
        kind.from_base64(f"data:image/gif;charset=x;base64,{text}"),
        kind.from_raw_base64("\n".join(text[i : i + 20] for i in range(0, len(text), 20))),
        kind.autodetect(content),
        kind.autodetect(lying),
        kind.autodetect(str(lying)),
        kind.autodetect(text),
        detect(content),
        detect(lying),
    ]
    for media in ways:
        assert type(media) is kind
        assert (media.media_type, media.content) == (media_type, content)
        assert media.data == text
        assert media.data_uri == f"data:{media_type};base64,{text}"


@pytest.mark.parametrize("media_type", HEADS)
def test_a_file_of_another_kind_is_refused(media_type: str) -> None:
    for kind in {Image, Audio, PDF} - {kind_of(media_type)}:
        with pytest.raises(MediaError, match=media_type):
            kind.from_bytes(HEADS[media_type])
        with pytest.raises(MediaError):
            kind.autodetect(HEADS[media_type])


@pytest.mark.parametrize("head", [b"\xff\xfb\x90\x64", b"\xff\xf3\x40\xc4", b"\xff\xfa\x50\x00"])
def test_bare_mpeg_frames(head: bytes) -> None:
    assert media_type_of(head + b"\0" * 20) == "audio/mpeg"


@pytest.mark.parametrize(
    "content",
    [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", b"\xff\xff\xff\xff", b"hello", b"\0" * 64, b"%"],
)
def test_what_is_none_of_them(content: bytes) -> None:
    assert media_type_of(content) is None
    for kind in (Image, Audio, PDF):
        with pytest.raises(MediaError, match="not known here"):
            kind.from_bytes(content)


def test_a_pdf_may_begin_after_other_bytes() -> None:
    assert PDF.from_bytes(b"\r\n" * 100 + pdf()).media_type == "application/pdf"
    assert media_type_of(b"x" * 1025 + pdf()) is None


@given(st.binary(max_size=2000))
def test_any_bytes_are_media_or_an_error(content: bytes) -> None:
    for kind in (Image, Audio, PDF):
        try:
            media = kind.from_bytes(content)
        except MediaError:
            assert media_type_of(content) not in kind.TYPES
        else:
            assert media.content == content
            assert media.media_type in kind.TYPES


@given(st.text(max_size=300))
def test_any_text_is_media_or_stays_text(text: str) -> None:
    for kind in (Image, Audio, PDF):
        found = kind.autodetect_safely(text)
        assert found == text or isinstance(found, kind)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Image.from_bytes(b""), "is empty"),
        (lambda: Image.from_bytes(png(), max_bytes=10), "larger than the 10 bytes"),
        (lambda: Image.from_bytes("text"), "is not bytes"),
        (lambda: Image.from_raw_base64(b"bytes"), "is not base64 text"),
        (lambda: Image.from_raw_base64("ab!?"), "is not base64"),
        (lambda: Image.from_raw_base64("A" * 1000, max_bytes=100), "larger than the 100 bytes"),
        (lambda: Image.from_base64("image/png;base64,aaaa"), "is not a base64 data URI"),
        (lambda: Image.from_base64("data:image/png,raw"), "is not a base64 data URI"),
        (lambda: Image.from_path("/nowhere/at/all.png"), "does not exist"),
        (lambda: Image.from_path("/"), "is no file"),
        (lambda: Image.from_path("a\0b"), "can't be read|does not exist"),
        (lambda: Image.from_url("ftp://example.com/a.png"), "neither http nor https"),
        (lambda: Image.from_url("https://ann:secret@example.com/a.png"), "user name or password"),
        (lambda: Image.from_url("https://example.com/a.png", media_type="text/html"), "text/html"),
        (lambda: Image.from_gs_url("gs://bucket"), "is not a gs:// URL"),
        (lambda: Image.autodetect("no such file"), "neither a URL, an existing file nor base64"),
        (lambda: Image.autodetect(7), "is no source of media"),
        (lambda: Image(), "needs either its bytes or a URL"),
        (lambda: Image(content=png(), url="https://example.com"), "needs either its bytes or a URL"),
        (lambda: Image(content=png(), detail="close"), "is unknown"),
        (lambda: CacheControl("2d"), "not a lifetime"),
    ],
)
def test_bad_input_is_a_clear_error(make: Any, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    assert caught.value.remedy
    assert len(str(caught.value)) < 500
    assert "secret" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MediaError, match="is no file"):
        Image.from_path(tmp_path / "pipe.png")


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.write(png())
        file.truncate(1 << 40)  # sparse: no disk is used, and reading it would not end
    with pytest.raises(MediaError, match="is larger than"):
        Image.from_path(huge)


def test_parts_are_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(png())
    image = Image.from_path(path)
    assert image == Image.from_bytes(png(), name="red.png")
    assert len({image, Image.from_bytes(png(), name="red.png"), image.with_cache_control("1h")}) == 2
    assert pickle.loads(pickle.dumps(image)) == image
    assert image.with_cache_control("1h").cache_control == CacheControl("1h")
    assert image.cache_control is None
    with pytest.raises(AttributeError):
        image.name = "other.png"  # type: ignore[misc]
    assert repr(image) == f"Image(image/png, {len(png())} bytes)"
    signed = Audio.from_url("https://example.com/a.wav?signature=secret#x")
    assert repr(signed) == "Audio(unknown type, https://example.com/a.wav?…)"
    assert (signed.name, signed.data, signed.data_uri) == ("a.wav", None, None)


def test_urls_of_all_sorts() -> None:
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    assert Image.from_url(uri).content == png()
    stored = PDF.from_url("gs://bucket/some folder/page 1.pdf")
    assert stored.url == "gs://bucket/some folder/page 1.pdf"
    assert stored.web_url == "https://storage.googleapis.com/bucket/some%20folder/page%201.pdf"
    assert (stored.name, stored.media_type) == ("page 1.pdf", "application/pdf")
    with pytest.raises(FetchRefused):
        Image.from_url("https://exa mple.com/")


def test_detecting_by_the_ending_of_a_url_or_by_the_bytes() -> None:
    assert isinstance(detect("https://example.com/a/red.PNG?x=.pdf"), Image)
    assert isinstance(detect("https://example.com/call.mp3"), Audio)
    assert isinstance(detect("gs://bucket/page.pdf"), PDF)
    assert isinstance(detect(wav()), Audio)
    with pytest.raises(MediaError, match="does not end like"):
        detect("https://example.com/page")
    with pytest.raises(MediaError, match="not known here"):
        detect(b"hello")


def test_detecting_in_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(png())
    messages = [
        {"role": "system", "content": "See https://example.com/a.png and answer."},
        {"role": "user", "content": ["What is this?", str(path), "https://example.com/a.png", {"type": "text"}]},
        {"role": "user", "content": "https://example.com/page.pdf"},
        {"role": "user", "content": {"type": "image", "source": str(path), "cache_control": {"type": "ephemeral"}}},
        {"role": "assistant", "content": None},
    ]
    found = detect_messages(messages)
    assert found[0] is messages[0]
    assert found[1]["content"] == [
        "What is this?",
        Image.from_path(path),
        Image.from_url("https://example.com/a.png"),
        {"type": "text"},
    ]
    assert found[2]["content"] == PDF.from_url("https://example.com/page.pdf")
    assert found[3]["content"] == Image.from_path(path).with_cache_control()
    assert found[4] is messages[4]
    assert messages[1]["content"][1] == str(path)
