"""Everything that can happen to requests, mixed at random over two real engines with a tiny model.

Rewinds, drafts, preemptions, aborts, deadlines, priorities, failing steps, requests suspended in one engine and resumed
in the other. The pools' invariants are checked after each operation, nothing may be held at the end, and each answer
must equal that of the request with an engine to itself. `--seed` repeats a walk.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path

from .options import Options
from .report import Report

OPERATIONS = 20_000
_WALKS = Path(__file__).parents[1] / "tests" / "e2e"


def run(options: Options) -> Report:
    """Counts what happened, and checks that nothing was left out and nothing went wrong."""
    sys.path.insert(0, str(_WALKS))
    try:
        mixed_walk = importlib.import_module("mixed_walk")
    finally:
        sys.path.remove(str(_WALKS))
    operations = 200 if options.smoke else OPERATIONS
    report = Report("mixed", {"operations": operations, "seed": options.seed})
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        walk = mixed_walk.Walk(mixed_walk.write_model(Path(folder) / "tiny"), options.seed)
        fault = ""
        try:
            walk.run(operations)
        except AssertionError as error:
            fault = str(error)
    report.add("wall", "s", time.perf_counter() - start)
    for name, count in sorted(walk.events.items()):
        report.add(name, "", count)
    report.check(
        "each answer equals its run alone, the pools are sound after each operation, no block is held", not fault
    )
    if fault:
        report.note(fault)
    if not options.smoke:
        missing = [name for name in mixed_walk.MUST_HAPPEN if not walk.events[name]]
        report.check("all of it happened", not missing)
    return report
