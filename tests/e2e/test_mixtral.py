"""A mixture of experts through the whole engine on the CPU: transformers' tokens, whatever befalls requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from tiny import write_tiny_gguf, write_tiny_llama

from pageform import Engine, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
SHARED = list(range(3, 43))
PROMPTS = [[*SHARED, 90], [*SHARED, 91, 92], [*SHARED, 93], [*SHARED, 94], [5, 100, 17]]
OPTIONS: dict[str, Any] = {
    "kv_cache_dtype": "float32",
    "threads": 2,
    "max_model_len": 160,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 64,
    "drafts": "none",
    "check_invariants": True,
}


class Verdict(BaseModel):
    kind: Literal["good", "bad", "neither"]
    sure: bool


def transformers_tokens(folder: Path, prompt: list[int]) -> list[int]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=GREEDY.max_tokens, pad_token_id=0, eos_token_id=None
        )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("mixtral"), layers=2, hidden=64, experts=4)


def run(model: Path, expected: list[list[int]], **changes: Any) -> None:
    """All at once in a cache so small that requests are preempted; then two again, out of the prefix cache."""
    tight = {**OPTIONS, "kv_cache_memory": "100KB", "prefill_chunk": 16, **changes}
    with Engine(model, device="cpu", **tight) as engine:
        assert [answer.token_ids for answer in engine.generate(PROMPTS, GREEDY)] == expected
        stats = engine.stats()
        assert stats.preemptions > 0
        assert stats.mixed_steps > 0
        again = engine.generate(PROMPTS[-2:], GREEDY)
        assert [answer.token_ids for answer in again] == expected[-2:]
        assert any(answer.usage.cached_tokens > 0 for answer in again)
        assert engine.stats().step_faults == 0


def test_tokens_are_those_of_transformers(mixtral: Path) -> None:
    run(mixtral, [transformers_tokens(mixtral, prompt) for prompt in PROMPTS], dtype="float32")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantized_experts_give_a_request_the_same_alone(tmp_path: Path, kind: str) -> None:
    model = write_tiny_gguf(tmp_path / "m.gguf", kind, layers=2, head_dim=16, experts=4)
    with Engine(model, device="cpu", **{**OPTIONS, "tokenizer": None, "kv_cache_memory": "2MB"}) as engine:
        alone = [engine.generate(prompt, GREEDY).token_ids for prompt in PROMPTS]
    run(model, alone, tokenizer=None)


def test_a_grammar_holds(mixtral: Path) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=48, json_schema=Verdict.model_json_schema())
    with Engine(mixtral, device="cpu", dtype="float32", **{**OPTIONS, "kv_cache_memory": "2MB"}) as engine:
        answers = engine.generate(["Good or bad?", *PROMPTS], [sampling, *[GREEDY] * len(PROMPTS)])
        Verdict.model_validate_json(answers[0].text)
        assert engine.generate("Good or bad?", sampling).token_ids == answers[0].token_ids
