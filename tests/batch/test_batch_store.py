"""State files and lines: what is stored stays, what is wrong is refused, and two processes don't meet."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageform.batch.lines import read_lines
from pageform.batch.records import Job, NewLine, Recorded
from pageform.batch.store import JobBusyError, Store
from pageform.core.completion import Attempt, Fault, FinishReason, Usage
from pageform.core.errors import ParameterError
from pageform.structured import Mode

JOB = Job("j1", "first", 1.0, {"backend": "openai"})


def lines(count: int) -> Iterator[NewLine]:
    for number in range(count):
        yield NewLine(f"k{number}", {"messages": [{"role": "user", "content": str(number)}]}, Mode.TOOLS, True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    store.add_job(JOB, lines(1200), allowed=3)
    yield store
    store.close()


def made(text: str = "{}", **changes: Any) -> Attempt:
    fault = Fault(("a", 0), "a[0]", "int_type", "no", input=[1], suggestion="Mend it")
    told = {"error": ValueError("no"), "usage": Usage(1, 2, 3, {"reasoning_tokens": 1}), "faults": (fault,)}
    return Attempt(1, text, finish_reason=FinishReason.STOP, **{**told, **changes})


def test_lines_come_back_as_they_were_and_in_order(store: Store) -> None:
    rows = list(store.lines("j1"))
    assert [row.number for row in rows] == list(range(1200))
    assert (rows[7].key, rows[7].mode, rows[7].restores, rows[7].allowed) == ("k7", Mode.TOOLS, True, 3)
    assert rows[7].original == rows[7].payload == {"messages": [{"role": "user", "content": "7"}]}
    assert store.counts("j1") == {"pending": 1200}
    assert store.job() == store.job("first") == store.job("j1")
    assert store.find_line("j1", 1200) is None


def test_a_round_takes_each_line_once(store: Store) -> None:
    first, second = store.plan_round("j1", 500, 10**9), store.plan_round("j1", 500, 10**9)
    assert first is not None
    assert second is not None
    assert (first.total, second.total, first.key, second.key) == (500, 500, "j1-1", "j1-2")
    taken = [line.number for one in (first, second) for line in store.lines("j1", "sent", one.number)]
    assert taken == list(range(1000))
    by_size = store.plan_round("j1", 500, 200)
    assert by_size is not None
    assert 1 <= by_size.total < 10
    tiny = store.plan_round("j1", 500, 1)
    assert tiny is not None
    assert tiny.total == 1
    store.not_sent("j1", 1, "no")
    again = store.plan_round("j1", 500, 10**9)
    assert again is not None
    assert [line.number for line in store.lines("j1", "sent", again.number)] == list(range(500))


def test_what_became_of_a_line_is_recorded_once(store: Store) -> None:
    planned = store.plan_round("j1", 10, 10**9)
    assert planned is not None
    again = Recorded(3, "pending", [made("half \ud800 \x00")], {"id": "r1"}, {"messages": [1]})
    for _ in range(3):
        store.record("j1", [again], planned.number)
    line = store.find_line("j1", 3)
    assert line is not None
    assert (line.state, line.attempts, line.round, line.payload) == ("pending", 1, None, {"messages": [1]})
    assert line.original != line.payload
    [attempt] = store.attempts("j1", 3)
    assert attempt.text == "half \ud800 \x00"
    assert attempt.response == {"id": "r1"}
    assert attempt.faults == made().faults
    assert "ValueError: no" in str(attempt.error)
    second = store.plan_round("j1", 10, 10**9)
    assert second is not None
    store.record("j1", [again], planned.number)  # a late result of the round before
    store.record("j1", [Recorded(3, "done", [made(error=None)], {"id": "r2"})], second.number)
    assert [one.number for one in store.attempts("j1", 3)] == [1, 2]
    assert store.usage("j1") == Usage(2, 4, 6, {"reasoning_tokens": 2})


def test_cancelled_lines_stay_so(store: Store) -> None:
    store.cancel("j1")
    store.record("j1", [Recorded(1, "done", [made()], {})], None)
    assert store.counts("j1") == {"cancelled": 1200}
    store.ask_again("j1", [(1, None), (2, {"messages": []})], 2)
    assert store.counts("j1") == {"cancelled": 1198, "pending": 2}
    line = store.find_line("j1", 2)
    assert line is not None
    assert (line.payload, line.allowed) == ({"messages": []}, 2)
    assert not store.job().cancelled
    store.delete("j1")
    assert store.jobs() == []


def test_lines_that_fail_half_way_leave_no_job(path: Path) -> None:
    def broken() -> Iterator[NewLine]:
        yield from lines(3)
        raise ValueError("bad line")

    store = Store(path)
    with pytest.raises(ValueError, match="bad line"):
        store.add_job(JOB, broken(), 1)
    assert store.jobs() == []
    store.add_job(JOB, lines(1), 1)
    store.close()


def test_one_process_at_a_time(store: Store, path: Path) -> None:
    code = (
        "import sys\nfrom pageform.batch.store import Store\n"
        "with Store(sys.argv[1]).own('j1'):\n    print('mine', flush=True)\n    sys.stdin.read()"
    )
    environment = {"PYTHONPATH": ":".join(one for one in sys.path if one)}
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "mine\n"
    with pytest.raises(JobBusyError, match="j1"), store.own("j1"):
        pytest.fail("two processes own the job")
    assert store.counts("j1") == {"pending": 1200}, "looking is allowed"
    other.kill()
    other.wait()
    with store.own("j1"), Store(path).own("j2"):
        pass


def test_other_files_are_refused(tmp_path: Path, path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 50)
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE mine (a)")
    foreign.close()
    later = Store(path)
    later._db.execute("PRAGMA user_version = 99")
    later.close()
    for wrong in (tmp_path / "text.db", tmp_path / "foreign.db", path, tmp_path / "none" / "x.db"):
        with pytest.raises(ParameterError) as caught:
            Store(wrong)
        assert caught.value.field == "state"


# --- lines ------------------------------------------------------------------------------------------------------------


def test_a_line_may_be_written_in_several_ways(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}]
    given = ["a", talk, {"prompt": "a", "temperature": 1}, {"custom_id": "x", "messages": talk}]
    given += [
        {"custom_id": "y", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": talk, "model": "n"}}
    ]
    read = list(read_lines(given, {"model": "m"}))
    assert [line.key for line in read] == ["0", "1", "2", "x", "y"]
    assert all(line.kwargs["messages"] == talk for line in read)
    assert [line.kwargs["model"] for line in read] == ["m", "m", "m", "m", "n"]
    assert read[2].kwargs["temperature"] == 1
    file = tmp_path / "lines.jsonl"
    file.write_text("\n\n".join(map(json.dumps, given)))
    assert list(read_lines(file, {"model": "m"})) == read


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no line"),
        (b"{", "lines.jsonl:1"),
        (b'"a"\n{"prompt": "a", "x": NaN}', "JSON"),
        (b'"a"\n\xff\xfe', "lines.jsonl:2"),
        (b'{"custom_id":"a","prompt":"x"}\n{"custom_id":"a","prompt":"y"}', "already in line 0"),
        (b"[]", "messages"),
        (b"[1]", "messages"),
        (b"null", "messages"),
        (b'{"custom_id":"","prompt":"x"}', "custom_id"),
        (b"[" * 100_000, "lines.jsonl:1"),
    ],
)
def test_bad_files_are_refused_with_the_place(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(content)
    with pytest.raises(ParameterError, match=told):
        list(read_lines(file, {}))


@pytest.mark.parametrize("source", [{"prompt": "a"}, 5, None])
def test_what_is_no_list_of_lines_is_refused(source: Any) -> None:
    with pytest.raises(ParameterError, match="lines"):
        list(read_lines(source, {}))


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"lines\[1\].*JSON"):
        list(read_lines(["a", {"prompt": "a", "tools": [object()]}], {}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(json_values, max_size=5))
def test_any_json_is_a_line_or_refused(values: list[Any]) -> None:
    try:
        read = list(read_lines(values, {}))
    except ParameterError:
        return
    assert len(read) == len(values)
