"""A request's tokens depend on nothing but the request: not on company, chunking, cache hits, preemption or threads."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tiny import write_tiny_llama

from pageform import Completion, Engine, SamplingParams

PREFIX = "The following is a conversation about the history of railways and the people who built them. " * 3
PROBES = [
    PREFIX + "First question: when did the first public railway open, and where?",
    PREFIX + "Second question: who designed the locomotives, and what were they called?",
]
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
SEEDED = SamplingParams(temperature=0.9, top_p=0.95, top_k=50, seed=1234, max_tokens=24, ignore_eos=True)


def _engine(**changes: Any) -> Engine:
    settings: dict[str, Any] = {
        "threads": 2,
        "max_model_len": 512,
        "kv_cache_memory": "256MB",
        "max_num_seqs": 32,
        "max_num_batched_tokens": 512,
        "check_invariants": True,
    }
    return Engine("smollm2", **{**settings, **changes})


def _others(seed: int) -> tuple[list[str], list[SamplingParams]]:
    """Thirty requests of other lengths and settings, a few of them sharing the probes' prefix."""
    rng = random.Random(seed)
    words = [
        "a",
        "train",
        "bridge",
        "river",
        "coal",
        "steam",
        "line",
        "station",
        "driver",
        "signal",
        "tunnel",
        "iron",
        "engine",
        "city",
        "port",
    ]
    prompts = [
        (PREFIX if i % 5 == 0 else "") + " ".join(rng.choice(words) for _ in range(rng.randint(3, 120)))
        for i in range(30)
    ]
    params = [
        SamplingParams(temperature=rng.choice([0.0, 1.0]), seed=i, max_tokens=rng.randint(4, 40), ignore_eos=True)
        for i in range(30)
    ]
    return prompts, params


@pytest.fixture(scope="module")
def alone() -> dict[str, list[int]]:
    """Each probe run by itself, one thread, no prefix cache, prompt in one chunk."""
    with _engine(threads=1, enable_prefix_caching=False) as engine:
        return {
            f"{name}{i}": engine.generate(prompt, params).token_ids
            for i, prompt in enumerate(PROBES)
            for name, params in (("greedy", GREEDY), ("seeded", SEEDED))
        }


def test_the_probes_differ(alone: dict[str, list[int]]) -> None:
    assert len({tuple(ids) for ids in alone.values()}) == 4
    assert all(len(ids) == 24 for ids in alone.values())


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chunk", [16, 64, 512])
@pytest.mark.parametrize("memory", ["256MB", "20MB"], ids=["ample", "tight"])
def test_a_request_among_others_gives_the_tokens_it_gives_alone(
    alone: dict[str, list[int]], threads: int, chunk: int, memory: str
) -> None:
    others, other_params = _others(seed=chunk)
    # The probes come last and with the lowest priority, so that tight memory preempts them, not only the others.
    prompts = [*others[:29], PROBES[0], PROBES[1], PROBES[1]]
    low = {"priority": -1}
    params = [*other_params[:29], SEEDED.with_(**low), GREEDY.with_(**low), SEEDED.with_(**low)]
    with _engine(threads=threads, prefill_chunk=chunk, kv_cache_memory=memory) as engine:
        cold = engine.generate(prompts, params)
        after_cold = engine.stats()
        warm = engine.generate(prompts, params)
        stats = engine.stats()
        again = engine.generate([PROBES[0], PROBES[1]], [GREEDY, SEEDED])
    expected = [alone["seeded0"], alone["greedy1"], alone["seeded1"]]
    assert _ids(cold[29:]) == expected
    assert _ids(warm[29:]) == expected
    assert _ids(cold) == _ids(warm)
    assert _ids(again) == [alone["greedy0"], alone["seeded1"]]
    assert len(cold) == 32
    assert stats.max_step_tokens >= 16
    assert stats.mixed_steps > 0
    assert stats.prefix_cache_hits > after_cold.prefix_cache_hits
    assert any(c.usage.cached_tokens > 0 for c in [*warm[29:], *again])
    if memory == "20MB":
        assert stats.preemptions > 0
    else:
        assert stats.preemptions == 0


@pytest.mark.parametrize(("kind", "tight"), [("int8", "135kB"), ("int16", "240kB")])
def test_with_codes_for_a_cache_too(tmp_path: Path, kind: str, tight: str) -> None:
    """Alone, and among others that begin alike, in chunks, with prefix hits, samples of one prompt and preemption."""
    folder = write_tiny_llama(tmp_path, head_dim=40)
    rng = random.Random(3)
    head = [rng.randrange(3, 250) for _ in range(140)]
    prompts = [head + [rng.randrange(3, 250) for _ in range(rng.randint(1, 40))] for _ in range(9)] + [head[:5]]
    params = [SEEDED.with_(seed=i, max_tokens=rng.randint(4, 40)) for i in range(10)]
    settings: dict[str, Any] = {"kv_cache_dtype": kind, "check_invariants": True}
    with Engine(folder, threads=1, enable_prefix_caching=False, kv_cache_memory="4MB", **settings) as engine:
        alone = [engine.generate(prompt, one).token_ids for prompt, one in zip(prompts, params, strict=True)]
        samples = [c.token_ids for c in engine.generate(prompts[0], params[0].with_(n=3)).choices]
    for threads, chunk, memory in ((2, 17, "4MB"), (1, 64, tight)):
        with Engine(folder, threads=threads, prefill_chunk=chunk, kv_cache_memory=memory, **settings) as engine:
            assert _ids(engine.generate(prompts, params)) == alone
            assert _ids(engine.generate(prompts, params)) == alone
            assert [c.token_ids for c in engine.generate(prompts[0], params[0].with_(n=3)).choices] == samples
            stats = engine.stats()
        assert stats.prefix_cache_hits > 0
        assert (stats.preemptions > 0) == (memory == tight)


def test_what_a_cache_of_codes_takes(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path, head_dim=64)
    blocks = {}
    for kind in ("float16", "int16", "int8"):
        with Engine(folder, kv_cache_dtype=kind, kv_cache_memory="100kB", threads=1) as engine:
            blocks[kind] = engine.stats().kv_blocks_total
    assert blocks["int8"] == int(100e3) // (2 * 2 * 16 * (64 + 2 * 4 + 64 + 4))
    assert blocks["int16"] == int(100e3) // (2 * 2 * (16 * 2 * 64 * 2 + 64))  # a line of scales
    assert blocks["float16"] == int(100e3) // (2 * 2 * 16 * 2 * 64 * 2)


def _ids(completions: list[Completion]) -> list[list[int]]:
    return [completion.token_ids for completion in completions]


@pytest.mark.slow
def test_samples_of_one_prompt_equal_their_own_single_runs() -> None:
    """n > 1 shares the prompt's blocks; sample k is the same whether or not the others run beside it."""
    params = SamplingParams(temperature=1.0, seed=5, max_tokens=16, n=4, ignore_eos=True)
    with _engine() as engine:
        four = engine.generate(PROBES[0], params)
        two = engine.generate(PROBES[0], params.with_(n=2))
    assert [c.token_ids for c in two.choices] == [c.token_ids for c in four.choices[:2]]
    assert len({tuple(c.token_ids) for c in four.choices}) > 1
