"""Compiles the GPU kernels with nvcc; fails when one spills, exceeds its budget or lacks an instruction it is built on.

    python ci/check_gpu.py                 for sm_80 and sm_90a, as CI does
    python ci/check_gpu.py --arch 86,120a  for other targets
    python ci/check_gpu.py --all           for the targets of a release that ci/gpu_checked.json does not know to hold
                                           with these sources, and writes them there
    python ci/check_gpu.py --recorded      compiles nothing: are the sources those that --all has seen?

No GPU is needed, and nothing is run. nvcc and nvdisasm are taken from PATH or, if missing, installed from PyPI; where
neither is possible, that is a failure. What did not change since an earlier run is not compiled again, unless --fresh.

Budgets are in ci/gpu_budgets.json: for each kernel, matched by a regular expression on its name, `max_registers`;
`min_warps`, how many a multiprocessor must hold at once (16 if not given); `dynamic_shared`, the most bytes that a
launch asks for; `max_shared`, the most that code declares by itself (48 KiB if not given); `need` (instruction → least
count); `forbid`; and `stack` where a stack frame is expected. `targets` maps names of targets, separated by commas, to
entries that differ there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cuda_tools import ToolMissing, tool
from gpu_kernels import (
    Kernel,
    budgets_of,
    compile_file,
    compiler_version,
    digest,
    files_of,
    target_name,
    unused_budgets,
)
from gpu_targets import PTX, TARGETS
from sources import tracked

BUDGETS = Path("ci/gpu_budgets.json")
RECORD = Path("ci/gpu_checked.json")
MIN_WARPS = 16
MAX_SHARED = 48 * 1024


def kernel_sources() -> list[Path]:
    return [path for path in tracked(".cu") if path.parts[0] == "csrc"]


def budget_for(budget: dict[str, Any], arch: str) -> dict[str, Any]:
    """The budget with what it says of this target in particular."""
    own = [entry for names, entry in budget.get("targets", {}).items() if arch in names.split(",")]
    return {**budget, **{key: value for entry in own for key, value in entry.items()}}


def warps_of(kernel: Kernel, budget: dict[str, Any]) -> int:
    shared = kernel.shared + budget.get("dynamic_shared", 0)
    return TARGETS[kernel.arch].resident_warps(kernel.threads, kernel.registers, shared)


def problems_of(kernel: Kernel, budget: dict[str, Any]) -> list[str]:
    found = []
    if kernel.spills:
        found.append(f"spills {kernel.spills} bytes")
    if kernel.stack > budget.get("stack", 0):
        found.append(f"has a stack frame of {kernel.stack} bytes")
    if kernel.registers > budget["max_registers"]:
        found.append(f"uses {kernel.registers} registers, {budget['max_registers']} allowed")
    if kernel.shared > budget.get("max_shared", MAX_SHARED):
        found.append(f"declares {kernel.shared} bytes of shared memory")
    if kernel.dynamic and "dynamic_shared" not in budget:
        found.append("takes shared memory of a size that its launch names: its budget needs dynamic_shared")
    if kernel.threads == 0:
        found.append("does not say how many threads a block has")
    elif (warps := warps_of(kernel, budget)) < (least := budget.get("min_warps", MIN_WARPS)):
        found.append(f"has {warps} warps on a multiprocessor, {least} needed")
    for opcode, least in budget.get("need", {}).items():
        if kernel.count(opcode) < least:
            found.append(f"has {kernel.count(opcode)} {opcode}, {least} needed")
    found += [f"has {kernel.count(op)} {op}" for op in budget.get("forbid", []) if kernel.count(op)]
    return found


def check_budgets(kernels: list[Kernel], budgets: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Target → one sentence for each breach. A kernel without a budget, or a budget without a kernel, is one too."""
    problems: dict[str, list[str]] = {kernel.arch: [] for kernel in kernels}
    for kernel in kernels:
        matching = budgets_of(kernel.name, budgets)
        if not matching:
            problems[kernel.arch].append(f"{kernel.name}: no budget in {BUDGETS}")
        for budget in matching:
            breaches = problems_of(kernel, budget_for(budget, kernel.arch))
            problems[kernel.arch] += [f"{kernel.name} (sm_{kernel.arch}) {breach}" for breach in breaches]
    unused = [f"{BUDGETS}: {problem}" for problem in unused_budgets([kernel.name for kernel in kernels], budgets)]
    if kernels and unused:
        problems["every target"] = unused
    return problems


def compile_all(targets: list[str], fresh: bool) -> tuple[list[Kernel], dict[str, list[str]]]:
    """All kernels for all targets, and what went wrong, by target."""
    kernels: list[Kernel] = []
    problems: dict[str, list[str]] = {arch: [] for arch in targets}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            (arch, pool.submit(compile_file, source, arch, fresh)) for arch in targets for source in kernel_sources()
        ]
        for arch, job in jobs:
            try:
                kernels += job.result()
            except (RuntimeError, subprocess.SubprocessError) as error:
                problems[arch].append(str(error))
    return kernels, problems


