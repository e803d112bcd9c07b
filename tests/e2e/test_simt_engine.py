"""The whole engine on the emulated GPU: in float32 it gives the CPU's greedy tokens, whatever befalls a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from simt_library import require_simt
from tiny import write_tiny_gguf, write_tiny_llama

from pageform import Completion, Engine, SamplingParams
from pageform.core.errors import BackendError, ModelFileError, ParameterError

SLOW = pytest.mark.slow
GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
PREFIX = "One beginning that they share. "
PROMPTS = [PREFIX + "And its end.", PREFIX + "Another end, a little longer.", "Alone."]
OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "kv_cache_dtype": "float32",
    "threads": 1,
    "max_model_len": 160,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 64,
    "kv_cache_memory": "4MB",
    "drafts": "none",
    "check_invariants": True,
}


class Verdict(BaseModel):
    """Short in every case, since a model with random weights writes without end where it may."""

    kind: Literal["good", "bad", "neither"]
    sure: bool


@pytest.fixture(scope="module", params=["llama", pytest.param("mixtral", marks=SLOW)])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    experts = 4 if request.param == "mixtral" else 0
    return write_tiny_llama(tmp_path_factory.mktemp("simt"), layers=2, hidden=64, head_dim=64, experts=experts)


@pytest.fixture(scope="module")
def simt(tiny: Path) -> Iterator[Engine]:
    require_simt()
    with Engine(tiny, device="simt", **OPTIONS) as engine:
        yield engine


@pytest.fixture(scope="module")
def cpu(tiny: Path) -> Iterator[Engine]:
    with Engine(tiny, device="cpu", **OPTIONS) as engine:
        yield engine


def ids(completions: list[Completion]) -> list[list[int]]:
    return [completion.token_ids for completion in completions]


def test_greedy_tokens_are_the_cpus(simt: Engine, cpu: Engine) -> None:
    """Prompts of other lengths in one batch; the second time their blocks come from the prefix cache."""
    expected = ids(cpu.generate(PROMPTS, GREEDY))
    assert len({tuple(tokens) for tokens in expected}) == 3
    assert ids(simt.generate(PROMPTS, GREEDY)) == expected
    again = simt.generate(PROMPTS, GREEDY)
    assert ids(again) == expected
    assert all(completion.usage.cached_tokens > 0 for completion in again[:2])
    stats = simt.stats()
    assert "emulated" in stats.device
    assert stats.step_faults == 0


def test_a_grammar_holds(simt: Engine, cpu: Engine) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=48, json_schema=Verdict.model_json_schema())
    answer = simt.generate("Good or bad?", sampling)
    Verdict.model_validate_json(answer.text)
    assert simt.stats().step_faults == 0
    assert answer.token_ids == cpu.generate("Good or bad?", sampling).token_ids


@pytest.mark.slow
def test_sampled_tokens_and_log_probabilities_are_the_cpus(simt: Engine, cpu: Engine) -> None:
    """Noise is the same on every backend, so only a rounding at the very edge could tell them apart."""
    sampling = SamplingParams(temperature=0.8, top_p=0.9, top_k=40, seed=5, max_tokens=10, logprobs=3, ignore_eos=True)
    ours, theirs = simt.generate(PROMPTS, sampling), cpu.generate(PROMPTS, sampling)
    assert ids(ours) == ids(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprobs is not None
        assert other.logprobs is not None
        for a, b in zip(one.logprobs, other.logprobs, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


@pytest.mark.slow
def test_everything_at_once(tiny: Path) -> None:
    """Chunks, preemption, the prefix cache and a grammar in one run."""
    check_everything_at_once(tiny)


@pytest.mark.slow
@pytest.mark.parametrize("experts", [0, 3])
@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_everything_at_once_with_quantized_weights(tmp_path: Path, dtype: str, experts: int) -> None:
    """In float32 against the CPU; packed, in bfloat16, against a device of the same types with room for everything."""
    words = write_tiny_llama(tmp_path / "words", layers=1)
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "Q8_0", layers=2, experts=experts, vocab=259)
    if dtype == "float32":
        check_everything_at_once(model, tokenizer=str(words))
    else:
        halves = {"dtype": dtype, "kv_cache_dtype": dtype}
        check_everything_at_once(model, "simt", "240KB", tokenizer=str(words), **halves)


def check_everything_at_once(model: Path, oracle: str = "cpu", memory: str = "480KB", **changes: Any) -> None:
    """On the emulated GPU with little `memory`, against the device `oracle` with enough."""
    require_simt()
    asked = [PREFIX * 2 + "And then?", *PROMPTS, PREFIX * 2 + "Or not?", "Good or bad?"]
    params = [GREEDY.with_(max_tokens=24)] * (len(asked) - 1)
    params.append(SamplingParams(temperature=0, max_tokens=48, json_schema=Verdict.model_json_schema()))
    options = {**OPTIONS, **changes}
    with Engine(model, device=oracle, **options) as engine:
        expected = ids(engine.generate(asked, params))
    tight = {**options, "kv_cache_memory": memory, "prefill_chunk": 16}
    with Engine(model, device="simt", **tight) as engine:
        first = engine.generate(asked, params)
        again = engine.generate(asked[:2], params[:2])
        stats = engine.stats()
    assert ids(first) == expected
    assert ids(again) == expected[:2]
    Verdict.model_validate_json(first[-1].text)
    assert stats.preemptions > 0
    assert stats.mixed_steps > 0  # chunks of prompts beside decoding
    assert any(completion.usage.cached_tokens > 0 for completion in again)
    assert stats.step_faults == 0


@pytest.mark.slow
def test_a_cache_of_half_floats(tiny: Path) -> None:
    require_simt()
    options = {**OPTIONS, "kv_cache_dtype": "float16"}
    with Engine(tiny, device="simt", **options) as engine:
        got = ids(engine.generate(PROMPTS, GREEDY))
    with Engine(tiny, device="cpu", **options) as engine:
        assert got == ids(engine.generate(PROMPTS, GREEDY))


@pytest.mark.parametrize("experts", [0, pytest.param(16, marks=SLOW)])
@pytest.mark.parametrize("kind", ["Q8_0", pytest.param("Q4_0", marks=SLOW), pytest.param("Q4_1", marks=SLOW)])
def test_quantized_weights_give_the_tokens_of_what_they_stand_for(tmp_path: Path, kind: str, experts: int) -> None:
    """With dtype="float32" both devices multiply their exact values; test_simt_types.py has them packed."""
    require_simt()
    model = write_tiny_gguf(tmp_path / "tiny.gguf", kind, experts=experts)
    prompts = [[5, 100, 17, 40], [9] * 20]
    options = {**OPTIONS, "tokenizer": None}
    sampling = GREEDY.with_(max_tokens=6)
    with Engine(model, device="cpu", **options) as engine:
        expected, full_bytes = ids(engine.generate(prompts, sampling)), engine.stats().weight_bytes
    with Engine(model, device="simt", **options) as engine:
        assert ids(engine.generate(prompts, sampling)) == expected
        assert engine.stats().weight_bytes == full_bytes


def test_weights_without_kernels_are_refused(tmp_path: Path) -> None:
    require_simt()
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "Q5_0")
    with pytest.raises((BackendError, ModelFileError), match=r"q8_0|Q5_0"):
        Engine(model, device="simt", **{**OPTIONS, "tokenizer": None, "dtype": "auto", "kv_cache_dtype": "auto"})


def test_models_without_kernels_are_refused(tmp_path: Path) -> None:
    require_simt()
    folder = write_tiny_llama(tmp_path / "narrow", layers=1, hidden=32)
    with pytest.raises(BackendError, match=r"simt backend.*the model's have 8"):
        Engine(folder, device="simt", **OPTIONS)


def test_there_is_one_emulated_device(tiny: Path) -> None:
    require_simt()
    with pytest.raises(BackendError, match="not number 1"):
        Engine(tiny, device="simt:1", **OPTIONS)


@pytest.mark.parametrize(("device", "vendor"), [("cuda", "NVIDIA"), ("hip", "AMD")])
def test_a_gpu_that_is_not_there_is_told(tiny: Path, device: str, vendor: str) -> None:
    with pytest.raises((ParameterError, BackendError), match=rf"(?i)not installed|no {vendor} GPU"):
        Engine(tiny, device=device, **OPTIONS)
