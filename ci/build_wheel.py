"""Builds a wheel: pageform with its CPU backend, or a plugin package with the CUDA or the HIP backend.

    python ci/build_wheel.py --backend cpu|cuda|hip [--arch "80-real;90a-real"] [--out dist]

The plugin pageform-cu13 holds all targets of a release (ci/gpu_targets.py) unless --arch names fewer; nvcc is that of
CUDACXX or PATH, or comes from PyPI. pageform-rocm needs what ci/check_hip.py needs, and asks for the HIP runtime of the
machine that built it. All get the manylinux tag that their symbols allow. Other build tools come from the environment,
as with `make wheel`.
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

PACKAGES = {"cpu": Path("."), "cuda": Path("packages/pageform-cu13"), "hip": Path("packages/pageform-rocm")}


def project(folder: Path) -> dict[str, object]:
    """The table `project` of the package's pyproject.toml."""
    table: dict[str, object] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def version_faults() -> list[str]:
    """Where the versions of pageform and its plugins, or what each asks of the other, differ."""
    own = project(PACKAGES["cpu"])
    version = own["version"]
    extras = own["optional-dependencies"]
    assert isinstance(extras, dict)
    found = []
    for folder in (PACKAGES["cuda"], PACKAGES["hip"]):
        plugin = project(folder)
        if plugin["version"] != version:
            found.append(f"{folder.name} is {plugin['version']}, pageform {version}")
        if plugin["dependencies"] != [f"pageform=={version}"]:
            found.append(f"{folder.name} must depend on pageform=={version}, not on {plugin['dependencies']}")
    if extras.get("cuda") != [f"pageform-cu13=={version}"]:
        found.append(f"the extra `cuda` must be pageform-cu13=={version}, not {extras.get('cuda')}")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def build(backend: str, targets: str | None, out: Path) -> Path:
    """The wheel in `out`, with a manylinux tag."""
    settings = [f"--config-settings=build-dir={Path.cwd() / 'build' / f'wheel-{backend}'}"]
    if backend == "hip" and targets:
        settings.append(f"--config-settings=cmake.define.PAGEFORM_HIP_ARCHITECTURES={targets}")
    if backend == "cuda":
        settings.append(f"--config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES={targets or cmake_list()}")
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "-w", folder]
        run(*pip, "--no-build-isolation", *settings, str(PACKAGES[backend].resolve()))
        [raw] = Path(folder).glob("*.whl")
        repaired = Path(folder) / "repaired"
        audit = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(repaired)]
        run(*audit, "--exclude", "libamdhip64.so.*", str(raw))
        [wheel] = repaired.glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheel, out / wheel.name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=PACKAGES, required=True)
    parser.add_argument("--arch", help="CMake's list of targets of CUDA or HIP")
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
