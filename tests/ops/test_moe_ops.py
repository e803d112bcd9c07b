"""The ops of a mixture of experts: each slot has the bits of `linear`, and the whole is what the reference says."""

from __future__ import annotations

import numpy as np
import pytest
from harness import F32, run_op
from hypothesis import given, settings
from hypothesis import strategies as st
from simt_library import require_simt
from weight_blocks import BLOCK_COLS, FLOAT_FORMATS, StoredMatrix, stored_matrix

from pageform import _native

drawn = settings(max_examples=8, deadline=None)
FORMATS = st.sampled_from(sorted(BLOCK_COLS) + list(FLOAT_FORMATS))
SEED = st.integers(0, 2**32 - 1)


def normal(seed: int, *shape: int) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def chosen(logits: F32, top_k: int) -> np.ndarray:
    """Ids of each row's experts, the largest logit first."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :top_k]


def expert_of(matrix: StoredMatrix, expert: int, per_expert: int) -> StoredMatrix:
    rows = len(matrix.values) * per_expert // len(matrix.parts)
    parts = matrix.parts[expert * per_expert : (expert + 1) * per_expert]
    return StoredMatrix(parts, matrix.values[expert * rows : (expert + 1) * rows])


@pytest.mark.cpu_only(reason="a GPU has no linear_silu_mul")
@drawn
@given(
    gate=FORMATS, up=FORMATS, inner=st.integers(1, 40), experts=st.integers(1, 5), tokens=st.integers(1, 150), seed=SEED
)
def test_gate_up_has_the_bits_of_linear(
    device: _native.Device, gate: str, up: str, inner: int, experts: int, tokens: int, seed: int
) -> None:
    """Also where gate and up have different formats, and a group of rows is larger than an item of work."""
    cols = max(BLOCK_COLS.get(gate, 32), BLOCK_COLS.get(up, 32))
    top_k = 1 + seed % experts
    weight = stored_matrix([(gate, inner), (up, inner)] * experts, cols, seed)
    x, logits = normal(seed, tokens, cols), normal(seed + 1, tokens, experts)
    packed = weight.pack(device)
    options = {"weight": weight.values, "packed": packed, "ints": {"top_k": top_k}, "device": device}
    got = run_op("moe_gate_up", [x, logits], [top_k * inner], **options).native[0].reshape(tokens, top_k, inner)
    ids = chosen(logits, top_k)
    for expert in range(experts):
        token, choice = np.nonzero(ids == expert)
        if len(token) == 0:
            continue
        own = expert_of(weight, expert, 2)
        alone = run_op(
            "linear_silu_mul", [x[token]], [inner], weight=own.values, packed=own.pack(device), device=device
        )
        np.testing.assert_array_equal(got[token, choice], alone.native[0])
    one = run_op("moe_gate_up", [x[-1:], logits[-1:]], [top_k * inner], **options)
    np.testing.assert_array_equal(one.native[0].reshape(top_k, inner), got[-1])


@pytest.mark.cpu_only(reason="its products are not these to the bit")
@drawn
@given(kind=FORMATS, hidden=st.integers(1, 70), experts=st.integers(1, 5), tokens=st.integers(1, 40), seed=SEED)
def test_down_weighs_the_bits_of_linear(
    device: _native.Device, kind: str, hidden: int, experts: int, tokens: int, seed: int
) -> None:
    inner, top_k = BLOCK_COLS.get(kind, 32), 1 + seed % experts
    weight = stored_matrix([(kind, hidden)] * experts, inner, seed)
    x, logits = normal(seed, tokens, top_k * inner), normal(seed + 1, tokens, experts)
    ints = {"top_k": top_k, "renormalize": seed // 8 % 2}
    options = {"weight": weight.values, "packed": weight.pack(device), "ints": ints, "device": device}
    got = run_op("moe_down", [x, logits], [hidden], **options).native[0]
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    ids = chosen(logits, top_k)
    shares = np.take_along_axis(scores / scores.sum(axis=1, keepdims=True), ids, axis=1)
    if ints["renormalize"]:
        shares /= shares.sum(axis=1, keepdims=True)
    products = np.zeros((tokens, top_k, hidden), np.float32)
    for expert in range(experts):
        token, choice = np.nonzero(ids == expert)
        if len(token) == 0:
            continue
        own = expert_of(weight, expert, 1)
        rows = x.reshape(tokens, top_k, inner)[token, choice]
        alone = run_op("linear", [rows], [hidden], weight=own.values, packed=own.pack(device), device=device)
        products[token, choice] = alone.native[0]
    expected = (shares[..., None] * products).sum(axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(products).max())))
    first = run_op("moe_down", [x[:1], logits[:1]], [hidden], **options)
    np.testing.assert_array_equal(first.native[0][0], got[0])


@pytest.mark.parametrize("kind", ["f32", "q8_0", "q4_0", "q4_1"])
@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_the_whole_is_the_references(device: _native.Device, kind: str, tokens: int) -> None:
    """Experts of a weight that is one part, in float32; of a quantized one, as close as int8 activations allow."""
    experts, top_k, hidden, inner = 6, 2, 64, 96
    gate_up = stored_matrix([(kind, 2 * inner * experts)], hidden, 1)
    down = stored_matrix([(kind, hidden * experts)], inner, 2)
    x, logits = normal(3, tokens, hidden), normal(4, tokens, experts)
    logits[0, :3] = logits[0].max() + 1  # equal ones: the lower ids
    inside = run_op(
        "moe_gate_up",
        [x, logits],
        [top_k * inner],
        weight=gate_up.values,
        packed=gate_up.pack(device),
        ints={"top_k": top_k},
        device=device,
    )
    exact = kind == "f32" or device.name == "simt"
    close(inside.native[0], inside.reference[0], exact)
    outside = run_op(
        "moe_down",
        [inside.reference[0], logits],
        [hidden],
        weight=down.values,
        packed=down.pack(device),
        ints={"top_k": top_k, "renormalize": 1},
        device=device,
    )
    close(outside.native[0], outside.reference[0], exact)


def close(got: F32, expected: F32, exact: bool) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=(1e-5 if exact else 0.03) * np.abs(expected).max())


def test_a_logit_that_is_nan_shows(device: _native.Device) -> None:
    weight = normal(1, 3 * 16, 32)
    logits = normal(2, 2, 3)
    logits[0, 1] = np.nan
    options = {"weight": weight, "ints": {"top_k": 2, "renormalize": 1}, "device": device}
    got = run_op("moe_down", [normal(3, 2, 64), logits], [16], **options).native[0]
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()


@pytest.mark.cpu_only(reason="a matter of the CPU's tiles")
def test_experts_that_share_a_tile_are_refused(device: _native.Device) -> None:
    with pytest.raises(Exception, match=r"the matrix of an expert, rows 8 to 16.* does not begin at a tile"):
        run_op(
            "moe_down",
            [normal(1, 4, 64), normal(2, 4, 2)],
            [8],
            weight=normal(3, 16, 32),
            ints={"top_k": 2, "renormalize": 1},
            device=device,
        )


@pytest.mark.slow
def test_experts_that_share_a_panel_are_refused() -> None:
    device = _native.Device(require_simt())
    weight = stored_matrix([("q8_0", 2 * 12)], 32, 1)
    with pytest.raises(Exception, match="12 rows each, no multiple of 8"):
        run_op(
            "moe_down",
            [normal(1, 4, 64), normal(2, 4, 2)],
            [12],
            weight=weight.values,
            packed=weight.pack(device),
            ints={"top_k": 2, "renormalize": 1},
            device=device,
        )


@pytest.mark.parametrize(
    ("ints", "out", "message"),
    [
        ({"top_k": 0, "renormalize": 1}, 16, "top_k is 0, must be at least 1"),
        ({"top_k": 4, "renormalize": 1}, 16, "top_k is 4, but there are 3 experts"),
        ({"top_k": 2, "renormalize": 2}, 16, "renormalize is 2"),
        ({"top_k": 1, "renormalize": 0}, 16, "input columns is 64, expected 32"),
        ({"top_k": 2, "renormalize": 0}, 15, "rows of the weight is 48, expected 45"),
    ],
)
def test_shapes_that_do_not_fit_are_named(ints: dict[str, int], out: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_op("moe_down", [normal(1, 4, 64), normal(2, 4, 3)], [out], weight=normal(3, 48, 32), ints=ints)
