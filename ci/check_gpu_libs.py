"""Compares what csrc/gpu declares of cuBLASLt and NCCL with NVIDIA's headers, and opens the real libraries. No GPU.

    python ci/check_gpu_libs.py                  with wheels from PyPI: fetches 730 MB, keeps 900 MB in .venv/gpu-libs
    python ci/check_gpu_libs.py --site FOLDER    with those that are installed there

The headers are compiled against ours (gpu_libs/declarations.cpp: arguments of functions, constants, sizes); then a
program resolves all functions that the backend uses and calls those that need no GPU (gpu_libs/probe.cpp). Too
much to fetch for each run of CI, which has libraries of the tests' own instead: cpp_tests/fixtures/fake_*.cpp.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cuda_tools import ToolMissing, tool

FOLDER = Path(".venv/gpu-libs")
WHEELS = {"nvidia-cublas==13.0.*": "nvidia/cu13", "nvidia-nccl-cu13": "nvidia/nccl"}
"""What is installed, and the folder in which it comes: `include` and `lib`."""
OURS = ["csrc/gpu/cublaslt.cpp", "csrc/gpu/nccl.cpp", "csrc/gpu/shared_library.cpp"]


def installed(site: Path) -> None:
    """Fetches what is not there. Each wheel by itself: pip leaves out a folder that another one made."""
    for wheel, folder in WHEELS.items():
        target = site / wheel.partition("=")[0]
        if (target / folder / "include").is_dir():
            continue
        print(f"installing {wheel} into {site}", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--upgrade", "--target", str(target), wheel], check=True)


def find(site: Path, folder: str, file: str) -> Path:
    """The file in the wheel's folder, at the root of `site` or in a folder of its own."""
    for root in (site, *sorted(path for path in site.iterdir() if path.is_dir())):
        if (root / folder / file).exists():
            return root / folder / file
    raise ToolMissing(f"{site} holds no {folder}/{file}: {', '.join(WHEELS)} are not installed there")


def cuda_headers() -> Path:
    """The folder of cuda_runtime.h, which NVIDIA's other headers need; nvcc itself includes it."""
    command = [tool("nvcc"), "-M", "-x", "cu", "/dev/null"]
    read = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return next(Path(file).parent for file in read if file.endswith("/cuda_runtime.h"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, help="folder of installed wheels; fetched into .venv/gpu-libs by default")
    site = parser.parse_args().site
    compiler = [os.environ.get("CXX", "g++"), "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Icsrc"]
    try:
        if site is None:
            site = FOLDER
            site.mkdir(parents=True, exist_ok=True)
            installed(site)
        headers = [find(site, folder, "include") for folder in WHEELS.values()]
        libraries = [find(site, "nvidia/cu13", "lib/libcublasLt.so.13"), find(site, "nvidia/nccl", "lib/libnccl.so.2")]
        include = [f"-isystem{folder}" for folder in (*headers, cuda_headers())]
    except (ToolMissing, OSError, subprocess.CalledProcessError) as error:
        print(f"check_gpu_libs: {error}")
        return 1
    subprocess.run([*compiler, "-fsyntax-only", *include, "ci/gpu_libs/declarations.cpp"], check=True)
    print("declarations are those of the headers", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe")
        subprocess.run([*compiler, "ci/gpu_libs/probe.cpp", *OURS, "-ldl", "-o", str(probe)], check=True)
        return subprocess.run([str(probe), *map(str, libraries)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
