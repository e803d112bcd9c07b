"""The HIP backend of pageform. pageform finds it by itself; there is nothing to import here."""

from pathlib import Path


def library() -> Path:
    """Where the backend's library lies. It is not loaded, so this works on machines without a GPU."""
    return Path(__file__).parent / "libpageform_hip.so"
