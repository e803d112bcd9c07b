from __future__ import annotations

import pytest
from harness import ISAS, make_device
from simt_library import require_simt

from pageform import _native

DEVICES = (*ISAS, pytest.param("simt", marks=pytest.mark.slow))
"""Every backend: the CPU's for every instruction set, and the GPU's on the emulated GPU."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of the fixture `device` runs on every one; a mark `cpu_only` says which the GPU has no kernels for."""
    if "device" in metafunc.fixturenames:
        cpu_only = any(metafunc.definition.iter_markers("cpu_only"))
        metafunc.parametrize("device", ISAS if cpu_only else DEVICES, indirect=True, scope="session")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> _native.Device:
    """A device for every instruction set that this machine can run, of two threads; and the emulated GPU."""
    if request.param == "simt":
        return _native.Device(require_simt())
    return make_device(request.param, threads=2)
