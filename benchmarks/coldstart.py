"""From the start of a process to its first token: what a script pays that asks one question."""

from __future__ import annotations

import subprocess
import sys
import time

from .options import Options
from .report import Report

RUNS = 9
REQUIRED_SECONDS = 1.5

# CLOCK_MONOTONIC is the same for all processes of a machine, so the child's reading compares with the parent's.
PROGRAM = """
import sys, time
from pageform import Engine, SamplingParams
with Engine(sys.argv[1], threads=int(sys.argv[2])) as engine:
    next(iter(engine.stream("The capital of France is", sampling=SamplingParams(temperature=0, max_tokens=2))))
    print(time.monotonic())
"""


def run(options: Options) -> Report:
    """Seconds of several fresh processes. The first one also reads the file when the system has not cached it."""
    runs = 2 if options.smoke else RUNS
    report = Report("coldstart", {"model": options.model, "threads": options.threads, "processes": runs})
    seconds = [first_token(options) for _ in range(runs)]
    figure = report.add("process start to first token", "s", seconds)
    report.add("slowest process", "s", max(seconds))
    report.note("the model's file is in the system's page cache, except perhaps for the first process")
    if not options.smoke:
        report.check(f"median within {REQUIRED_SECONDS} s", figure.median <= REQUIRED_SECONDS)
    return report


def first_token(options: Options) -> float:
    """Seconds from before the process is made until its first text delta."""
    command = [sys.executable, "-c", PROGRAM, options.model, str(options.threads)]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout) - start
