"""Worker of llama.cpp: a `llama-server` of its own, asked over HTTP on 127.0.0.1 with streamed answers."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from ..job import Answer, Job
from .protocol import serve

START_SECONDS = 120


class LlamaCpp:
    """`slots` requests are decoded at once, each with room for `context` tokens."""

    def __init__(
        self, binary: str, model: str, threads: int, slots: int, context: int, flags: list[str] | None = None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        command = [binary, "-m", model, "--host", "127.0.0.1", "--port", str(port)]
        command += ["-t", str(threads), "-tb", str(threads), "-np", str(slots), "-c", str(slots * context)]
        self._server = subprocess.Popen([*command, *(flags or [])], stdin=subprocess.DEVNULL)
        asyncio.run(self._ready())

    async def _ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        async with aiohttp.ClientSession() as session:
            while self._server.poll() is None and time.monotonic() < deadline:
                try:
                    async with session.get(f"{self._url}/health") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.005)
        raise RuntimeError(f"llama-server did not start (exit code {self._server.poll()})")

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        return asyncio.run(self._run(jobs, clock))

    async def _run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.gather(*(self._ask(session, job, clock) for job in jobs))

    async def _ask(self, session: aiohttp.ClientSession, job: Job, clock: Callable[[], float]) -> Answer:
        await asyncio.sleep(max(0.0, job.at - clock()))
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
        answer = Answer()
        async with session.post(f"{self._url}/completion", json=body) as response:
            if response.status != 200:
                raise RuntimeError(f"llama-server: {response.status} {(await response.text())[:300]}")
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                answer.text += event["content"]
                if event["stop"]:
                    # Tokens that end inside a character are not sent, so only the last event knows how many there were.
                    answer.count = event["tokens_predicted"]
                    return answer
                answer.times.append(clock())
        raise RuntimeError(f"llama-server ended a stream early, after {len(answer.times)} tokens")

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()


if __name__ == "__main__":
    serve(LlamaCpp, is_engine=False)
