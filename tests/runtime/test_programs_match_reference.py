"""Whole programs on the native runner against the torch reference, and against themselves cut into other steps."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_model
from harness import ISAS, ProgramPair, make_device


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "i16", "i8"])
def test_a_model_equals_its_reference_over_steps(isa: str, kv_dtype: str) -> None:
    pair = tiny_model.tiny_pair(device=make_device(isa), kv_dtype=kv_dtype)
    tolerance = 1e-2 if kv_dtype == "i8" else 2e-3  # what lies on the edge of two codes may get either
    cached = [0, 0, 0]
    for new in ([5, 17, 1], [1, 1, 30], [1, 1, 1]):
        step = tiny_model.sequences(cached, new, shuffle=3).inputs()
        step.sampling = tiny_model.greedy(3, num_logprobs=4)
        step.copy_logits = True
        result = pair.run(step)
        for mine, wanted in zip(result.native, result.reference, strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=2e-3, atol=tolerance)
        np.testing.assert_array_equal(result.native_sampled.ids, result.reference_sampled.ids)
        np.testing.assert_array_equal(result.native_sampled.logits, result.native[1])
        cached = [old + count for old, count in zip(cached, new, strict=True)]


def test_steps_without_rows_of_logits_only_fill_the_cache() -> None:
    """A chunk of a prompt that samples nothing, then the rest: as if in one step."""
    whole, parts = tiny_model.tiny_pair(), tiny_model.tiny_pair()
    step = tiny_model.sequences([0], [20]).inputs()
    step.sampling = tiny_model.greedy(1)
    whole.native.run(step)
    first = tiny_model.sequences([0], [12], logits_rows=[]).inputs(token_ids=step.token_ids[:12].copy())
    assert parts.native.run(first).ids.shape == (0,)
    second = tiny_model.sequences([12], [8]).inputs(token_ids=step.token_ids[12:].copy())
    second.sampling = tiny_model.greedy(1)
    parts.native.run(second)
    np.testing.assert_array_equal(parts.native.fetch("logits"), whole.native.fetch("logits"))


def test_copied_blocks_are_as_good_as_written_ones() -> None:
    pair = tiny_model.tiny_pair()
    prompt = tiny_model.sequences([0], [16]).inputs()
    prompt.sampling = tiny_model.greedy(1)
    pair.run(prompt)
    forked = tiny_model.sequences([16], [1]).inputs(
        block_tables=np.array([[7, 1]], np.int32),
        copy_src=np.array([0, 5], np.int32),
        copy_dst=np.array([5, 7], np.int32),  # in order: block 0 reaches 7 through 5
    )
    forked.sampling = tiny_model.greedy(1)
    result = pair.run(forked)
    np.testing.assert_allclose(result.native[1], result.reference[1], rtol=2e-3, atol=2e-3)
    original = tiny_model.sequences([16], [1]).inputs(token_ids=forked.token_ids)
    original.sampling = tiny_model.greedy(1)
    again = pair.run(original)
    np.testing.assert_array_equal(again.native[1], result.native[1])


@pytest.mark.parametrize("isa", ISAS)
def test_threads_and_neighbours_do_not_change_a_bit(isa: str) -> None:
    """The same prompt alone and as the last of nine, with one thread and with three: the same logits, bit for bit."""
    prompt = np.random.default_rng(5).integers(0, tiny_model.VOCAB, 21).astype(np.int32)
    logits = []
    for threads in (1, 3):
        pair: ProgramPair = tiny_model.tiny_pair(num_blocks=64, device=make_device(isa, threads))
        for others in (0, 8):
            sequences = tiny_model.sequences([0] * (others + 1), [7] * others + [21])
            step = sequences.inputs()
            step.token_ids[-21:] = prompt
            step.sampling = tiny_model.greedy(others + 1)
            pair.native.run(step)
            logits.append(pair.native.fetch("logits")[-1])
    for other in logits[1:]:
        np.testing.assert_array_equal(other, logits[0])
