"""Which backend serves which device."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pageform.core.errors import BackendError, ParameterError
from pageform.platform import BackendSpec, backends, builtin_backends, resolve_device


@pytest.mark.parametrize("device", ["auto", "cpu", "cpu:0"])
def test_the_cpu_backend_is_built_in(device: str) -> None:
    spec = resolve_device(device)
    assert spec == BackendSpec("cpu", builtin_backends()["cpu"])
    assert spec.library is not None
    assert spec.library.is_file()
    assert not spec.is_reference


def test_the_reference_needs_no_library() -> None:
    assert resolve_device("reference").is_reference


def test_the_reference_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ParameterError, match="pip install torch"):
        resolve_device("reference")


@pytest.mark.parametrize(
    ("device", "parts"),
    [
        (
            "cuda",
            [
                "device='cuda'",
                "not installed",
                "NVIDIA",
                "libpageform_cuda.so",
                "'pageform.backends' entry point",
                'pip install "pageform[cuda]"',
            ],
        ),
        ("cuda:1", ["device='cuda:1'", "NVIDIA"]),
        ("rocm", ["AMD", "libpageform_hip.so", "PAGEFORM_HIP=ON"]),
        ("hip", ["AMD", "libpageform_hip.so", "PAGEFORM_HIP=ON"]),
        ("tpu", ["no backend of that name", "auto, cpu, reference"]),
        ("", ["not the name of a device"]),
        (0, ["not the name of a device"]),
        (None, ["not the name of a device"]),
        ("cuda:x", ["after the colon is not a number"]),
        ("cuda:", ["after the colon is not a number"]),
        ("cuda:²", ["after the colon is not a number"]),
        ("cpu:1", ["only one cpu device"]),
        ("CPU", ["no backend of that name"]),
    ],
)
def test_devices_that_cannot_be_used_say_why(device: str, parts: list[str]) -> None:
    with pytest.raises(ParameterError) as caught:
        resolve_device(device)
    assert caught.value.field == "device"
    for part in parts:
        assert part in str(caught.value)


def test_the_emulator_is_built_from_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "builtin_backends", dict)
    with pytest.raises(ParameterError, match=r"libpageform_simt.so.*PAGEFORM_SIMT=ON"):
        resolve_device("simt")


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for driver, told in ((tmp_path / "missing", True), (tmp_path, False)):
        plugins = {"cuda": replace(backends._PLUGINS["cuda"], driver=(str(driver),))}
        monkeypatch.setattr(backends, "_PLUGINS", plugins)
        with pytest.raises(ParameterError) as caught:
            resolve_device("cuda")
        assert ("nor is there a driver for an NVIDIA GPU" in str(caught.value)) == told


def test_further_folders_hold_backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libpageform_hip.so"
    library.touch()
    (tmp_path / "libpageform_cpu.so").touch()
    monkeypatch.setenv(backends.BACKEND_PATH, f"/nowhere{os.pathsep}{tmp_path}")
    assert resolve_device("hip:1") == resolve_device("rocm:1") == BackendSpec("hip", library, 1)
    assert builtin_backends()["cpu"].parent != tmp_path  # the package's own goes first


def test_without_native_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "builtin_backends", dict)
    with pytest.raises(ParameterError, match="no native library"):
        resolve_device("auto")


def plugin(load: object) -> dict[str, SimpleNamespace]:
    return {"cuda": SimpleNamespace(value="pageform_cu13:library", load=load)}


def test_plugins_serve_their_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libpageform_cuda.so"
    library.touch()
    monkeypatch.setattr(backends, "plugin_backends", lambda: plugin(lambda: lambda: str(library)))
    assert resolve_device("cuda:2") == BackendSpec("cuda", library, 2)
    library.unlink()
    with pytest.raises(BackendError, match="names a missing library"):
        resolve_device("cuda")


def test_broken_plugins_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise ImportError("libcudart.so.13 is missing")

    monkeypatch.setattr(backends, "plugin_backends", lambda: plugin(load))
    with pytest.raises(BackendError, match=r"pageform_cu13:library.*libcudart.so.13 is missing") as caught:
        resolve_device("cuda")
    assert isinstance(caught.value.__cause__, ImportError)
