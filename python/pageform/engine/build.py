"""Makes the parts of an engine from its configuration: files → program → packed weights → cache → scheduler."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as cache_result
from typing import TYPE_CHECKING

from ..cache import KVCacheManager
from ..core.errors import CapacityError, ParameterError
from ..core.params import SamplingParams
from ..executor import InProcessExecutor
from ..models.device import OpenDevice, open_device
from ..models.loader import LoadedModel, Loading, Sizes
from ..sampling import ModelLimits
from ..scheduler import Scheduler, SchedulerConfig
from ..text import load_tokenizer
from ..weights import open_checkpoint
from ..weights.fingerprint import fingerprint
from .config import DEFAULT_GPU_KV_SHARE, DEFAULT_KV_SHARE, EngineConfig
from .core import EngineCore
from .dtypes import with_types
from .numerics import numerics_id, weights_digest
from .prepare import Preparer

if TYPE_CHECKING:
    from ..core.snapshot import NumericsId
    from ..weights.base import Checkpoint
    from .base import EngineStats

BLOCK_SIZE = 16
"""Tokens a block: the width of one AVX-512 vector, so that a block of one channel's keys is one load."""


@dataclass(slots=True)
class EngineParts:
    """What an engine consists of; owned by the engine that built it."""

    core: EngineCore
    preparer: Preparer
    statistics: Callable[[], EngineStats]
    numerics: Callable[[], NumericsId]
    """The engine's numerics id; made when it is wanted first."""
    default_sampling: SamplingParams


def build(config: EngineConfig) -> EngineParts:
    """Loads everything `config` names. Raises ParameterError, ModelFileError or CapacityError before threads start."""
    from ..forms.grammar import GrammarCompiler, fill_masks

    checkpoint = open_checkpoint(config.model)
    model_config = checkpoint.config
    config = with_types(config, checkpoint)
    device = open_device(
        config.device,
        threads=config.threads,
        cores=config.cores,
        dtype=config.dtype,
        gpu_libraries=config.gpu_libraries,
    )
    num_blocks, max_model_len = plan_memory(config, checkpoint, device)
    digest = fingerprint(checkpoint)
    sizes = Sizes(
        num_blocks, BLOCK_SIZE, config.kv_cache_dtype, config.max_num_batched_tokens, max_seqs=config.max_num_seqs
    )
    loading = Loading(
        checkpoint,
        digest,
        sizes,
        device,
        max_model_len=max_model_len,
        packed_cache=config.packed_cache,
    )
    tokenizer = load_tokenizer(checkpoint, config.tokenizer, is_known=loading.is_cached)
    model = loading.finish()
    cache = KVCacheManager(
        num_blocks,
        BLOCK_SIZE,
        base_keys=[("kv_dtype", config.kv_cache_dtype)],
        prefix_caching=config.enable_prefix_caching,
    )
    scheduler = Scheduler(
        SchedulerConfig(
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_model_len=max_model_len,
            prefill_chunk=config.prefill_chunk,
            max_queued_requests=config.max_queued_requests,
            max_queued_tokens=config.max_queued_tokens,
            max_draft_tokens=config.drafts.num_tokens,
        ),
        cache,
    )
    vocab = model_config.vocab_size
    eos_ids = frozenset(tokenizer.eos_ids if tokenizer is not None else ()) | frozenset(model_config.eos_ids)
    compiler = GrammarCompiler(tokenizer.to_json, vocab, sorted(eos_ids)) if tokenizer is not None else None
    core = EngineCore(scheduler, InProcessExecutor(model), fill_masks, vocab, config.check_invariants)
    preparer = Preparer(
        tokenizer=tokenizer,
        limits=ModelLimits(vocab, max_model_len, config.max_num_seqs),
        eos_ids=eos_ids,
        compiler=compiler,
        engine_seed=config.seed,
        grammar_time=core.grammar_time,
        drafts=config.drafts,
        count=core.counters.count,
    )

    @cache_result
    def numerics() -> NumericsId:
        weights = weights_digest(model_config, digest, max_model_len)
        return numerics_id(config, model.description, weights, tokenizer, eos_ids)

    return EngineParts(core, preparer, lambda: statistics(core, model), numerics, default_sampling(checkpoint))


