"""Finds NVIDIA's compiler and disassembler: in PATH, or from PyPI into .venv/cuda (260 MB). No GPU is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(".venv/cuda")
PACKAGES = {
    "nvcc": [
        "nvidia-cuda-nvcc==13.0.88",
        "nvidia-nvvm==13.0.88",
        "nvidia-cuda-crt==13.0.88",
        "nvidia-cuda-runtime==13.0.96",
    ],
    "nvdisasm": ["nvidia-cuda-nvdisasm==13.2.51"],  # the oldest that is published; it reads cubins of 13.0
}


class ToolMissing(RuntimeError):
    """A tool is neither in PATH nor to be had from PyPI; the message says what to do."""


def tool(name: str) -> str:
    """The path of nvcc or nvdisasm, which is installed where it is missing."""
    folder = FOLDER / name  # one for each: pip replaces what an earlier installation into the same folder left
    installed = folder / "nvidia/cu13/bin" / name
    found = shutil.which(name) or (str(installed.resolve()) if installed.exists() else None)
    if found is None:
        print(f"{name} is not in PATH: installing {', '.join(PACKAGES[name])} into {folder}", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        done = subprocess.run([*pip, "--target", str(folder), *PACKAGES[name]], capture_output=True, text=True)
        if done.returncode != 0 or not installed.exists():
            raise ToolMissing(
                f"{name} is not in PATH and cannot be installed from PyPI: {done.stderr.strip()[-500:]}\n"
                f"Install CUDA 13.0's toolkit and put its bin folder into PATH, or, where PyPI can be reached, run: "
                f"{' '.join(['pip', 'install', '--target', str(folder), *PACKAGES[name]])}"
            )
        lib = folder / "nvidia/cu13/lib"
        if lib.is_dir():  # nvcc links with what is in lib64, as a toolkit has it
            lib.with_name("lib64").symlink_to(lib.name)
        found = str(installed.resolve())
    return found
