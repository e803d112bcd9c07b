"""A scripted HTTP server on 127.0.0.1: it says what a test told it to, and keeps what it was asked.

    with ScriptedServer(checks={"/v1/chat/completions": check}) as server:
        server.say(json_reply({…}), stream_reply([b"data: …\\n\\n", gate, b"data: …\\n\\n"]))
        ...                                    # SDKs talk to server.url
        assert server.requests[0].json["model"] == "m"

Replies are used up in order, one a request; a request too many gets status 500 and fails the test. `checks` judge each
request's JSON by the end of its path; what they raise, and replies that nobody fetched, are raised by `close`.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 20.0
"""Seconds until a gate that nobody opens fails its test."""

Check = Callable[[dict[str, Any]], None]


class Gate:
    """Holds a reply back until the test opens it. `reached` is set once everything before it was sent."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()

    def open(self) -> None:
        """Let the reply go on."""
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()


class Cut:
    """Breaks the connection off in the middle of a reply."""


Part = bytes | Gate | Cut


@dataclass
class Reply:
    """Status, headers and the parts of a body. `hung_up` is set when the client closed the connection before the end of
    the reply; `done` when the reply was sent or given up."""

    parts: list[Part]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    hung_up: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A whole JSON body."""
    body = json.dumps(content, ensure_ascii=False).encode()
    return Reply([body], status, {"content-type": "application/json", **(headers or {})})


def raw_reply(*parts: Part, status: int = 200, content_type: str = "application/json") -> Reply:
    """A body of any bytes, sent in chunks, which may be held back or cut."""
    return Reply(list(parts), status, {"content-type": content_type}, chunked=True)


def stream_reply(parts: Iterable[Part], content_type: str = "text/event-stream") -> Reply:
    """A body that is sent part by part."""
    return Reply(list(parts), 200, {"content-type": content_type}, chunked=True)


def event(content: Any, name: str | None = None) -> bytes:
    """A server-sent event with JSON, or with a text such as `[DONE]`, as data."""
    data = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode()


class ScriptedServer:
    """See the module. Threads: one for accepting and one a connection; all methods may be called from any."""

    def __init__(self, checks: Mapping[str, Check] | None = None) -> None:
        self.requests: list[Request] = []
        self.faults: list[BaseException] = []
        self._checks = dict(checks or {})
        self._replies: list[Reply] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Such as `http://127.0.0.1:54321`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def say(self, *replies: Reply) -> None:
        """Append to the script."""
        with self._lock:
            self._replies.extend(replies)

    def close(self) -> None:
        """Stop, and raise what went wrong."""
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        if self.faults:
            raise AssertionError(f"the server was asked wrongly: {self.faults}") from self.faults[0]
        if self._replies:
            raise AssertionError(f"{len(self._replies)} replies of the script were never fetched")

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            self.close()
        except AssertionError:
            if kind is None:  # else the test's own error says more
                raise

    def answer(self, request: Request) -> Reply:
        """Takes a request; the next reply of the script."""
        with self._lock:
            self.requests.append(request)
            for path, check in self._checks.items():
                if request.path.split("?")[0].endswith(path):
                    try:
                        check(request.json)
                    except Exception as fault:
                        self.faults.append(fault)
            if self._replies:
                return self._replies.pop(0)
            self.faults.append(AssertionError(f"no reply left for {request.path}"))
        return json_reply({"error": {"message": "the script is at its end"}}, 500, {"x-should-retry": "false"})

    def send(self, parts: list[Part], connection: socket.socket, write: Callable[[bytes], None], reply: Reply) -> bool:
        """Sends the parts of a reply; whether it came to its end."""
        for part in parts:
            if isinstance(part, bytes):
                write(part)
            elif isinstance(part, Cut):
                return False
            else:
                part.reached.set()
                if not self._pass(part, connection, reply):
                    return False
        return True

    def _pass(self, gate: Gate, connection: socket.socket, reply: Reply) -> bool:
        """Waits at a gate; False if the client hung up meanwhile."""
        for _ in range(int(PATIENCE / 0.005)):
            if gate.is_open:
                return True
            if self._closing.is_set():
                return False
            readable, _, _ = select.select([connection], [], [], 0.005)
            if readable and connection.recv(1, socket.MSG_PEEK) == b"":
                reply.hung_up.set()
                return False
        self.faults.append(AssertionError("a gate was never opened"))
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    owner: ScriptedServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave as they like; everything else is the test's to see."""
        fault = sys.exception()
        if fault is not None and not isinstance(fault, OSError):
            self.owner.faults.append(fault)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length) if length else self._chunks()
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.owner.answer(Request(self.path, headers, body))
        try:
            self._send(reply)
        except OSError:  # the client is gone
            reply.hung_up.set()
            self.close_connection = True
        finally:
            reply.done.set()

    do_GET = do_PUT = do_DELETE = do_PATCH = do_POST

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.chunked:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(sum(len(part) for part in reply.parts if isinstance(part, bytes))))
        self.end_headers()
        write = self._chunk if reply.chunked else self._plain
        if not self.server.owner.send(reply.parts, self.connection, write, reply):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif reply.chunked:
            self._plain(b"0\r\n\r\n")

    def _plain(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def _chunk(self, data: bytes) -> None:
        self._plain(b"%x\r\n%b\r\n" % (len(data), data))

    def _chunks(self) -> bytes:
        """A request body in chunks."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return b""
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read `requests`."""
