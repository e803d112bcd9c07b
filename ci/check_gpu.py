"""Compiles the GPU kernels with nvcc; fails when one spills, exceeds its budget or lacks an instruction it is built on.

    python ci/check_gpu.py                    for sm_80, as CI does: a minute on two cores
    python ci/check_gpu.py --arch 80,90a,120a for several targets

No GPU is needed, and nothing is run. nvcc and nvdisasm are taken from PATH or, if missing, installed from PyPI into
.venv/cuda (260 MB). Budgets are in ci/gpu_budgets.json: for each kernel, matched by a regular expression on its name,
`max_registers`, `need` (instruction → least count), `forbid`, and `stack` where a stack frame is expected.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sources import tracked

BUDGETS = Path("ci/gpu_budgets.json")
TOOLS = Path(".venv/cuda")
PACKAGES = {
    "nvcc": [
        "nvidia-cuda-nvcc==13.0.88",
        "nvidia-nvvm==13.0.88",
        "nvidia-cuda-crt==13.0.88",
        "nvidia-cuda-runtime==13.0.96",
    ],
    "nvdisasm": ["nvidia-cuda-nvdisasm==13.2.51"],  # the oldest that is published; it reads cubins of 13.0
}
FLAGS = ["-std=c++20", "-O3", "-Xcompiler=-Wall,-Wextra", "-Werror=all-warnings", "-Xptxas=-v,--warn-on-spills"]
SECONDS_A_FILE = 300
USAGE = re.compile(r"Used (\d+) registers")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


@dataclass
class Kernel:
    """What the compiler made of one kernel for one target."""

    name: str
    arch: str
    registers: int = 0
    stack: int = 0
    spills: int = 0
    instructions: Counter[str] = field(default_factory=Counter)

    def count(self, opcode: str) -> int:
        """How many instructions are this one or a form of it: LDG.E.128 counts for LDG."""
        return sum(n for name, n in self.instructions.items() if name == opcode or name.startswith(opcode + "."))


def tool(name: str) -> str:
    """The path of nvcc or nvdisasm; raises RuntimeError when it can be had nowhere."""
    installed = TOOLS / "nvidia/cu13/bin" / name
    found = shutil.which(name) or (str(installed) if installed.exists() else None)
    if found is None:
        print(f"{name} is not in PATH: installing {', '.join(PACKAGES[name])}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        done = subprocess.run([*pip, "--target", str(TOOLS), *PACKAGES[name]], capture_output=True, text=True)
        if done.returncode != 0 or not installed.exists():
            raise RuntimeError(f"{name} cannot be installed: {done.stderr.strip()[-500:]}")
        found = str(installed)
    return found


def demangle(names: list[str]) -> list[str]:
    result = subprocess.run(["c++filt", *names], check=True, capture_output=True, text=True).stdout.splitlines()
    return [re.sub(r"\(anonymous namespace\)::|pf::gpu::", "", name) for name in result]


def read_usage(log: str, kernels: dict[str, Kernel], arch: str) -> None:
    current = None
    for line in log.splitlines():
        if "Compiling entry function" in line:
            name = line.split("'")[1]
            current = kernels.setdefault(name, Kernel(name, arch))
        elif current is not None and (stack := STACK.search(line)):
            current.stack, current.spills = int(stack[1]), int(stack[2]) + int(stack[3])
        elif current is not None and (usage := USAGE.search(line)):
            current.registers = int(usage[1])


def read_code(listing: str, kernels: dict[str, Kernel]) -> None:
    current = None
    for line in listing.splitlines():
        if line.startswith(".text."):
            current = kernels.get(line[6:].rstrip(":"))
        elif current is not None and (instruction := INSTRUCTION.match(line)):
            current.instructions[instruction[1]] += 1


def compile_file(nvcc: str, nvdisasm: str, source: Path, arch: str) -> list[Kernel]:
    """Raises RuntimeError with the compiler's words when there is a warning or an error."""
    kernels: dict[str, Kernel] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, *FLAGS, f"-arch=sm_{arch}", "--keep", f"--keep-dir={folder}", "-c", str(source)]
        path = str(Path(nvcc).parent) + os.pathsep + os.environ["PATH"]
        done = subprocess.run(
            [*command, "-o", f"{folder}/kernel.o"],
            capture_output=True,
            text=True,
            timeout=SECONDS_A_FILE,
            env={**os.environ, "PATH": path},
        )
        if done.returncode != 0:
            raise RuntimeError(f"{source} for sm_{arch}:\n{done.stdout}{done.stderr}")
        read_usage(done.stdout + done.stderr, kernels, arch)
        [cubin] = Path(folder).glob("*.cubin")
        listing = subprocess.run([nvdisasm, "-c", str(cubin)], check=True, capture_output=True, text=True)
        read_code(listing.stdout, kernels)
    for kernel, name in zip(kernels.values(), demangle(list(kernels)), strict=True):
        kernel.name = name
    return list(kernels.values())


