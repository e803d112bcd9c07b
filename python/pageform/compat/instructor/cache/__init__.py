"""Instructor's caches."""

from __future__ import annotations

from typing import Any, Protocol

from ....structured.cache import MemoryCache
from ....structured.cache_disk import DiskCache


class BaseCache(Protocol):
    """What a cache of one's own must have. Keys and values are text."""

    def get(self, key: str) -> Any | None: ...

    def set(self, key: str, value: Any, ttl: int | None = None) -> None: ...


class AutoCache(MemoryCache):
    """In this process, the least recently used entries go first."""

    def __init__(self, maxsize: int = 128) -> None:
        super().__init__(max_entries=maxsize)


__all__ = ["AutoCache", "BaseCache", "DiskCache"]
