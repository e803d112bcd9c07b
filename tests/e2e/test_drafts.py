"""Drafts never change an answer: three hundred requests of all kinds, in every mode, alone and together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tiny import write_tiny_llama

from pageform import (
    Completion,
    Engine,
    FinishReason,
    ParameterError,
    RepetitionDetection,
    SamplingParams,
)
from pageform.scheduler.draft_budget import StepCost

SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "surname": {"type": "string", "maxLength": 9},
            "surroundings": {"enum": ["harbour", "harvest", "hamlet"]},
            "amounts": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
        },
        "required": ["surname", "surroundings", "amounts"],
    },
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {
        "type": "object",
        "properties": {"kind": {"const": "measurement"}, "value": {"type": ["number", "null"]}},
        "required": ["kind", "value"],
    },
]
MODES = ("forced", "ngram", "auto")


def harmless(ids: list[int], logits: Any) -> Any:
    """A logits processor whose effect depends on all tokens before."""
    logits[sum(ids) % len(logits)] += 3.0
    return logits


def make_request(number: int) -> tuple[list[int], SamplingParams]:
    """Request `number`: prompt tokens and parameters, drawn so that every option meets every kind of text."""
    draw = random.Random(number)
    words = [[draw.randint(3, 258) for _ in range(draw.randint(2, 6))] for _ in range(4)]
    prompt = [token for _ in range(draw.randint(2, 12)) for token in draw.choice(words)]
    options: dict[str, Any] = {
        "max_tokens": draw.choice([1, 3, 7, 30, 70, 100]),
        "temperature": draw.choice([0.0, 0.0, 0.3, 0.8]),
        "seed": number,
        "ignore_eos": draw.random() < 0.2,
    }
    # Some of a dozen options together.
    for chance, more in (
        (0.2, {"repetition_penalty": 1.3}),
        (0.2, {"presence_penalty": 0.8, "frequency_penalty": 0.4}),
        (0.15, {"logprobs": draw.choice([0, 3])}),
        (0.1, {"prompt_logprobs": 1}),
        (0.15, {"top_k": 20, "top_p": 0.9}),
        (0.1, {"min_p": 0.05}),
        (0.1, {"logit_bias": {draw.randint(3, 258): 4.0, draw.randint(3, 258): -4.0}}),
        (0.1, {"stop_token_ids": [draw.randint(3, 258) for _ in range(6)]}),
        (0.1, {"repetition_detection": RepetitionDetection(max_pattern=4, min_count=3)}),
        (0.05, {"logits_processors": [harmless]}),
    ):
        if draw.random() < chance:
            options |= more
    if options["max_tokens"] > 7 and draw.random() < 0.15:
        options["min_tokens"] = 5
    if options["temperature"] and draw.random() < 0.15:
        options["n"] = 3
    constraint = draw.choice(["json", "json", "regex", "choice", None, None, None])
    if constraint == "json":
        options["json_schema"] = draw.choice(SCHEMAS)
    elif constraint == "regex":
        options["regex"] = draw.choice([r"(ab){2,9}c?", r"[0-9]{3}-[a-z]{2,8} end", r"(yes|no)(, (yes|no)){0,5}"])
    elif constraint == "choice":
        options["choice"] = ["approximately right", "approximately wrong", "certain"]
    else:
        if draw.random() < 0.2:
            options["stop"] = [chr(draw.randint(33, 126)), chr(draw.randint(33, 126)) + chr(draw.randint(33, 126))]
            options["include_stop_str_in_output"] = draw.random() < 0.5
        if draw.random() < 0.1:
            options["bad_words"] = ["a", "xy"]
        if draw.random() < 0.6:  # few tokens, so that texts repeat themselves
            options["allowed_token_ids"] = draw.sample(range(3, 259), draw.choice([2, 3, 5, 100]))
    return prompt, SamplingParams(**options)


REQUESTS = [make_request(number) for number in range(300)]
Outcome = list[tuple[Any, ...]]


def outcome(completion: Completion) -> Outcome:
    """All of a completion that a caller sees, of every sample."""
    return [
        (c.token_ids, c.text, c.finish_reason, c.stop, c.detail, c.logprobs, c.prompt_logprobs)
        for c in completion.choices or [completion]
    ]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are made whether they pay or not."""
    monkeypatch.setattr(StepCost, "worth", lambda self, num_tokens, expected: 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"), layers=1, seed=3)


def make_engine(folder: Path, **changes: Any) -> Engine:
    settings: dict[str, Any] = {"threads": 1, "max_model_len": 192, "kv_cache_memory": "8MB", "check_invariants": True}
    return Engine(folder, **{**settings, **changes})


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[Outcome]:
    """Each request by itself, without drafts."""
    with make_engine(folder, drafts="none", enable_prefix_caching=False) as engine:
        outcomes = [outcome(engine.generate(prompt, params)) for prompt, params in REQUESTS]
        assert engine.stats().drafted_tokens == {}
    return outcomes


def test_the_requests_are_of_all_kinds(alone: list[Outcome]) -> None:
    reasons = [sample[2] for outcome_ in alone for sample in outcome_]
    for reason, least in {FinishReason.STOP: 60, FinishReason.LENGTH: 100, FinishReason.REPETITION: 3}.items():
        assert reasons.count(reason) >= least
    assert FinishReason.ERROR not in reasons
    assert sum(len(sample[0]) > 10 for outcome_ in alone for sample in outcome_) > 100
    assert sum(params.greedy for _, params in REQUESTS) > 100
    assert sum(not params.greedy for _, params in REQUESTS) > 100


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("mode", MODES)
def test_each_request_by_itself(folder: Path, alone: list[Outcome], mode: str) -> None:
    with make_engine(folder, drafts=mode) as engine:
        for number, (prompt, params) in enumerate(REQUESTS):
            assert outcome(engine.generate(prompt, params)) == alone[number], f"request {number}"
        stats = engine.stats()
    assert stats.kv_blocks_used == 0
    for kind in ("forced", "ngram"):
        assert (stats.accepted_tokens.get(kind, 0) > 300) == (mode in (kind, "auto"))
    assert sum(stats.drafted_tokens.values()) >= sum(stats.accepted_tokens.values())


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("none", {"threads": 2}),
        pytest.param("forced", {"threads": 2}, marks=pytest.mark.slow),
        pytest.param("ngram", {"threads": 2}, marks=pytest.mark.slow),
        ("auto", {"threads": 1, "max_num_batched_tokens": 160}),
        ("auto", {"threads": 2, "kv_cache_memory": "85kB", "max_num_seqs": 12}),
        pytest.param(
            {"method": "auto", "num_speculative_tokens": 3},
            {"threads": 2, "prefill_chunk": 5},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_all_together(folder: Path, alone: list[Outcome], mode: Any, changes: dict[str, Any]) -> None:
    with make_engine(folder, drafts=mode, **changes) as engine:
        completions = engine.generate([p for p, _ in REQUESTS], [s for _, s in REQUESTS], progress=False)
        stats = engine.stats()
    for number, completion in enumerate(completions):
        assert outcome(completion) == alone[number], f"request {number}"
    assert stats.kv_blocks_used == 0
    if "kv_cache_memory" in changes:
        assert stats.preemptions > 5
    assert (sum(stats.accepted_tokens.values()) > 300) == (mode != "none")


def test_modes_of_single_requests_override_the_engines(folder: Path) -> None:
    prompt, params = [7, 8, 9] * 8, SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    with make_engine(folder) as engine:
        plain = engine.generate(prompt, params.with_(drafts="none"))
        assert engine.stats().drafted_tokens == {}
        assert engine.generate(prompt, params).token_ids == plain.token_ids
        assert set(engine.stats().drafted_tokens) == {"ngram"}
        typed = params.with_(json_schema=SCHEMAS[0], drafts="forced")
        engine.generate(prompt, typed)
        assert engine.stats().accepted_tokens["forced"] > 10


def test_forced_text_may_be_accepted_unconditionally(folder: Path) -> None:
    prompt, params = [7, 8, 9], SamplingParams(temperature=0, max_tokens=60, json_schema=SCHEMAS[0])
    with make_engine(folder, check_invariants=True) as engine:
        verified = engine.generate(prompt, params)
        steps = engine.stats().steps
        accepted = engine.generate(prompt, params.with_(forced="accept", drafts="none"))
        assert engine.stats().steps - steps < len(accepted.token_ids) - 20
    # The mask of forced text has one token, so that asking the model makes no difference.
    assert accepted.token_ids == verified.token_ids
    assert accepted.text.startswith('{"surname": "')
    with pytest.raises(ParameterError, match="logprobs"):
        params.with_(forced="accept", logprobs=1)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"drafts": "medusa"}, "drafts"),
        ({"drafts": 3}, "drafts"),
        ({"speculative_config": {"method": "ngram", "model": "x"}}, "speculative_config.model"),
        ({"speculative_config": {"num_speculative_tokens": 0}}, "drafts.num_tokens"),
        ({"speculative_config": {"prompt_lookup_min": 5, "prompt_lookup_max": 4}}, "drafts.shortest"),
        ({"speculative_config": "ngram"}, "speculative_config"),
        ({"speculative_config": {}, "drafts": "none"}, "speculative_config"),
    ],
)
def test_bad_settings_are_refused(folder: Path, given: dict[str, Any], name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Engine(folder, **given)
    assert caught.value.field == name


def test_bad_modes_of_requests_are_refused() -> None:
    with pytest.raises(ParameterError, match="drafts"):
        SamplingParams(drafts="all")
    with pytest.raises(ParameterError, match="forced"):
        SamplingParams(forced="yes")
