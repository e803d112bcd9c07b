"""Builds the HIP backend for three GPUs and loads it; fails when a kernel spills or exceeds its budget.

    python ci/check_hip.py                       for gfx90a, gfx942 and gfx1100: some minutes on two cores
    python ci/check_hip.py --arch gfx1100 --verbose
    python ci/check_hip.py --install             first asks apt, as root, for what is missing, as CI does

No GPU is needed, and no kernel is run. Needs CMake, Ninja, clang 19 and the HIP runtime's headers, which Debian has;
where they are missing that is a failure, which names them. Budgets are in ci/hip_budgets.json: for each kernel, matched
by a regular expression on its name, the most `vgprs` (and AGPRs) and the least `occupancy` (waves a SIMD), each for
"gfx9" and "gfx11"; `lds`, the most bytes of shared memory that the code itself declares; `scratch` bytes a lane and
`sgpr_spills` only where they are expected. The latter go to lanes of a vector register, not to memory. `matrix` names
the matrix instruction that a kernel is built on, as an expression for each family or target that has one; where it is
missing from the machine code, as where another kernel has one, that is a failure.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_kernels import budgets_of, demangle, unused_budgets

BUDGETS = Path("ci/hip_budgets.json")
TARGETS = ("gfx90a", "gfx942", "gfx1100")
BUNDLER, OBJCOPY, OBJDUMP = "clang-offload-bundler-19", "llvm-objcopy-19", "llvm-objdump-19"
TOOLS = ("clang++-19", "ld.lld-19", "llvm-as-19", BUNDLER, OBJCOPY, OBJDUMP)
FILES = ("/usr/include/hip/hip_runtime.h", "/usr/lib/x86_64-linux-gnu/amdgcn/bitcode/ocml.bc")
PACKAGES = ("clang-19", "lld-19", "llvm-19", "clang-tools-19", "rocm-device-libs", "libamdhip64-dev")
SECONDS_TO_BUILD = 900
FUNCTION = re.compile(r"^[0-9a-f]+ <(\S+)>:$")
MATRIX = re.compile(r"^\s+(v_(?:mfma|wmma)_\w+)")
RECORD = re.compile(r"^Name: +(\w+)$.*?^Function: +(\S+)$.*?^ +- \1: +'?([\w]+)'?$", re.MULTILINE | re.DOTALL)


@dataclass
class Kernel:
    """What the compiler made of one kernel for one target."""

    name: str
    arch: str
    usage: dict[str, int] = field(default_factory=dict)
    """By the compiler's names: NumVGPR, NumAGPR, ScratchSize, Occupancy, SGPRSpill, VGPRSpill, BytesLDS …"""
    matrix: set[str] = field(default_factory=set)
    """The matrix instructions in its machine code."""

    @property
    def family(self) -> str:
        return self.arch[:-2] if self.arch.startswith("gfx11") else "gfx9"

    @property
    def vgprs(self) -> int:
        return self.usage["NumVGPR"] + self.usage.get("NumAGPR", 0)


def missing() -> list[str]:
    """Programs and files that are needed and not there."""
    return [tool for tool in (*TOOLS, "cmake", "ninja") if shutil.which(tool) is None] + [
        file for file in FILES if not Path(file).exists()
    ]


