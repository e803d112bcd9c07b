"""A comparison with scripted engines: who takes part, what is left out, what is saved when one fails."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.compare import beside, choose, extras, session
from benchmarks.compare.extras import by_batch, with_room
from benchmarks.compare.measure import in_contest
from benchmarks.compare.plan import Plan
from benchmarks.compare.pool import Pool
from benchmarks.compare.workloads import Material
from benchmarks.job import Answer, Job
from benchmarks.options import Options
from benchmarks.peers.install import Environment
from benchmarks.peers.worker import Run, Variant

WORKER = """
import os, time
from benchmarks.job import Answer
from benchmarks.peers.protocol import serve

class Scripted:
    def __init__(self, pace, slots=0, context=0, fault=""):
        self.pace, self.slots, self.fault = pace, slots, fault
    def run(self, jobs, clock):
        if self.fault == "hangs": time.sleep(60)
        if self.fault == "fails": raise ValueError("out of luck")
        answers = [Answer() for _ in jobs]
        for job, answer in zip(jobs, answers):
            for i in range(job.output_tokens):
                end = clock() + self.pace * (1 + self.slots)
                while clock() < end: pass
                answer.add([65 + i % 20], clock())
        return answers
    def close(self): pass

serve(Scripted)
"""


@pytest.fixture
def scripted(tmp_path: Path) -> Any:
    (tmp_path / "scripted_worker.py").write_text(WORKER, encoding="utf-8")

    def make(peer: str, label: str = "", keeps: bool = False, **settings: Any) -> Variant:
        variables = {"PYTHONPATH": str(tmp_path)}
        return Variant(peer, label, "scripted_worker", settings, variables=variables, model_bytes=10**6, keeps=keeps)

    return make


@pytest.fixture
def compare(tmp_path: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a comparison of scripted engines; the report, and the files it left."""
    results = tmp_path / "results"
    monkeypatch.setattr(session.Report.save, "__defaults__", (results,))
    monkeypatch.setattr(session, "install", lambda name, _: Environment(name, tmp_path))
    monkeypatch.setattr(session, "Models", lambda *_: None)
    monkeypatch.setattr(session, "gguf_file", lambda _: tmp_path)
    monkeypatch.setattr(beside, "ours", lambda *_: [scripted("pageform", pace=1e-5)])
    monkeypatch.setattr(extras, "machine_limits", lambda _: {"int8_gops": 100.0, "read_gbps": 10.0})
    monkeypatch.setattr(extras, "own_rate", lambda *_: ("its program", 1.0))
    monkeypatch.setattr(extras, "llama_bench_decode", lambda *_: 1e9)
    monkeypatch.setattr(extras, "CONTEXTS", (8, 16))
    monkeypatch.setattr(extras, "BATCHES", (1, 4))
    material = Material(["some words"], lambda text: list(text.encode()), lambda _: [1], smoke=False)
    monkeypatch.setattr(session.Session, "_material", lambda self: setattr(self, "_decode", _decode) or material)
    short = "benchmarks.compare.workloads.lone"
    monkeypatch.setattr(short, lambda _, number: [[Job([10 * number + i + 50], 8)] for i in range(2)])

    def run(
        peers: dict[str, list[Variant]], rounds: int = 2, minutes: float = 5, timeout: float = 20, besides: bool = False
    ) -> Any:
        if not besides:
            monkeypatch.setattr(beside, "run", lambda *_: None)
        monkeypatch.setattr(session, "ours", lambda *_: [scripted("pageform", pace=1e-5)])
        monkeypatch.setattr(choose, "candidates", lambda environment, *_: peers[environment.name])
        made = Pool.worker

        def hasty(pool: Pool, variant: Variant) -> Any:
            return _Hasty(made(pool, variant), timeout)

        monkeypatch.setattr(Pool, "worker", hasty)
        options = Options(
            peers=tuple(peers), workloads=("W1",), rounds=rounds, minutes=minutes, peers_dir=tmp_path / "peers"
        )
        report = session.Session(options).run()
        saved = [json.loads(path.read_text()) for path in results.glob("*.json")]
        return SimpleNamespace(report=report, saved=saved, notes="\n".join(report.notes))

    return run


class _Hasty:
    """A worker that is given up sooner."""

    def __init__(self, inner: Any, timeout: float) -> None:
        self._inner, self._timeout = inner, timeout

    def __enter__(self) -> Any:
        worker = self._inner.__enter__()
        worker.timeout = self._timeout
        return worker

    def __exit__(self, *error: Any) -> Any:
        return self._inner.__exit__(*error)


def _decode(tokens: list[int]) -> str:
    return bytes(tokens).decode()


def test_the_best_settings_take_part_and_who_is_far_behind_runs_once(compare: Any, scripted: Any) -> None:
    peers = {
        "llama.cpp": [scripted("llama.cpp", "q4_0", pace=2e-5), scripted("llama.cpp", "q8_0", pace=2e-2)],
        "vllm": [scripted("vllm", "fp32", keeps=True, pace=2e-2)],
    }
    found = compare(peers)
    [table] = (table for table in found.report.tables if table[0][0].startswith("W1"))
    assert [row[0] for row in table[1:]] == ["pageform", "llama.cpp q4_0", "vllm fp32"]
    assert "settings of llama.cpp for W1, tried on 2 requests: q4_0 " in found.notes
    assert "one round only, since far behind the best peer or not judged: vllm fp32" in found.notes
    records = {record.name: record.samples for record in found.report.records}
    assert len(records["W1, llama.cpp q4_0, decode"]) == 2
    assert len(records["W1, vllm fp32, decode"]) == 1
    assert any(figure.name == "W1 decode against the best peer, llama.cpp q4_0" for figure in found.report.figures)
    [saved] = found.saved  # as it was after the workload: a run that is killed leaves as much
    assert saved["checks"][-1] == {"text": "the comparison ran to its end", "held": False}
    assert any(table[0][0].startswith("W1") for table in saved["tables"])


