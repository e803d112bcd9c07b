"""Reading the small JSON files of a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ModelFileError
from ..core.json_object import parse_json_object

_MAX_BYTES = 100_000_000


def read_json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelFileError when it is unreadable, no JSON, no object, or over 100 MB."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            reason = f"it is larger than {_MAX_BYTES} bytes"
            raise ModelFileError(str(file), reason, "Get an undamaged copy of the file.")
        data = file.read_bytes()
    except OSError as error:
        remedy = "Check that the folder is complete and readable."
        raise ModelFileError(str(file), f"it can't be read: {error.strerror}", remedy) from error
    return parse_json_object(str(file), data)