def state() -> str:
    """The digest of all that a check depends on: kernels with what they include, how they are compiled, budgets."""
    return digest(files_of(kernel_sources()) | {BUDGETS})


def recorded() -> dict[str, Any]:
    """What was checked: the name of a target → the digest of the sources, and what the compiler made of them."""
    targets: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))["targets"] if RECORD.is_file() else {}
    return targets


def stale_targets() -> list[str]:
    """Targets of a release whose last check has not seen the present sources."""
    known, now = recorded(), state()
    return [arch for arch in (*TARGETS, PTX) if known.get(target_name(arch), {}).get("digest") != now]


def check_record() -> list[str]:
    """A refusal if a target's last check has not seen the present sources."""
    if not (stale := ", ".join(map(target_name, stale_targets()))):
        return []
    remedy = f"Run `make gpu-check-all` (no GPU needed) and commit {RECORD}"
    return [f"GPU kernels or their budgets have changed since they were checked for {stale}. {remedy}."]


def write_record(digest_before: str, checked: dict[str, dict[str, int]]) -> None:
    """Adds targets that have passed; `checked` maps their names to a summary. Those of other sources are dropped."""
    kept = {name: entry for name, entry in recorded().items() if entry["digest"] == digest_before}
    for name, facts in checked.items():
        kept[name] = {"digest": digest_before, **facts}
    in_order = {name: kept[name] for name in map(target_name, (*TARGETS, PTX)) if name in kept}
    RECORD.write_text(json.dumps({"nvcc": compiler_version(), "targets": in_order}, indent=2) + "\n", encoding="utf-8")


def summary(kernels: list[Kernel], budgets: list[dict[str, Any]], arch: str) -> dict[str, int]:
    own = [kernel for kernel in kernels if kernel.arch == arch]
    if not own:
        return {}
    warps = [warps_of(k, budget_for(b, arch)) for k in own for b in budgets_of(k.name, budgets)]
    return {
        "kernels": len(own),
        "most_registers": max(kernel.registers for kernel in own),
        "spilled_bytes": sum(kernel.spills for kernel in own),
        "least_warps": min(warps, default=0),
    }


def report(kernels: list[Kernel]) -> None:
    for k in sorted(kernels, key=lambda k: (k.name, k.arch)):
        wide = ", ".join(f"{k.count(op)} {op}" for op in ("LDG.E.128", "STG.E.128", "LDG", "LDGSTS", "HMMA"))
        print(
            f"sm_{k.arch} {k.registers:3} registers, {k.threads:4} threads, {k.shared:5} shared, {wide}: {k.name[:110]}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="80,90a", help="targets, separated by commas")
    parser.add_argument("--all", action="store_true", help="all targets of a release, and record those that pass")
    parser.add_argument("--recorded", action="store_true", help="only ask whether --all has seen these sources")
    parser.add_argument("--fresh", action="store_true", help="compile again what was compiled before")
    parser.add_argument("--verbose", action="store_true", help="list every kernel")
    arguments = parser.parse_args()
    if arguments.recorded:
        stale = check_record()
        print("\n".join(stale) or f"{RECORD}: all targets were checked with these sources")
        return 1 if stale else 0
    targets = arguments.arch.split(",")
    if arguments.all:
        targets = [*TARGETS, PTX] if arguments.fresh else stale_targets()
    if unknown := set(targets) - {*TARGETS, PTX}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join([*TARGETS, PTX])}")
    if not targets:
        print(f"{RECORD}: all targets were checked with these sources")
        return 0
    start = time.monotonic()
    try:
        tool("nvcc"), tool("nvdisasm")
    except ToolMissing as error:
        print(f"GPU kernels could not be checked: {error}")
        return 1
    before = state()
    budgets = json.loads(BUDGETS.read_text(encoding="utf-8"))
    kernels, problems = compile_all(targets, arguments.fresh)
    for arch, breaches in check_budgets(kernels, budgets).items():
        problems.setdefault(arch, []).extend(breaches)
    if arguments.verbose:
        report(kernels)
    for problem in (problem for of_target in problems.values() for problem in of_target):
        print(problem)
    if arguments.all and "every target" not in problems:
        checked = [arch for arch in targets if not problems[arch]]
        write_record(before, {target_name(arch): summary(kernels, budgets, arch) for arch in checked})
    count = sum(map(len, problems.values()))
    most = max((kernel.registers for kernel in kernels), default=0)
    print(
        f"{len(kernels)} kernels of {len(kernel_sources())} files, targets {', '.join(map(target_name, targets))}: "
        f"at most {most} registers, {count} problems, {time.monotonic() - start:.0f} s"
    )
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
