"""Drawn steps: valid ones equal the reference, damaged ones are refused or harmless."""

from __future__ import annotations

import numpy as np
import tiny_model
from harness import ProgramPair, Sequences
from hypothesis import given, settings
from hypothesis import strategies as st

from pageform.runtime.inputs import StepInputs

PAIR: ProgramPair = tiny_model.tiny_pair(num_blocks=16)
INDEX_FIELDS = ["token_ids", "positions", "slots", "query_start", "seq_lens", "block_tables", "logits_rows"]


@st.composite
def steps(draw: st.DrawFn) -> StepInputs:
    """One to four new sequences in a cache of 16 scattered blocks, with any rows of logits in any order."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    rows = draw(st.lists(st.integers(0, sum(lengths) - 1), max_size=8))
    sequences = Sequences(
        [0] * len(lengths),
        lengths,
        num_blocks=16,
        shuffle=draw(st.integers(0, 1000)),
        vocab=tiny_model.VOCAB,
        logits_rows=rows,
    )
    step = sequences.inputs()
    step.sampling = tiny_model.greedy(len(rows), num_logprobs=draw(st.integers(-1, 3)))
    return step


@settings(max_examples=12, deadline=None)
@given(steps())
def test_any_step_equals_its_reference(step: StepInputs) -> None:
    result = PAIR.run(step)
    for mine, wanted in zip(result.native, result.reference, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(result.native_sampled.ids, result.reference_sampled.ids)


@settings(max_examples=200, deadline=None)
@given(
    steps(),
    st.sampled_from(INDEX_FIELDS),
    st.integers(0, 10**6),
    st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 70),
)
def test_a_damaged_index_never_harms(step: StepInputs, field: str, place: int, value: int) -> None:
    """A wrong index is a ValueError, or legal too: then the step runs and gives tokens of the vocabulary."""
    array = getattr(step, field)
    if array.size:
        array.flat[place % array.size] = value
    try:
        sampled = PAIR.native.run(step).numpy()
    except ValueError:
        return
    assert ((sampled.ids >= 0) & (sampled.ids < tiny_model.VOCAB)).all()
