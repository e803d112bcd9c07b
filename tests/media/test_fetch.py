"""Fetching under the guard, from servers that mean harm.

All servers listen on loopback addresses: `hostile_server` says which of them plays the internet.
"""

from __future__ import annotations

import gzip
import ipaddress
import socket
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hostile_server import INSIDE, INTERNET, Names, Script, answer, endless, guard, raw, serving
from media_samples import pdf, png, wav

from pageform.clients.encode import Wire, encode_messages
from pageform.media import PDF, Audio, FetchFailed, FetchRefused, Guard, Image, MediaError
from pageform.media.fetch import fetch, load

PNG = png()


def get(script: Script, path: str = "/a.png", names: Names | None = None, **options: Any) -> bytes:
    limit = options.pop("limit", None)
    types = options.pop("types", ())
    with serving(INTERNET, script) as server:
        return fetch(f"http://cdn.example:{server.port}{path}", guard(names, **options), limit, types)


def test_a_file_arrives_and_the_request_gives_nothing_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login ann password secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", f"http://{INSIDE}:9")  # would fail if it were used
    with serving(INTERNET, answer(PNG, content_type="image/png", set_cookie="a=b")) as server:
        url = f"http://cdn.example:{server.port}/ä/a.png?x=1&y=ü#part"
        for _ in range(2):
            assert fetch(url, guard()) == PNG
        for head in server.requests:
            line, *headers = head.decode("ascii").split("\r\n")
            assert line == "GET /%C3%A4/a.png?x=1&y=%C3%BC HTTP/1.1"
            names = {header.partition(":")[0].lower() for header in headers if header}
            assert names == {"host", "accept", "accept-encoding", "user-agent", "connection"}
            assert f"Host: cdn.example:{server.port}" in headers


def test_each_way_to_end_a_body() -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(PNG[i : i + 7]), PNG[i : i + 7]) for i in range(0, len(PNG), 7))
    assert get(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n")) == PNG
    assert get(raw(b"HTTP/1.0 200 OK\r\n\r\n", PNG)) == PNG
    assert get(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) == b""


def test_a_server_that_keeps_the_connection_open_does_not_delay() -> None:
    def script(connection: socket.socket, _: bytes) -> None:
        answer(PNG)(connection, b"")
        threading.Event().wait(3)

    started = time.monotonic()
    assert get(script) == PNG
    assert time.monotonic() - started < 2


# --- where it may go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0"],
)
def test_this_machine_is_out_of_reach_under_all_its_names(host: str) -> None:
    """With the system's own resolver."""
    with serving(INSIDE, answer(PNG)) as server:
        with pytest.raises(FetchRefused):
            fetch(f"http://{host}:{server.port}/a.png", Guard(ports=None))
        assert server.connections == 0
        assert fetch(f"http://{INSIDE}:{server.port}/a.png", Guard(ports=None, allow_private=True)) == PNG


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254", "0.0.0.0"])
def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    names = Names(rebind_example=[INTERNET, address])
    with serving(INSIDE, answer(PNG)) as server:
        with pytest.raises(FetchRefused, match=r"is not public"):
            fetch(f"http://rebind.example:{server.port}/a.png", guard(names))
        assert server.connections == 0


def test_a_name_that_changes_its_address_cannot_win() -> None:
    """DNS rebinding: the second look-up would lead inside. There is none: the connection goes to what was checked."""

    class Rebinding(Names):
        def __call__(self, host: str, port: int) -> list[str]:
            super().__call__(host, port)
            return [INTERNET if len(self.asked) == 1 else INSIDE]

    names = Rebinding()
    with serving(INTERNET, answer(PNG)) as server:
        assert fetch(f"http://rebind.example:{server.port}/a.png", guard(names)) == PNG
        assert len(names.asked) == 1
        with pytest.raises(FetchRefused):
            fetch(f"http://rebind.example:{server.port}/a.png", guard(names))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost.inside:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:{port}/",
        "http://0x7f000001:{port}/",
        "//127.0.0.1:{port}/a",
        "http://cdn.example@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
    ],
)
def test_redirects_are_judged_like_the_first_url(status: str, target: str) -> None:
    names = Names(localhost_inside=[INSIDE])
    with serving(INSIDE, answer(PNG)) as inside:
        location = target.format(port=inside.port)
        with pytest.raises(FetchRefused):
            get(answer(b"", status, location=location), names=names)
        assert inside.connections == 0