def install() -> str:
    """Asks apt for the packages; why they did not come, or an empty string."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "--install needs apt-get, and root"
    print(f"installing {' '.join(PACKAGES)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    why = ""
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS_TO_BUILD)
        why = f"apt-get says: {done.stderr.strip()[-500:]}" if done.returncode else ""
    return why


def build(folder: Path, archs: list[str]) -> Path:
    """The library, built without warnings; RuntimeError with the compiler's words otherwise."""
    options = ["-DPAGEFORM_PYTHON=OFF", "-DPAGEFORM_HIP=ON", "-DPAGEFORM_HIP_REPORT=ON"]
    options.append(f"-DPAGEFORM_HIP_ARCHITECTURES={';'.join(archs)}")
    for command in (
        ["cmake", "-S", ".", "-B", str(folder), "-G", "Ninja", *options],
        ["ninja", "-C", str(folder), "pageform_hip"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_BUILD)
        if done.returncode != 0:
            words = [line for line in (done.stdout + done.stderr).splitlines() if "remark:" not in line]
            raise RuntimeError("\n".join(words[-60:]))
    return folder / "backends/libpageform_hip.so"


def matrix_instructions(object_file: Path, arch: str) -> dict[str, set[str]]:
    """The matrix instructions of each function of one target; the host's object holds the targets' in a bundle."""
    found: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle, code = f"{folder}/bundle", f"{folder}/code"
        target = f"hipv4-amdgcn-amd-amdhsa--{arch}"
        unbundle = ["--unbundle", "--type=o", f"--input={bundle}", f"--targets={target}", f"--output={code}"]
        dump = [OBJCOPY, f"--dump-section=.hip_fatbin={bundle}", str(object_file), f"{folder}/copy"]
        for command in (dump, [BUNDLER, *unbundle]):
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_TO_BUILD)
        command = [OBJDUMP, "--disassemble", "--no-show-raw-insn", code]
        listing = subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS_TO_BUILD).stdout
    function = ""
    for line in listing.splitlines():
        if match := FUNCTION.match(line):
            function = match[1]
        elif match := MATRIX.match(line):
            found.setdefault(function, set()).add(match[1])
    return found


def read_records(folder: Path, archs: list[str]) -> list[Kernel]:
    """Every kernel of every target, from the records that lie beside the objects, and from the objects themselves."""
    kernels: dict[tuple[str, str], Kernel] = {}
    for path in folder.rglob("*.yaml"):
        arch = path.name.split(".")[-2]
        if arch not in archs:
            continue
        records = RECORD.findall(path.read_text(encoding="utf-8"))
        for name, function, value in records:
            kernel = kernels.setdefault((arch, function), Kernel(function, arch))
            if value.isdigit():
                kernel.usage[name] = int(value)
        object_file = path.with_name(path.name.removesuffix(f".{arch}.yaml"))
        if records and object_file.is_file():
            for function, instructions in matrix_instructions(object_file, arch).items():
                if (arch, function) in kernels:
                    kernels[arch, function].matrix |= instructions
    found = list(kernels.values())
    for kernel, name in zip(found, demangle([kernel.name for kernel in found]), strict=True):
        kernel.name = name
    return found


def problems_of(kernel: Kernel, budget: dict[str, Any]) -> list[str]:
    usage, found = kernel.usage, []
    most, least = budget["vgprs"][kernel.family], budget["occupancy"][kernel.family]
    if kernel.vgprs > most:
        found.append(f"uses {kernel.vgprs} VGPRs, {most} allowed")
    if usage["Occupancy"] < least:
        found.append(f"has {usage['Occupancy']} waves a SIMD, {least} needed")
    if usage["BytesLDS"] > budget.get("lds", 0):
        found.append(f"uses {usage['BytesLDS']} bytes of shared memory, {budget.get('lds', 0)} allowed")
    if usage["ScratchSize"] > budget.get("scratch", 0):
        found.append(f"uses {usage['ScratchSize']} bytes of scratch memory a lane")
    if usage["VGPRSpill"]:
        found.append(f"spills {usage['VGPRSpill']} VGPRs")
    matrix = budget.get("matrix", {})
    wanted = matrix.get(kernel.arch, matrix.get(kernel.family))
    have = ", ".join(sorted(kernel.matrix)) or "no matrix instruction"
    if wanted is None and kernel.matrix:
        found.append(f"has {have}, which its budget does not name")
    if wanted is not None and (not kernel.matrix or any(not re.fullmatch(wanted, name) for name in kernel.matrix)):
        found.append(f"has {have}, {wanted} needed")
    if usage["SGPRSpill"] > budget.get("sgpr_spills", 0):
        found.append(f"spills {usage['SGPRSpill']} SGPRs, {budget.get('sgpr_spills', 0)} allowed")
    return found


