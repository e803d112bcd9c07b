"""The decoder of Llama, Mistral, Mixtral, Qwen2 and Qwen3: pre-norm attention with rotary positions, then an MLP.

What differs between the families is data: projection biases (Qwen2), RMS norms of query and key heads (Qwen3), and a
sliding window in some layers (Mistral, Qwen2); the MLP is a mixture of experts in Mixtral and Qwen3-MoE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..runtime.program import Program, Recorder, Tensor
from ..weights.experts import EXPERT_NAMES

if TYPE_CHECKING:
    from ..weights.config import ModelConfig


def record_step(config: ModelConfig, inv_freq: Sequence[float], attention_scale: float) -> Program:
    """Token ids → logits → samples, for one step. See `models.record`."""
    r = Recorder()
    x = r.embed("model.embed_tokens.weight", config.hidden_size)
    angles = r.rope_angles(list(inv_freq), attention_scale)
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}."
        h = r.rms_norm(x, prefix + "input_layernorm.weight", config.rms_norm_eps)
        x = r.add(x, _attention(r, h, angles, config, layer, prefix + "self_attn."))
        h = r.rms_norm(x, prefix + "post_attention_layernorm.weight", config.rms_norm_eps)
        x = r.add(x, _mixture(r, h, config, layer) if config.num_experts else _mlp(r, h, config, prefix + "mlp."))
    # Only rows that are sampled or scored go through the final norm and the head.
    x = r.rms_norm(r.gather_rows(x), "model.norm.weight", config.rms_norm_eps)
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    r.sample(r.linear(x, head, config.vocab_size))
    return r.program


def _attention(r: Recorder, h: Tensor, angles: Tensor, config: ModelConfig, layer: int, prefix: str) -> Tensor:
    heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
    rot_dim, interleaved = config.rope.rot_dim, config.rope.interleaved
    names = [f"{prefix}{part}_proj" for part in "qkv"]
    qkv = r.linear(
        h,
        [f"{name}.weight" for name in names],
        (heads + 2 * kv_heads) * dim,
        bias=[f"{name}.bias" for name in names] if config.attention_bias else None,
    )
    q, k, v = qkv.split([heads * dim, kv_heads * dim, kv_heads * dim])
    if config.qk_norm:
        q = r.rms_norm(q, prefix + "q_norm.weight", config.rms_norm_eps, groups=heads)
        k = r.rms_norm(k, prefix + "k_norm.weight", config.rms_norm_eps, groups=kv_heads)
    q = r.rope(q, angles, heads, dim, rot_dim, interleaved)
    k = r.rope(k, angles, kv_heads, dim, rot_dim, interleaved)
    r.cache_write(k, v, layer, kv_heads, dim)
    window = config.window_of(layer)
    o = r.attention(q, layer, heads, kv_heads, dim, scale=1.0 / math.sqrt(dim), window=window)
    bias = f"{prefix}o_proj.bias" if config.output_bias else None
    return r.linear(o, f"{prefix}o_proj.weight", config.hidden_size, bias=bias)


def _mlp(r: Recorder, h: Tensor, config: ModelConfig, prefix: str) -> Tensor:
    def bias(*parts: str) -> list[str] | None:
        return [f"{prefix}{part}_proj.bias" for part in parts] if config.mlp_bias else None

    gate_up = r.linear(
        h,
        [f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"],
        2 * config.intermediate_size,
        bias=bias("gate", "up"),
    )
    return r.linear(r.silu_mul(gate_up), f"{prefix}down_proj.weight", config.hidden_size, bias=bias("down"))


def _mixture(r: Recorder, h: Tensor, config: ModelConfig, layer: int) -> Tensor:
    names, experts = EXPERT_NAMES[config.architecture], range(config.num_experts)
    return r.mixture(
        h,
        r.linear(h, names.router(layer), config.num_experts),
        [names.projection(layer, expert, part) for expert in experts for part in ("gate", "up")],
        [names.projection(layer, expert, "down") for expert in experts],
        config.intermediate_size,
        config.experts_per_token,
        config.renormalize_experts,
    )
