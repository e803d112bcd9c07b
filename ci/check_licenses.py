"""Fails when third_party/LICENSES.md lacks a dependency, or names another licence than the installed package states."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution, metadata
from pathlib import Path

TABLE = Path("third_party/LICENSES.md")
ROW = re.compile(r"^\| (?P<name>[\w-]+) \| (?P<licence>[\w.-]+) \|", re.MULTILINE)
NOT_ON_PYPI = {"GoogleTest", "clang", "ROCm-Device-Libs", "HIP"}
# Fetched by the Makefile, or by ci/check_gpu.py, rather than by pyproject.toml.
CUDA = {"nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-nvdisasm"}
BESIDES = {"torch", "cmake", "ninja"} | CUDA
IN_WORDS = {"psf": "python software foundation"}
"""Families of licences that older metadata spells out."""


def required() -> set[str]:
    """Names of everything that pyproject.toml asks for, for running, building, testing or developing."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    [wheel] = project["tool"]["dynamic-metadata"]
    lists = [project["build-system"]["requires"], wheel["always"], wheel["engine"]]
    lists += project["project"]["optional-dependencies"].values()
    names = {re.split(r"[^\w-]", requirement, maxsplit=1)[0] for one in lists for requirement in one}
    plugins = {name for name in names if name.startswith("pageform-")}  # of this repository
    return names - plugins | BESIDES


def agrees(licence: str, package: PackageMetadata) -> bool:
    """Whether a package's metadata names the licence: as an SPDX expression, or in words of an older style."""
    for expression in package.get_all("License-Expression", []):
        return licence in expression.split()
    classifiers = [value for value in package.get_all("Classifier", []) if value.startswith("License ::")]
    family = licence.split("-")[0].lower()
    family = IN_WORDS.get(family, family)
    stated = [*package.get_all("License", []), *classifiers] or license_texts(package["Name"])
    return any(family in words.lower() for words in stated)


def license_texts(name: str) -> list[str]:
    """The licence files that a package brings along, for one whose metadata names none."""
    files = distribution(name).files or []
    return [file.read_text() for file in files if file.stem.upper() in ("LICENSE", "LICENCE", "COPYING")]


def main() -> int:
    listed = dict(ROW.findall(TABLE.read_text(encoding="utf-8").partition("|---|")[2]))
    wanted = required()
    problems = [f"{name}: not listed" for name in sorted(wanted - listed.keys())]
    problems += [f"{name}: listed but not used" for name in sorted(listed.keys() - wanted - NOT_ON_PYPI)]
    for name in sorted(wanted & listed.keys()):
        try:
            package = metadata(name)
        except PackageNotFoundError:
            print(f"{name}: not installed, its licence was not compared")
            continue
        if not agrees(listed[name], package):
            problems.append(f"{name}: the package states another licence than {listed[name]}")
    for problem in problems:
        print(f"{TABLE}: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
