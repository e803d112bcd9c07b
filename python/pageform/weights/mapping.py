"""Opening files through the native readers, with their errors turned into ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ModelFileError, ModelNotFoundError

if TYPE_CHECKING:
    from .._native import MappedFile


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Native complaints about the file's content become ModelFileError."""
    from .._native import FormatError

    try:
        yield
    except FormatError as error:
        raise ModelFileError(path, f"it can't be read: {error}", "Get an undamaged copy of the file.") from error


def map_file(path: Path) -> MappedFile:
    """Maps a file read-only. Raises ModelNotFoundError when there is none, ModelFileError when it can't be mapped."""
    from .._native import MappedFile

    try:
        with reading(str(path)):
            return MappedFile(os.fsencode(path))
    except FileNotFoundError as error:
        raise ModelNotFoundError("model", str(path), "no such file", "Check the path.") from error
    except (OSError, ValueError) as error:
        raise ModelFileError(str(path), f"it can't be opened: {error}", "Check the file's permissions.") from error
