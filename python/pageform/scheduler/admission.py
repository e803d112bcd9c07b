"""Who may enter: limits at the door, and room in the cache at the moment of starting."""

from __future__ import annotations

from ..cache import KVCacheManager
from ..core.errors import CapacityError, ParameterError
from ..core.request import Request
from .config import SchedulerConfig
from .queue import RequestQueue


def check_acceptable(config: SchedulerConfig, cache: KVCacheManager, waiting: RequestQueue, request: Request) -> None:
    """Raises ParameterError or CapacityError for a request that can't be served, before any work is done for it."""
    num_prompt = request.num_prompt_tokens
    if num_prompt == 0:
        raise ParameterError("prompt", "", "has no tokens", "Give at least one token.")
    if num_prompt >= config.max_model_len:
        raise ParameterError(
            "prompt",
            f"{num_prompt} tokens",
            f"leaves no room for an answer in a context of {config.max_model_len} tokens",
            "Shorten it, or raise max_model_len.",
        )
    if request.num_seats > config.max_num_seqs:
        raise CapacityError(
            "n",
            request.num_seats,
            f"only {config.max_num_seqs} sequences run at once",
            "Lower n or raise max_num_seqs.",
        )
    if num_prompt > cache.capacity:
        raise CapacityError(
            "kv_cache_memory",
            f"{cache.capacity} tokens",
            f"can't hold the {num_prompt} tokens of the prompt even when nothing else runs",
            "Raise kv_cache_memory or shorten the prompt.",
        )
    if request.is_follow_up:
        return
    if config.max_queued_requests is not None and len(waiting) >= config.max_queued_requests:
        raise CapacityError(
            "max_queued_requests", config.max_queued_requests, "so many requests wait already", "Try again later."
        )
    if config.max_queued_tokens is not None and waiting.num_prompt_tokens + num_prompt > config.max_queued_tokens:
        raise CapacityError(
            "max_queued_tokens",
            config.max_queued_tokens,
            f"{waiting.num_prompt_tokens} tokens wait already and the prompt has {num_prompt}",
            "Try again later, or shorten the prompt.",
        )


def admit(config: SchedulerConfig, cache: KVCacheManager, request: Request, alone: bool) -> int | None:
    """Gives the request blocks for all tokens it has by now; returns how many of them are computed already.

    None, and nothing changed, where there is no room. Unless it is `alone`, some blocks must remain for others to grow:
    the watermark, and one for each sample that will branch off.
    """
    match = cache.match_prefix(request)
    needed = cache.blocks_for(request.num_tokens) - match.num_tokens // cache.block_size + match.num_free_blocks
    headroom = 0 if alone else int(config.watermark * cache.num_blocks) + len(request.siblings)
    if needed + headroom > cache.num_free_blocks:
        return None
    num_computed = cache.open(request)
    if not cache.ensure(request, request.num_tokens):  # all was cached, and the last block must be copied
        cache.release(request)
        return None
    return num_computed
