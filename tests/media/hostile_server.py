"""A server that answers with whatever a test tells it, byte for byte, and counts who came.

127.0.0.2 plays the internet: `guard` names it as allowed, and its resolver says that every host is there but those it
knows. 127.0.0.1, where real services listen, is refused as always.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pageform.media import Guard

INTERNET = "127.0.0.2"
INSIDE = "127.0.0.1"

Script = Callable[[socket.socket, bytes], None]
"""Gets the connection and the head of the request, and sends what it likes."""


class Names:
    """The injected resolver: host → addresses; all others are at INTERNET. Keeps what was asked."""

    def __init__(self, **known: Sequence[str]) -> None:
        self.known = {name.replace("_", "."): list(addresses) for name, addresses in known.items()}
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        if host.endswith(".unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "no such host")
        return self.known.get(host, [INTERNET])


def guard(names: Names | None = None, **options: Any) -> Guard:
    allowed: dict[str, Any] = {"allow_private": (f"{INTERNET}/32",), "ports": None, "timeout": 5.0}
    return Guard(resolver=names or Names(), **{**allowed, **options})


class HostileServer:
    """Listens on one loopback address. Each connection is served by `script` in a thread; `requests` keeps heads."""

    def __init__(self, address: str, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script, self.tls = script, tls
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self._open = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while self._open:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Any) -> None:
        with contextlib.suppress(OSError):  # the client hangs up when it has seen enough
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(4096)
                if not piece:
                    return
                head += piece
            self.requests.append(head)
            self.script(connection, head)
        connection.close()

    def close(self) -> None:
        self._open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def serving(address: str, script: Script, tls: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
    server = HostileServer(address, script, tls)
    try:
        yield server
    finally:
        server.close()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> Script:
    """An ordinary answer. `content_type` in `headers` becomes Content-Type; a header of None is left out."""
    given = {
        "Content-Length": str(len(body)),
        **{name.replace("_", "-").title(): text for name, text in headers.items()},
    }
    head = "".join(f"{name}: {text}\r\n" for name, text in given.items() if text != "-")
    return lambda connection, _: connection.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body)


def raw(*pieces: bytes) -> Script:
    """Exactly these bytes."""
    return lambda connection, _: connection.sendall(b"".join(pieces))


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Script:
    """A head, and then the same piece over and over until the client hangs up."""

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            if pause:
                threading.Event().wait(pause)

    return script
