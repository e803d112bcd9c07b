"""What the tests that follow an answer field by field share."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {"threads": 1, "dtype": "float32", "kv_cache_memory": "16MB", "max_model_len": 2048}


def even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value