def test_redirects_are_followed_within_the_allowed() -> None:
    with serving(INTERNET, answer(PNG)) as last:
        hop = answer(b"moved", "302 Found", location=f"http://other.example:{last.port}/b.png")
        assert get(hop) == PNG
        assert last.requests[0].startswith(b"GET /b.png HTTP/1.1\r\nHost: other.example")
        with pytest.raises(FetchRefused, match="not among those allowed"):
            get(hop, allow_hosts={"cdn.example"})
        with pytest.raises(FetchRefused, match="redirects more than 0 times"):
            get(hop, max_redirects=0)


@pytest.mark.parametrize("location", ["/again", "", "?x"])
def test_redirects_in_a_circle_end(location: str) -> None:
    with pytest.raises(FetchRefused, match="redirects more than 5 times"):
        get(answer(b"", "302 Found", location=location))


def test_ports_are_limited_by_default() -> None:
    with pytest.raises(FetchRefused, match="port"):
        get(answer(PNG), ports=frozenset((80, 443)))


def test_the_next_address_is_tried() -> None:
    with serving(INTERNET, answer(PNG)) as server:
        names = Names(two_example=["127.0.0.3", INTERNET])
        both = guard(names, allow_private=("127.0.0.2/31",))
        assert fetch(f"http://two.example:{server.port}/", both) == PNG


# --- what it may cost ------------------------------------------------------------------------------------------------


HEAD = b"HTTP/1.1 200 OK\r\n"
SLOW = {
    "silence": lambda connection, _: threading.Event().wait(20),
    "a drip of a head": endless(HEAD, b"X", 0.05),
    "a drip of headers": endless(HEAD, b"A: b\r\n", 0.05),
    "a drip of a body": endless(HEAD + b"\r\n", b"x", 0.05),
    "a drip of a body of known length": endless(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 0.05),
    "a drip of chunks": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
    "a drip of a chunk's size": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0", 0.05),
    "a drip of trailers": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n", 0.05),
    "a drip of continues": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
}


@pytest.mark.parametrize("kind", SLOW)
def test_slow_answers_end_in_time(kind: str) -> None:
    started = time.monotonic()
    with pytest.raises(FetchFailed, match=r"longer than 0\.4 s"):
        get(SLOW[kind], timeout=0.4)
    assert time.monotonic() - started < 2


def test_a_slow_look_up_ends_in_time() -> None:
    class Slow(Names):
        def __call__(self, host: str, port: int) -> list[str]:
            threading.Event().wait(5)
            return [INTERNET]

    started = time.monotonic()
    with pytest.raises(FetchFailed, match="longer than"):
        fetch("http://slow.example/a.png", guard(Slow(), timeout=0.3))
    assert time.monotonic() - started < 2


def test_the_time_limit_is_for_all_redirects_together() -> None:
    def slow_hop(connection: socket.socket, _: bytes) -> None:
        threading.Event().wait(0.25)
        answer(b"", "302 Found", location="/again")(connection, b"")

    started = time.monotonic()
    with pytest.raises(FetchFailed, match="longer than"):
        get(slow_hop, timeout=0.6, max_redirects=50)
    assert time.monotonic() - started < 2


LARGE = {
    "declared": raw(HEAD, b"Content-Length: 99999999999\r\n\r\n"),
    "without a length": endless(HEAD + b"\r\n", b"x" * 65536),
    "in chunks": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"),
    "in one chunk": raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", b"x" * 400_000),
}


