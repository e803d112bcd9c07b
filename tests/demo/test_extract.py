"""The demo: its data files, its display, and (slow) the whole program on a real model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from examples.extract.display import Display, brief, table
from examples.extract.documents import DataError, Document, conversation, load
from examples.extract.outcome import Outcome, summary
from examples.extract.records import KINDS, Note
from pageform import Usage

ROOT = Path(__file__).parents[2]


def outcome(number: int, error: Exception | None = None) -> Outcome:
    record = (
        None if error else Note(title="A walk", language="English", people=["Ada", "Ben"], key_points=["It rained"])
    )
    document = Document(number, "note", "It rained.")
    return Outcome(document, record, error, Usage(100, 20, 60), 0.5 * number, 2.0 * number, 1 if number == 1 else 2)


def test_the_samples_are_a_few_dozen_of_each_kind() -> None:
    documents = load()
    kinds = [document.kind for document in documents]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"support": 12, "receipt": 12, "notice": 12}
    assert len({document.text for document in documents}) == 36
    assert all(35 <= len(document.text.split()) <= 120 for document in documents)


def test_a_file_may_mix_json_and_plain_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(
        '{"kind": "receipt", "text": "Milk 1.20"}\n\n  plain words \n{"text": "no kind"}\n', encoding="utf-8"
    )
    assert load(path, "notice") == [
        Document(1, "receipt", "Milk 1.20"),
        Document(2, "notice", "plain words"),
        Document(3, "notice", "no kind"),
    ]
    assert len(load(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n \n", "holds no text"),
        ('ok\n{"kind": "poem", "text": "x"}', r":2: kind 'poem' is unknown; use one of support"),
        ('{"kind": "note"}', '"text" is missing'),
        ('{"text": ', "looks like JSON but is not"),
    ],
)
def test_a_bad_file_says_where(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load(path)
    with pytest.raises(DataError, match="can't be read"):
        load(tmp_path / "absent")


@pytest.mark.parametrize("name", KINDS)
def test_prompts_of_a_kind_differ_only_in_their_last_message(name: str) -> None:
    kind = KINDS[name]
    first, second = (conversation(Document(number, name, f"text {number}")) for number in (1, 2))
    assert first[:-1] == second[:-1]
    assert [message["role"] for message in first] == ["system", "user", "assistant", "user"]
    assert kind.model.model_validate_json(first[2]["content"]) == kind.example
    assert second[-1]["content"] == "text 2"


def test_a_record_is_shown_on_one_line() -> None:
    assert brief({"a": None, "b": [{"c": 1, "d": "x"}], "e": []}) == "a - · b [(1, x)] · e []"


def test_without_a_terminal_each_record_is_a_plain_line() -> None:
    file = io.StringIO()
    finished = [outcome(2), outcome(1, ValueError("total:\nmust be positive"))]
    with Display([one.document for one in finished], Console(file=file, width=60)) as display:
        for one in finished:
            display.show(one)
    assert [" ".join(line.split()) for line in file.getvalue().splitlines()] == [
        "[1/2] #2 note title A walk · language English · people [Ada, Ben] · key_points [It rained]",
        "[2/2] #1 note ValueError: total: must be positive",
    ]


def test_on_a_terminal_the_whole_table_stays_in_order() -> None:
    file = io.StringIO()
    finished = [outcome(number) for number in range(30, 0, -1)]
    console = Console(file=file, width=100, height=20, force_terminal=True, color_system=None)
    with Display([one.document for one in finished], console) as display:
        for one in finished:
            display.show(one)
    final = file.getvalue().rsplit("┏", 1)[1]
    rows = [line.split("│")[1].strip() for line in final.splitlines() if "A walk" in line]
    assert rows == [str(number) for number in range(1, 31)]


def test_the_summary_counts_tokens_hits_and_valid_records() -> None:
    figures = dict(summary([outcome(1), outcome(2, ValueError("x"))], start_up=0.25, seconds=4.0))
    assert figures["decoded"] == "10 tokens/s (40 tokens)"
    assert figures["prefix-cache hits"] == "60% of the prompt tokens (120)"
    assert figures["valid"] == "1 of 2 (50%), 1 after asking again"
    assert figures["time to first token"].startswith("first 0.50 s, median 0.75 s, last 1.00 s")
    assert table([]).row_count == 0


@pytest.mark.slow
def test_the_program_extracts_valid_records(tmp_path: Path) -> None:
    output = tmp_path / "records.jsonl"
    command = [sys.executable, "-m", "examples.extract", "--limit", "6", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        KINDS[line["kind"]].model.model_validate(line["record"])
    assert "prefix-cache hits" in done.stdout
