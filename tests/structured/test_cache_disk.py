"""The cache on disk: damage of every kind is a miss, processes may share it, its size is bounded."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pageform.core.errors import ParameterError
from pageform.structured.cache_disk import DiskCache

FILE = "answers.sqlite"


def filled(folder: Path, count: int = 50) -> dict[str, str]:
    cache = DiskCache(folder)
    entries = {f"key{i}": f"value {i} " * 40 for i in range(count)}
    for name, value in entries.items():
        cache.set(name, value)
    cache.close()
    return entries


def test_entries_outlive_the_process(tmp_path: Path) -> None:
    entries = filled(tmp_path)
    program = f"from pageform.structured.cache_disk import DiskCache; print(DiskCache({str(tmp_path)!r}).get('key7'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.rstrip("\n") == entries["key7"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 10**9),
    st.sampled_from(["flip", "burst", "truncate", "zero", "empty", "garbage", "append"]),
)
def test_any_damage_is_a_miss_and_never_a_wrong_value(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    entries, rng, path = filled(folder, 20), random.Random(seed), folder / FILE
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    if kind == "flip":
        content[at] ^= 1 << rng.randrange(8)
    elif kind == "burst":
        content[at : at + 200] = rng.randbytes(200)
    elif kind == "truncate":
        del content[at:]
    elif kind == "zero":
        content[at : at + 4096] = bytes(4096)
    elif kind == "append":
        content += rng.randbytes(5000)
    else:
        content[:] = b"" if kind == "empty" else rng.randbytes(5000)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            cache = DiskCache(folder)
        except ParameterError:
            assert b"pfc1" not in content[:100]  # the mark that says whose file it is was hit: then it is left alone
            return
        for name, value in entries.items():
            assert cache.get(name) in (None, value)
        for _ in range(3):  # damage may show only while writing, and a new file is begun then
            for name, value in entries.items():
                cache.set(name, value)
        # A flipped bit in a key's place makes that key, or a neighbour, a lasting miss; most are kept.
        assert sum(cache.get(name) == value for name, value in entries.items()) >= len(entries) // 2
    cache.close()


def test_a_damaged_file_is_put_aside_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 1000)
    with pytest.warns(RuntimeWarning, match=r"damaged .* put aside as answers\.sqlite\.damaged"):
        cache = DiskCache(tmp_path)
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == b"this is no database" * 1000
    cache.set("a", "1")
    assert cache.get("a") == "1"


def test_damage_while_it_is_open(tmp_path: Path) -> None:
    entries = filled(tmp_path)
    cache, other = DiskCache(tmp_path), DiskCache(tmp_path)
    assert cache.get("key1") == other.get("key1") == entries["key1"]
    path = tmp_path / FILE
    with path.open("r+b") as file:
        file.seek(0)
        file.write(b"\xff" * path.stat().st_size)
    with pytest.warns(RuntimeWarning, match="damaged|can't be used"):
        found = {name: cache.get(name) for name in entries}
    assert all(found[name] in (None, value) for name, value in entries.items())
    cache.set("a", "1")
    assert cache.get("a") == "1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the other sees that the file was exchanged, and puts nothing aside
        assert other.get("a") == "1"


def test_a_damaged_entry_is_dropped_alone(tmp_path: Path) -> None:
    entries = filled(tmp_path)
    database = sqlite3.connect(tmp_path / FILE)
    with database:
        database.execute("UPDATE entries SET value = ? WHERE key = 'key1'", (b"another value",))
        database.execute("UPDATE entries SET value = 'text' WHERE key = 'key2'")
        database.execute("UPDATE entries SET value = x'ff' WHERE key = 'key3'")
        moved = database.execute("SELECT value, checksum FROM entries WHERE key = 'key4'").fetchone()
        database.execute("UPDATE entries SET value = ?, checksum = ? WHERE key = 'key5'", moved)
    database.close()
    cache = DiskCache(tmp_path)
    assert [cache.get(f"key{i}") for i in range(7)] == [
        entries["key0"],
        None,
        None,
        None,
        entries["key4"],
        None,
        entries["key6"],
    ]
    assert len(cache) == len(entries) - 4


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("CREATE TABLE precious (x)")
    database.commit()
    database.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ParameterError, match="is no cache of pageform"):
        DiskCache(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ParameterError, match="can't be used"):
        DiskCache(tmp_path / "inner")


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="can't be used"):
        DiskCache(tmp_path / "file")


def test_a_file_that_vanishes_is_begun_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    cache = DiskCache(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    assert cache.get("key1") is None
    cache.set("a", "1")
    assert DiskCache(tmp_path).get("a") == "1"


def test_a_locked_file_is_a_warning_and_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pageform.structured.cache_disk._PATIENCE", 0.05)
    entries = filled(tmp_path)
    cache = DiskCache(tmp_path)
    holder = sqlite3.connect(tmp_path / FILE)
    holder.execute("BEGIN IMMEDIATE")
    assert cache.get("key1") == entries["key1"]  # readers don't wait for a writer
    with pytest.warns(RuntimeWarning, match="can't be used now: database is locked"):
        cache.set("a", "1")
    holder.rollback()
    holder.close()
    cache.set("a", "1")
    assert cache.get("a") == "1"


def _hammer(folder: str, number: int, faults: Any) -> None:
    warnings.simplefilter("error")
    try:
        cache = DiskCache(folder)
        for i in range(40):
            name = f"k{(number * 7 + i) % 30}"
            found = cache.get(name)
            if found not in (None, name * 50):
                faults.put(f"{name}: {found!r}")
            cache.set(name, name * 50)
    except BaseException as error:
        faults.put(repr(error))
    faults.put(None)


def test_processes_may_share_a_file_from_the_first_moment(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    faults: Any = spawn.Queue()
    workers = [spawn.Process(target=_hammer, args=(str(tmp_path), number, faults)) for number in range(6)]
    for worker in workers:
        worker.start()
    found = [faults.get(timeout=60) for _ in range(len(workers))]
    for worker in workers:
        worker.join()
    assert [fault for fault in found if fault is not None] == []
    assert len(DiskCache(tmp_path)) == 30


def test_a_forked_process_opens_its_own_connection(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.set("a", "1")
    fork = multiprocessing.get_context("fork")
    answers: Any = fork.Queue()

    def child() -> None:
        with cache._lock:
            pass
        cache.set("b", "2")
        answers.put(cache.get("a"))

    worker = fork.Process(target=child)
    worker.start()
    assert answers.get(timeout=20) == "1"
    worker.join()
    assert cache.get("b") == "2"


def test_the_size_on_disk_is_bounded(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=1 << 20)
    value = "x" * 20_000
    for i in range(200):
        cache.set(f"key{i:03}", value)
    assert (tmp_path / FILE).stat().st_size < 1.3 * (1 << 20)
    assert cache.get("key199") == value
    assert cache.get("key000") is None
    kept = [i for i in range(200) if cache.get(f"key{i:03}") is not None]
    assert kept == list(range(200 - len(kept), 200))  # the oldest went
    assert 40 <= len(kept) <= 60
    cache.set("huge", "x" * (1 << 20))
    assert cache.get("huge") is None
    cache.clear()
    assert len(cache) == 0


def test_surrogates_and_all_else_that_is_text(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    for text in ("", "é", "\ud800", "\0", "a" * 100_000):
        cache.set("k", text)
        assert cache.get("k") == text
