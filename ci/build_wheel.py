"""Builds a wheel for release: pageform with its CPU backend, or the plugin package with the CUDA backend.

    python ci/build_wheel.py --backend cpu|cuda [--arch "80-real;90a-real"] [--out dist]

The plugin, pageform-cu13, holds all targets of a release (ci/gpu_targets.py) unless --arch names fewer. nvcc is that of
CUDACXX or PATH, or comes from PyPI. Both get the manylinux tag that their symbols allow. Other build tools come from
the environment, as with `make wheel`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from cuda_tools import ToolMissing, tool
from gpu_targets import cmake_list

PACKAGES = {"cpu": Path("."), "cuda": Path("packages/pageform-cu13")}


def project(folder: Path) -> dict[str, object]:
    """The table `project` of the package's pyproject.toml."""
    table: dict[str, object] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def version_faults() -> list[str]:
    """Where the versions of pageform and its plugin, or what each asks of the other, differ."""
    own, plugin = project(PACKAGES["cpu"]), project(PACKAGES["cuda"])
    version = own["version"]
    extras = own["optional-dependencies"]
    assert isinstance(extras, dict)
    found = []
    if plugin["version"] != version:
        found.append(f"pageform-cu13 is {plugin['version']}, pageform {version}")
    if plugin["dependencies"] != [f"pageform=={version}"]:
        found.append(f"pageform-cu13 must depend on pageform=={version}, not on {plugin['dependencies']}")
    if extras.get("cuda") != [f"pageform-cu13=={version}"]:
        found.append(f"the extra `cuda` must be pageform-cu13=={version}, not {extras.get('cuda')}")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def build(backend: str, targets: str, out: Path) -> Path:
    """The wheel in `out`, with a manylinux tag."""
    settings = [f"--config-settings=build-dir={Path.cwd() / 'build' / f'wheel-{backend}'}"]
    if backend == "cuda":
        settings.append(f"--config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES={targets}")
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "-w", folder]
        run(*pip, "--no-build-isolation", *settings, str(PACKAGES[backend].resolve()))
        [raw] = Path(folder).glob("*.whl")
        repaired = Path(folder) / "repaired"
        run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(repaired), str(raw))
        [wheel] = repaired.glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheel, out / wheel.name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=PACKAGES, required=True)
    parser.add_argument("--arch", default=cmake_list(), help="CMake's list of CUDA targets")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    for fault in (faults := version_faults()):
        print(fault)
    if faults:
        return 1
    if arguments.backend == "cuda":
        try:
            os.environ.setdefault("CUDACXX", tool("nvcc"))
        except ToolMissing as error:
            print(f"the plugin cannot be built: {error}")
            return 1
    start = time.monotonic()
    wheel = build(arguments.backend, arguments.arch, arguments.out)
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
