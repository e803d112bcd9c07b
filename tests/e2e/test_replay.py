"""A request that is stopped anywhere and resumed elsewhere gets the very answer that it would have got."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_kit import SETTINGS, Reading, judged, seen, typed_call, typed_outcome, write_model
from stepped import SteppedEngine
from test_drafts import REQUESTS

from pageform import Completion, RequestSuspended, RewindOptions, SamplingParams
from pageform.core.log import RewindEntry, VerdictEntry
from pageform.engine.resume import Given, load

OTHER = {
    "drafts": ({"drafts": "auto"}, {"drafts": "none"}, {"drafts": "forced", "threads": 2}),
    "chunk": ({"prefill_chunk": 3}, {"max_num_batched_tokens": 70}, {}),
    "cache": ({"enable_prefix_caching": False}, {"kv_cache_memory": "148kB"}, {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def first(folder: Path) -> Iterator[SteppedEngine]:
    """Where requests are stopped first."""
    with SteppedEngine(folder, **SETTINGS) as engine:
        yield engine


@pytest.fixture(scope="module")
def others(folder: Path) -> Iterator[list[SteppedEngine]]:
    """Where they go on: engines that draft, chunk and cache differently, on one thread or two."""
    made = []
    for number in range(3):
        changes = [kinds[number] for kinds in OTHER.values()]
        made.append(SteppedEngine(folder, **{**SETTINGS, **changes[0], **changes[1], **changes[2]}))
    yield made
    for engine in made:
        engine.close()


def with_company(engine: SteppedEngine, draw: random.Random) -> None:
    """Other requests that share the engine's steps, and its cache."""
    for _ in range(draw.randint(0, 3)):
        prompt, params = REQUESTS[draw.randrange(len(REQUESTS))]
        engine.submit(engine.ticket(prompt, params))


def run_with_stops(
    number: int, stops: list[int], first: SteppedEngine, others: list[SteppedEngine], draw: random.Random, drafts: str
) -> tuple[Completion, int]:
    """Request `number`, suspended after so many steps in one engine after another; how often it really was.

    Without drafts that is one token a step, whatever steps cost.
    """
    prompt, params = REQUESTS[number]
    processors = params.logits_processors
    engine, ticket, suspended = first, first.ticket(prompt, params.with_(drafts=drafts)), 0
    engine.submit(ticket)
    for stop in stops:
        for _ in range(stop):
            if not ticket.future.done():
                engine.step()
        if ticket.future.done():
            break
        data = engine.suspend(ticket)
        suspended += 1
        with pytest.raises(RequestSuspended) as caught:
            ticket.future.result()
        assert caught.value.data == data
        while engine.step():  # its company goes on as if nothing had happened
            pass
        assert engine.stats().kv_blocks_used == 0
        engine = draw.choice(others)
        with_company(engine, draw)
        ticket = load(engine, data, Given(logits_processors=processors)).ticket
        engine.submit(ticket)
    engine.finish(ticket)
    while engine.step():
        pass
    assert engine.stats().kv_blocks_used == 0
    return ticket.future.result(), suspended


@pytest.fixture(scope="module")
def alone(first: SteppedEngine) -> dict[int, list[tuple[Any, ...]]]:
    """Outcomes of requests that nobody stopped, by number; filled as they are wanted."""
    return {}


