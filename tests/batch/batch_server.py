"""The batch services of OpenAI and Anthropic, scripted, on 127.0.0.1: real SDKs talk to them over real sockets.

A test gives the model (`answer`: what is said to a request's body) and may interfere: `stall` names calls that are
carried out and then left without a reply, `after_lines` cuts results off. Everything a client sent is checked by the
SDK's own parameter types, and everything that is answered by its response types.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from wires import Said

Model = Callable[[dict[str, Any]], Said | int]
"""What is said to a request's body; a number is an HTTP status that the request fails with."""


@dataclass
class Job:
    """A batch at the provider."""

    id: str
    requests: list[tuple[str, dict[str, Any]]]
    created: float
    metadata: dict[str, str] = field(default_factory=dict)
    file: str = ""
    polls: int = 0
    cancelled: bool = False
    failure: list[dict[str, Any]] | None = None
    expired: bool = False


class BatchServer:
    """What both have in common: a socket, jobs, and the ways in which a test interferes."""

    def __init__(self, answer: Model, polls: int = 2, seconds: float = 0.0) -> None:
        self.answer = answer
        self.polls, self.seconds = polls, seconds
        """A batch ends after so many looks at it, and not before so many seconds have passed."""
        self.jobs: dict[str, Job] = {}
        self.calls: Counter[str] = Counter()
        self.faults: list[str] = []
        self.stall: str | None = None
        """The name of a call that is carried out and never replied to, until `released` is set."""
        self.stalled, self.released = threading.Event(), threading.Event()
        self.refuse: dict[str, list[int]] = {}
        """Statuses that the next calls of a name fail with."""
        self.after_lines: int | None = None
        """Results stop after so many lines, and never go on."""
        self.drop: set[str] = set()
        """Custom ids for which no result is given, once."""
        self.expire_next = False
        self.lock = threading.RLock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The bodies of all requests of all batches."""
        return [body for job in self.jobs.values() for _, body in job.requests]

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        assert not self.faults, self.faults

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def may(self, name: str) -> None:
        """Raises for a call that is to be refused; nothing of it is carried out then."""
        if self.refuse.get(name):
            raise Refused(self.refuse[name].pop(0), "refused")

    def job_of(self, id: str) -> Job:
        if id not in self.jobs:
            raise Refused(404, f"no batch {id}")
        return self.jobs[id]

    def over(self, job: Job) -> bool:
        return job.polls >= self.polls and time.time() - job.created >= self.seconds

    def new_id(self) -> str:
        """Never the same twice."""
        self.calls["ids"] += 1
        return str(self.calls["ids"])

    def add(self, job: Job) -> Job:
        """A new batch, with ids that no other request of it has."""
        ids = [custom_id for custom_id, _ in job.requests]
        assert len(set(ids)) == len(ids), "custom ids repeat within a batch"
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one) for one in ids), "a custom id that Anthropic refuses"
        job.expired, self.expire_next = self.expire_next, False
        self.jobs[job.id] = job
        return job

    def lines(self, job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
        """The requests of a batch that a result is given for, out of order."""
        for custom_id, body in reversed(job.requests):
            if custom_id in self.drop:
                self.drop.discard(custom_id)
            else:
                yield custom_id, body

    def route(self, method: str, path: str, query: dict[str, list[str]], body: bytes, kind: str) -> tuple[str, Any]:
        raise NotImplementedError

    def error(self, status: int, message: str) -> dict[str, Any]:
        raise NotImplementedError


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: BatchServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        owner = self.server.owner
        body = self._body()
        url = urlsplit(self.path)
        kind = self.headers.get("content-type", "")
        status, name = 200, "?"
        try:
            with owner.lock:
                name, content = owner.route(self.command, url.path, parse_qs(url.query), body, kind)
                owner.calls[name] += 1
        except Refused as refused:
            status, content = refused.status, owner.error(refused.status, refused.message)
        except Exception as fault:
            owner.faults.append(f"{self.command} {self.path}: {fault!r}")
            status, content = 500, owner.error(500, repr(fault))
        if name == owner.stall:
            owner.stalled.set()
            owner.released.wait(30)
            self.close_connection = True
            return
        try:
            self._reply(status, content)
        except OSError:
            self.close_connection = True

    do_GET = do_DELETE = do_POST

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _reply(self, status: int, content: Any) -> None:
        self.send_response(status)
        self.send_header("x-should-retry", "false")
        if isinstance(content, dict):
            data = json.dumps(content).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_header("content-type", "application/x-jsonl")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        owner = self.server.owner
        for number, line in enumerate(content):
            if number == owner.after_lines:
                owner.stalled.set()
                owner.released.wait(30)
                self.close_connection = True
                return
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read the server's attributes."""
