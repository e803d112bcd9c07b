"""Requests that begin alike and arrive together compute their beginning once, and get the tokens they get alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from stepped import SteppedEngine

from pageform import SamplingParams

SETTINGS: dict[str, Any] = {"threads": 2, "max_num_seqs": 16, "kv_cache_memory": "64MB", "drafts": "none"}
SHARED = list(range(5, 105))


def prompts(count: int) -> list[list[int]]:
    return [[*SHARED, *([10 + i] * (1 + i))] for i in range(count)]


def params(seed: int) -> SamplingParams:
    return SamplingParams(temperature=0.8, seed=seed, max_tokens=12, ignore_eos=True)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_beginning_is_computed_once(folder: Path, device: str) -> None:
    with SteppedEngine(folder, device=device, **SETTINGS) as engine:
        alone = []
        for seed, prompt in enumerate(prompts(8)):
            engine.reset_prefix_cache()
            ticket = engine.ticket(prompt, params(seed))
            engine.submit(ticket)
            engine.finish(ticket)
            alone.append(ticket.future.result().token_ids)
        engine.reset_prefix_cache()
        tickets = [engine.ticket(prompt, params(seed)) for seed, prompt in enumerate(prompts(8))]
        for ticket in tickets:
            engine.submit(ticket)
        before = engine.stats().computed_tokens
        engine.step()
        own = sum(len(prompt) - 96 for prompt in prompts(8))  # of the beginning, six blocks are full
        assert engine.stats().computed_tokens - before == 96 + own
        for ticket in tickets:
            engine.finish(ticket)
        completions = [ticket.future.result() for ticket in tickets]
        assert [completion.token_ids for completion in completions] == alone
        assert [completion.usage.cached_tokens for completion in completions] == [0, *[96] * 7]


def test_equal_prompts_arrive_together(folder: Path) -> None:
    prompt = SHARED[:96]
    with SteppedEngine(folder, **SETTINGS) as engine:
        tickets = [engine.ticket(prompt, params(7)) for _ in range(4)]
        for ticket in tickets:
            engine.submit(ticket)
        for ticket in tickets:
            engine.finish(ticket)
        first, *others = [ticket.future.result() for ticket in tickets]
        assert [other.token_ids for other in others] == [first.token_ids] * 3
        assert [other.usage.cached_tokens for other in others] == [80] * 3


def test_what_a_step_allocates_does_not_depend_on_the_context(folder: Path) -> None:
    def kept(engine: SteppedEngine, length: int) -> float:
        ticket = engine.ticket([5 + i % 200 for i in range(length)], SamplingParams(max_tokens=80, ignore_eos=True))
        engine.submit(ticket)
        for _ in range(8):
            engine.step()
        before = sys.getallocatedblocks()
        for _ in range(64):
            engine.step()
        after = sys.getallocatedblocks()
        engine.finish(ticket)
        return (after - before) / 64

    with SteppedEngine(folder, check_invariants=False, **SETTINGS) as engine:
        kept(engine, 20)
        assert kept(engine, 3000) <= kept(engine, 20) + 2.0


def test_a_first_step_may_sample_nothing(folder: Path) -> None:
    with SteppedEngine(folder, max_num_batched_tokens=32, **SETTINGS) as engine:
        ticket = engine.ticket(SHARED, params(1))
        engine.submit(ticket)
        engine.finish(ticket)
        assert len(ticket.future.result().token_ids) == 12
