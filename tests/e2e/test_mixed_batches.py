"""Constrained and free requests in one batch: who needs a mask gets one, and nobody's answer depends on the others'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import write_tiny_llama

from pageform import Engine, SamplingParams

CONSTRAINTS: list[dict[str, Any]] = [
    {},
    {"regex": r"[0-9]{6}-[a-f]+"},
    {"choice": ["approximately right", "approximately wrong", "certain"]},
    {"allowed_token_ids": [40, 41, 90, 91, 200]},
    {"json_schema": {"type": "array", "items": {"enum": [True, None, "yes"]}, "minItems": 4, "maxItems": 9}},
    {"bad_words": ["a"]},
    {"logit_bias": {77: 5.0}},
    {"regex": r"(?s:.{0,40})"},
]
STYLES: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.9, "seed": 4},
    {"temperature": 0.7, "seed": 5, "repetition_penalty": 1.3},
]
DRAFTS = ("none", "auto")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder: Path = write_tiny_llama(tmp_path_factory.mktemp("tiny"), seed=5)
    with Engine(folder, threads=2, max_model_len=128, kv_cache_memory="8MB", check_invariants=True) as engine:
        yield engine


def requests(**more: Any) -> list[SamplingParams]:
    """Every constraint with every style."""
    return [
        SamplingParams(max_tokens=14, **constraint, **style, **more) for constraint in CONSTRAINTS for style in STYLES
    ]


def ids(engine: Engine, params: list[SamplingParams]) -> list[list[int]]:
    prompts = [[3 + i, 50, 60 + i % 7] for i in range(len(params))]
    return [completion.token_ids for completion in engine.generate(prompts, sampling=params, progress=False)]


@pytest.mark.parametrize("drafts", DRAFTS)
def test_answers_are_those_of_each_request_alone(engine: Engine, drafts: str) -> None:
    params = requests(drafts=drafts)
    alone = [engine.generate([3 + i, 50, 60 + i % 7], one).token_ids for i, one in enumerate(params)]
    assert ids(engine, params) == alone


@pytest.mark.parametrize("drafts", DRAFTS)
def test_asking_for_log_probabilities_changes_no_token(engine: Engine, drafts: str) -> None:
    """All logits of a row are computed then, and not only those that its mask allows."""
    assert ids(engine, requests(drafts=drafts, logprobs=2)) == ids(engine, requests(drafts=drafts))


def test_only_constrained_requests_have_masks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    core: Any = engine._parts.core
    seen: list[tuple[int, int]] = []
    execute = core.executor.execute

    def spy(plan: Any, masks: Any = None, gate: Any = None) -> Any:
        rows = [row for seq in plan.seqs for row in seq.rows]
        assert sorted(row.mask for row in rows if row.mask >= 0) == list(range(0 if masks is None else len(masks)))
        seen.append((len(rows), 0 if masks is None else len(masks)))
        return execute(plan, masks, gate)

    monkeypatch.setattr(core.executor, "execute", spy)
    free = [SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True, drafts="none") for _ in range(5)]
    ids(engine, free)
    assert seen
    assert {masked for _, masked in seen} == {0}  # no masks, no gate, no thread for them
    seen.clear()
    constrained = [SamplingParams(temperature=0.0, max_tokens=8, regex="[a-z]{20}", drafts="none") for _ in range(3)]
    ids(engine, [*free, *constrained])
    assert (8, 3) in seen
