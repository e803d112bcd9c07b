"""Linear ops with a norm, an addition or silu_mul fused in: the bits of their parts."""

from __future__ import annotations

import numpy as np
import pytest
from harness import F32, run_op
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_blocks import BLOCK_COLS, FLOAT_FORMATS, StoredMatrix, stored_matrix

from pageform import _native

pytestmark = pytest.mark.cpu_only(reason="a GPU runs the parts")
drawn = settings(max_examples=10, deadline=None)
SEED = st.integers(0, 2**32 - 1)
ROWS = st.integers(1, 40)


def normal(seed: int, *shape: int) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def matrices(draw: st.DrawFn) -> StoredMatrix:
    """Of an even number of rows: two equal halves, one part, or parts of several formats in which no half ends."""
    formats = st.sampled_from(sorted(BLOCK_COLS) + list(FLOAT_FORMATS))
    half, seed = draw(st.integers(1, 70)), draw(SEED)
    kind = draw(st.sampled_from(["halves", "one", "mixed"]))
    if kind == "halves":
        parts = [(draw(formats), half)] * 2
    elif kind == "one":
        parts = [(draw(formats), 2 * half * draw(st.sampled_from([1, 32])) if half < 3 else 2 * half)]
    else:
        parts = [(draw(formats), 1), (draw(formats), half), (draw(formats), half + 1)]
    unit = max(BLOCK_COLS.get(name, 32) for name, _ in parts)
    return stored_matrix(parts, unit * draw(st.integers(1, 512 // unit)), seed)


@drawn
@given(matrix=matrices(), rows=ROWS, seed=SEED, biased=st.booleans())
def test_linear_add(device: _native.Device, matrix: StoredMatrix, rows: int, seed: int, biased: bool) -> None:
    outs, cols = matrix.values.shape
    x, residual = normal(seed, rows, cols), normal(seed + 1, rows, outs)
    options = {"weight": matrix.values, "packed": matrix.pack(device), "device": device}
    options["vector"] = normal(seed + 2, outs) if biased else None
    fused = run_op("linear_add", [x, residual], [outs], **options)
    product = run_op("linear", [x], [outs], **options)
    np.testing.assert_array_equal(fused.native[0], residual + product.native[0])
    np.testing.assert_array_equal(fused.reference[0], residual + product.reference[0])


@drawn
@given(matrix=matrices(), rows=ROWS, seed=SEED, biased=st.booleans())
def test_linear_silu_mul(device: _native.Device, matrix: StoredMatrix, rows: int, seed: int, biased: bool) -> None:
    outs, cols = matrix.values.shape
    x = normal(seed, rows, cols)
    options = {"weight": matrix.values, "packed": matrix.pack(device), "device": device}
    options["vector"] = normal(seed + 2, outs) if biased else None
    fused = run_op("linear_silu_mul", [x], [outs // 2], **options)
    product = run_op("linear", [x], [outs], **options)
    gated = run_op("silu_mul", [product.native[0]], [outs // 2], device=device)
    np.testing.assert_array_equal(fused.native[0], gated.native[0])
    gated = run_op("silu_mul", [product.reference[0]], [outs // 2], device=device)
    np.testing.assert_array_equal(fused.reference[0], gated.reference[0])


@pytest.mark.parametrize("silu_mul", [False, True])
@drawn
@given(matrix=matrices(), rows=ROWS, seed=SEED)
def test_a_norm_before(device: _native.Device, silu_mul: bool, matrix: StoredMatrix, rows: int, seed: int) -> None:
    outs, cols = matrix.values.shape
    x, norm = normal(seed, rows, cols), normal(seed + 1, cols)
    options = {"weight": matrix.values, "packed": matrix.pack(device), "device": device}
    eps = {"eps": 1e-5}
    name, width = ("linear_silu_mul", outs // 2) if silu_mul else ("linear", outs)
    fused = run_op(f"rms_norm_{name}", [x], [width], vector=norm, floats=eps, **options)
    h = run_op("rms_norm", [x], [cols], vector=norm, ints={"groups": 1}, floats=eps, device=device)
    np.testing.assert_array_equal(fused.native[0], run_op(name, [h.native[0]], [width], **options).native[0])
    np.testing.assert_array_equal(fused.reference[0], run_op(name, [h.reference[0]], [width], **options).reference[0])
