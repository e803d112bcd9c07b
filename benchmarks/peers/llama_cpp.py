"""Worker of llama.cpp: a `llama-server` of its own, asked over HTTP on 127.0.0.1 with streamed answers.

The server and this process share the machine's cores, so a token must cost this side next to nothing: while requests
run, pieces of the answers are only put away with their moments. They are read when all requests are done.
"""

from __future__ import annotations

import bisect
import json
import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..job import Answer, Job
from .protocol import serve

START_SECONDS = 120
PIECE = 1 << 16


class LlamaCpp:
    """`slots` requests are decoded at once, each with room for `context` tokens."""

    def __init__(
        self, binary: str, model: str, threads: int, slots: int, context: int, flags: list[str] | None = None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        command = [binary, "-m", model, "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["-t", str(threads), "-tb", str(threads), "-np", str(slots), "-c", str(slots * context)]
        self._server = subprocess.Popen([*command, *(flags or [])], stdin=subprocess.DEVNULL)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        while self._server.poll() is None and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
                    connection.sendall(request)
                    if b" 200 " in connection.recv(PIECE).split(b"\r\n")[0]:
                        return
            except OSError:
                pass
            time.sleep(0.005)
        raise RuntimeError(f"llama-server did not start (exit code {self._server.poll()})")

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        exchanges = [Exchange(self._port, job) for job in jobs]
        waiting = sorted(exchanges, key=lambda exchange: exchange.job.at, reverse=True)
        with selectors.DefaultSelector() as selector:
            while waiting or selector.get_map():
                while waiting and waiting[-1].job.at <= clock():
                    exchange = waiting.pop()
                    selector.register(exchange.open(), selectors.EVENT_READ, exchange)
                for key, _ in selector.select(waiting[-1].job.at - clock() if waiting else None):
                    if not key.data.take(clock):
                        selector.unregister(key.fileobj)
        return [exchange.answer() for exchange in exchanges]

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()


class Exchange:
    """One request on a connection of its own, and what came back."""

    def __init__(self, port: int, job: Job) -> None:
        self.job = job
        self._port = port
        body: dict[str, Any] = {
            "prompt": job.prompt,
            "n_predict": job.output_tokens,
            "temperature": 0.0,
            "samplers": ["top_k"],
            "top_k": 1,
            "stream": True,
            "cache_prompt": True,
        }
        body |= {"ignore_eos": True} if job.schema is None else {"json_schema": job.schema}
        content = json.dumps(body).encode()
        head = f"POST /completion HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
        self._pieces: list[bytes] = []
        self._moments: list[float] = []

    def open(self) -> socket.socket:
        """Sends the request."""
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._request)
        return self._socket

    def take(self, clock: Callable[[], float]) -> bool:
        """Puts away what has come; False, and the connection is closed, when that was all."""
        piece = self._socket.recv(PIECE)
        if not piece:
            self._socket.close()
            return False
        self._pieces.append(piece)
        self._moments.append(clock())
        return True

    def answer(self) -> Answer:
        """Reads what came. Raises RuntimeError when it is no whole answer."""
        answer = Answer()
        for moment, event in self._events():
            answer.text += event["content"]
            if event["stop"]:
                # Tokens that end inside a character are not sent, so only the last event knows how many there were.
                answer.count = event["tokens_predicted"]
                return answer
            answer.times.append(moment)
        raise RuntimeError(f"llama-server ended a stream early, after {len(answer.times)} tokens")

    def _events(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Each event with the moment at which the last of it came."""
        raw = b"".join(self._pieces)
        ends = [0]
        for piece in self._pieces:
            ends.append(ends[-1] + len(piece))
        head, _, rest = raw.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            status = head.split(b"\r\n")[0].decode(errors="replace")
            raise RuntimeError(f"llama-server: {status} {rest[:300].decode(errors='replace')}")
        place, text = len(head) + 4, b""
        while size := int(raw[place : (start := raw.find(b"\r\n", place))] or b"0", 16):
            end = start + 2 + size
            moment = self._moments[min(bisect.bisect_left(ends, end), len(self._pieces)) - 1]
            place = end + 2
            *lines, text = (text + raw[start + 2 : end]).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    yield moment, json.loads(line[6:])


if __name__ == "__main__":
    serve(LlamaCpp, is_engine=False)
