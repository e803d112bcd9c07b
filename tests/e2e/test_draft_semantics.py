"""What drafts must not touch, and the one option that is allowed to: rewinds, resumption, and forced="accept"."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, Field
from replay_kit import SETTINGS, Reading, seen, third, typed_call, write_model
from stepped import SteppedEngine
from test_drafts import REQUESTS

from pageform import Completion, Engine, RequestError, RewindOptions, SamplingParams
from pageform.core.log import TokenEntry, TokenOrigin
from pageform.engine.options import TypedOptions
from pageform.engine.resume import Given, load
from pageform.engine.typed import TypedCall
from pageform.scheduler.draft_budget import StepCost

MODES = ("forced", "ngram", "auto")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are made whether they pay or not."""
    monkeypatch.setattr(StepCost, "worth", lambda self, num_tokens, expected: 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[SteppedEngine]:
    with SteppedEngine(folder, **SETTINGS, drafts="none", enable_prefix_caching=False) as engine:
        yield engine


@pytest.fixture(scope="module")
def drafting(folder: Path) -> Iterator[dict[str, SteppedEngine]]:
    engines = {mode: SteppedEngine(folder, **SETTINGS, drafts=mode) for mode in MODES}
    yield engines
    for engine in engines.values():
        engine.close()


def rewinding(engine: SteppedEngine, seed: int, stop: int | None = None, other: SteppedEngine | None = None) -> Any:
    """What becomes of a typed answer whose values fail, with all attempts. From `stop` on it goes on in `other`."""
    call = typed_call(engine, seed, rewind=RewindOptions(tries=6), max_retries=1)
    ticket = call.next_ticket()
    engine.submit(ticket)
    try:
        left = engine.answer(call, ticket, stop)
        if left is not None and other is not None:
            resumed = load(other, engine.suspend(left), Given(Reading))
            assert resumed.call is not None
            call = resumed.call
            other.submit(resumed.ticket)
            other.answer(call, resumed.ticket)
    except Exception as error:
        return str(error), [(one.text, one.usage.completion_tokens) for one in error.attempts]  # type: ignore[attr-defined]
    return call.value, seen(call.completion)


def test_values_that_are_decoded_again_are_the_same_in_every_mode(
    plain: SteppedEngine, drafting: dict[str, SteppedEngine]
) -> None:
    """Odd seeds sample, even ones are greedy."""
    for seed in range(2):
        expected = rewinding(plain, seed)
        for mode in MODES:
            assert rewinding(drafting[mode], seed) == expected, f"seed {seed}, {mode}"
        stopped = rewinding(drafting["auto"], seed, 6 + 3 * seed, drafting["ngram"])
        assert stopped == expected, f"seed {seed}, stopped while drafts were made"
    assert plain.stats().rewound_tokens > 10
    assert plain.stats().drafted_tokens == {}
    for mode, engine in drafting.items():
        assert sum(engine.stats().accepted_tokens.values()) > 10, mode
        assert engine.stats().kv_blocks_used == 0


Digits = Annotated[list[Annotated[int, Field(ge=0, le=99), AfterValidator(third)]], Field(min_length=12, max_length=16)]
"""Values of which most fail, in a text that repeats itself: rewinds come where drafts are under way."""


def test_drafts_behind_what_is_taken_back_count_for_nothing(
    plain: SteppedEngine, drafting: dict[str, SteppedEngine]
) -> None:
    """The row before a chunk's drafts closes a value that fails: what was drafted stood behind a text that is gone,
    even if its first token is the one that now stands last."""
    rewind = RewindOptions(tries=50, max_rewound_tokens=10**6)
    outcomes: dict[str, list[Any]] = {}
    for name, engine in {"none": plain, "auto": drafting["auto"]}.items():
        for seed in range(4):
            params = SamplingParams(temperature=0.9, seed=seed, max_tokens=200)
            call = TypedCall(engine, engine.form(Digits), [5, 9, 7], params, TypedOptions(rewind=rewind))
            ticket = call.next_ticket()
            engine.submit(ticket)
            engine.answer(call, ticket)
            outcomes.setdefault(name, []).append(seen(call.completion))
    assert all(outcome == outcomes["none"] for outcome in outcomes.values())


def accepted_and_verified(engine: Engine, prompt: Any, params: SamplingParams) -> tuple[Any, Any]:
    return tuple(engine.generate(prompt, params.with_(forced=how, logprobs=None)) for how in ("accept", "verify"))  # type: ignore[return-value]


def test_accepting_is_verifying_where_the_mask_holds_one_token(folder: Path) -> None:
    """Where text is forced, masks leave only its canonical next token: asking the model changes nothing, greedy or
    seeded, with penalties and biases."""
    constrained = [
        (prompt, params)
        for prompt, params in REQUESTS
        if (params.json_schema or params.regex or params.choice) and not params.logits_processors and params.n == 1
    ]
    assert sum(params.greedy for _, params in constrained) > 30
    assert sum(not params.greedy for _, params in constrained) > 30
    forced = 0
    with Engine(folder, **SETTINGS) as engine:
        for prompt, params in constrained[:60]:
            accepted, verified = accepted_and_verified(engine, prompt, params)
            assert (accepted.text, accepted.token_ids) == (verified.text, verified.token_ids)
            forced += num_forced(accepted)
    assert forced > 150


@pytest.mark.slow
def test_with_a_real_vocabulary_too() -> None:
    """Its tokens could spell forced text in many ways; masks allow one."""
    schema = {
        "type": "object",
        "properties": {
            "surroundings": {"enum": ["harbour", "harvest", "hamlet"]},
            "amounts": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
            "measurement_unit": {"enum": ["centimetres", "centigrades"]},
        },
        "required": ["surroundings", "amounts", "measurement_unit"],
    }
    with Engine("smollm2", threads=2, kv_cache_memory="64MB", max_model_len=256) as engine:
        for seed, heat in enumerate((0.0, 0.8, 2.0, 5.0)):
            params = SamplingParams(temperature=heat, seed=seed, max_tokens=80, json_schema=schema)
            accepted, verified = accepted_and_verified(engine, "Three ships in the harbour.", params)
            assert accepted.token_ids == verified.token_ids
            assert num_forced(accepted) > 8


def test_what_the_caller_forbids_is_accepted_nevertheless(folder: Path) -> None:
    """The one difference: a bias against forced text is a contradiction that only asking brings to light."""
    with Engine(folder, **SETTINGS) as engine:
        params = SamplingParams(temperature=0, max_tokens=20, regex="no[ab]x")
        token = engine.tokenizer.encode("x", add_special_tokens=False)[0]
        params = params.with_(logit_bias={token: -math.inf})
        with pytest.raises(RequestError, match="no token is allowed"):
            engine.generate([7, 8, 9], params)
        assert engine.generate([7, 8, 9], params.with_(forced="accept")).text in ("noax", "nobx")


def num_forced(completion: Completion) -> int:
    return sum(isinstance(entry, TokenEntry) and entry.origin is TokenOrigin.FORCED for entry in completion.log)
