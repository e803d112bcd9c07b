"""Tiny random checkpoints of every model family and rope variant agree with transformers on logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import hf_logits, our_logits

from pageform.models.loader import load_model
from pageform.weights import open_checkpoint

BASE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": ("llama", {"head_dim": 24}),
    "llama-one-kv-head": ("llama", {"num_key_value_heads": 1}),
    "llama-linear-rope": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    "llama-llama3-rope": ("llama", {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}}),
    "llama-yarn": ("llama", {"rope_parameters": {**YARN, "rope_theta": 1e4}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 24}),
    "mixtral": ("mixtral", {"num_local_experts": 6, "num_experts_per_tok": 2}),
    "mixtral-window": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 3, "sliding_window": 24}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
    "qwen2-yarn": ("qwen2", {"rope_parameters": {**YARN, "rope_theta": 1e6}}),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "qwen3-moe": (
        "qwen3_moe",
        {"head_dim": 24, "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 48},
    ),
    "qwen3-moe-normed": (
        "qwen3_moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True},
    ),
    "qwen3-tied": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", CASES)
def test_logits_equal_transformers(case: str, dtype: str, tmp_path: Path) -> None:
    """fp32: relative error < 1e-4. 16-bit files: the oracle computes in fp32 from the same rounded weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    family, changes = CASES[case]
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**BASE, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "proj" in name:
                parameter.mul_(4.0)  # random checkpoints are nearly linear otherwise: attention would hardly matter
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path)
    # Read back rather than converted back: .to() would round the rotary frequencies as well.
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(3, BASE["vocab_size"], (100,)).tolist()
    ours = load_model(
        open_checkpoint(str(tmp_path)), threads=2, num_blocks=16, max_tokens=64, max_seqs=1, kv_dtype="float32"
    )
    expected, got = hf_logits(model, ids), our_logits(ours, ids, chunk=37)
    assert np.abs(expected).max() > 0.05
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-4
