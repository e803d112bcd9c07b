"""The parts of the comparison that decide what a figure means: workloads, statistics, verdicts, protocol, pictures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare import accuracy, perplexity, plots, sanity
from benchmarks.compare.measure import (
    decode_rate,
    first_token_seconds,
    gaps,
    goodput,
    output_rate,
    paired_ratios,
    percentile,
    short,
    spread,
    wall,
)
from benchmarks.compare.quiet import Quiet, _own_seconds
from benchmarks.compare.requirements import REQUIREMENTS, judge
from benchmarks.compare.tell import check_answers, figures_of, tell
from benchmarks.compare.workloads import SCHEMA, Material, scaled, workloads
from benchmarks.job import Answer, Job
from benchmarks.options import Options
from benchmarks.peers.worker import Run
from benchmarks.report import Report
from benchmarks.workload import read_texts


def encode(text: str) -> list[int]:
    return list(text.encode())


def decode(tokens: list[int]) -> str:
    return bytes(tokens).decode()


@pytest.fixture
def material(tmp_path: Path) -> Material:
    arrivals = tmp_path / "arrivals.jsonl"
    lines = [{"t": 2.0 + i, "input": 100 * i, "output": 10 * i} for i in range(100)]
    arrivals.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return Material(read_texts(None), encode, lambda messages: encode(json.dumps(messages)), arrivals=arrivals)


# --- workloads ------------------------------------------------------------------------------------------------------


def test_each_workload_has_the_shape_it_is_named_for(material: Material) -> None:
    made = {name: workload.make(0) for name, workload in workloads(material).items()}
    shapes = {n: [(len(j.prompt), j.output_tokens) for batch in b for j in batch] for n, b in made.items()}
    assert all(len(batch) == 1 for batch in made["W1"])
    assert set(shapes["W1"]) == {(128, 128)}
    assert len(shapes["W2"]) == 64
    assert shapes["W3"] == [(544, 32)] * 64
    assert shapes["W4"] == [(1800, 64)] * 4
    assert len(shapes["W5"]) == 16
    assert all(job.schema == SCHEMA for job in made["W5"][0])
    assert len(shapes["W6"]) == 48
    prefixes = {tuple(job.prompt[:512]) for job in made["W3"][0]}
    assert len(prefixes) == 1
    assert len({tuple(job.prompt) for job in made["W3"][0]}) == 64


def test_rounds_have_equal_lengths_and_no_common_beginnings(material: Material) -> None:
    for workload in workloads(material).values():
        first, second = workload.make(0), workload.make(1)
        if workload.name in ("W1", "W2", "W3", "W4"):
            lengths = [[(len(j.prompt), j.output_tokens) for b in batches for j in b] for batches in (first, second)]
            assert lengths[0] == lengths[1]
        assert not {tuple(j.prompt) for b in first for j in b} & {tuple(j.prompt) for b in second for j in b}
        assert first == workload.make(0)
        assert max(len(j.prompt) + j.output_tokens for b in first for j in b) <= max(workload.context, 2048)


def test_arrivals_are_scaled_to_a_rate() -> None:
    jobs = [Job([1], 1, at=float(i)) for i in range(5)]
    assert [job.at for job in scaled(jobs, 10.0)] == [0.0, 2.0, 4.0, 6.0, 8.0]  # one every two seconds
    assert [job.at for job in scaled(jobs, 0.0)] == [0.0] * 5


# --- statistics -----------------------------------------------------------------------------------------------------


def run_of(*times: list[float], seconds: float = 4.0, at: float = 0.0) -> Run:
    answers = [Answer([7] * len(t), "", t, len(t)) for t in times]
    return Run([Job([1], len(t), at=at) for t in times], answers, seconds)


def test_percentiles_interpolate() -> None:
    assert [percentile([4.0, 1.0, 2.0, 3.0], share) for share in (0.0, 0.5, 1.0)] == [1.0, 2.5, 4.0]
    assert percentile([5.0], 0.99) == 5.0
    assert math.isnan(percentile([], 0.5))


def test_rates_and_latencies() -> None:
    runs = [run_of([1.0, 1.5, 2.0], [2.0], seconds=4.0), run_of([0.5, 2.5], seconds=3.0)]
    assert wall(runs) == 7.0
    assert output_rate(runs) == 6 / 7
    assert first_token_seconds(runs) == [1.0, 2.0, 0.5]
    assert gaps(runs) == [0.5, 0.5, 2.0]
    assert decode_rate([run_of([1.0, 1.5, 2.0])]) == 2.0


def test_a_first_token_is_counted_from_arrival() -> None:
    assert first_token_seconds([run_of([3.5, 4.0], at=3.0)]) == [0.5]


def test_goodput_counts_requests_within_both_limits() -> None:
    fine, late, slow = [1.0, 1.1, 1.2], [2.5, 2.6], [1.0, 1.5, 2.0]
    assert goodput([run_of(fine, late, slow, [], seconds=2.0)]) == 0.5


def test_a_sample_has_rates_but_no_times(material: Material) -> None:
    rounds = {"pageform": [[run_of([1.0, 2.0])]], "transformers sequential": [[run_of([1.0, 2.0])]]}
    peaks = dict.fromkeys(rounds, 10**6)
    workload = workloads(material)["W3"]
    figures = figures_of(workload, rounds, peaks, decode, sampled={"transformers sequential"})
    assert figures["pageform"]["wall"] == [4.0]
    assert figures["transformers sequential"] == {"output": [0.5], "peak memory": [1.0]}
    report = Report("demo", {})
    tell(report, workload, figures)
    [[head, ours, theirs]] = report.tables
    assert dict(zip(head, theirs, strict=True))["wall, s"] == "–"
    assert dict(zip(head, ours, strict=True))["wall, s"] == "4"


def test_figures_are_told_with_their_spread() -> None:
    assert spread([3.0, 1.0, 250.4]) == "3 (1 … 250)"
    assert spread([2.0]) == "2"
    assert short(math.nan) == "–"
    assert paired_ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_the_best_peer_is_the_one_judged_against() -> None:
    report = Report("demo", {})
    samples = {
        "pageform": {"decode": [90.0, 100.0], "TTFT p50": [100.0, 100.0]},
        "llama.cpp q4_0": {"decode": [40.0, 40.0], "TTFT p50": [300.0, 300.0]},
        "openvino int4": {"decode": [20.0, 20.0], "TTFT p50": [150.0, 150.0]},
    }
    judge(report, "W1", samples)
    held = {check.text: check.held for check in report.checks}
    assert held == {
        "W1 decode against the best peer: 2.38 ≥ 2.2": True,
        "W1 TTFT p50 against the best peer: 0.667 ≤ 0.5": False,
    }
    assert not report.passed


def test_what_was_not_measured_is_said_to_be_so() -> None:
    report = Report("demo", {})
    judge(report, "W2", {"pageform": {"output": [700.0]}, "vllm fp32": {"output": [100.0]}})
    assert [check.held for check in report.checks] == [True]
    assert any("transformers sequential" in note for note in report.notes)
    assert any("peak memory" in note for note in report.notes)


def test_every_requirement_names_a_figure_that_is_measured() -> None:
    assert {r.workload for r in REQUIREMENTS} == {"W1", "W2", "W3", "W4", "W5", "cold start", "BFCL", "wnut17"}


# --- sanity ---------------------------------------------------------------------------------------------------------


def test_faulty_answers_are_found() -> None:
    jobs = [Job([1], 3), Job([1], 3), Job([1], 3), Job([1], 9, SCHEMA)]
    good = Answer(encode("abc"), "", [1.0] * 3, 3)
    assert sanity.faults(jobs[:1], [good], decode) == []
    empty, shorter = Answer(encode("   "), "", [1.0] * 3, 3), Answer(encode("ab"), "", [1.0] * 2, 2)
    found = sanity.faults(jobs, [good, empty, shorter, Answer()], decode)
    assert [line.split()[1] for line in found] == ["1", "2", "3"]


def test_agreement_is_about_beginnings() -> None:
    reference = [Answer(encode("the capital is Paris")), Answer(encode("ab"))]
    answers = [Answer(encode("the capital of France")), Answer(text="ab and more")]
    share, length = sanity.agreement(answers, reference, decode)
    assert share == 1.0
    assert length == (len("the capital ") + 2) / 2
    assert sanity.agreement([Answer(encode("xyz"))], reference[:1], decode) == (0.0, 0.0)


def test_answers_must_begin_as_the_reference_more_often_than_by_chance(material: Material) -> None:
    starts = ["Paris is", "Four of", "A parcel", "It rains", "Sugar", "Trains", "Nobody", "Green"]
    jobs = [Job([i], 8) for i in range(len(starts))]

    def run(texts: list[str]) -> list[list[Run]]:
        answers = [Answer(encode(text[:8].ljust(8)), "", [1.0] * 8, 8) for text in texts]
        return [[Run(jobs[: len(texts)], answers, 1.0)]]

    rounds = {
        "transformers sequential": run(starts),
        "requantized": run([*starts[:3], *(["Well, no"] * 5)]),
        "another model": run(["Paris is"] * 8),
        "few": run(["Well, no"] * 4),
    }
    report = Report("compare", {})
    check_answers(report, workloads(material)["W2"], rounds, decode, judged=True)
    judged = {check.text.split(": ")[0]: check.held for check in report.checks if "begin as" in check.text}
    assert judged == {"W2, requantized": True, "W2, another model": False}
    assert any("few: 0% of 4" in note for note in report.notes)


def test_json_is_validated_by_the_schema() -> None:
    value = {
        "title": "Late parcel",
        "kind": "mail",
        "sender": {"name": "A", "is_company": False},
        "urgency": "low",
        "topics": ["delivery"],
    }
    assert sanity.is_valid(Answer(text=json.dumps(value)), SCHEMA, decode)
    assert not sanity.is_valid(Answer(text=json.dumps(value)[:-1]), SCHEMA, decode)
    assert not sanity.is_valid(Answer(text=json.dumps(value | {"kind": "poem"})), SCHEMA, decode)


# --- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_are_written_beside_the_report(tmp_path: Path) -> None:
    report = Report("demo", {})
    samples = {"pageform": [3.0, 4.0, 5.0], "llama.cpp q4_0": [1.0, 1.5, 1.2]}
    panel = plots.Panel("decode", "tok/s", samples, True)
    report.picture("W1 decode", plots.panels("W1", [panel, plots.Panel("TTFT p50", "ms", {"pageform": [7.0]}, False)]))
    report.picture("by batch", plots.lines("By batch", "requests", "tok/s", {"pageform": [(1.0, 2.0), (2.0, 3.0)]}))
    stem = report.save(tmp_path)
    png, svg = (stem.with_name(f"{stem.name}-W1-decode{suffix}") for suffix in (".png", ".svg"))
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text(encoding="utf-8")
    assert "<svg" in text
    assert f"![by-batch]({stem.name}-by-batch.png)" in stem.with_suffix(".md").read_text(encoding="utf-8")
    assert "pictures" not in json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))


# --- accuracy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"base": 10, "unit": "Units."}, True),
        ({"base": 10}, True),  # "" accepts a missing one
        ({"base": 11}, False),
        ({"unit": "units"}, False),
        ({"base": 10, "colour": "red"}, False),
        ({"base": True, "unit": "units"}, False),
    ],
)
def test_a_call_is_right_when_each_argument_has_an_accepted_value(arguments: dict[str, object], right: bool) -> None:
    assert accuracy.is_accepted(arguments, {"base": [10, 1], "unit": ["units", ""]}) is right


def test_true_is_not_one() -> None:
    assert not accuracy.is_accepted({"flag": 1}, {"flag": [True]})
    assert accuracy.is_accepted({"at": {"city": "New York"}}, {"at": [{"city": ["new york", "NYC"]}]})


def test_calls_and_entities_are_scored(tmp_path: Path, material: Material) -> None:
    function = {"name": "area", "parameters": {"type": "object", "properties": {"base": {"type": "integer"}}}}
    call = {"messages": [{"role": "user", "content": "Area?"}], "tools": [{"type": "function", "function": function}]}
    (tmp_path / accuracy.BFCL).write_text(json.dumps(call | {"ground_truth": [{"area": {"base": [10]}}]}) + "\n")
    lines = [{"text": "Ann in Rome", "entities": {"person": ["Ann"], "location": ["Rome"]}}]
    (tmp_path / accuracy.WNUT).write_text(json.dumps(lines[0]) + "\n")
    (tmp_path / accuracy.WNUT_SCHEMA).write_text(json.dumps({"type": "object", "properties": {"person": {}}}))
    made = accuracy.workloads(material, tmp_path, everything=False)

    calls, (_, exact) = made["BFCL"]
    [[job]] = calls.make(0)
    assert exact([(job, Answer(text='{"name":"area","arguments":{"base":10}}'))], decode) == 100
    assert exact([(job, Answer(text='{"name":"area","arguments":{"base":1'))], decode) == 0

    texts, (_, f1) = made["wnut17"]
    [[job]] = texts.make(0)
    assert f1([(job, Answer(text='{"person":["ann"],"location":["Paris"]}'))], decode) == 50
    assert f1([(job, Answer(text="no JSON"))], decode) == 0


def test_log_softmax_sums_to_one() -> None:
    rows = perplexity.log_softmax(np.array([[1000.0, 1000.0], [0.0, -1e9]], dtype=np.float32))
    assert np.allclose(np.exp(rows).sum(axis=-1), 1)
    assert rows[0, 0] == pytest.approx(-math.log(2))


def test_what_this_process_does_is_not_taken_for_others() -> None:
    quiet = Quiet()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    others = quiet.others()
    if others is None:
        pytest.skip("this system does not tell how busy it is")
    assert 0 <= others <= 1
    assert quiet._ours < _own_seconds() - 0.25


def test_what_the_orphans_of_a_worker_did_is_not_taken_for_others(tmp_path: Path) -> None:
    # The worker's child outlives it, as engines' processes do when a worker is killed. Run apart: who asks for orphans
    # gets them to its end.
    (tmp_path / "spinning.py").write_text(
        "import os, time\n"
        "done, told = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.3: pass\n"
        "    os.write(told, b'.'); time.sleep(60)\n"
        "os.read(done, 1); os._exit(0)\n"
    )
    code = (
        "from pathlib import Path\n"
        "from benchmarks.compare.quiet import Quiet, _own_seconds\n"
        "from benchmarks.peers.worker import Variant, Worker\n"
        "quiet = Quiet()\n"
        f"python = Path({str(tmp_path / 'python')!r})\n"
        "Worker(Variant('spinning', '', 'spinning', {}, python), Path('/dev/null')).close()\n"
        "print(_own_seconds() - quiet._ours)\n"
    )
    launcher = tmp_path / "python"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    launcher.chmod(0o755)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.3


def test_an_unknown_workload_is_refused_before_anything_starts(tmp_path: Path) -> None:
    from benchmarks.compare.session import Session

    with pytest.raises(ValueError, match=r"W7: choose from W1, W2"):
        Session(Options(workloads=("W7",), peers_dir=tmp_path))