def uninterrupted(number: int, first: SteppedEngine, alone: dict[int, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    if number not in alone:
        ticket = first.ticket(*REQUESTS[number])
        first.submit(ticket)
        first.finish(ticket)
        alone[number] = seen(ticket.future.result())
    return alone[number]


@pytest.mark.parametrize("examples", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_stopped_anywhere_and_resumed_elsewhere(
    first: SteppedEngine, others: list[SteppedEngine], alone: dict[int, list[tuple[Any, ...]]], examples: int
) -> None:
    """Free, seeded and greedy, constrained, with penalties, log-probabilities, stop strings, several samples, …"""

    @settings(max_examples=examples, deadline=None)
    @given(st.integers(0, len(REQUESTS) - 1), st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(0, 99))
    def stopped(number: int, stops: list[int], seed: int) -> None:
        draw = random.Random(seed)
        completion, _ = run_with_stops(number, stops, first, others, draw, draw.choice(["auto", "ngram", "none"]))
        assert seen(completion) == uninterrupted(number, first, alone)

    stopped()


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_stopped_at_each_step(
    first: SteppedEngine, others: list[SteppedEngine], alone: dict[int, list[tuple[Any, ...]]], stride: int
) -> None:
    """One request of each kind, at every position that it has."""
    total = 0
    for number in kinds_of_requests():
        for stop in range(0, 100, stride):
            completion, suspended = run_with_stops(number, [stop], first, others, random.Random(stop), "none")
            assert seen(completion) == uninterrupted(number, first, alone), f"request {number}, step {stop}"
            total += suspended
            if not suspended:
                break
    assert total > 60 / stride


def kinds_of_requests() -> list[int]:
    """The numbers of the shortest requests that have the options that matter, each of about ten to thirty tokens."""
    wanted = {
        "regex": lambda p: p.regex,
        "schema": lambda p: p.json_schema and p.temperature and p.max_tokens < 40,
        "samples": lambda p: p.n > 1 and p.max_tokens < 40,
        "logprobs": lambda p: p.logprobs and p.max_tokens > 7 and p.max_tokens < 40,
        "processor": lambda p: p.logits_processors and p.max_tokens < 80,
        "penalties": lambda p: p.repetition_penalty != 1.0 and p.prompt_logprobs is None and p.max_tokens == 30,
        "stop": lambda p: p.stop and p.max_tokens == 30,
    }
    found = {
        name: next((i for i, (_, params) in enumerate(REQUESTS) if fits(params)), None) for name, fits in wanted.items()
    }
    assert all(number is not None for number in found.values()), found
    return [number for number in found.values() if number is not None]


# --- typed answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_typed_answers_too(first: SteppedEngine, others: list[SteppedEngine], examples: int) -> None:
    """Rewinds, bans, attempts and what is kept of them are where they were; nothing is judged twice."""

    @settings(max_examples=examples, deadline=None)
    @given(
        st.integers(0, 30),
        st.lists(st.tuples(st.integers(0, 60), st.sampled_from(others)), min_size=1, max_size=4),
        st.sampled_from(["rewind", "rewind", "reask", "raise"]),
    )
    def stopped(seed: int, stops: list[tuple[int, SteppedEngine]], on_invalid: str) -> None:
        typed_with_stops(first, seed, stops, on_invalid)
        assert all(one.stats().kv_blocks_used == 0 for one in (first, *others))

    stopped()


def typed_with_stops(first: SteppedEngine, seed: int, stops: list[tuple[int, SteppedEngine]], on_invalid: str) -> None:
    options = {"on_invalid": on_invalid, "rewind": RewindOptions(tries=5, temperature=1.0 if seed % 3 else None)}
    call = typed_call(first, seed, **options)
    ticket = call.next_ticket()
    first.submit(ticket)
    judged.clear()
    expected = typed_outcome(first, call, ticket)
    values = judged.copy()

    judged.clear()
    engine, call = first, typed_call(first, seed, **options)
    ticket = call.next_ticket()
    engine.submit(ticket)
    outcome: Any = None
    for stop, other in stops:
        outcome = typed_outcome(engine, call, ticket, stop)
        if isinstance(outcome, tuple):
            break
        data = engine.suspend(outcome)
        with pytest.raises(RequestSuspended):
            call.settle(outcome)
        before = len(judged)
        engine = other
        resumed = load(engine, data, Given(Reading))
        assert len(judged) == before, "replay calls no validator"
        assert resumed.call is not None
        call, ticket = resumed.call, resumed.ticket
        engine.submit(ticket)
    if not isinstance(outcome, tuple):
        outcome = typed_outcome(engine, call, ticket)
    assert outcome == expected
    assert judged == values


def test_the_typed_requests_do_rewind(first: SteppedEngine) -> None:
    rewinds = retractions = 0
    for seed in range(4):
        call = typed_call(first, seed, rewind=RewindOptions(tries=9))
        ticket = call.next_ticket()
        first.submit(ticket)
        typed_outcome(first, call, ticket)
        [request] = ticket.requests
        rewinds += sum(isinstance(entry, RewindEntry) for entry in request.log.entries)
        retractions += sum(isinstance(entry, VerdictEntry) and not entry.ok for entry in request.log.entries)
    assert rewinds > 10
    assert retractions > 10


@pytest.mark.parametrize("ended", [None, 0, 1])
@pytest.mark.parametrize("stop", [0, 2, 4, 6])
def test_samples_that_wait_for_a_prompt_wait_again(folder: Path, ended: int | None, stop: int) -> None:
    """One of them may have ended before; the scores of the prompt go to whoever leads the others."""
    prompt = list(range(5, 30))
    params = SamplingParams(temperature=0.9, seed=1, n=3, max_tokens=6, prompt_logprobs=1)
    with SteppedEngine(folder, **SETTINGS, prefill_chunk=4) as engine:
        whole = engine.ticket(prompt, params)
        engine.submit(whole)
        engine.finish(whole)
        ticket = engine.ticket(prompt, params)
        engine.submit(ticket)
        for _ in range(stop):
            engine.step()
        if ended is not None:
            engine.parts.core.scheduler.abort(ticket.requests[ended].index, 0.0)
        resumed = load(engine, engine.suspend(ticket), Given()).ticket
        engine.submit(resumed)
        engine.finish(resumed)
        assert engine.stats().kv_blocks_used == 0
    expected = whole.future.result().choices
    choices = resumed.future.result().choices
    for number, (one, other) in enumerate(zip(choices, expected, strict=True)):
        assert number == ended or one.token_ids == other.token_ids
    assert any(one.prompt_logprobs == expected[0].prompt_logprobs for one in choices)
