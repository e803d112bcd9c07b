"""Parsing the JSON of untrusted files."""

from __future__ import annotations

import json
from typing import Any

from .errors import ModelFileError


def parse_json_object(path: str, data: bytes | str) -> dict[str, Any]:
    """The JSON object in the content of a file. Raises ModelFileError about `path` when there is none."""
    remedy = "Get an undamaged copy of the file."
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(path, f"it is not valid JSON: {error}", remedy) from error
    if not isinstance(value, dict):
        raise ModelFileError(path, "it holds no JSON object", remedy)
    return value