def plan_memory(config: EngineConfig, checkpoint: Checkpoint, device: OpenDevice) -> tuple[int, int]:
    """Number of KV blocks and the longest request. Raises CapacityError when not one request of that length fits."""
    model = checkpoint.config
    if config.max_model_len is not None and config.max_model_len > model.max_position_embeddings:
        raise ParameterError(
            "max_model_len",
            config.max_model_len,
            f"exceeds the {model.max_position_embeddings} positions the model was made for",
            "Lower it.",
        )
    wanted_len = config.max_model_len or model.max_position_embeddings
    per_block = device.kv_block_bytes(model, BLOCK_SIZE, config.kv_cache_dtype)
    per_request = -(-wanted_len // BLOCK_SIZE)
    memory = config.kv_cache_memory
    if memory is None or isinstance(memory, float):
        usual = DEFAULT_KV_SHARE if device.native.memory is None else DEFAULT_GPU_KV_SHARE
        free = device.memory_for_kv(checkpoint, config.max_num_batched_tokens, config.max_num_seqs)
        budget = int(free * (usual if memory is None else memory))
        num_blocks = min(budget // per_block, per_request * config.max_num_seqs)
    else:
        num_blocks = memory // per_block
    if num_blocks >= per_request:
        return num_blocks, wanted_len
    if config.max_model_len is not None or num_blocks < 2:
        raise CapacityError(
            "kv_cache_memory",
            config.kv_cache_memory if config.kv_cache_memory is not None else f"{num_blocks * per_block} bytes",
            f"holds {num_blocks * BLOCK_SIZE} tokens, less than one request of max_model_len={wanted_len}",
            f"Give at least {per_request * per_block} bytes, or lower max_model_len.",
        )
    return num_blocks, num_blocks * BLOCK_SIZE


def default_sampling(checkpoint: Checkpoint) -> SamplingParams:
    """What the model's generation_config.json recommends, else plain sampling at temperature 1."""
    recommended = checkpoint.generation_config
    if not recommended.get("do_sample", True):
        return SamplingParams(temperature=0.0)
    fields = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return SamplingParams(**{name: recommended[name] for name in fields if recommended.get(name) is not None})


def statistics(core: EngineCore, model: LoadedModel) -> EngineStats:
    """A snapshot of the counters; called in the engine's thread."""
    from .base import EngineStats

    scheduler, cache, counters = core.scheduler.stats(), core.scheduler.cache.stats(), core.counters
    return EngineStats(
        requests_running=scheduler.num_running,
        requests_waiting=scheduler.num_waiting,
        requests_finished=dict(counters.finished),
        prompt_tokens=counters.prompt_tokens,
        generation_tokens=counters.generation_tokens,
        cached_tokens=counters.cached_tokens,
        preemptions=scheduler.num_preemptions,
        steps=counters.steps,
        mixed_steps=counters.mixed_steps,
        max_step_tokens=counters.max_step_tokens,
        computed_tokens=counters.computed_tokens,
        rewound_tokens=counters.rewound_tokens,
        step_faults=counters.step_faults,
        step_seconds=counters.step_seconds,
        device_seconds=counters.device_seconds,
        host_share=counters.host_share,
        grammar_seconds=counters.grammar_seconds,
        grammar_share=counters.grammar_share,
        mask_seconds=counters.mask_seconds,
        drafted_tokens=scheduler.drafted,
        accepted_tokens=scheduler.accepted,
        kv_blocks_total=cache.num_blocks,
        kv_blocks_used=cache.num_blocks - cache.num_free_blocks,
        prefix_cache_queries=cache.queries,
        prefix_cache_hits=cache.hits,
        kv_cache_bytes=model.kv_bytes,
        weight_bytes=model.weight_bytes,
        device=model.description,
        gpu_libraries=json.loads(model.libraries()),
    )