def check_budgets(kernels: list[Kernel], budgets: list[dict[str, Any]]) -> list[str]:
    """One sentence for each breach; a kernel without exactly one budget, or a budget without a kernel, is one too."""
    problems = []
    for kernel in kernels:
        matching = budgets_of(kernel.name, budgets)
        if len(matching) != 1:
            problems.append(f"{kernel.name}: {len(matching)} budgets in {BUDGETS}, one needed")
        for budget in matching:
            problems += [f"{kernel.name} ({kernel.arch}) {problem}" for problem in problems_of(kernel, budget)]
    unused = unused_budgets([kernel.name for kernel in kernels], budgets)
    return problems + [f"{BUDGETS}: {problem}" for problem in unused]


class DeviceConfig(ctypes.Structure):
    """PfDeviceConfig of csrc/runtime/backend.h."""

    _fields_ = (
        ("num_threads", ctypes.c_int32),
        ("isa", ctypes.c_char_p),
        ("cores", ctypes.c_void_p),
        ("num_cores", ctypes.c_int32),
        ("index", ctypes.c_int32),
    )


class Backend(ctypes.Structure):
    """The beginning of PfBackend of csrc/runtime/backend.h."""

    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("name", ctypes.c_char_p),
        ("last_error", ctypes.CFUNCTYPE(ctypes.c_char_p)),
        ("device_create", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
    )


def check_library(library: Path, archs: list[str]) -> list[str]:
    """Whether the library holds code for every target, loads, and says of a machine without a GPU that it has none."""
    problems = [
        f"{library.name} holds no code for {arch}" for arch in archs if arch.encode() not in library.read_bytes()
    ]
    [abi] = re.findall(r"PF_BACKEND_ABI (\d+)", Path("csrc/runtime/backend.h").read_text(encoding="utf-8"))
    try:
        get = ctypes.CDLL(str(library)).pf_backend_get
    except (OSError, AttributeError) as error:
        return [*problems, f"{library.name} does not load: {error}"]
    get.restype = ctypes.POINTER(Backend)
    found = get(ctypes.c_uint32(int(abi)))
    if not found:
        return [*problems, f"{library.name} has no interface of version {abi}"]
    backend, device = found.contents, ctypes.c_void_p()
    if backend.name != b"hip":
        problems.append(f"{library.name} calls itself {backend.name!r}")
    if not Path("/dev/kfd").exists():  # the driver's
        refused = backend.device_create(ctypes.byref(DeviceConfig(isa=b"auto")), ctypes.byref(device))
        why = backend.last_error().decode() if refused else "a device"
        print(f"device 0 of a machine without a driver: {why}")
        if "no AMD GPU" not in why:
            problems.append(f"{library.name} does not say that there is no AMD GPU")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default=",".join(TARGETS), help="targets, separated by commas")
    parser.add_argument("--install", action="store_true", help="ask apt for what is missing; needs root")
    parser.add_argument("--verbose", action="store_true", help="list every kernel")
    arguments = parser.parse_args()
    archs, start = arguments.arch.split(","), time.monotonic()
    why = install() if arguments.install and missing() else ""
    if lacks := missing():
        print(f"the HIP backend was not built, since there is no {', no '.join(lacks)}. {why}")
        print(f"On Debian: apt-get install {' '.join(PACKAGES)}; CMake and Ninja: pip install cmake ninja")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        try:
            library = build(Path(folder), archs)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"the HIP backend does not build: {error}")
            return 1
        kernels = read_records(Path(folder), archs)
        problems = check_library(library, archs)
    problems += check_budgets(kernels, json.loads(BUDGETS.read_text(encoding="utf-8")))
    problems += [f"no kernel was compiled for {arch}" for arch in archs if all(k.arch != arch for k in kernels)]
    if arguments.verbose:
        for k in sorted(kernels, key=lambda k: (k.name, k.arch)):
            u = k.usage
            print(
                f"{k.arch:7} {k.vgprs:3} VGPRs, {u['Occupancy']:2} waves, {u['BytesLDS']:5} LDS, {u['ScratchSize']} "
                f"scratch, {u['VGPRSpill']} + {u['SGPRSpill']} spilled, {len(k.matrix)} matrix: {k.name[:110]}"
            )
    for problem in problems:
        print(problem)
    most = max((k.vgprs for k in kernels), default=0)
    print(
        f"{len(kernels)} kernels, targets {', '.join(archs)}: at most {most} VGPRs, {len(problems)} problems, "
        f"{time.monotonic() - start:.0f} s"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
