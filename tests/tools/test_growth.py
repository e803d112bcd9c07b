"""The benchmark of growth: that its fit sees what it is there to see, and that it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.growth import LENGTHS, RESIDUAL, fit

N = np.array(LENGTHS, float)
SMOOTH = 0.01 + 7e-4 * N + 5e-8 * N**2


def worst(times: np.ndarray) -> float:
    return float(abs(fit(N, times)[1]).max())


def test_a_fit_finds_the_coefficients() -> None:
    coefficients, residuals = fit(N, SMOOTH)
    assert coefficients == pytest.approx([0.01, 7e-4, 5e-8])
    assert abs(residuals).max() < 1e-9


@pytest.mark.parametrize(
    "spoiled",
    [
        SMOOTH + 0.3 * (N > 512),  # a chunk that waits for something
        SMOOTH + 0.4 * (N > 1024),
        np.where(LENGTHS[7] == N, 1.25 * SMOOTH, SMOOTH),
        SMOOTH + 4e-10 * N**3,
    ],
)
def test_steps_and_higher_powers_are_seen(spoiled: np.ndarray) -> None:
    assert worst(spoiled) > RESIDUAL


def test_noise_of_a_few_percent_is_not() -> None:
    noise = np.random.default_rng(3).uniform(0.98, 1.02, len(N))
    assert worst(SMOOTH * noise) < RESIDUAL


@pytest.mark.slow
def test_it_runs() -> None:
    command = [sys.executable, "-m", "benchmarks", "growth", "--smoke"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "MISSED" not in done.stdout
    assert "a step keeps as many Python allocations in a long context" in done.stdout
