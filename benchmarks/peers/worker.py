"""The master's end of a worker: starts it, asks it, lets it rest, measures it, ends it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..job import Answer, Job
from .install import ROOT, environment_of


class PeerError(Exception):
    """A worker failed, fell silent or died; the message ends with the last lines of its log."""


class PeerHangs(PeerError):
    """A worker fell silent; it has been killed."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A peer with particular settings: `module` is its worker, run by `python` with `variables` in its environment."""

    peer: str
    label: str
    module: str
    settings: dict[str, Any]
    python: Path = field(default_factory=lambda: Path(sys.executable))
    variables: Mapping[str, str] = field(default_factory=dict)
    model_bytes: int = 0
    """Weights that each token of a lone request reads, for the distance from the memory's bandwidth."""
    most_jobs: int | None = None
    """A slow peer gets a sample of so many jobs of a batch; its rates then stand for all."""
    keeps: bool = False
    """Starting takes so long that one worker serves all workloads."""

    @property
    def name(self) -> str:
        return f"{self.peer} {self.label}".rstrip()


@dataclass(frozen=True, slots=True)
class Run:
    """What one batch of jobs gave."""

    jobs: list[Job]
    answers: list[Answer]
    seconds: float


class Worker:
    """A process group that holds one engine. Use as a context manager: it is killed at the end, whatever happened."""

    def __init__(self, variant: Variant, log: Path, timeout: float = 300.0) -> None:
        self.variant = variant
        self.timeout = timeout
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        is_ours = variant.python == Path(sys.executable)
        variables = {**os.environ, **variant.variables} if is_ours else environment_of(variant.variables)
        self.born = time.perf_counter()
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [str(variant.python), "-m", variant.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env=variables,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._process.stdout, selectors.EVENT_READ)
        self._buffer = b""
        self.is_engine = True
        self.is_ready = False
        """Started, and alive as far as is known."""

    def start(self) -> float:
        """Loads the model. Returns the seconds it took from the engine's process being born."""
        reply = self._ask({"do": "start", "settings": self.variant.settings})
        self.is_engine = reply["self"]
        self.is_ready = True
        return time.perf_counter() - self.born if self.is_engine else float(reply["seconds"])

    def run(self, jobs: Sequence[Job]) -> Run:
        """Runs a batch of jobs; the seconds are the worker's own."""
        reply = self._ask({"do": "run", "jobs": [asdict(job) for job in jobs]})
        return Run(list(jobs), [Answer(**answer) for answer in reply["answers"]], reply["seconds"])

    def pause(self) -> None:
        """Stops all processes of the worker, so that even one that waits by spinning leaves the machine to others."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def peak_memory(self) -> int:
        """Bytes: the peaks of the resident memory of the engine's processes together, each since its own start."""
        total = 0
        for pid in self._pids():
            if pid != self._process.pid or self.is_engine:
                with contextlib.suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                    total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        return total

    def close(self) -> None:
        """Asks the worker to end, and kills what is left of it after a while."""
        self.resume()
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(b'{"do": "stop"}\n')
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=15)
        left = self._signal(signal.SIGKILL)
        self._process.wait()
        # Time of a process that nobody waits for is counted nowhere. Those whose parents ended first may have become
        # this process's (compare/quiet.py): parents, which have the lower numbers, go first.
        for pid in sorted(left):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._ready.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure("is gone") from error
        reply: dict[str, Any] = json.loads(self._line())
        if "error" in reply:
            raise PeerError(f"{self.variant.name}: {reply['error']} (log: {self._log})")
        return reply

    def _line(self) -> bytes:
        deadline = time.monotonic() + self.timeout
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            if not self._ready.select(max(0.0, deadline - time.monotonic())):
                self._signal(signal.SIGKILL)
                raise PeerHangs(str(self._failure(f"said nothing for {self.timeout:.0f} s")))
            piece = os.read(self._process.stdout.fileno(), 1 << 20)
            if not piece:
                raise self._failure("died")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _failure(self, what: str) -> PeerError:
        self.is_ready = False
        lines = self._log.read_text(errors="replace").splitlines()[-5:]
        return PeerError(f"{self.variant.name}: the worker {what}: {' '.join(' '.join(lines).split())[-500:]}")

    def _pids(self) -> list[int]:
        """Processes of the worker's session: itself and its children, theirs too."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    # After the name, which may contain anything: state, parent, process group, session.
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                    if int(fields[3]) == self._process.pid:
                        found.append(int(entry.name))
        return found

    def _signal(self, number: signal.Signals) -> list[int]:
        """Returns the processes that were told, the worker's own not among them."""
        pids = self._pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return [pid for pid in pids if pid != self._process.pid]