def problems_of(kernel: Kernel, budget: dict[str, Any]) -> list[str]:
    found = []
    if kernel.spills:
        found.append(f"spills {kernel.spills} bytes")
    if kernel.stack > budget.get("stack", 0):
        found.append(f"has a stack frame of {kernel.stack} bytes")
    if kernel.registers > budget["max_registers"]:
        found.append(f"uses {kernel.registers} registers, {budget['max_registers']} allowed")
    for opcode, least in budget.get("need", {}).items():
        if kernel.count(opcode) < least:
            found.append(f"has {kernel.count(opcode)} {opcode}, {least} needed")
    found += [f"has {kernel.count(op)} {op}" for op in budget.get("forbid", []) if kernel.count(op)]
    return found


def check_budgets(kernels: list[Kernel]) -> list[str]:
    """One sentence for each breach; a kernel without a budget, or a budget without a kernel, is one too."""
    problems = []
    budgets = json.loads(BUDGETS.read_text(encoding="utf-8"))
    used = set()
    for kernel in kernels:
        matching = [budget for budget in budgets if re.search(budget["kernel"], kernel.name)]
        if not matching:
            problems.append(f"{kernel.name}: no budget in {BUDGETS}")
        for budget in matching:
            used.add(budget["kernel"])
            problems += [f"{kernel.name} (sm_{kernel.arch}) {problem}" for problem in problems_of(kernel, budget)]
    return problems + [f"{BUDGETS}: no kernel is {b['kernel']}" for b in budgets if b["kernel"] not in used]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="80", help="targets, separated by commas")
    parser.add_argument("--verbose", action="store_true", help="list every kernel")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        nvcc, nvdisasm = tool("nvcc"), tool("nvdisasm")
    except RuntimeError as error:
        print(f"GPU kernels were not compiled: {error}")
        return 0
    sources = [path for path in tracked(".cu") if path.parts[0] == "csrc"]
    jobs = [(source, arch) for source in sources for arch in arguments.arch.split(",")]
    kernels: list[Kernel] = []
    problems: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(compile_file, nvcc, nvdisasm, source, arch) for source, arch in jobs]
        for future in futures:
            try:
                kernels += future.result()
            except (RuntimeError, subprocess.SubprocessError) as error:
                problems.append(str(error))
    problems += check_budgets(kernels)
    if arguments.verbose:
        for k in sorted(kernels, key=lambda k: (k.name, k.arch)):
            wide = ", ".join(f"{k.count(op)} {op}" for op in ("LDG.E.128", "STG.E.128", "LDG", "LDGSTS", "HMMA"))
            print(f"sm_{k.arch} {k.registers:3} registers, {wide}: {k.name[:110]}")
    for problem in problems:
        print(problem)
    most = max((k.registers for k in kernels), default=0)
    print(
        f"{len(kernels)} kernels of {len(sources)} files, targets {arguments.arch}: at most {most} registers, "
        f"{len(problems)} problems, {time.monotonic() - start:.0f} s"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
