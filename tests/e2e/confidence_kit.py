"""What the tests of confidence share: a tiny model with words for tokens, a type with options of all sorts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from tiny import write_tiny_llama

from pageform import Completion, ConfidenceOptions, Engine, FieldConfidence

WORDS = ['{"', '":', '":"', '","', '"}', "hi", "gh", "high", "lo", "w", "low", "tr", "true", "nu", "null", ',"']
EXACT = ConfidenceOptions(tolerance=0.0, max_rows=10**6)
PROMPT = "A cat sat on a high wall."
SETTINGS: dict[str, Any] = {"threads": 1, "kv_cache_dtype": "float32", "kv_cache_memory": "8MB"}


class Cat(BaseModel):
    level: Literal["high", "low", "lower"]
    ok: bool
    n: int = Field(ge=0, le=120)
    name: str = Field(max_length=4)
    tag: Literal["a", "b"] | None
    lots: list[Literal[1, 10]] = Field(min_length=1, max_length=3)


def write_model(folder: Path) -> Path:
    return write_tiny_llama(folder, positions=2048, words=WORDS)


def make(folder: Path, **changes: Any) -> Engine:
    return Engine(folder, **SETTINGS | {"check_invariants": True} | changes)


def numbers(completion: Completion) -> list[tuple[str, FieldConfidence]]:
    return [(path, completion.fields[path]) for path in completion.fields]
