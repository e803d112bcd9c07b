"""Confidence whatever befalls a request: drafts, company, preemption, stops, deadlines, a closed engine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confidence_kit import EXACT, PROMPT, SETTINGS, Cat, make, numbers, write_model
from stepped import SteppedEngine

from pageform import AsyncEngine, Completion, Engine, EngineClosedError, FinishReason, RequestError, SamplingParams
from pageform.engine.resume import Given, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with make(folder) as made:
        yield made


def test_drafts_batches_and_preemption_change_no_number(folder: Path, engine: Engine) -> None:
    prompts = [f"{PROMPT} {i}" for i in range(8)]
    params = [SamplingParams(temperature=0.7, seed=i, confidence=True, drafts="none") for i in range(8)]
    alone = [engine.generate_with_completion(p, Cat, q)[1] for p, q in zip(prompts, params, strict=True)]
    for drafts in ("none", "auto", "forced"):
        given = [one.with_(drafts=drafts) for one in params]
        together = engine.generate_with_completion(prompts, Cat, given)
        assert [numbers(completion) for _, completion in together] == [numbers(one) for one in alone]
    assert engine.stats().accepted_tokens.get("forced", 0) > 0
    block = 2 * 2 * 16 * 16 * 4
    with make(folder, kv_cache_memory=26 * block, max_model_len=400, max_num_seqs=8) as crowded:
        together = crowded.generate_with_completion(prompts, Cat, params)
        assert crowded.stats().preemptions > 0
    assert [numbers(completion) for _, completion in together] == [numbers(one) for one in alone]


def test_asyncio_gets_the_same(folder: Path, engine: Engine) -> None:
    async def ask() -> list[Any]:
        async with AsyncEngine(folder, **SETTINGS, max_num_seqs=8) as other:
            return await other.generate_with_completion([PROMPT] * 3, Cat, confidence=True)

    expected = numbers(engine.generate_with_completion(PROMPT, Cat, confidence=True)[1])
    assert [numbers(completion) for _, completion in asyncio.run(ask())] == [expected] * 3


def test_streams_have_their_completion_in_the_end(folder: Path, engine: Engine) -> None:
    expected = numbers(engine.generate_with_completion(PROMPT, Cat, confidence=True)[1])
    stream = engine.stream(PROMPT, response_model=Cat, confidence=True)
    next(stream)
    with pytest.raises(RequestError, match="not come to its end"):
        _ = stream.completion
    *_, value = stream
    assert stream.completion.parsed is value
    assert numbers(stream.completion) == expected
    texts = engine.stream(PROMPT, SamplingParams(temperature=0.0, choice=["high", "low"]), confidence=True)
    assert "".join(texts) == texts.completion.text == texts.completion.fields[""].chosen

    async def follow() -> Any:
        async with AsyncEngine(folder, **SETTINGS) as other:
            parts = other.stream(PROMPT, response_model=Cat, confidence=True)
            with pytest.raises(RequestError):
                _ = parts.completion
            async for _ in parts:
                pass
            return parts.completion

    assert numbers(asyncio.run(follow())) == expected
    left = engine.stream(PROMPT, SamplingParams(max_tokens=400, ignore_eos=True, confidence=True), request_id="left")
    next(left)
    del left  # its request is aborted
    engine.generate(PROMPT, SamplingParams(max_tokens=1), request_id="left")


def test_a_full_queue_keeps_no_option_out(folder: Path) -> None:
    with make(folder, max_queued_requests=1, max_queued_tokens=2000) as busy:
        _, completion = busy.generate_with_completion(PROMPT, Cat, confidence=EXACT)
    assert [field.unresolved for _, field in numbers(completion)] == [0] * len(completion.fields)


def test_closing_the_engine_leaves_nobody_waiting(folder: Path) -> None:
    for steps in range(28, 60, 6):  # some of these come while options are looked into
        with make(folder) as closed:
            params = SamplingParams(temperature=0.0, confidence=EXACT)
            tickets = [
                closed.ticket(f"{PROMPT} {i}", params.with_(json_schema=Cat.model_json_schema())) for i in range(4)
            ]
            for ticket in tickets:
                closed.submit(ticket)
            while closed.stats().steps < steps and not all(ticket.future.done() for ticket in tickets):
                pass
        for ticket in tickets:
            error = ticket.future.exception(timeout=10)
            assert error is None or isinstance(error, EngineClosedError)
            if error is None:
                assert ticket.future.result().fields["ok"].unresolved == 0


def test_options_that_a_deadline_cuts_off_are_unresolved(engine: Engine) -> None:
    weights = SamplingParams(temperature=0.0, json_schema=Cat.model_json_schema(), confidence=True)
    ticket = engine.ticket(PROMPT, weights)
    sink = ticket.requests[0].sink
    finish = sink._on_finish

    def late(request: Any, completion: Completion) -> None:
        request.params = request.params.with_(timeout=1e-9)
        finish(request, completion)

    sink._on_finish = late
    engine.submit(ticket)
    completion = ticket.future.result(timeout=60)
    assert completion.finish_reason is FinishReason.STOP
    assert completion.fields["ok"].unresolved == 1
    assert completion.fields["ok"].options is None
    assert completion.fields["ok"].confidence == pytest.approx(math.exp(completion.fields["ok"].logprob))
    assert completion.fields["name"].confidence > 0


def test_an_answer_that_ended_otherwise_has_what_closed(engine: Engine) -> None:
    params = SamplingParams(temperature=0.0, json_schema=Cat.model_json_schema(), timeout=1e-9, confidence=True)
    assert engine.generate(PROMPT, params).finish_reason is FinishReason.TIMEOUT
    cut = SamplingParams(temperature=0.0, json_schema=Cat.model_json_schema(), stop='"name"', confidence=True)
    completion = engine.generate(PROMPT, cut)
    assert "level" in completion.fields
    assert "name" not in completion.fields


def test_without_asking_nothing_is_computed(engine: Engine) -> None:
    before = engine.stats().computed_tokens
    _, completion = engine.generate_with_completion(PROMPT, Cat, SamplingParams(temperature=0.0, drafts="none"))
    assert engine.stats().computed_tokens - before <= len(completion.prompt_token_ids) + len(completion.token_ids)
    assert completion.scores is None


@pytest.mark.parametrize("confidence", [True, EXACT], ids=["default", "exact"])
def test_a_stop_anywhere_changes_no_number(folder: Path, confidence: Any) -> None:
    params = SamplingParams(temperature=0.8, seed=4, json_schema=Cat.model_json_schema(), confidence=confidence)
    with SteppedEngine(folder, **SETTINGS) as first, SteppedEngine(folder, **SETTINGS | {"drafts": "none"}) as second:
        whole = first.ticket(PROMPT, params)
        first.submit(whole)
        first.finish(whole)
        expected, steps = numbers(whole.future.result()), 0
        assert sum(whole.future.result().fields["ok"].options.values()) == pytest.approx(1, abs=1e-4)
        while True:
            ticket = first.ticket(PROMPT, params, request_id="stopped")
            first.submit(ticket)
            for _ in range(steps):
                assert first.step() or ticket.future.done()
            if ticket.future.done():
                break
            resumed = load(second, first.suspend("stopped"), Given())
            second.submit(resumed.ticket)
            second.finish(resumed.ticket)
            assert numbers(resumed.ticket.future.result()) == expected
            while first.step():
                pass
            steps += 3
    assert steps > 20
