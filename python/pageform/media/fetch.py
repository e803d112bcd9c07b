"""Fetching the bytes of media under a `Guard`. The only module of media that opens a connection.

http.client, since it lets a connection be pinned to an address that was checked, reads no proxy settings, sends no
cookies and follows no redirects by itself. Blocking: call it in a thread from async code.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin

from .base import Media
from .errors import FetchFailed, FetchRefused
from .guard import Guard, host_of, is_address, port_of, shown

M = TypeVar("M", bound=Media)

_CHUNK = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_ANY_TYPE = ("", "application/octet-stream", "binary/octet-stream", "application/binary")
"""What servers send for files whose type they don't know: the bytes decide then, as they do anyway."""


def load(media: M, guard: Guard | None = None) -> M:
    """The same part with its bytes in place of its URL; content is returned as it is.

    Raises FetchRefused, FetchFailed, or MediaError when the bytes are of another kind.
    """
    if media.web_url is None:
        return media
    guard = guard or Guard()
    return media.loaded(fetch(media.web_url, guard, min(guard.max_bytes, media.MAX_BYTES), types=media.DECLARED))


def fetch(url: str, guard: Guard | None = None, max_bytes: int | None = None, types: Collection[str] = ()) -> bytes:
    """The body of a GET, at most `max_bytes` long. `types`: the content types taken; `"image/"` means all below it.

    Each redirect is judged as the first URL was. Raises FetchRefused and FetchFailed.
    """
    guard = guard or Guard()
    limit = guard.max_bytes if max_bytes is None else min(max_bytes, guard.max_bytes)
    deadline = _Deadline(url, guard.timeout)
    current, secure = url, False
    for _ in range(guard.max_redirects + 1):
        parts = guard.check_url(current)
        if secure and parts.scheme == "http":
            raise FetchRefused("url", shown(url), "redirects from https to http", "Use the URL it leads to.")
        secure = parts.scheme == "https"
        addresses = guard.admit(current, _look_up(guard, parts, deadline))
        connection = _Connection(parts, addresses, deadline)
        try:
            response = connection.get(parts)
            if response.status in _REDIRECTS:
                current = urljoin(current, response.getheader("Location") or "")
                continue
            return _read(current, response, limit, types, deadline)
        except (OSError, http.client.HTTPException) as error:
            deadline.check()
            raise FetchFailed("url", shown(current), f"fetching failed: {error!r}", "Check the server.") from error
        finally:
            connection.hang_up()
    raise FetchRefused("url", shown(url), f"redirects more than {guard.max_redirects} times", "Use its final URL.")


def _look_up(guard: Guard, parts: SplitResult, deadline: _Deadline) -> list[str]:
    """Looks a host up within the time limit, in a thread of its own since the system's resolver knows none."""
    host = host_of(parts)
    found: list[Any] = []
    if is_address(host):
        return [host]

    def ask() -> None:
        try:
            found.append(list(guard.resolver(host, port_of(parts))))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=ask, name="pageform-resolver", daemon=True)
    thread.start()
    thread.join(deadline.left())
    deadline.check()
    if not found or isinstance(found[0], Exception):
        cause = found[0] if found else None
        raise FetchFailed("url", shown(parts.geturl()), f"its host can't be found: {cause}", "Check it.") from cause
    return list(found[0])


def _read(
    url: str, response: http.client.HTTPResponse, limit: int, types: Collection[str], deadline: _Deadline
) -> bytes:
    if response.status != 200:
        raise FetchFailed("url", shown(url), f"the server answered {response.status}", "Check the URL.")
    encoding = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":  # it was asked for the plain bytes; what inflates is not worth its risk
        raise FetchRefused("url", shown(url), f"the answer is encoded as {encoding}", "Serve the file as it is.")
    declared = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if types and declared not in _ANY_TYPE and not any(_is_of(declared, accepted) for accepted in types):
        raise FetchRefused("url", shown(url), f"the answer is of type {declared}", "Check that the URL is the file's.")
    too_large = FetchRefused("url", shown(url), f"the answer is larger than {limit} bytes", "Use a smaller file.")
    expected = response.length  # None if the server doesn't say
    if expected is not None and expected > limit:
        raise too_large
    pieces, size = [], 0
    while size != expected and (piece := response.read1(_CHUNK)):
        size += len(piece)
        if size > limit:
            raise too_large
        pieces.append(piece)
    if expected is not None and size < expected:
        raise FetchFailed("url", shown(url), f"the answer broke off after {size} of {expected} bytes", "Try again.")
    return b"".join(pieces)


def _is_of(declared: str, accepted: str) -> bool:
    return declared.startswith(accepted) if accepted.endswith("/") else declared == accepted


@dataclass(slots=True)
class _Deadline:
    url: str
    seconds: float
    end: float = 0.0

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.seconds

    def left(self) -> float:
        return max(0.001, self.end - time.monotonic())

    def check(self) -> None:
        if time.monotonic() >= self.end:
            reason = f"takes longer than {self.seconds:g} s"
            raise FetchFailed("url", shown(self.url), reason, "Allow more with Guard(timeout=…).")


class _Connection(http.client.HTTPConnection):
    """A connection to addresses that were checked; the host's name serves for TLS and the Host header only."""

    def __init__(self, parts: SplitResult, addresses: list[str], deadline: _Deadline) -> None:
        self._name = host_of(parts)
        http.client.HTTPConnection.__init__(self, self._name, port_of(parts))
        self._addresses, self._deadline, self._secure = addresses, deadline, parts.scheme == "https"
        self._raw: socket.socket | None = None

    def get(self, parts: SplitResult) -> http.client.HTTPResponse:
        """Sends the request; the response's head is read when this returns."""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = f"[{self._name}]" if ":" in self._name else self._name
        self.putrequest("GET", _ascii(target), skip_host=True, skip_accept_encoding=True)
        self.putheader("Host", f"{host}:{parts.port}" if parts.port else host)
        self.putheader("Accept", "*/*")
        self.putheader("Accept-Encoding", "identity")
        self.putheader("User-Agent", "pageform")
        self.putheader("Connection", "close")
        self.endheaders()
        return self.getresponse()

    def connect(self) -> None:
        self._raw = self._connected()
        if self._secure:
            self._raw.settimeout(self._deadline.left())
            # The handshake runs under one time-out as a whole, not one for each read (CPython's _ssl.c).
            self._raw = ssl.create_default_context().wrap_socket(self._raw, server_hostname=self._name)
        self.sock = _TimedSocket(self._raw, self._deadline)

    def hang_up(self) -> None:
        if self._raw is not None:
            self._raw.close()

    def _connected(self) -> socket.socket:
        failure: OSError | None = None
        for address in self._addresses:
            self._deadline.check()
            try:
                return socket.create_connection((address, self.port), timeout=self._deadline.left())
            except OSError as error:
                failure = error
        raise failure or OSError("no address")


class _TimedSocket:
    """As much of a socket as http.client uses, each read limited by what is left of the whole time."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._deadline), _CHUNK)

    def close(self) -> None:
        """http.client closes what it thinks is its socket before the body is read; `hang_up` does it in the end."""


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._deadline.check()
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


def _ascii(target: str) -> str:
    """A path and query with what is not ASCII percent-encoded."""
    return "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in target)
