"""Rotary angles and rotations against torch, and angles against exact arithmetic at long positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from harness import run_op, tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from pageform import _native
from pageform.runtime.inputs import StepInputs


def step_at(positions: list[int]) -> StepInputs:
    step = tokens(len(positions))
    step.positions = np.array(positions, np.int32)
    return step


def frequencies(rot: int, theta: float = 10000.0) -> np.ndarray:
    return (theta ** -(np.arange(0, rot, 2) / rot)).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(
    positions=st.lists(st.integers(0, 2**20), min_size=1, max_size=30),
    half=st.integers(1, 64),
    scale=st.sampled_from([1.0, 1.2]),
)
def test_angles(device: _native.Device, positions: list[int], half: int, scale: float) -> None:
    inv_freq = frequencies(2 * half)
    result = run_op(
        "rope_angles",
        [],
        [2 * half],
        step=step_at(positions),
        vector=inv_freq,
        floats={"attention_scale": scale},
        device=device,
    )
    np.testing.assert_allclose(result.native[0], result.reference[0], rtol=0, atol=2e-7)


def test_angles_are_exact_at_the_end_of_a_long_context(device: _native.Device) -> None:
    inv_freq = frequencies(8)
    result = run_op(
        "rope_angles",
        [],
        [8],
        step=step_at([1_000_003]),
        vector=inv_freq,
        floats={"attention_scale": 1.0},
        device=device,
    )
    wanted = [math.cos(1_000_003 * float(f)) for f in inv_freq] + [math.sin(1_000_003 * float(f)) for f in inv_freq]
    np.testing.assert_allclose(result.native[0][0], wanted, rtol=0, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 20),
    heads=st.integers(1, 9),
    half=st.integers(1, 40),
    rest=st.sampled_from([0, 1, 16, 30]),
    interleaved=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_rope(
    device: _native.Device, rows: int, heads: int, half: int, rest: int, interleaved: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    head_dim = 2 * half + rest
    x = rng.standard_normal((rows, heads * head_dim)).astype(np.float32)
    angles = rng.uniform(0, 7, (rows, half))
    cs = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ints = {"heads": heads, "head_dim": head_dim, "rot_dim": 2 * half, "interleaved": int(interleaved)}
    result = run_op("rope", [x, cs], [heads * head_dim], ints=ints, device=device)
    np.testing.assert_allclose(result.native[0], result.reference[0], rtol=1e-6, atol=1e-6)
    channels = result.native[0].reshape(rows, heads, head_dim)
    np.testing.assert_array_equal(channels[..., 2 * half :], x.reshape(rows, heads, head_dim)[..., 2 * half :])


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rope_is_the_formula_of_its_paper(device: _native.Device, interleaved: int) -> None:
    """A pair of channels seen as a complex number is multiplied with e^(i angle)."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 32)).astype(np.float32)
    angles = rng.uniform(0, 7, (5, 16))
    cs = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ints = {"heads": 1, "head_dim": 32, "rot_dim": 32, "interleaved": interleaved}
    result = run_op("rope", [x, cs], [32], ints=ints, device=device)
    first, second = (slice(0, 32, 2), slice(1, 32, 2)) if interleaved else (slice(0, 16), slice(16, 32))
    turned = (x[:, first] + 1j * x[:, second]) * np.exp(1j * angles)
    for y in (result.native[0], result.reference[0]):
        np.testing.assert_allclose(y[:, first] + 1j * y[:, second], turned, rtol=0, atol=2e-6)
