"""Showing values of any size and kind in little room: in messages, logs and what machines read of an error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

_SHOWN = 300
"""Characters of a text that are shown."""
_ITEMS = 10
"""Members of a list or mapping that are shown."""
_DEPTHS = (4, 2, 1, 0)
"""Levels of nesting that are shown: the most that fit into `_WHOLE`."""
_WHOLE = 1_000
"""Characters of JSON that a copy may take."""
_BITS = 256
"""Integers longer than this are shown by their length: printing them costs quadratic time."""


def cut(text: str, limit: int = _SHOWN) -> str:
    """The text, or its first `limit` characters and an ellipsis."""
    return text if len(text) <= limit else text[:limit] + "…"


def shorten(text: str) -> str:
    """Text as an error message shows it: quoted and cut."""
    return repr(cut(text))


def bounded(value: Any) -> Any:
    """A copy of the value as JSON data of about a thousand characters at most; what was cut says so."""
    for depth in _DEPTHS:
        copy = _copy(value, depth)
        if len(json.dumps(copy)) <= _WHOLE:
            break
    return copy


def _copy(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return cut(str(value))
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _BITS else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        if depth == 0:
            return f"<{len(value)} keys>"
        shown = {cut(str(key), 80): _copy(item, depth - 1) for key, item in islice(value.items(), _ITEMS)}
        return {**shown, "…": f"{len(value) - _ITEMS} more"} if len(value) > _ITEMS else shown
    if isinstance(value, (list, tuple, set, frozenset)):
        if depth == 0:
            return f"<{len(value)} items>"
        items = [_copy(item, depth - 1) for item in islice(value, _ITEMS)]
        return [*items, f"… {len(value) - _ITEMS} more"] if len(value) > _ITEMS else items
    return _described(value)


def _described(value: Any) -> str:
    """Any other object by its `repr`, which is the caller's code and may raise."""
    try:
        return cut(repr(value))
    except Exception:
        return f"<{type(value).__qualname__}>"
