"""A sample of the walk that `python -m benchmarks mixed` takes in full: see mixed_walk.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from mixed_walk import MUST_HAPPEN, Walk, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "model")


def test_a_short_walk(folder: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown where the test fails; so is the message, which has it as well
    events = Walk(folder, seed).run(250)
    assert events["answers equal to those of runs alone"] > 30
    assert events["rewinds"] > 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 9])
def test_a_longer_walk(folder: Path, seed: int) -> None:
    """Walk 4 once met a value kept from an earlier answer after which that went on otherwise, inside one token."""
    events = Walk(folder, seed).run(1500)
    assert [name for name in MUST_HAPPEN if not events[name]] == []


def test_walks_repeat_themselves(folder: Path) -> None:
    assert Walk(folder, 11).run(60) == Walk(folder, 11).run(60)


def test_a_walk_notices_what_goes_wrong(folder: Path) -> None:
    """An answer that is not what the request gets alone ends the walk."""
    walk = Walk(folder, 5)
    original = walk._alone

    def shifted(number: int) -> list[list[tuple[object, ...]]]:
        return [[([0, *one[0]], *one[1:]) for one in attempt] for attempt in original(number)]

    walk._alone = shifted  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"seed 5, operation .* differs from its run alone"):
        walk.run(150)
