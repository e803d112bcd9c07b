"""Batches at OpenAI and Anthropic: their real SDKs, against scripted services that are interfered with."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from batch_people import Person, answer, asks, check_complete, is_bad, number_of, value_of
from batch_server import BatchServer
from batch_servers import AnthropicBatchServer, OpenAIBatchServer
from batch_worker import backend_of
from wires import Called, Said

from pageform.batch import Batch, JobBusyError, LineFailed, list_jobs, rounds
from pageform.batch.store import Store
from pageform.core.completion import Usage
from pageform.core.errors import ParameterError
from pageform.media import Image
from pageform.structured import Backoff, ClientError, Event

SERVERS: dict[str, type[BatchServer]] = {"openai": OpenAIBatchServer, "anthropic": AnthropicBatchServer}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
POLL = Backoff(0.001, 1.0, jitter=False)
OPTIONS: dict[str, Any] = {"model": "m", "max_tokens": 50, "response_model": Person}


@pytest.fixture(params=list(SERVERS))
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(provider: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setattr(rounds, "GRACE", 0.0)
    with SERVERS[provider](answer) as running:
        yield running


@pytest.fixture
def backend(provider: str, server: BatchServer) -> Any:
    return backend_of(provider, server.url)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def test_every_line_gets_its_value_in_order(state: Path, backend: Any, server: BatchServer) -> None:
    with Batch.create(state, backend, asks(50), name="people", **OPTIONS) as batch:
        assert batch.status().state == "created"
        assert server.jobs == {}
        batch.submit()
        status = batch.status()
        assert (status.state, status.sent, status.rounds_running) == ("running", 50, 1)
        status = batch.run(poll=POLL)
        assert (status.state, status.done, status.failed) == ("finished", 50, 0)
        bad = sum(map(is_bad, range(50)))
        assert status.usage.prompt_tokens == 10 * (50 + bad)
        check_complete(batch, server.sent, 50)
        first = next(batch.results())
        assert first.key == "0"
        assert first.usage == first.attempts[0].usage
        assert first.response is not None
        assert batch.run(poll=POLL).state == "finished"
    assert len(server.jobs) == 2, "one round for the lines, one for those that were asked again"


def test_rounds_are_cut_to_the_services_limits(state: Path, backend: Any, server: BatchServer) -> None:
    type(backend).max_lines, before = 7, type(backend).max_lines
    try:
        with Batch.create(state, backend, asks(20), **OPTIONS) as batch:
            batch.submit()
            assert [len(job.requests) for job in server.jobs.values()] == [7, 7, 6]
            batch.run(poll=POLL)
            check_complete(batch, server.sent, 20)
            backend.max_bytes = 1000
            again = Batch.create(state, backend, asks(6), **OPTIONS)
            again.submit()
            assert all(len(job.requests) < 4 for job in list(server.jobs.values())[4:])
            again.close()
    finally:
        type(backend).max_lines = before


def test_hooks_are_told_of_each_attempt_once(state: Path, backend: Any, server: BatchServer) -> None:
    seen: list[Event] = []
    with Batch.create(state, backend, asks(5), hooks={"*": seen.append}, **OPTIONS) as batch:
        batch.run(poll=POLL)
    bad = [event for event in seen if number_of(dict(event.kwargs)) == 3]
    assert [event.name for event in bad] == [
        "kwargs", "response", "usage", "parse_error", "kwargs", "response", "usage", "end",
    ]  # fmt: skip
    assert [event.attempt for event in bad] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert bad[-1].total_usage.prompt_tokens == 20
    assert {event.provider for event in seen} == {backend.provider}
    assert len(seen) == 8 + 4 * 4


def test_lines_are_prepared_as_calls_are(state: Path, backend: Any, server: BatchServer) -> None:
    content = ["Person {{ which }}", Image.from_raw_base64(PIXEL)]
    lines = [[{"role": "user", "content": content}]]
    with Batch.create(state, backend, lines, context={"which": 7}, **OPTIONS) as batch:
        batch.run(poll=POLL)
        [result] = batch.results()
        assert result.value == value_of(7)
    [body] = server.sent
    assert "Person 7" in str(body["messages"])
    assert "iVBOR" in str(body["messages"])


def test_answers_are_read_as_leniently_as_asked(state: Path, backend: Any, server: BatchServer) -> None:
    server.answer = lambda body: Said(text="Sure: ```json\n{'name': 'x', 'age': '44'}\n```")
    for leniency, done in (("default", 1), (None, 1), ("strict", 0)):
        options = {**OPTIONS, "mode": "text", "leniency": leniency, "max_retries": 0}
        with Batch.create(state, backend, asks(1), name=str(leniency), **options) as batch:
            assert batch.run(poll=POLL).done == done
        with Batch.open(state, backend, response_model=Person, job=str(leniency)) as batch:
            assert [one.value for one in batch.results() if one.ok] == [Person(name="x", age=44)] * done


def test_failures_are_reported_a_line(state: Path, backend: Any, server: BatchServer) -> None:
    def model(body: dict[str, Any]) -> Said | int:
        number = number_of(body)
        always_young = Said(calls=(Called("Person", '{"name":"x","age":1}'),))
        text = "max_tokens" if "max_tokens" in body else "?"
        assert text == "max_tokens"
        special: dict[int, Said | int] = {2: 400, 4: always_young, 5: Said(text="{", finish="length"), 6: Said()}
        return special.get(number, answer(body))

    server.answer = model
    with Batch.create(state, backend, asks(8), max_retries=1, **OPTIONS) as batch:
        status = batch.run(poll=POLL)
        assert (status.done, status.failed) == (4, 4)
        results = list(batch.results())
        assert [one.ok for one in results] == [True, True, False, True, False, False, False, True]
        failed = {one.number: one.error for one in batch.failures()}
        assert {number: error.kind for number, error in failed.items() if isinstance(error, LineFailed)} == {
            2: "ProviderRejected",
            4: "ValidationFailed",
            5: "IncompleteOutput",
            6: "ValidationFailed",
        }
        young = failed[4]
        assert isinstance(young, LineFailed)
        assert young.errors()[0]["path"] == "age"
        assert "too young" in str(young)
        assert [len(results[number].attempts) for number in (2, 4, 5, 6)] == [0, 2, 1, 2]
        assert young.usage == Usage(20, 10, 8) or young.usage.prompt_tokens == 20


def test_failed_lines_are_sent_again_with_their_errors(state: Path, backend: Any, server: BatchServer) -> None:
    server.answer = lambda body: Said(calls=(Called("Person", '{"name":"x","age":1}'),))
    with Batch.create(state, backend, asks(5), max_retries=0, **OPTIONS) as batch:
        assert batch.run(poll=POLL).failed == 5
        server.answer = lambda body: answer(body) if "too young" in str(body) else 500
        batch.resubmit()
        assert batch.status().pending == 5
        assert batch.run(poll=POLL).done == 5
        assert [one.value for one in batch.results()] == [value_of(number) for number in range(5)]
        assert [len(one.attempts) for one in batch.results()] == [2] * 5


def test_lines_that_were_lost_are_sent_again(state: Path, backend: Any, server: BatchServer) -> None:
    server.expire_next = True
    with Batch.create(state, backend, asks(10), **OPTIONS) as batch:
        assert batch.run(poll=POLL).done == 10
        assert [one.value for one in batch.results()] == [value_of(number) for number in range(10)]
        assert [len(job.requests) for job in server.jobs.values()][:2] == [10, 5 + is_bad_among(5, 10)]


def is_bad_among(start: int, end: int) -> int:
    return sum(map(is_bad, range(start, end)))


def test_a_line_that_never_gets_an_answer_fails(state: Path, backend: Any, server: BatchServer) -> None:
    server.answer = lambda body: 503 if number_of(body) == 1 else answer(body)
    with Batch.create(state, backend, asks(3), **OPTIONS) as batch:
        status = batch.run(poll=POLL)
        assert (status.done, status.failed) == (2, 1)
        [failed] = batch.failures()
        assert isinstance(failed.error, LineFailed)
        assert failed.error.kind == "NoAnswer"
        assert "3 times" in str(failed.error)
        server.answer = answer
        batch.resubmit()
        assert batch.run(poll=POLL).done == 3


def test_cancelling_keeps_what_is_done(state: Path, backend: Any, server: BatchServer) -> None:
    # Results come backwards: 24 to 20 are answered before the end, and 23 wrongly.
    with Batch.create(state, backend, asks(25)[15:], **OPTIONS) as batch:
        batch.submit()
        assert batch.cancel().state == "running"
        status = batch.run(poll=POLL)
        assert status.state == "cancelled"
        assert (status.done, status.cancelled, status.pending, status.sent) == (4, 6, 0, 0)
        batch.resubmit()
        assert batch.run(poll=POLL).done == 10
        assert [one.value for one in batch.results()] == [value_of(number) for number in range(15, 25)]
        assert [len(one.attempts) for one in batch.results()] == [1 + is_bad(number) for number in range(15, 25)]
        batch.cancel()
        batch.delete()
    assert list_jobs(state) == []


def test_a_job_under_way_is_not_deleted_and_not_worked_on_twice(state: Path, backend: Any) -> None:
    with Batch.create(state, backend, asks(3), **OPTIONS) as batch:
        batch.submit()
        with pytest.raises(ParameterError, match="not finished"):
            batch.delete()
        with Store(state).own(batch.id), pytest.raises(JobBusyError, match=batch.id):
            batch.poll()
        batch.poll()


def test_a_refused_round_is_told_and_can_be_sent_later(state: Path, backend: Any, server: BatchServer) -> None:
    server.refuse["batches.create"] = [401]
    with Batch.create(state, backend, asks(3), **OPTIONS) as batch:
        with pytest.raises((openai.AuthenticationError, anthropic.AuthenticationError)):
            batch.run(poll=POLL)
        assert batch.status().pending == 3
        batch.run(poll=POLL)
        check_complete(batch, server.sent, 3)


def test_moments_without_a_connection_are_survived(state: Path, backend: Any, server: BatchServer) -> None:
    server.refuse["batches.create"] = [503]
    server.refuse["batches.retrieve"] = [503, 429, 500]
    with Batch.create(state, backend, asks(5), **OPTIONS) as batch:
        batch.run(poll=POLL)
        check_complete(batch, server.sent, 5)
        server.refuse["batches.retrieve"] = [500] * 99
        batch.resubmit()
    with Batch.create(state, backend, asks(5), **OPTIONS) as batch:
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
            batch.run(poll=POLL)
        server.refuse.clear()
        assert batch.run(poll=POLL).done == 5


def test_a_bad_line_does_not_take_the_others_down(state: Path) -> None:
    def model(body: dict[str, Any]) -> Said | int:
        return 0 if number_of(body) in (2, 3) else answer(body)

    with OpenAIBatchServer(model) as server:
        backend = backend_of("openai", server.url)
        with Batch.create(state, backend, asks(6), **OPTIONS) as batch:
            status = batch.run(poll=POLL)
            assert (status.done, status.failed) == (4, 2)
            assert {str(one.error) for one in batch.failures()} == {"bad line"}


def test_bad_input_is_refused_before_a_job_exists(state: Path, backend: Any, provider: str) -> None:
    for options, field in (
        ({"model": None}, "model"),
        ({"mode": "xml"}, "mode"),
        ({"max_retries": -1}, "max_retries"),
        ({"timeout": 5}, "timeout"),
        ({"stream": True}, "stream"),
        ({"hooks": {"nothing": print}}, "hooks"),
    ):
        with pytest.raises(ParameterError, match=field):
            Batch.create(state, backend, asks(3), **{**OPTIONS, **options})
    assert not state.exists() or list_jobs(state) == []
    kinds: dict[str, Any] = {"openai": openai.AsyncOpenAI, "anthropic": anthropic.AsyncAnthropic}
    client = kinds[provider](api_key="none")
    with pytest.raises(ClientError, match="async"):
        type(backend)(client)
    with pytest.raises(ClientError):
        type(backend)(object())


def test_a_job_is_only_opened_as_what_it_is(state: Path, backend: Any) -> None:
    batch = Batch.create(state, backend, asks(2), name="a", **OPTIONS)
    batch.close()

    class Other(Person):
        more: int

    with pytest.raises(ParameterError, match="another schema"):
        Batch.open(state, backend, response_model=Other)
    with pytest.raises(ParameterError, match="no job"):
        Batch.open(state, backend, response_model=Person, job="b")
    with pytest.raises(ParameterError, match="does not exist"):
        Batch.open(state.with_name("none.db"), backend, response_model=Person)
    Batch.create(state, backend, asks(2), name="a", **OPTIONS).close()
    with pytest.raises(ParameterError, match="several"):
        Batch.open(state, backend, response_model=Person, job="a")
    with Batch.open(state, backend, response_model=Person, job=batch.id) as opened:
        assert opened.id == batch.id
    assert {job["name"] for job in list_jobs(state)} == {"a"}


# --- dying ------------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """Stands for the death of the process."""


@contextmanager
def crash_at(step: int, after: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Dies at the transaction of that number, counted from 1: before it begins, or right after it was committed."""
    count = 0
    original = Store.transaction

    @contextmanager
    def transaction(self: Store) -> Iterator[None]:
        nonlocal count
        count += 1
        if count == step and not after:
            raise Crash
        with original(self):
            yield
        if count == step and after:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", transaction)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_dying_at_any_transaction_sends_nothing_twice(
    after: bool, state: Path, backend: Any, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "max_lines", 3)
    monkeypatch.setattr(rounds, "_CHUNK", 2)
    step = 0
    while True:
        step += 1
        server.jobs.clear()
        Batch.create(state, backend, asks(5), name=str(step), **OPTIONS).close()
        crashed = False
        batch = Batch.open(state, backend, response_model=Person, job=str(step))
        try:
            with crash_at(step + 2, after, monkeypatch):
                batch.run(poll=POLL)
        except Crash:
            crashed = True
        batch.close()
        with Batch.open(state, backend, response_model=Person, job=str(step)) as batch:
            assert batch.run(poll=POLL).state == "finished"
            check_complete(batch, server.sent, 5)
        if not crashed:
            break
    assert step > 10


