"""ModelConfig from GGUF metadata (keys as llama.cpp's converters write them)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from ..core.errors import ModelFileError
from .config import MAX_EXPERTS, MAX_LAYERS, ModelConfig, unsupported_architecture
from .fields import Fields
from .rope import MIN_FACTOR, FrequencyFactors, LinearScaling, RopeConfig, RopeScaling, YarnScaling

_ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen3moe")
"""Mistral and Mixtral models are converted to architecture llama."""

_EOS_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def config_from_gguf(
    path: str, metadata: Mapping[str, Any], tensor_names: Collection[str], rope_factors: tuple[float, ...] | None
) -> ModelConfig:
    """`tensor_names` are GGUF names; `rope_factors` the values of the tensor `rope_freqs.weight`, if there is one."""
    general = Fields(path, metadata)
    architecture = general.text("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise unsupported_architecture(path, architecture)
    if "split.count" in general and general.integer("split.count", low=0, high=2**16) > 1:
        raise ModelFileError(path, "it is one part of a split GGUF", "Join the parts with llama.cpp's gguf-split.")
    model = Fields(path, metadata, f"{architecture}.")
    num_experts, per_token = _mixture(model, architecture, tensor_names)
    hidden_size = model.integer("embedding_length")
    num_heads = model.integer("attention.head_count")
    num_layers = model.integer("block_count", high=MAX_LAYERS)
    head_dim = model.integer("attention.key_length", hidden_size // num_heads)
    if model.integer("attention.value_length", head_dim) != head_dim:
        raise model.error("attention.value_length", f"differs from the key length {head_dim}", "Use another model.")
    vocab_size = _vocab_size(model, metadata)
    tokenizer = Fields(path, metadata, "tokenizer.ggml.")
    bos_ids = tokenizer.token_ids("bos_token_id", vocab_size)
    window = model.integer("attention.sliding_window", 0, low=0)
    return ModelConfig(
        architecture=_name(architecture, num_experts),
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=_inner(model, num_experts),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=model.integer("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        rms_norm_eps=model.number("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=model.integer("context_length"),
        rope=_rope(model, architecture, head_dim, rope_factors),
        windows=(window,) * num_layers,
        tie_word_embeddings="output.weight" not in tensor_names,
        attention_bias="blk.0.attn_q.bias" in tensor_names,
        output_bias="blk.0.attn_output.bias" in tensor_names,
        mlp_bias="blk.0.ffn_down.bias" in tensor_names,
        qk_norm="blk.0.attn_q_norm.weight" in tensor_names,
        num_experts=num_experts,
        experts_per_token=per_token,
        bos_id=bos_ids[0] if bos_ids else None,
        eos_ids=tuple(dict.fromkeys(i for key in _EOS_KEYS for i in tokenizer.token_ids(key, vocab_size))),
    ).check(path)


def _name(architecture: str, num_experts: int) -> str:
    """As config.json calls it."""
    if architecture == "qwen3moe":
        return "qwen3_moe"
    return "mixtral" if num_experts else architecture


def _mixture(model: Fields, architecture: str, tensor_names: Collection[str]) -> tuple[int, int]:
    """Experts of a layer and those that a token takes; 0 in a dense model. llama.cpp always lets their weights sum to
    one."""
    num_experts = model.integer("expert_count", 0, low=0, high=MAX_EXPERTS)
    if num_experts == 0:
        return 0, 0
    if architecture not in ("llama", "qwen3moe"):
        raise unsupported_architecture(model.path, f"{architecture} with a mixture of experts")
    if model.integer("expert_shared_count", 0, low=0) > 0:
        raise model.error("expert_shared_count", "is not supported", "Use a model without shared experts.")
    if "blk.0.ffn_gate.0.weight" in tensor_names:
        reason = f"each of its {num_experts} experts has tensors of its own, as old files have"
        raise ModelFileError(model.path, reason, "Get the model converted by a llama.cpp from April 2024 or later.")
    return num_experts, model.integer("expert_used_count")


def _inner(model: Fields, num_experts: int) -> int:
    """Columns between the projections of the MLP, or of one expert."""
    has_own = num_experts and "expert_feed_forward_length" in model
    return model.integer("expert_feed_forward_length" if has_own else "feed_forward_length")


def _vocab_size(model: Fields, metadata: Mapping[str, Any]) -> int:
    if "vocab_size" in model:
        return model.integer("vocab_size")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise model.error("vocab_size", "is missing, and so is tokenizer.ggml.tokens")
    return len(tokens)


def _rope(model: Fields, architecture: str, head_dim: int, factors: tuple[float, ...] | None) -> RopeConfig:
    rot_dim = model.integer("rope.dimension_count", head_dim)
    scaling = _scaling(model)
    if factors is not None:
        if scaling is not None:
            raise model.error(
                "rope.scaling.type", "comes together with a tensor rope_freqs.weight", "Use another model."
            )
        if len(factors) != rot_dim // 2:
            raise model.error("rope.dimension_count", f"does not fit {len(factors)} values in rope_freqs.weight")
        if not all(MIN_FACTOR < factor < 1e15 for factor in factors):
            raise model.error("rope.scaling.type", "has unusable divisors in rope_freqs.weight")
        scaling = FrequencyFactors(factors)
    return RopeConfig(
        theta=model.number("rope.freq_base", 10000.0, low=1.0),
        rot_dim=rot_dim,
        interleaved=architecture == "llama",
        scaling=scaling,
    )


def _scaling(model: Fields) -> RopeScaling | None:
    kind = model.text("rope.scaling.type", "linear" if "rope.scale_linear" in model else "none")
    if kind == "none":
        return None
    if kind == "linear":
        key = "rope.scaling.factor" if "rope.scaling.factor" in model else "rope.scale_linear"
        return LinearScaling(model.number(key, low=MIN_FACTOR))
    if kind == "yarn":
        factor = model.number("rope.scaling.factor", low=MIN_FACTOR)
        # Unlike attention_factor in config.json, attn_factor multiplies YaRN's own scale.
        attn_factor = model.number("rope.scaling.attn_factor", 1.0)
        return YarnScaling(
            factor=factor,
            original_context=model.integer("rope.scaling.original_context_length", model.integer("context_length")),
            beta_fast=model.number("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=model.number("rope.scaling.yarn_beta_slow", 1.0),
            attention_factor=attn_factor * (0.1 * math.log(max(factor, 1.0)) + 1.0),
        )
    raise model.error("rope.scaling.type", "is not supported", "Supported are none, linear and yarn.")
