"""Compiles GPU kernels with nvcc and reads what the compiler made of them: registers, memory, instructions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cuda_tools import tool
from gpu_targets import PTX

FLAGS = ["-std=c++20", "-O3", "-Xcompiler=-Wall,-Wextra", "-Werror=all-warnings", "-Xptxas=-v,--warn-on-spills"]
HOST_TARGET = "80"
"""The target for which the host's half of a file is compiled, too: it is the same for all."""
CACHE = Path("build/gpu-check")
SECONDS_A_FILE = 300
OTHER_VENDORS = (Path("csrc/gpu/simt"), Path("csrc/gpu/hip"))
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
USAGE = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
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
    threads: int = 0
    """The largest block, as the kernel declares it."""
    shared: int = 0
    """Bytes of shared memory that the code itself declares."""
    dynamic: bool = False
    """Whether it takes shared memory of a size that the launch names."""
    instructions: Counter[str] = field(default_factory=Counter)

    def count(self, opcode: str) -> int:
        """How many instructions are this one or a form of it: LDG.E.128 counts for LDG."""
        return sum(n for name, n in self.instructions.items() if name == opcode or name.startswith(opcode + "."))


def demangle(names: list[str]) -> list[str]:
    result = subprocess.run(["c++filt", *names], check=True, capture_output=True, text=True).stdout.splitlines()
    return [re.sub(r"\(anonymous namespace\)::|pf::gpu::", "", name) for name in result]


def budgets_of(name: str, budgets: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those budgets whose expression `kernel` is found in the name."""
    return [budget for budget in budgets if re.search(budget["kernel"], name)]


def unused_budgets(names: Iterable[str], budgets: Iterable[dict[str, Any]]) -> list[str]:
    """One sentence for each budget that is none of these kernels'."""
    once = set(names)
    return [f"no kernel is {b['kernel']}" for b in budgets if not any(re.search(b["kernel"], name) for name in once)]


def files_of(sources: Iterable[Path]) -> set[Path]:
    """The sources and all files of the repository that they include, without what only other vendors' builds read."""
    found: set[Path] = set()
    waiting = list(sources)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            for folder in (path.parent, Path("csrc")):
                included = Path(os.path.normpath(folder / name))
                if included.is_file() and not any(included.is_relative_to(vendor) for vendor in OTHER_VENDORS):
                    waiting.append(included)
                    break
    return found


def digest(paths: Iterable[Path], *more: str) -> str:
    """One hash of the names and contents of files, how they are compiled, and of `more`."""
    whole = hashlib.sha256(json.dumps([FLAGS, HOST_TARGET, *more]).encode())
    for path in sorted(paths):
        whole.update(f"\0{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


@cache
def compiler_version() -> str:
    words = subprocess.run([tool("nvcc"), "--version"], check=True, capture_output=True, text=True).stdout
    return words.strip().splitlines()[-1]


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
            current.shared = int(shared[1]) if (shared := SHARED.search(line)) else 0


def read_declarations(ptx: str, kernels: dict[str, Kernel]) -> None:
    current = None
    for line in ptx.splitlines():
        if entry := re.search(r"\.entry (\w+)", line):
            current = kernels.get(entry[1])
        elif line.startswith("}"):
            current = None
        elif current is not None and (threads := re.match(r"\s*\.maxntid (\d+)", line)):
            current.threads = int(threads[1])
        elif current is not None and "gpu_dynamic" in line:
            current.dynamic = True


def read_code(listing: str, kernels: dict[str, Kernel]) -> None:
    current = None
    for line in listing.splitlines():
        if line.startswith(".text."):
            current = kernels.get(line[6:].rstrip(":"))
        elif current is not None and (instruction := INSTRUCTION.match(line)):
            current.instructions[instruction[1]] += 1


def compile_file(source: Path, arch: str, fresh: bool = False) -> list[Kernel]:
    """The kernels of a file; none for PTX, which is not machine code yet. RuntimeError holds nvcc's words if it warns.

    What was compiled before is read from build/gpu-check, unless `fresh`.
    """
    known = CACHE / f"{digest(files_of([source]), str(source), arch, compiler_version())}.json"
    if known.is_file() and not fresh:
        return [Kernel(**{**k, "instructions": Counter(k["instructions"])}) for k in json.loads(known.read_text())]
    kernels = _compile(source, arch)
    CACHE.mkdir(parents=True, exist_ok=True)
    complete = known.with_suffix(f".{os.getpid()}")
    complete.write_text(json.dumps([vars(kernel) for kernel in kernels]))
    complete.rename(known)
    return kernels


def _compile(source: Path, arch: str) -> list[Kernel]:
    nvcc = tool("nvcc")
    if arch == PTX:
        product = ["-ptx", f"-arch=compute_{arch}"]
    else:
        product = ["-c" if arch == HOST_TARGET else "-cubin", f"-arch=sm_{arch}"]
    kernels: dict[str, Kernel] = {}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [nvcc, *FLAGS, *product, "--keep", f"--keep-dir={folder}", str(source), "-o", f"{folder}/product"],
            capture_output=True,
            text=True,
            timeout=SECONDS_A_FILE,
            env={**os.environ, "PATH": f"{Path(nvcc).parent}{os.pathsep}{os.environ['PATH']}"},
        )
        if done.returncode != 0:
            raise RuntimeError(f"{source} for {target_name(arch)}:\n{done.stdout}{done.stderr}")
        if arch == PTX:
            return []
        read_usage(done.stdout + done.stderr, kernels, arch)
        [ptx] = Path(folder).glob("*.ptx")
        read_declarations(ptx.read_text(encoding="utf-8"), kernels)
        cubin = Path(folder, "product") if "-cubin" in product else next(Path(folder).glob("*.cubin"))
        listing = subprocess.run([tool("nvdisasm"), "-c", str(cubin)], check=True, capture_output=True, text=True)
        read_code(listing.stdout, kernels)
    for kernel, name in zip(kernels.values(), demangle(list(kernels)), strict=True):
        kernel.name = name
    return list(kernels.values())


def target_name(arch: str) -> str:
    return f"compute_{arch}" if arch == PTX else f"sm_{arch}"