def test_a_peer_that_fails_or_hangs_is_told_and_the_others_go_on(compare: Any, scripted: Any) -> None:
    peers = {
        "openvino": [scripted("openvino", "int8", pace=1e-5, fault="fails")],
        "vllm": [scripted("vllm", "fp32", pace=1e-5, fault="hangs")],
        "llama.cpp": [scripted("llama.cpp", "q4_0", pace=2e-5)],
    }
    found = compare(peers, rounds=1, timeout=0.5)
    held = {check.text: check.held for check in found.report.checks}
    assert not held["openvino was installed and ran"]
    assert not held["vllm was installed and ran"]
    assert held["llama.cpp was installed and ran"]
    assert "ValueError: out of luck" in found.notes
    assert "vllm was asked nothing more" in found.notes
    assert {record.name.split(", ")[1] for record in found.report.records} == {"pageform", "llama.cpp q4_0"}


def test_cold_starts_curves_and_own_programs_are_told_and_drawn(compare: Any, scripted: Any) -> None:
    report = compare({"llama.cpp": [scripted("llama.cpp", "q4_0", pace=2e-5)]}, besides=True).report
    heads = [table[0][0] for table in report.tables]
    for head in ("W1, distance from", "output tok/s by requests", "decode tok/s after", "ms to the first token"):
        [table] = (table for table in report.tables if table[0][0].startswith(head))
        assert {row[0].split()[0] for row in table[1:]} == {"pageform", "llama.cpp"}, heads
    assert {"W1", "roofline", "cold-start", "by-batch", "by-context", "by-first-token"} <= report.pictures.keys()
    figures = {figure.name: figure.samples for figure in report.figures}
    assert len(figures["process start to first token, llama.cpp q4_0"]) == 2
    held = {check.text: check.held for check in report.checks}
    assert any(text.startswith("llama.cpp q4_0 driven here reaches") and good for text, good in held.items())
    assert any("of llama-bench" in text and not good for text, good in held.items())  # no worker is as fast as that


def test_no_round_begins_when_the_time_is_up(compare: Any, scripted: Any) -> None:
    found = compare({"llama.cpp": [scripted("llama.cpp", "q4_0", pace=1e-5)]}, rounds=3, minutes=1e-3)
    assert "W1: 1 of 3 rounds, for lack of time" in found.notes


def test_a_worker_that_is_slow_to_start_serves_all_workloads(scripted: Any, tmp_path: Path) -> None:
    pool, kept, other = Pool(tmp_path), scripted("vllm", keeps=True, pace=0.0), scripted("llama.cpp", pace=0.0)
    with pool.worker(kept) as first, pool.worker(other) as passing:
        first.start()
        passing.start()
    with pool.worker(kept) as again:
        assert again is first
        assert again.run([Job([1], 2)]).answers[0].count == 2
    with pool.worker(other) as fresh:
        assert fresh is not passing
    pool.drop("vllm")
    with pool.worker(kept) as fresh:
        assert fresh is not first
    pool.close()


def test_every_point_of_a_curve_has_slots_of_its_own(scripted: Any, tmp_path: Path) -> None:
    lone, many = scripted("llama.cpp", "lone", slots=4, pace=0.0), scripted("llama.cpp", "many", slots=4, pace=0.0)
    assert [v.settings["slots"] for v in with_room(many, 8, 128)] == [8]
    assert [v.settings["slots"] for v in with_room(many, 64, 128)] == [64, 16]
    assert with_room(scripted("vllm", pace=0.0), 8, 128) == [scripted("vllm", pace=0.0)]
    points = by_batch(Pool(tmp_path), lone, many, (1, 2, 32), seed=0)
    assert [count for count, _ in points] == [1.0, 2.0, 32.0]
    assert all(rate > 0 for _, rate in points)


def test_only_who_may_win_is_in_the_contest() -> None:
    def lone(first: float, last: float) -> list[list[Run]]:
        return [[Run([Job([1], 3)], [Answer([7] * 3, "", [first, (first + last) / 2, last], 3)], last)]]

    rounds = {
        "pageform": lone(0.1, 0.2),
        "pageform drafts": lone(0.1, 0.2),
        "llama.cpp q4_0": lone(0.9, 1.9),
        "openvino fp32": lone(0.2, 4.2),  # late with the last token and soon with the first
        "transformers sequential": lone(0.9, 9.9),
    }
    assert in_contest("W1", rounds) == ["pageform", "llama.cpp q4_0", "openvino fp32"]


def test_a_plan_is_corrected_by_what_its_steps_take() -> None:
    now = [0.0]
    plan = Plan(1.0, clock=lambda: now[0])
    plan.expect("first", 10.0)
    plan.expect("second", 20.0)
    assert plan.ahead == 30.0
    with plan.step("first"):
        now[0] += 15.0
    assert plan.ahead == 30.0  # half as long again as expected
    assert plan.fits(15.0)
    assert not plan.fits(15.1)
    now[0] += 46.0
    assert plan.is_over
