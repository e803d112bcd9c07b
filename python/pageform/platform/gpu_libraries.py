"""Libraries of GPU vendors that a backend can use, where they are on this machine. None of them is loaded here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ParameterError


@dataclass(frozen=True, slots=True)
class _Library:
    variable: str
    """Environment variable that names the one file to use."""
    wheels: tuple[str, ...]
    """Its place in NVIDIA's wheels, below the folder `nvidia`, the newest first."""


_LIBRARIES = {
    "cublaslt": _Library(
        "PAGEFORM_CUBLASLT",
        ("cu13/lib/libcublasLt.so.13", "cublas/lib/libcublasLt.so.13", "cublas/lib/libcublasLt.so.12"),
    ),
    "nccl": _Library("PAGEFORM_NCCL", ("nccl/lib/libnccl.so.2",)),
}


def library_files(name: str) -> list[str]:
    """What to try for a library ("cublaslt", "nccl"), the best first: the file that the environment names and no other;
    else those of installed wheels, then names for the system's loader."""
    if name not in _LIBRARIES:
        raise ParameterError("name", name, "is no library of a GPU", f"Use one of: {', '.join(_LIBRARIES)}.")
    library = _LIBRARIES[name]
    named = os.environ.get(library.variable)
    if named:
        return [named]
    files = [str(folder / wheel) for wheel in library.wheels for folder in _nvidia() if (folder / wheel).is_file()]
    return files + list(dict.fromkeys(Path(wheel).name for wheel in library.wheels))


def _nvidia() -> list[Path]:
    """The folders of NVIDIA's wheels: `nvidia` is a namespace that each adds its own to."""
    from importlib.util import find_spec

    spec = find_spec("nvidia")
    return [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
