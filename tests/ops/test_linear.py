"""Packed weights, `linear` and `embed` against the gguf package's values and the torch references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import run_op, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_blocks import BLOCK_COLS, FLOAT_FORMATS, StoredMatrix, stored_matrix

from pageform import _native
from pageform.ops.quant_reference import quantize_activations, quantized_linear

drawn = settings(max_examples=20, deadline=None)
SEED = st.integers(0, 2**32 - 1)
ROWS = st.integers(1, 40)
PART_ROWS = st.integers(1, 50)


@st.composite
def quantized_matrices(draw: st.DrawFn) -> StoredMatrix:
    """One to three parts of possibly different formats."""
    formats = draw(st.lists(st.sampled_from(sorted(BLOCK_COLS)), min_size=1, max_size=3))
    unit = max(BLOCK_COLS[name] for name in formats)
    cols = unit * draw(st.integers(1, 512 // unit))
    return stored_matrix([(name, draw(PART_ROWS)) for name in formats], cols, draw(SEED))


@st.composite
def float_matrices(draw: st.DrawFn) -> StoredMatrix:
    formats = draw(st.lists(st.sampled_from(FLOAT_FORMATS), min_size=1, max_size=3))
    return stored_matrix([(name, draw(PART_ROWS)) for name in formats], draw(st.integers(1, 300)), draw(SEED))


def matrices_of(device: _native.Device) -> st.SearchStrategy[StoredMatrix]:
    """Matrices in all formats that the device takes."""
    return st.one_of(packed_on_gpu() if device.name == "simt" else quantized_matrices(), float_matrices())


@st.composite
def packed_on_gpu(draw: st.DrawFn) -> StoredMatrix:
    """Parts of one of the formats that a GPU keeps packed."""
    kind = draw(st.sampled_from(["q8_0", "q4_0", "q4_1"]))
    rows = draw(st.lists(PART_ROWS, min_size=1, max_size=3))
    return stored_matrix([(kind, count) for count in rows], 32 * draw(st.integers(1, 12)), draw(SEED))


def activations(seed: int, rows: int, cols: int) -> np.ndarray:
    """Normal values; groups differ in size by up to 1,000, as those of real models do."""
    rng = np.random.default_rng(seed)
    sizes = 10 ** rng.uniform(-1.5, 1.5, (rows, -(-cols // 32)))
    return (rng.standard_normal((rows, cols)) * sizes.repeat(32, axis=1)[:, :cols]).astype(np.float32)


@drawn
@given(data=st.data())
def test_packing_keeps_every_value(device: _native.Device, data: st.DataObject) -> None:
    matrix = data.draw(matrices_of(device))
    weight = matrix.pack(device)
    assert weight.shape == matrix.values.shape
    np.testing.assert_array_equal(weight.dequantize(), matrix.values)
    last = len(matrix.values) - 1
    np.testing.assert_array_equal(weight.dequantize(last, 1), matrix.values[last:])


@pytest.mark.cpu_only(reason="activations are quantized on the CPU alone")
@drawn
@given(matrix=quantized_matrices(), rows=ROWS, seed=SEED, biased=st.booleans())
def test_quantized_linear(device: _native.Device, matrix: StoredMatrix, rows: int, seed: int, biased: bool) -> None:
    outs, cols = matrix.values.shape
    x = activations(seed, rows, cols)
    bias = np.random.default_rng(seed).standard_normal(outs).astype(np.float32) if biased else None
    result = run_op("linear", [x], [outs], weight=matrix.values, packed=matrix.pack(device), vector=bias, device=device)
    emulated = quantized_linear(
        torch.from_numpy(x), torch.from_numpy(matrix.values), None if bias is None else torch.from_numpy(bias)
    ).numpy()
    # Kernels sum d·dot and m·t of a group apart, each of about the size of max|w| times the activations.
    largest = np.abs(matrix.values).max(axis=1)
    size = np.abs(x).sum(axis=1)[:, None] * largest[None, :] + 1
    np.testing.assert_array_less(np.abs(result.native[0] - emulated), 1e-6 * size)

    # Against float32 activations: codes are off by half a step of amax / 127 at most, by 0.29 steps on average.
    steps = np.abs(x).reshape(rows, -1, 32).max(axis=2) / 127
    squares = np.square(matrix.values).reshape(outs, -1, 32).sum(axis=2)
    deviation = 0.29 * np.sqrt(np.square(steps) @ squares.T)
    np.testing.assert_array_less(np.abs(result.native[0] - result.reference[0]), 6 * deviation + 1e-6 * size)


@drawn
@given(data=st.data(), rows=ROWS, seed=SEED, biased=st.booleans())
def test_float_linear(device: _native.Device, data: st.DataObject, rows: int, seed: int, biased: bool) -> None:
    # A GPU multiplies the exact values of packed weights too: only the CPU quantizes activations for them.
    matrix = data.draw(float_matrices() if device.name == "cpu" else matrices_of(device))
    outs, cols = matrix.values.shape
    x = activations(seed, rows, cols)
    bias = np.random.default_rng(seed).standard_normal(outs).astype(np.float32) if biased else None
    result = run_op("linear", [x], [outs], weight=matrix.values, packed=matrix.pack(device), vector=bias, device=device)
    exact = x.astype(np.float64) @ matrix.values.T.astype(np.float64) + (0 if bias is None else bias)
    size = np.abs(x) @ np.abs(matrix.values).T + 1
    np.testing.assert_array_less(np.abs(result.native[0] - exact), 2e-6 * size)
    np.testing.assert_array_less(np.abs(result.native[0] - result.reference[0]), 4e-6 * size)


@drawn
@given(data=st.data(), count=ROWS, seed=SEED, scale=st.sampled_from([1.0, 22.6]))
def test_embed(device: _native.Device, data: st.DataObject, count: int, seed: int, scale: float) -> None:
    matrix = data.draw(matrices_of(device))
    vocab, cols = matrix.values.shape
    step = tokens(count, vocab=vocab)
    step.token_ids = np.random.default_rng(seed).integers(0, vocab, count).astype(np.int32)
    result = run_op(
        "embed", [], [cols], step=step, weight=matrix.values, packed=matrix.pack(device), floats={"scale": scale},
        device=device,
    )  # fmt: skip
    np.testing.assert_array_equal(result.native[0], matrix.values[step.token_ids] * np.float32(scale))
    np.testing.assert_array_equal(result.native[0], result.reference[0])


@drawn
@given(data=st.data(), rows=st.integers(2, 40), seed=SEED)
def test_a_row_does_not_depend_on_the_others(device: _native.Device, data: st.DataObject, rows: int, seed: int) -> None:
    matrix = data.draw(matrices_of(device))
    outs, cols = matrix.values.shape
    x = activations(seed, rows, cols)
    packed = matrix.pack(device)
    together = run_op("linear", [x], [outs], weight=matrix.values, packed=packed, device=device).native[0]
    row = seed % rows
    alone = run_op("linear", [x[row : row + 1]], [outs], weight=matrix.values, packed=packed, device=device).native[0]
    np.testing.assert_array_equal(together[row], alone[0])


def test_quantize_activations_rounds_half_to_even_within_127() -> None:
    x = torch.zeros(1, 64)
    x[0, :6] = torch.tensor([127.0, -127.0, 0.5, 1.5, -2.5, 126.4])
    quantized = quantize_activations(x)
    assert quantized.codes[0, :6].tolist() == [127, -127, 0, 2, -2, 126]
    assert quantized.scales.tolist() == [[1.0, 0.0]]


def test_quantize_activations_marks_groups_that_are_not_finite() -> None:
    x = torch.ones(2, 64)
    x[0, 3], x[1, 40] = torch.inf, torch.nan
    assert quantize_activations(x).scales.isnan().tolist() == [[True, False], [False, True]]


def test_quantize_activations_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match="33 columns"):
        quantize_activations(torch.ones(1, 33))