@pytest.mark.parametrize("kind", LARGE)
def test_large_answers_are_cut_off(kind: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FetchRefused, match="larger than 300000 bytes"):
            get(LARGE[kind], limit=300_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(FetchRefused, match="larger than 300000 bytes"):
        get(LARGE[kind], max_bytes=300_000)


FLOODS = {
    "one endless header": endless(HEAD + b"A: ", b"x" * 65536),
    "endless headers": endless(HEAD, b"A: b\r\n" * 1000),
    "an endless status line": endless(b"", b"H" * 65536),
    "endless continues": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_of_head_end(kind: str) -> None:
    started = time.monotonic()
    with pytest.raises(FetchFailed):
        get(FLOODS[kind], timeout=1.0)
    assert time.monotonic() - started < 3


def test_a_gzip_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 100_000
    for encoding in ("gzip", "deflate", "br", "gzip, gzip"):
        with pytest.raises(FetchRefused, match="encoded as"):
            get(answer(bomb, content_encoding=encoding, content_type="image/png"))


# --- what it may be --------------------------------------------------------------------------------------------------


def load_from(script: Script, kind: Any, name: str = "/file") -> Any:
    with serving(INTERNET, script) as server:
        return load(kind.from_url(f"http://cdn.example:{server.port}{name}"), guard())


def test_media_are_loaded_and_keep_what_was_said_of_them() -> None:
    with serving(INTERNET, answer(PNG, content_type="image/png; q=1")) as server:
        image = Image.from_url(f"http://cdn.example:{server.port}/red.jpg", media_type="image/jpeg")
        loaded = load(image.with_cache_control("5m"), guard())
    assert (loaded.content, loaded.url, loaded.name) == (PNG, None, "red.jpg")
    assert (loaded.media_type, loaded.cache_control.ttl) == ("image/png", "5m")
    assert load(loaded, guard()) is loaded


@pytest.mark.parametrize("declared", ["image/x-odd", "application/octet-stream", "-", ""])
def test_odd_but_possible_types_are_judged_by_the_bytes(declared: str) -> None:
    assert load_from(answer(PNG, content_type=declared), Image).content == PNG
    with pytest.raises(MediaError):
        load_from(answer(pdf(), content_type=declared), Image)


@pytest.mark.parametrize(
    ("kind", "declared"), [(Image, "text/html"), (Image, "application/pdf"), (Audio, "image/png"), (PDF, "text/plain")]
)
def test_other_types_are_refused_before_the_body(kind: Any, declared: str) -> None:
    with pytest.raises(FetchRefused, match="is of type"):
        load_from(endless(HEAD + f"Content-Type: {declared}\r\n\r\n".encode(), b"x" * 1000), kind)


def test_a_page_that_calls_itself_an_image_is_none() -> None:
    with pytest.raises(MediaError, match="not known here"):
        load_from(answer(b"<html>secret</html>", content_type="image/png"), Image)


@pytest.mark.parametrize(
    "status", ["404 Not Found", "500 Oops", "401 Unauthorized", "206 Partial Content", "204 Empty"]
)
def test_other_answers_are_errors(status: str) -> None:
    with pytest.raises(FetchFailed, match=f"answered {status[:3]}"):
        get(answer(b"", status))


@pytest.mark.parametrize(
    "script",
    [
        raw(b""),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        raw(b"HTTP/1.1 abc\r\n\r\n"),
        raw(b"+OK ready\r\n"),
        raw(HEAD, b"Content-Length: 100\r\n\r\n", b"short"),
        raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
        raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nab"),
    ],
)
def test_broken_answers_are_errors(script: Script) -> None:
    with pytest.raises(FetchFailed) as caught:
        get(script, path="/a?token=secret")
    assert "secret" not in str(caught.value)


def test_an_unknown_host_and_a_closed_port_are_errors() -> None:
    with pytest.raises(FetchFailed, match="can't be found"):
        fetch("http://cdn.unknown/a.png", guard())
    with serving(INTERNET, answer(PNG)) as server:
        port = server.port
    with pytest.raises(FetchFailed, match="fetching failed"):
        fetch(f"http://cdn.example:{port}/a.png", guard())


# --- in messages -----------------------------------------------------------------------------------------------------


def test_encoding_fetches_where_the_provider_takes_no_url() -> None:
    with serving(INTERNET, answer(wav(), content_type="audio/x-wav")) as server:
        audio = Audio.from_url(f"http://cdn.example:{server.port}/tone.wav")
        messages = [{"role": "user", "content": ["Listen:", audio]}]
        [message] = encode_messages(messages, Wire.OPENAI, guard())
        assert message["content"][1]["input_audio"] == {"data": Audio(content=wav()).data, "format": "wav"}


def test_what_the_guard_refuses_names_the_part() -> None:
    messages = [{"role": "user", "content": ["Listen:", Audio.from_url("http://127.0.0.1/tone.wav")]}]
    with pytest.raises(FetchRefused, match="not public") as caught:
        encode_messages(messages, Wire.OPENAI)
    assert caught.value.field == "messages[0].content[1]"


def test_the_two_addresses_differ_for_the_guard() -> None:
    """The tests above rest on this: both are loopback, and the guard sees them as different."""
    assert ipaddress.ip_address(INTERNET).is_loopback
    with pytest.raises(FetchRefused):
        guard().admit("http://cdn.example/", [INSIDE])
    assert guard().admit("http://cdn.example/", [INTERNET]) == [INTERNET]
