"""The embedded model against transformers: the same greedy tokens in fp32, close distributions when quantized."""

from __future__ import annotations

import pydoc_data.topics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import hf_logits, our_logits

from pageform import Engine, SamplingParams
from pageform.models.loader import load_model
from pageform.weights import open_checkpoint

CHATS = [
    "What is the capital of France?",
    "Write a haiku about winter.",
    "Explain photosynthesis in two sentences.",
    "List three uses of a brick.",
    "Translate 'good morning' to Spanish.",
    "What is 17 plus 25?",
    "Who wrote Hamlet?",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "Summarize the plot of Cinderella.",
    "Name five animals that live in the sea.",
    "How do I boil an egg?",
    "What does CPU stand for?",
    "Write a Python function that reverses a string.",
    "Describe a sunset over the ocean.",
    "What is the largest planet in the solar system?",
    "Tell me a joke about a cat.",
    "How many days are in a leap year?",
    "What are the benefits of regular exercise?",
    "Write a short email asking for a day off.",
]


@pytest.mark.slow
def test_greedy_tokens_equal_transformers_in_fp32(smollm2_hf: Any) -> None:
    """By induction: each of our tokens is transformers' argmax given the tokens before it."""
    with Engine("smollm2", dtype="float32", kv_cache_dtype="float32", threads=2, kv_cache_memory="256MB") as engine:
        completions = [
            engine.chat(
                [{"role": "user", "content": text}], SamplingParams(temperature=0, max_tokens=64, ignore_eos=True)
            )
            for text in CHATS
        ]
    assert sum(len(c.token_ids) for c in completions) == 64 * len(CHATS)
    for completion in completions:
        prompt = completion.prompt_token_ids
        expected = hf_logits(smollm2_hf, prompt + completion.token_ids)[len(prompt) - 1 : -1].argmax(-1)
        assert completion.token_ids == expected.tolist()


@pytest.mark.slow
def test_greedy_generate_equals_transformers_generate(smollm2_hf: Any) -> None:
    """The same check without the induction, on two prompts, through transformers' own generate."""
    import torch

    with Engine("smollm2", dtype="float32", kv_cache_dtype="float32", threads=2, kv_cache_memory="256MB") as engine:
        for text in CHATS[:2]:
            ours = engine.chat([{"role": "user", "content": text}], SamplingParams(temperature=0, max_tokens=64))
            prompt = torch.tensor([ours.prompt_token_ids])
            theirs = smollm2_hf.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, do_sample=False
            )
            assert ours.token_ids == theirs[0, prompt.shape[1] :].tolist()


@pytest.mark.slow
def test_quantized_distributions_are_close_to_fp32(smollm2_path: Path, smollm2_hf: Any) -> None:
    """Mean KL(fp32 ‖ quantized) of next-token distributions over 4,096 tokens of English text is at most 0.01."""
    with Engine("smollm2", threads=2, kv_cache_memory="64MB", max_model_len=1024) as engine:
        ids = engine.tokenizer.encode("\n".join(pydoc_data.topics.topics[k] for k in sorted(pydoc_data.topics.topics)))
    model = load_model(open_checkpoint(str(smollm2_path)), threads=2, num_blocks=64, max_tokens=64, max_seqs=1)
    windows = [ids[i : i + 512] for i in range(0, 4096, 512)]
    divergences = []
    for window in windows:
        p = _log_softmax(hf_logits(smollm2_hf, window))
        q = _log_softmax(our_logits(model, window))
        divergences.append((np.exp(p) * (p - q)).sum(-1))
    divergence = np.concatenate(divergences)
    assert divergence.size == 4096
    print(
        f"mean KL {divergence.mean():.5f}, median {np.median(divergence):.5f}, p99 {np.quantile(divergence, 0.99):.4f}"
    )
    assert 0 < divergence.mean() <= 0.01


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
