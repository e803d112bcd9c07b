"""Backend libraries and the devices they serve."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BackendError, ParameterError

ENTRY_POINT_GROUP = "pageform.backends"
"""Plugin packages name a function here that returns the path of their library: `cuda = "pageform_cu13:library"`."""

_PLUGINS = {
    "cuda": ('pip install "pageform[cuda]"', "an NVIDIA GPU"),
    "rocm": ('pip install "pageform[rocm]"', "an AMD GPU"),
    "simt": ('pip install "pageform[simt]"', "no GPU: it runs the GPU kernels on the CPU"),
}
_ALIASES = {"hip": "rocm"}


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """Which backend serves a device. `library` is None for the torch reference, which needs none."""

    name: str
    library: Path | None
    index: int = 0
    """Which device of several: 1 in "cuda:1"."""

    @property
    def is_reference(self) -> bool:
        return self.library is None


def builtin_backends() -> dict[str, Path]:
    """Libraries that came with this installation, by backend name."""
    folder = Path(__file__).resolve().parent.parent / "backends"
    found = sorted(folder.glob("libpageform_*.so"))
    return {path.stem.removeprefix("libpageform_"): path for path in found}


def plugin_backends() -> dict[str, Any]:
    """Entry points of installed plugin packages, by backend name; their code is not loaded."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def resolve_device(device: str) -> BackendSpec:
    """The backend for a device name: "auto", "cpu", "reference", or that of a plugin ("cuda", "cuda:1", "rocm" …).

    ParameterError on field `device` says why a device can't be used and what to install.
    """
    if not isinstance(device, str) or not device:
        raise ParameterError("device", device, "is not the name of a device", _choices())
    name, index = _split_index(device)
    if name == "auto":
        name = "cpu"
    if name == "reference":
        _require_torch(device)
        return BackendSpec("reference", None)
    builtin = builtin_backends()
    if name in builtin:  # asked first, since looking through all installed packages takes a while
        return BackendSpec(name, builtin[name], index)
    plugins = plugin_backends()
    if name in plugins:
        return BackendSpec(name, _plugin_library(device, plugins[name]), index)
    if name == "cpu":
        raise ParameterError(
            "device",
            device,
            "this installation of pageform has no native library",
            "Install the platform wheel with `pip install pageform`, or build it from source with a C++20 compiler.",
        )
    if name in _PLUGINS:
        install, needs = _PLUGINS[name]
        raise ParameterError(
            "device",
            device,
            f"the {name} backend is not installed (it needs {needs})",
            f'Install it with `{install}`, or use device="cpu".',
        )
    raise ParameterError("device", device, "no backend of that name is known", _choices())


def _split_index(device: str) -> tuple[str, int]:
    name, colon, index = device.partition(":")
    name = _ALIASES.get(name, name)
    if not colon:
        return name, 0
    if not index.isascii() or not index.isdigit():
        raise ParameterError("device", device, "the part after the colon is not a number", 'Write it as "cuda:1".')
    if name in ("auto", "cpu", "reference") and int(index) != 0:
        raise ParameterError("device", device, f"there is only one {name} device", f'Use device="{name}".')
    return name, int(index)


def _choices() -> str:
    known = sorted({"auto", "cpu", "reference"} | builtin_backends().keys() | plugin_backends().keys())
    return f"Use one of: {', '.join(known)}."


def _plugin_library(device: str, point: Any) -> Path:
    try:
        library = Path(os.fspath(point.load()()))
    except Exception as error:
        raise BackendError(f"the plugin {point.value!r} for device {device!r} could not be loaded: {error}") from error
    if not library.is_file():
        raise BackendError(f"the plugin {point.value!r} for device {device!r} names a missing library: {library}")
    return library


def _require_torch(device: str) -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise ParameterError(
            "device", device, "the reference backend needs torch, which is not installed", "Run `pip install torch`."
        )
