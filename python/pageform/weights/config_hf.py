"""ModelConfig from a Hugging Face config.json, as transformers 4 and 5 write it.

Defaults of missing keys are those of the transformers config class of each model_type, since that is what their absence
means in a saved file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .config import MAX_EXPERTS, MAX_LAYERS, SUPPORTED_ARCHITECTURES, ModelConfig, unsupported_architecture
from .fields import Fields
from .rope import (
    MIN_FACTOR,
    DynamicNtkScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeConfig,
    RopeScaling,
    YarnScaling,
)

_SUPPORTED_SCALINGS = "default, linear, dynamic, yarn, llama3 and longrope"


def config_from_hf(path: str, raw: Mapping[str, Any], generation: Mapping[str, Any]) -> ModelConfig:
    """`raw` is the object of config.json, `generation` that of generation_config.json (empty when there is none).

    Raises ModelFileError that names the offending field.
    """
    model = Fields(path, raw)
    architecture = model.text("model_type")
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise unsupported_architecture(path, architecture)
    if model.text("hidden_act", "silu") != "silu":
        raise model.error("hidden_act", "is not supported", "Only silu is.")
    if "quantization_config" in model:
        raise model.error("quantization_config", "is not supported", "Use the unquantized model or a GGUF file.")
    num_experts, per_token, renormalize = _mixture(model, architecture)
    hidden_size = model.integer("hidden_size")
    num_heads = model.integer("num_attention_heads")
    num_layers = model.integer("num_hidden_layers", high=MAX_LAYERS)
    head_dim = model.integer("head_dim", 128 if architecture == "qwen3" else max(hidden_size // num_heads, 1))
    vocab_size = model.integer("vocab_size")
    has_bias = architecture in ("llama", "qwen3", "qwen3_moe") and model.boolean("attention_bias", False)
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=model.integer(
            "moe_intermediate_size" if architecture == "qwen3_moe" else "intermediate_size"
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=model.integer("num_key_value_heads", num_heads),
        head_dim=head_dim,
        rms_norm_eps=model.number("rms_norm_eps", 1e-5 if architecture == "mixtral" else 1e-6),
        max_position_embeddings=model.integer("max_position_embeddings", _DEFAULT_CONTEXT[architecture]),
        rope=_rope(model, head_dim),
        windows=_windows(model, architecture, num_layers),
        tie_word_embeddings=model.boolean("tie_word_embeddings", False),
        attention_bias=has_bias or architecture == "qwen2",
        output_bias=has_bias,
        mlp_bias=architecture == "llama" and model.boolean("mlp_bias", False),
        qk_norm=architecture in ("qwen3", "qwen3_moe"),
        num_experts=num_experts,
        experts_per_token=per_token,
        renormalize_experts=renormalize,
        bos_id=next(iter(_token_ids(model, generation, "bos_token_id", vocab_size)), None),
        eos_ids=_token_ids(model, generation, "eos_token_id", vocab_size),
    ).check(path)


_DEFAULT_CONTEXT = {
    "llama": 2048,
    "mistral": 131072,
    "mixtral": 131072,
    "qwen2": 32768,
    "qwen3": 32768,
    "qwen3_moe": 32768,
}


def _mixture(model: Fields, architecture: str) -> tuple[int, int, bool]:
    """Experts of a layer, those that a token takes, and whether the weights of these sum to one; 0 in a dense model."""
    if architecture == "mixtral":
        experts = model.integer("num_local_experts", 8, high=MAX_EXPERTS)
        return experts, model.integer("num_experts_per_tok", 2), True
    if architecture != "qwen3_moe":
        return 0, 0, True
    remedy = "Use a model whose layers are all mixtures of experts."
    if model.get("mlp_only_layers"):
        raise model.error("mlp_only_layers", "is not supported", remedy)
    if model.integer("decoder_sparse_step", 1, low=0) != 1:
        raise model.error("decoder_sparse_step", "is not supported", remedy)
    key = "num_experts" if "num_experts" in model else "num_local_experts"  # as transformers 5 writes it
    experts = model.integer(key, 128, high=MAX_EXPERTS)
    return experts, model.integer("num_experts_per_tok", 8), model.boolean("norm_topk_prob", False)


def _token_ids(model: Fields, generation: Mapping[str, Any], key: str, vocab_size: int) -> tuple[int, ...]:
    """From generation_config.json where it says something, since only that one lists every id that ends a chat turn."""
    ids = Fields(f"{model.path} (generation_config.json)", generation).token_ids(key, vocab_size)
    return ids or model.token_ids(key, vocab_size)


def _windows(model: Fields, architecture: str, num_layers: int) -> tuple[int, ...]:
    """Window of each layer; 0 is full attention."""
    if architecture == "llama":
        return (0,) * num_layers
    if architecture == "mistral":
        # An explicit null means no window, a missing key the default of the first Mistral.
        has_default = not model.has_key("sliding_window")
        return (4096 if has_default else model.integer("sliding_window", 0, low=0),) * num_layers
    if architecture == "mixtral":
        return (model.integer("sliding_window", 0, low=0),) * num_layers
    if not model.boolean("use_sliding_window", False):
        return (0,) * num_layers
    if architecture == "qwen3_moe":
        has_default = not model.has_key("sliding_window")
        return (4096 if has_default else model.integer("sliding_window", 0, low=0),) * num_layers
    window = model.integer("sliding_window", 0 if model.has_key("sliding_window") else 4096, low=0)
    first = model.integer("max_window_layers", 28, low=0)
    kinds = model.get("layer_types")
    if kinds is None:
        kinds = ["sliding_attention" if layer >= first else "full_attention" for layer in range(num_layers)]
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise model.error("layer_types", f"is not a list of {num_layers} names")
    if unknown := set(map(str, kinds)) - {"sliding_attention", "full_attention"}:
        raise model.error("layer_types", f"has the unsupported {min(unknown)!r}", "Use another model.")
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _rope(model: Fields, head_dim: int) -> RopeConfig:
    """transformers 4 has `rope_theta` and `rope_scaling`; transformers 5 has both in `rope_parameters`."""
    nested = model.get("rope_parameters") or model.get("rope_scaling") or {}
    if not isinstance(nested, dict):
        raise model.error("rope_parameters" if "rope_parameters" in model else "rope_scaling", "is not an object")
    rope = Fields(model.path, {"rope_theta": model.get("rope_theta"), **nested})
    fraction = rope.number("partial_rotary_factor", model.number("partial_rotary_factor", 1.0))
    return RopeConfig(
        theta=rope.number("rope_theta", 1e6 if model.text("model_type") == "mixtral" else 1e4, low=1.0),
        rot_dim=int(head_dim * fraction),
        scaling=_scaling(model, rope, int(head_dim * fraction)),
    )


def _scaling(model: Fields, rope: Fields, rot_dim: int) -> RopeScaling | None:
    context = model.integer("max_position_embeddings", _DEFAULT_CONTEXT[model.text("model_type")])
    original = rope.integer(
        "original_max_position_embeddings", model.integer("original_max_position_embeddings", context)
    )
    match rope.text("rope_type", rope.text("type", "default")):
        case "default":
            return None
        case "linear":
            return LinearScaling(rope.number("factor", low=MIN_FACTOR))
        case "dynamic":
            return DynamicNtkScaling(rope.number("factor", low=MIN_FACTOR), context)
        case "yarn":
            return YarnScaling(
                factor=rope.number("factor", context / original, low=MIN_FACTOR),
                original_context=original,
                attention_factor=rope.optional_number("attention_factor"),
                beta_fast=rope.number("beta_fast", 32.0),
                beta_slow=rope.number("beta_slow", 1.0),
                mscale=rope.optional_number("mscale"),
                mscale_all_dim=rope.optional_number("mscale_all_dim"),
                truncate=rope.boolean("truncate", True),
            )
        case "llama3":
            low = rope.number("low_freq_factor")
            return Llama3Scaling(
                rope.number("factor", low=MIN_FACTOR), low, rope.number("high_freq_factor", low=low), original
            )
        case "longrope":
            return _longrope(rope, rot_dim, context, original)
        case _:
            key = "rope_type" if "rope_type" in rope else "type"
            raise rope.error(key, "is not a supported RoPE scaling", f"Supported are {_SUPPORTED_SCALINGS}.")


def _longrope(rope: Fields, rot_dim: int, context: int, original: int) -> LongRopeScaling:
    factor = rope.number("factor", context / original, low=MIN_FACTOR)
    default = 1.0 if factor <= 1 or original == 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return LongRopeScaling(
        short_factors=rope.numbers("short_factor", rot_dim // 2, low=MIN_FACTOR),
        long_factors=rope.numbers("long_factor", rot_dim // 2, low=MIN_FACTOR),
        original_context=original,
        attention_factor=rope.number("attention_factor", default),
    )
