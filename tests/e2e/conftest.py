"""A tiny model with room for long answers, and an engine of it; files that need others define their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from field_kit import OPTIONS
from tiny import write_tiny_llama

from pageform import Engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"), positions=4096)


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[Engine]:
    with Engine(folder, check_invariants=True, **OPTIONS) as engine:
        yield engine
