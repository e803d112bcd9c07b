"""Sampling state of a request, without a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageform.core.errors import ParameterError
from pageform.core.params import RepetitionDetection, SamplingParams
from pageform.sampling import ModelLimits, RowState, check_against_model, ends_in_repetition, resolve, token_bitmask
from pageform.sampling.rows import derive_seed

LIMITS = ModelLimits(vocab_size=100, max_model_len=32, max_num_seqs=4)


@given(st.sets(st.integers(0, 99)))
def test_bitmask_has_exactly_the_bits_asked_for(tokens: set[int]) -> None:
    mask = token_bitmask(tokens, 100)
    assert mask.dtype == np.uint32
    assert len(mask) == 4
    assert {t for t in range(128) if mask[t // 32] >> (t % 32) & 1} == tokens


@given(st.lists(st.integers(0, 2), max_size=24), st.integers(1, 4), st.integers(2, 4))
def test_repetition_agrees_with_a_naive_search(ids: list[int], max_pattern: int, min_count: int) -> None:
    detection = RepetitionDetection(max_pattern=max_pattern, min_count=min_count)
    naive = any(
        len(ids) >= n * min_count and ids[-n * min_count :] == ids[len(ids) - n :] * min_count
        for n in range(1, max_pattern + 1)
    )
    assert ends_in_repetition(ids, detection) == naive


def test_bad_words_ban_the_last_token_of_a_sequence_only_after_its_head() -> None:
    state = RowState(SamplingParams(), [1], stop_ids=[9], bad_words=[[5], [3, 4]])
    assert state.bias([]) == {5: -math.inf}
    assert state.bias([7, 3]) == {5: -math.inf, 4: -math.inf}


def test_min_tokens_bans_stops_until_reached() -> None:
    state = RowState(SamplingParams(min_tokens=2), [1], stop_ids=[9], bad_words=[])
    assert state.bias([4]) == {9: -math.inf}
    assert state.bias([4, 4]) is None


def test_counts_hold_prompt_tokens_at_zero_and_count_output() -> None:
    state = RowState(SamplingParams(presence_penalty=0.5), [1, 2], stop_ids=[], bad_words=[])
    state.push(2)
    state.push(7)
    state.push(7)
    assert state.counts() == {1: 0, 2: 1, 7: 2}
    assert RowState(SamplingParams(), [1, 2], stop_ids=[], bad_words=[]).counts() is None


def test_seeds_differ_by_request_and_fit_64_bits() -> None:
    seeds = {derive_seed(7, i) for i in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**64 for s in seeds)
    assert resolve(SamplingParams(seed=-1), 5).seed == 2**64 - 1


@pytest.mark.parametrize(
    ("params", "prompt", "field"),
    [
        (SamplingParams(), [], "prompt"),
        (SamplingParams(), [100], "prompt"),
        (SamplingParams(), [-1], "prompt"),
        (SamplingParams(), [1] * 32, "prompt"),
        (SamplingParams(max_tokens=30), [1] * 5, "max_tokens"),
        (SamplingParams(min_tokens=30), [1] * 5, "min_tokens"),
        (SamplingParams(n=5), [1], "n"),
        (SamplingParams(stop_token_ids=[100]), [1], "stop_token_ids"),
        (SamplingParams(allowed_token_ids=[3, 400]), [1], "allowed_token_ids"),
        (SamplingParams(logit_bias={100: 1.0}), [1], "logit_bias"),
    ],
)
def test_what_the_model_cannot_serve_is_refused_by_name(params: SamplingParams, prompt: list[int], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check_against_model(params, prompt, LIMITS)
    assert caught.value.field == field
    assert caught.value.remedy


def test_max_tokens_defaults_to_the_rest_of_the_context() -> None:
    assert check_against_model(SamplingParams(), [1] * 10, LIMITS) == 22


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", math.nan),
        ("temperature", -1.0),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", math.nan),
        ("min_p", 1.5),
        ("top_k", -2),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 3.0),
        ("max_tokens", 0),
        ("min_tokens", -1),
        ("n", 0),
        ("logprobs", -1),
        ("stop", [""]),
        ("stop_token_ids", [-1]),
        ("allowed_token_ids", []),
        ("logit_bias", {3: math.nan}),
        ("timeout", 0.0),
        ("logits_processors", [3]),
    ],
)
def test_parameters_that_make_no_sense_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ParameterError) as caught:
        SamplingParams(**{field: value})
    assert caught.value.field.startswith(field)


def test_two_grammars_are_refused() -> None:
    with pytest.raises(ParameterError, match="can't be combined"):
        SamplingParams(regex="a", choice=["b"])
