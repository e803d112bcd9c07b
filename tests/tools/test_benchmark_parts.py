"""The parts of the benchmarks that decide what a figure means: workload, extrapolation sample, report."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.job import Job
from benchmarks.report import Report
from benchmarks.workload import OUTPUT, PROMPT, make_jobs, read_texts, stratified


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_lengths_follow_the_stated_distribution() -> None:
    jobs = make_jobs(1000, read_texts(None), encode, seed=3)
    prompts, outputs = [len(job.prompt) for job in jobs], [job.output_tokens for job in jobs]
    assert 115 < statistics.median(prompts) < 142
    assert 87 < statistics.median(outputs) < 105
    assert min(prompts) >= PROMPT.low
    assert max(prompts) == PROMPT.high
    assert min(outputs) >= OUTPUT.low
    assert max(outputs) == OUTPUT.high


def test_the_same_seed_gives_the_same_jobs() -> None:
    texts = read_texts(None)
    assert make_jobs(20, texts, encode, 1) == make_jobs(20, texts, encode, 1)
    assert make_jobs(20, texts, encode, 1) != make_jobs(20, texts, encode, 2)


def test_prompts_share_no_beginning() -> None:
    prompts = [tuple(job.prompt[:8]) for job in make_jobs(64, read_texts(None), encode, 0)]
    assert len(set(prompts)) == 64


def test_texts_come_from_questions_and_turns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "Q?", "answer": "A"}) + "\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"turns": ["one", "two"]}) + "\n", encoding="utf-8")
    assert read_texts(tmp_path) == ["Q?\nA", "one", "two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="question"):
        read_texts(tmp_path / "empty")


def test_a_stratified_sample_represents_the_whole() -> None:
    jobs = [Job([0] * (1 + i % 7), 8 + i) for i in range(64)]
    sample = stratified(jobs, 16, seed=5)
    assert [8 + 4 * i <= job.output_tokens < 12 + 4 * i for i, job in enumerate(sample)] == [True] * 16
    assert sample == stratified(jobs, 16, seed=5)
    assert stratified(jobs, 100, seed=5) == jobs


def test_a_report_shows_spread_and_fails_with_any_check(tmp_path: Path) -> None:
    report = Report("demo", {"threads": 2})
    figure = report.add("speed", "tokens/s", [3.0, 1.0, 1234.5678])
    assert (figure.median, str(figure)) == (3.0, "speed: 3 tokens/s (median of 3; 1 … 1235)")
    report.check("fast", True)
    assert report.passed
    report.check("small", False)
    assert not report.passed
    assert "- MISSED: small" in report.markdown()
    stem = report.save(tmp_path)
    saved = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    assert saved["figures"][0]["samples"] == [3.0, 1.0, 1234.5678]
    assert saved["machine"]["cores"]
    assert report.markdown() in stem.with_suffix(".md").read_text(encoding="utf-8")
