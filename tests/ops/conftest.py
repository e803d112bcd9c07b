from __future__ import annotations

import pytest
from harness import ISAS, make_device

from pageform import _native


@pytest.fixture(scope="session", params=ISAS)
def device(request: pytest.FixtureRequest) -> _native.Device:
    """A device of two threads for every instruction set that this machine can run."""
    return make_device(request.param, threads=2)