def _run_worker(provider: str, server: BatchServer, state: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("batch_worker.py")), provider, server.url, str(state)]
    path = {"PYTHONPATH": ":".join(one for one in sys.path if one)}
    return subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True)


def _kill_when_stalled(provider: str, server: BatchServer, state: Path) -> None:
    """A process works on the batch until the service leaves it waiting, and is killed there."""
    server.stalled.clear()
    server.released.clear()
    worker = _run_worker(provider, server, state)
    assert server.stalled.wait(60), worker.communicate()
    while server.after_lines is not None and "done" not in list_jobs(state)[0]["lines"]:
        time.sleep(0.01)
    worker.kill()
    assert worker.wait(10) == -9
    server.stall, server.after_lines = None, None
    server.released.set()
    time.sleep(0.01)


@pytest.mark.slow
def test_a_thousand_lines_survive_being_killed(state: Path, provider: str, server: BatchServer) -> None:
    Batch.create(state, backend_of(provider, server.url), asks(1000), **OPTIONS).close()
    server.stall = "batches.create"  # the service has the batch, and nobody was told
    _kill_when_stalled(provider, server, state)
    assert [len(job.requests) for job in server.jobs.values()] == [1000]
    server.after_lines = 450  # some answers are judged, others on their way
    _kill_when_stalled(provider, server, state)
    [job] = list_jobs(state)
    assert 0 < job["lines"]["done"] < 1000
    server.stall = "batches.create"  # of the lines that are asked again
    _kill_when_stalled(provider, server, state)
    worker = _run_worker(provider, server, state)
    assert worker.communicate(timeout=60)[0] == "finished\n"
    with Batch.open(state, backend_of(provider, server.url), response_model=Person) as batch:
        status = batch.status()
        assert (status.done, status.failed) == (1000, 0)
        check_complete(batch, server.sent, 1000)
    assert [len(job.requests) for job in server.jobs.values()] == [1000, 50]
    assert server.calls["batches.create"] == 2
