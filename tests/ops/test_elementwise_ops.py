"""Norms, additions, activations and gathers against their torch references, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from harness import run_op, tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from pageform import _native

ROWS = st.integers(1, 40)
SEED = st.integers(0, 2**32 - 1)
drawn = settings(max_examples=15, deadline=None)


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


@drawn
@given(
    rows=ROWS, width=st.integers(1, 100), groups=st.integers(1, 5), seed=SEED, eps=st.sampled_from([1e-6, 1e-5, 1.0])
)
def test_rms_norm(device: _native.Device, rows: int, width: int, groups: int, seed: int, eps: float) -> None:
    x, weight = normal(seed, rows, groups * width, scale=3), normal(seed + 1, width)
    result = run_op(
        "rms_norm", [x], [groups * width], vector=weight, ints={"groups": groups}, floats={"eps": eps}, device=device
    )
    np.testing.assert_allclose(result.native[0], result.reference[0], rtol=2e-6, atol=1e-6)


@drawn
@given(rows=ROWS, width=st.integers(1, 700), seed=SEED)
def test_add(device: _native.Device, rows: int, width: int, seed: int) -> None:
    result = run_op("add", [normal(seed, rows, width), normal(seed + 1, rows, width)], [width], device=device)
    np.testing.assert_array_equal(result.native[0], result.reference[0])


@drawn
@given(rows=ROWS, width=st.integers(1, 100), groups=st.integers(1, 5), seed=SEED)
def test_add_rms_norm_has_the_bits_of_its_two_parts(
    device: _native.Device, rows: int, width: int, groups: int, seed: int
) -> None:
    cols = groups * width
    a, b, weight = normal(seed, rows, cols), normal(seed + 1, rows, cols), normal(seed + 2, width)
    norm = {"vector": weight, "ints": {"groups": groups}, "floats": {"eps": 1e-6}, "device": device}
    fused = run_op("add_rms_norm", [a, b], [cols, cols], **norm)
    total = run_op("add", [a, b], [cols], device=device).native[0]
    np.testing.assert_array_equal(fused.native[0], total)
    np.testing.assert_array_equal(fused.native[1], run_op("rms_norm", [total], [cols], **norm).native[0])
    np.testing.assert_allclose(fused.native[1], fused.reference[1], rtol=2e-6, atol=1e-6)


@drawn
@given(rows=ROWS, width=st.integers(1, 1200), seed=SEED, scale=st.sampled_from([1.0, 30.0, 1000.0]))
def test_silu_mul(device: _native.Device, rows: int, width: int, seed: int, scale: float) -> None:
    x = normal(seed, rows, 2 * width, scale=scale)
    result = run_op("silu_mul", [x], [width], device=device)
    np.testing.assert_allclose(result.native[0], result.reference[0], rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("rows", [[0], [4, 4, 0, 8], list(range(9))])
def test_gather_rows(device: _native.Device, rows: list[int]) -> None:
    x = normal(5, 9, 77)
    step = tokens(9)
    step.logits_rows = np.array(rows, np.int32)
    result = run_op("gather_rows", [x], [77], step=step, device=device)
    np.testing.assert_array_equal(result.native[0], x[rows])
    np.testing.assert_array_equal(result.reference[0], x[rows])


@pytest.mark.parametrize("op", ["rms_norm", "silu_mul"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_its_own_row_only(device: _native.Device, op: str, bad: float) -> None:
    x = normal(6, 3, 64)
    x[1, 40] = bad  # in the right half, which silu_mul only multiplies
    x[1, 8] = np.nan  # and in the left, which goes through the exponential
    extra = (
        {"vector": np.ones(64, np.float32), "ints": {"groups": 1}, "floats": {"eps": 1e-6}} if op == "rms_norm" else {}
    )
    y = run_op(op, [x], [64 if op == "rms_norm" else 32], device=device, **extra).native[0]
    assert np.isnan(y[1, 8])
    assert np.isfinite(y[[0, 2]]).all()
