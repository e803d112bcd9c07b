"""Who gives way when the cache is full."""

from __future__ import annotations

from collections.abc import Sequence

from ..cache import KVCacheManager
from ..core.request import Request


def choose_victim(active: Sequence[Request], place: int, cache: KVCacheManager) -> int | None:
    """Index in `active` (running requests in serving order) of the one to preempt, so that `active[place]` gets blocks.

    The lowest priority goes first, then the youngest; only blocks that nobody shares count, so one without any is
    passed over. A request gives way to those served before it only, at last it gives way itself. Never the first of
    all, and none that was resumed and has made no progress since. None if nobody is left.

    Why this always leads on: the protected have blocks for all their tokens (admission saw to that, and who gives some
    of them back is protected no more), so they get to their next token and are protected no more; and when nobody is
    protected, everyone but the first gives way, if not to another then for lack of a block, and the first alone fits
    into the pool.
    """
    for candidate in range(len(active) - 1, place, -1):
        if not active[candidate].protected and cache.num_unshared(active[candidate]):
            return candidate
    return place if place > 0 and not active[place].protected else None
