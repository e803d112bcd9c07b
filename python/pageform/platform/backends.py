"""Backend libraries and the devices they serve."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BackendError, ParameterError

ENTRY_POINT_GROUP = "pageform.backends"
"""Plugin packages name a function here that returns the path of their library: `cuda = "pageform_cu13:library"`."""

BACKEND_PATH = "PAGEFORM_BACKEND_PATH"
"""Environment variable: folders with libraries of further backends, as a build leaves them."""


@dataclass(frozen=True, slots=True)
class _Plugin:
    """A backend that this package knows of but does not hold."""

    needs: str
    remedy: str
    driver: tuple[str, ...] = ()
    """Files of which one is there when the driver is; none to look for where it needs no driver."""


_PLUGINS = {
    "cuda": _Plugin(
        "an NVIDIA GPU",
        'Install it with `pip install "pageform[cuda]"`, or use device="cpu".',
        ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"),
    ),
    "hip": _Plugin(
        "an AMD GPU",
        'Build it from source: `pip install . -C cmake.define.PAGEFORM_HIP=ON`, or use device="cpu".',
        ("/dev/kfd", "/dev/dxg"),
    ),
    "simt": _Plugin(
        "no GPU: it runs the GPU kernels on the CPU, slowly, for tests",
        "Build it from source: `pip install . -C cmake.define.PAGEFORM_SIMT=ON`.",
    ),
}
_ALIASES = {"rocm": "hip"}


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
    """Libraries that came with this installation, and those in the folders of PAGEFORM_BACKEND_PATH, by name."""
    found: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.glob("libpageform_*.so")):
            found.setdefault(path.stem.removeprefix("libpageform_"), path)
    return found


def _folders() -> list[Path]:
    own = Path(__file__).resolve().parent.parent / "backends"
    return [own, *(Path(folder) for folder in os.environ.get(BACKEND_PATH, "").split(os.pathsep) if folder)]


def plugin_backends() -> dict[str, Any]:
    """Entry points of installed plugin packages, by backend name; their code is not loaded."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def resolve_device(device: str) -> BackendSpec:
    """The backend for a device name: "auto", "cpu", "reference", or that of a plugin ("cuda", "cuda:1", "hip" …).

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
        raise ParameterError("device", device, _why_missing(name), _PLUGINS[name].remedy)
    raise ParameterError("device", device, "no backend of that name is known", _choices())


def _why_missing(name: str) -> str:
    plugin = _PLUGINS[name]
    folders = " and ".join(str(folder) for folder in _folders())
    why = (
        f"the {name} backend is not installed (it needs {plugin.needs}): libpageform_{name}.so is not in {folders} and "
        f"no package offers {name!r} as a {ENTRY_POINT_GROUP!r} entry point"
    )
    if plugin.driver and not any(Path(file).exists() for file in plugin.driver):
        why += f"; nor is there a driver for {plugin.needs} on this machine"
    return why


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
