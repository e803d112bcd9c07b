"""Batches on an engine in this process: by duck typing, on a tiny model that is killed, and on a real one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from batch_people import Person, asks, is_bad, number_of, value_of
from engine_worker import Word, engine_of, write_model
from pydantic import BaseModel

from pageform import EngineClosedError, RequestError
from pageform.batch import Batch, EngineBatches, LineFailed, list_jobs
from pageform.core.completion import Completion, FinishReason, Usage
from pageform.core.errors import ParameterError
from pageform.core.params import SamplingParams
from pageform.structured import Answer, Judge, Spec, StructuredError, policy_of, reask_messages, retry


class FakeEngine:
    """Has what a batch wants of an engine, and the retry loop that every engine has."""

    def __init__(self, delay: float = 0.0) -> None:
        self.asked: list[list[dict[str, Any]]] = []
        self.sampling: list[SamplingParams] = []
        self.aborted: list[str] = []
        self.delay, self.most, self.now = delay, 0, 0
        self.error: dict[int, Exception] = {}
        self.bad_forever: set[int] = set()
        self._lock = threading.Lock()

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    def generate_with_completion(
        self, prompts: Any, response_model: Any, sampling: Any, *, max_retries: int, request_id: str, **options: Any
    ) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.sampling.append(sampling)
        try:
            time.sleep(self.delay * (1 + number_of({"messages": prompts}) % 3))
            return self._answer(prompts, response_model, max_retries, options)
        finally:
            with self._lock:
                self.now -= 1

    def _answer(self, prompts: Any, response_model: Any, max_retries: int, options: dict[str, Any]) -> Any:
        number = number_of({"messages": prompts})
        if number in self.error:
            raise self.error[number]
        judge: Judge[Any] = Judge(Spec.of(response_model), context=options["context"], strict=options["strict"])
        again = lambda payload, answer, rejection: reask_messages(payload, answer, rejection.text)  # noqa: E731
        loop = retry(prompts, judge=judge, reask=again, policy=policy_of(max_retries), hooks=options["hooks"])
        ask = next(loop)
        while True:
            self.asked.append(ask.payload)
            young = is_bad(number) and "too young" not in str(ask.payload)
            age = 3 if young or number in self.bad_forever else 20 + number
            text = f'{{"name":"P{number}","age":{age}}}'
            try:
                ask = loop.send(Answer(text, usage=Usage(10, 5)))
            except StopIteration as stop:
                outcome = stop.value
                return outcome.value, Completion(text, [], FinishReason.STOP, attempts=outcome.attempts)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def test_lines_are_answered_many_at_a_time_and_kept_in_order(state: Path) -> None:
    engine, seen = FakeEngine(delay=0.01), []
    backend = EngineBatches(engine, concurrency=8)
    with Batch.create(
        state, backend, asks(60), response_model=Person, max_tokens=9, hooks={"end": seen.append}
    ) as batch:
        assert batch.submit().state == "created"
        status = batch.run()
        assert (status.done, status.failed, status.state) == (60, 0, "finished")
        assert [one.value for one in batch.results()] == [value_of(number) for number in range(60)]
        assert [len(one.attempts) for one in batch.results()] == [1 + is_bad(number) for number in range(60)]
        assert status.usage.completion_tokens == 5 * 63
    assert 4 <= engine.most <= 8
    assert len(engine.asked) == 63
    assert len(seen) == 60
    assert engine.sampling[0] == SamplingParams(temperature=0, max_tokens=9)


def test_a_lines_fault_is_its_own(state: Path) -> None:
    engine = FakeEngine()
    engine.bad_forever = {4}
    engine.error = {5: RequestError("lost"), 6: ParameterError("prompt", "x", "is too long", "Shorten it.")}
    with Batch.create(state, EngineBatches(engine), asks(10), response_model=Person, max_retries=1) as batch:
        status = batch.run()
        assert (status.done, status.failed) == (7, 3)
        kinds = {one.number: one.error.kind for one in batch.failures() if isinstance(one.error, LineFailed)}
        assert kinds == {4: "ValidationFailed", 5: "RequestError", 6: "ParameterError"}
        engine.bad_forever, engine.error = set(), {}
        engine.asked.clear()
        batch.resubmit()
        assert batch.run().done == 10
        assert len(engine.asked) == 3
        [told] = [messages for messages in engine.asked if number_of({"messages": messages}) == 4]
        assert [message["role"] for message in told] == ["user", "assistant", "user"]
        assert "too young" in told[-1]["content"]
        assert [len(one.attempts) for one in batch.results()][4] == 3


def test_an_engine_that_ends_leaves_the_rest_for_later(state: Path) -> None:
    engine = FakeEngine()
    engine.error = {7: EngineClosedError("closed")}
    with Batch.create(state, EngineBatches(engine, concurrency=2), asks(20), response_model=Person) as batch:
        with pytest.raises(EngineClosedError):
            batch.run()
        status = batch.status()
        assert 5 <= status.done <= 9
        assert status.pending == 20 - status.done
    engine.error = {}
    before = len(engine.asked)
    with Batch.open(state, EngineBatches(engine), response_model=Person) as batch:
        assert batch.run().done == 20
        assert [one.value for one in batch.results()] == [value_of(number) for number in range(20)]
    assert len(engine.asked) - before <= 20 - 4 + 1


def test_time_can_be_bounded_and_lines_cancelled(state: Path) -> None:
    engine = FakeEngine(delay=0.05)
    with Batch.create(state, EngineBatches(engine, concurrency=2), asks(40), response_model=Person) as batch:
        status = batch.run(timeout=0.2)
        assert 0 < status.done < 40
        assert engine.aborted, "lines under way are not waited for"
        status = batch.cancel()
        assert status.state == "cancelled"
        assert batch.run().done == status.done
        batch.resubmit()
        assert batch.run().done == 40


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"prompt": "a", "colour": "red"}, "colour"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "a", "messages": []}, "prompt"),
        ({"messages": "a"}, "messages"),
        (7, "messages"),
        ({"prompt": "a", "custom_id": 5}, "custom_id"),
    ],
)
def test_bad_lines_are_refused_by_name_before_anything_is_stored(state: Path, line: Any, field: str) -> None:
    with pytest.raises(ParameterError, match=rf"line.*1.*{field}|{field}"):
        Batch.create(state, EngineBatches(FakeEngine()), ["good", line], response_model=Person)
    assert list_jobs(state) == []


def test_what_is_no_engine_is_refused() -> None:
    for engine, concurrency in ((object(), 8), (FakeEngine(), 0), (FakeEngine(), True)):
        with pytest.raises(ParameterError):
            EngineBatches(engine, concurrency)


def test_a_models_name_is_noted(state: Path) -> None:
    with Batch.create(state, EngineBatches(FakeEngine()), asks(2), response_model=Person, model="x") as batch:
        assert "its own" in batch.status().notes[0]


def test_a_validator_that_changed_its_mind_is_told(state: Path) -> None:
    strict = False

    class Moody(BaseModel):
        name: str
        age: int

        def model_post_init(self, context: Any) -> None:
            if strict:
                raise ValueError("not any more")

    with Batch.create(state, EngineBatches(FakeEngine()), asks(2), response_model=Moody) as batch:
        batch.run()
        assert all(one.ok for one in batch.results())
        strict = True
        for one in batch.results():
            assert one.state == "done"
            assert not one.ok
            assert "not any more" in str(one.error)


def test_errors_of_lines_survive_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(LineFailed("no", [], "NoAnswer")))
    assert isinstance(error, StructuredError)
    assert (str(error), error.kind, error.as_dict()["error"]) == ("no", "NoAnswer", "NoAnswer")


# --- real engines -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_lines_on_an_engine_survive_being_killed(tmp_path: Path, state: Path) -> None:
    model = write_model(tmp_path / "model")
    lines = [{"prompt": f"Word {number}:", "temperature": 1.0} for number in range(1000)]
    backend = engine_of(str(model))
    options: dict[str, Any] = {"response_model": Word, "max_tokens": 40, "max_retries": 9}
    Batch.create(state, backend, lines, **options).close()
    backend._engine.close()
    done = [0]
    for wanted in (150, 600):  # killed twice
        worker = _worker(model, state)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "working\n"
        while _done(state) < wanted:
            assert worker.poll() is None
            time.sleep(0.05)
        worker.kill()
        assert worker.wait(10) == -9
        done.append(_done(state))
        assert done[-2] < done[-1] < 1000
    worker = _worker(model, state)
    assert worker.communicate(timeout=180)[0] == "working\nfinished\n"
    with Batch.open(state, engine_of(str(model)), response_model=Word) as batch:
        status = batch.status()
        assert (status.done, status.failed) == (1000, 0), [str(one.error) for one in batch.failures()]
        results = list(batch.results())
        assert [one.key for one in results] == [str(number) for number in range(1000)]
        assert all(isinstance(one.value, Word) for one in results)
        retried = sum(len(one.attempts) > 1 for one in results)
        assert 20 <= retried <= 100, "about 5 % were wrong at first"
        for one in results:
            assert [attempt.number for attempt in one.attempts] == list(range(1, len(one.attempts) + 1))
            assert [attempt.error is None for attempt in one.attempts].index(True) == len(one.attempts) - 1


def _worker(model: Path, state: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("engine_worker.py")), str(model), str(state)]
    path = {"PYTHONPATH": ":".join(one for one in sys.path if one)}
    return subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True)


def _done(state: Path) -> int:
    [job] = list_jobs(state)
    return int(job["lines"].get("done", 0))


@pytest.mark.slow
def test_a_real_model_answers_a_batch(engine: Any, state: Path) -> None:
    class Colour(BaseModel):
        colour: str

    lines = [f"What colour is {thing}? One word." for thing in ("grass", "the sky", "snow", "coal")]
    with Batch.create(state, EngineBatches(engine), lines, response_model=Colour, max_tokens=60) as batch:
        status = batch.run()
        assert status.done == 4, [str(one.error) for one in batch.failures()]
        same = engine.chat(
            [[{"role": "user", "content": line}] for line in lines], SamplingParams(temperature=0), Colour
        )
        assert [one.value for one in batch.results()] == same
