"""KV cache blocks: who holds which, and what free blocks still know.

`KVCacheManager` owns the native block pool for the life of an engine; the scheduler is its only caller. It knows
requests by their index, blocks by their id, tokens by their number; keys and values themselves belong to the backend.
"""

from .manager import CacheStats, KVCacheManager

__all__ = ["CacheStats", "KVCacheManager"]
