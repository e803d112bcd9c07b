"""The GPU backend on the emulated GPU, for tests: no wheel holds it, a build with tests leaves it in its own folder."""

from __future__ import annotations

import os

import pytest

from pageform.platform import builtin_backends
from pageform.platform.backends import BACKEND_PATH


def require_simt() -> str:
    """The library's path. Skips where it was not built; fails where the environment says that it was."""
    library = builtin_backends().get("simt")
    if library is None:
        folders = os.environ.get(BACKEND_PATH)
        assert folders is None, f"{BACKEND_PATH}={folders} holds no libpageform_simt.so"
        pytest.skip(f"libpageform_simt.so is not built, or {BACKEND_PATH} does not name its folder")
    return str(library)
