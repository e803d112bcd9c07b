"""`pageform batch …`, as it is typed: against scripted services, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_people import answer, asks, is_bad, number_of
from batch_server import BatchServer
from batch_servers import AnthropicBatchServer, OpenAIBatchServer
from typer.testing import CliRunner
from wires import Called, Said

from pageform.batch import job
from pageform.cli.app import app
from pageform.structured import Backoff

SERVERS: dict[str, type[BatchServer]] = {"openai": OpenAIBatchServer, "anthropic": AnthropicBatchServer}


@pytest.fixture(params=list(SERVERS))
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(provider: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BatchServer]:
    monkeypatch.setattr(job, "POLL", Backoff(0.001, 1.0, jitter=False))
    monkeypatch.chdir(tmp_path)
    with SERVERS[provider](answer) as running:
        for name, value in _settings(provider, running).items():
            monkeypatch.setenv(name, value)
        yield running


def _settings(provider: str, server: BatchServer) -> dict[str, str]:
    address = f"{server.url}/v1" if provider == "openai" else server.url
    name = provider.upper()
    return {f"{name}_BASE_URL": address, f"{name}_API_KEY": "none", "PAGEFORM_BATCHES": "jobs.db"}


def pageform(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["batch", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def write_lines(count: int) -> str:
    path = Path("people.jsonl")
    lines = [json.dumps({"custom_id": f"p{number}", "prompt": ask}) for number, ask in enumerate(asks(count))]
    path.write_text("\n".join(lines) + "\n\n")
    return str(path)


def create(provider: str, count: int, *more: str) -> str:
    model = ["-m", "m", "--set", "max_tokens=50"]
    return pageform("create", write_lines(count), "-t", "batch_people:Person", "-p", provider, *model, *more)


def test_a_batch_from_the_first_to_the_last_command(provider: str, server: BatchServer) -> None:
    assert "created" in create(provider, 25)
    assert "25 pending" in pageform("status")
    assert "25 sent" in pageform("submit", "people")
    assert "running" in pageform("list")
    pageform("status", "--poll")
    shown = pageform("resume")
    assert "finished" in shown
    assert "25 done" in shown
    lines = [json.loads(line) for line in pageform("results").splitlines()]
    assert [line["custom_id"] for line in lines] == [f"p{number}" for number in range(25)]
    assert lines[7]["value"] == {"name": "P7", "age": 27}
    assert [line["attempts"] for line in lines] == [1 + is_bad(number) for number in range(25)]
    shown = pageform("results", "-o", "out.jsonl")
    assert "25 results" in shown
    assert [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()] == lines
    assert "batch_" in pageform("list", "--remote", provider)
    assert "deleted" in pageform("delete", "--yes")
    assert "no jobs" in pageform("list")


def test_failed_lines_are_told_and_tried_again(provider: str, server: BatchServer) -> None:
    server.answer = lambda body: Said(calls=(Called("Person", '{"name":"x","age":1}'),))
    create(provider, 3, "--max-retries", "0")
    assert "3 failed" in pageform("resume", code=1)
    told = [json.loads(line) for line in pageform("results", "--failed").splitlines()]
    assert told[0]["error"]["error"] == "ValidationFailed"
    assert told[0]["error"]["errors"][0]["path"] == "age"
    server.answer = lambda body: answer(body) if "too young" in str(body) else 500
    assert "3 pending" in pageform("retry")
    assert "3 done" in pageform("resume")


def test_cancelling_and_asking_first(provider: str, server: BatchServer) -> None:
    create(provider, 4)
    pageform("submit")
    pageform("cancel")
    assert "cancelled" in pageform("resume")
    result = CliRunner().invoke(app, ["batch", "delete"], input="n\n")
    assert result.exit_code == 0
    assert "cancelled" in pageform("status")


def test_what_is_wrong_is_said_in_a_line(provider: str, server: BatchServer) -> None:
    lines = write_lines(2)
    for words, told in (
        (["create", lines, "-t", "batch_people:Nobody", "-p", provider], "can't be loaded"),
        (["create", lines, "-t", "Person", "-p", provider], "module:Class"),
        (["create", lines, "-t", "batch_people:Person", "-p", "nobody"], "openai, anthropic, engine"),
        (["create", lines, "-t", "batch_people:Person", "-p", provider], "model"),
        (["create", "none.jsonl", "-t", "batch_people:Person", "-p", provider, "-m", "m"], "can't be read"),
        (["create", lines, "-t", "batch_people:Person", "-p", provider, "-m", "m", "--set", "x"], "name=value"),
        (["results", "nobody"], "no job"),
        (["list", "--remote", "engine"], "no list"),
    ):
        shown = pageform(*words, code=2)
        assert told in shown
        assert "Traceback" not in shown
    Path("bad.jsonl").write_text('"good"\n{"prompt": \n')
    more = ["-m", "m", "--set", "max_tokens=9"]
    shown = pageform("create", "bad.jsonl", "-t", "batch_people:Person", "-p", provider, *more, code=2)
    assert "bad.jsonl:2" in shown
    server.refuse["batches.create"] = [401]
    create(provider, 2)
    assert "AuthenticationError" in pageform("submit", code=2)


def test_results_need_neither_key_nor_connection(
    provider: str, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(provider, 2, "--run")
    for name in (f"{provider.upper()}_API_KEY", f"{provider.upper()}_BASE_URL"):
        monkeypatch.delenv(name)
    assert len(pageform("results").splitlines()) == 2
    create(provider, 2, "--name", "more") if provider == "anthropic" else None
    shown = pageform("submit", "more" if provider == "anthropic" else "people", code=2)
    assert "API_KEY" in shown or "api_key" in shown


@pytest.mark.parametrize("provider", ["openai"], indirect=True)
def test_it_runs_as_a_process(provider: str, server: BatchServer) -> None:
    server.polls = 0

    def run(*words: str) -> str:
        path = {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
        command = [sys.executable, "-m", "pageform.cli", *words]
        return subprocess.run(
            command, env=path | _settings(provider, server), check=True, capture_output=True, text=True
        ).stdout

    assert "batch" in run("--help")
    assert run("--version").startswith("pageform 0.")
    write_lines(3)
    run(
        "batch",
        "create",
        "people.jsonl",
        "-t",
        "batch_people:Person",
        "-p",
        provider,
        "-m",
        "m",
        "--set",
        "max_tokens=9",
    )
    assert "3 done" in run("batch", "resume")
    assert [number_of(body) for body in server.sent] == [0, 1, 2]
    heavy = ("torch", "numpy", "openai", "pageform._native")
    loaded = f"import sys, pageform.cli.app; print([name for name in {heavy} if name in sys.modules])"
    path = {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    shown = subprocess.run([sys.executable, "-c", loaded], env=path, check=True, capture_output=True, text=True).stdout
    assert shown == "[]\n"


def test_an_engine_answers_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine_worker import write_model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAGEFORM_BATCHES", "jobs.db")
    model = str(write_model(tmp_path / "model"))
    Path("words.jsonl").write_text('"One:"\n"Two:"\n')
    more = ["--set", "max_tokens=40", "--set", "temperature=1.0", "--max-retries", "5", "--run"]
    shown = pageform("create", "words.jsonl", "-t", "engine_worker:Word", "-p", "engine", "-m", model, *more)
    assert "2 done" in shown
    assert all(len(json.loads(line)["value"]["word"]) == 4 for line in pageform("results").splitlines())
    assert "engine" in pageform("list") or "pageform" in pageform("list")
