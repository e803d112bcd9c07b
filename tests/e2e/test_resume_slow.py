"""Requests that are suspended while slow validators run lead where they would have led."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_slow_validators import FEW, OPTIONS, PROMPT, even, model, slowly, small
from tiny import write_tiny_llama

from pageform import Completion, Engine, ParameterError, RequestSuspended, SamplingParams

SLOW = model(slowly(even, 0.03), slowly(small, 0.01, asynchronous=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"), positions=4096)


@pytest.fixture(scope="module")
def engines(folder: Path) -> Iterator[list[Engine]]:
    with (
        Engine(folder, check_invariants=True, **OPTIONS) as one,
        Engine(folder, check_invariants=True, **OPTIONS) as two,
    ):
        yield [one, two]


def suspended(engine: Engine, sampling: SamplingParams, data: bytes | None, delay: float) -> bytes | Completion:
    """Starts a request, or goes on with one, and suspends it after some time; its completion if it was faster."""
    heard: list[bytes | Completion] = []

    def ask() -> None:
        try:
            if data is None:
                options = {"rewind": FEW, "request_id": "slow"}
                answer = engine.generate_with_completion("Orders:", SLOW, sampling, **options)  # type: ignore[arg-type]
            else:
                answer = engine.resume(data, SLOW, request_id="slow", with_completion=True)
            heard.append(answer[1])
        except RequestSuspended as error:
            heard.append(error.data)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(delay)
    while thread.is_alive():
        try:
            engine.suspend("slow")
            break
        except ParameterError:  # not submitted yet, or finished just now
            time.sleep(0.001)
    thread.join(30)
    return heard[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_suspended_while_verdicts_are_awaited(engines: list[Engine], temperature: float) -> None:
    sampling = SamplingParams(temperature=temperature, seed=7, max_tokens=700)
    _, prompt = engines[0].generate_with_completion("Orders:", PROMPT, sampling, rewind=FEW)
    stops = 0
    for delay in (0.01, 0.025, 0.05):
        state: bytes | Completion | None = None
        for number in range(60):  # it is stopped again and again, until it is done between two stops
            longer = delay * (1 + number / 4)
            state = suspended(engines[number % 2], sampling, state, longer)
            if isinstance(state, Completion):
                break
            stops += 1
        assert isinstance(state, Completion)
        assert state.text == prompt.text
        assert all(engine.stats().kv_blocks_used == 0 for engine in engines)
    assert stops >= 2
