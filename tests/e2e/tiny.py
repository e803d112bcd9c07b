"""Tiny random Llama and Mixtral checkpoints, written in a moment: for tests that need many steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_tiny_llama(
    folder: Path,
    layers: int = 2,
    hidden: int = 32,
    seed: int = 0,
    positions: int = 512,
    words: Sequence[str] = (),
    head_dim: int | None = None,
    experts: int = 0,
) -> Path:
    """Writes config.json, model.safetensors and tokenizer.json (256 bytes, three special tokens, and `words`, which
    decoding may use and encoding doesn't). There are four heads and two KV heads, of hidden / 4 channels if `head_dim`
    says nothing else. With `experts` it is a Mixtral, of which a token takes two."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *alphabet, *words])}
    tokenizer = Tokenizer(BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))

    size, heads, kv_heads, inner = len(vocab), 4, 2, 2 * hidden
    dim = head_dim or hidden // heads
    config: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": size,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if experts:
        config |= {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}
        config |= {"num_local_experts": experts, "num_experts_per_tok": 2}
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(seed)

    def matrix(rows: int, cols: int) -> np.ndarray:
        return (rng.standard_normal((rows, cols)) * 2.0 / np.sqrt(cols)).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(size, hidden),
        "model.norm.weight": np.ones(hidden, np.float32),
        "lm_head.weight": matrix(size, hidden),
    }
    for i in range(layers):
        prefix = f"model.layers.{i}."
        tensors |= {
            prefix + "input_layernorm.weight": np.ones(hidden, np.float32),
            prefix + "post_attention_layernorm.weight": np.ones(hidden, np.float32),
            prefix + "self_attn.q_proj.weight": matrix(heads * dim, hidden),
            prefix + "self_attn.k_proj.weight": matrix(kv_heads * dim, hidden),
            prefix + "self_attn.v_proj.weight": matrix(kv_heads * dim, hidden),
            prefix + "self_attn.o_proj.weight": matrix(hidden, heads * dim),
        }
        if experts:
            tensors[prefix + "block_sparse_moe.gate.weight"] = matrix(experts, hidden)
        for expert in range(experts):
            own = f"{prefix}block_sparse_moe.experts.{expert}."
            tensors |= {own + name + ".weight": matrix(inner, hidden) for name in ("w1", "w3")}
            tensors[own + "w2.weight"] = matrix(hidden, inner)
        if not experts:
            tensors |= {
                prefix + "mlp.gate_proj.weight": matrix(inner, hidden),
                prefix + "mlp.up_proj.weight": matrix(inner, hidden),
                prefix + "mlp.down_proj.weight": matrix(hidden, inner),
            }
    save_file(tensors, str(folder / "model.safetensors"))
    return folder


def write_tiny_gguf(
    path: Path,
    kind: str,
    layers: int = 1,
    hidden: int = 64,
    head_dim: int = 64,
    seed: int = 0,
    experts: int = 0,
    vocab: int = 256,
) -> Path:
    """A random Llama of four heads and two KV heads whose matrices are of one quantized kind, such as "Q8_0". It has
    no tokenizer; 2 is the token that ends. With `experts` it is a Mixtral, of which a token takes two."""
    import gguf

    heads, kv_heads, inner = 4, 2, 2 * hidden
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_vocab_size(vocab)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_eos_token_id(2)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (vocab, hidden), "output": (vocab, hidden)}
    for i in range(layers):
        shapes |= {
            f"blk.{i}.attn_q": (heads * head_dim, hidden),
            f"blk.{i}.attn_k": (kv_heads * head_dim, hidden),
            f"blk.{i}.attn_v": (kv_heads * head_dim, hidden),
            f"blk.{i}.attn_output": (hidden, heads * head_dim),
        }
        of_all, suffix = ((experts,), "_exps") if experts else ((), "")
        shapes |= {
            f"blk.{i}.ffn_gate{suffix}": (*of_all, inner, hidden),
            f"blk.{i}.ffn_up{suffix}": (*of_all, inner, hidden),
            f"blk.{i}.ffn_down{suffix}": (*of_all, hidden, inner),
        }
        if experts:
            router = rng.standard_normal((experts, hidden)).astype(np.float32)
            writer.add_tensor(f"blk.{i}.ffn_gate_inp.weight", router)
    quantized = gguf.GGMLQuantizationType[kind]
    for name, shape in shapes.items():
        values = (rng.standard_normal(shape) * 2.0 / np.sqrt(shape[-1])).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, quantized), raw_dtype=quantized)
    for name in ["output_norm", *(f"blk.{i}.{part}_norm" for i in range(layers) for part in ("attn", "ffn"))]:
        writer.add_tensor(f"{name}.weight", np.ones(hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
