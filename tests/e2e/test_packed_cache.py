"""Packed weights kept in a file: a second start reads them, and whatever is wrong with the file costs time only."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny import write_tiny_llama

from pageform import Engine, SamplingParams
from pageform.core.errors import ParameterError
from pageform.models import packed_cache
from pageform.models.packed_cache import PackedCache, PackedFile

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


@pytest.fixture(autouse=True)
def any_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packed_cache, "LEAST_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(packed_cache.VARIABLE, raising=False)


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry a file that was opened: whether it gave weights."""
    seen: list[bool] = []
    restore = PackedFile.restore

    def spy(file: PackedFile, device: Any) -> Any:
        weights = restore(file, device)
        seen.append(weights is not None)
        return weights

    monkeypatch.setattr(PackedFile, "restore", spy)
    return seen


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "model")


def ask(model: Path, **parameters: Any) -> list[int]:
    with Engine(model, kv_cache_memory="1MB", max_num_seqs=2, threads=2, **parameters) as engine:
        return list(engine.generate("Hello there", GREEDY).token_ids)


def written() -> None:
    """Waits for the files that engines write."""
    for thread in threading.enumerate():
        if thread.name == "pageform-packed-cache":
            thread.join()


def answer(model: Path, **parameters: Any) -> list[int]:
    tokens = ask(model, **parameters)
    written()
    return tokens


def the_file(folder: Path) -> Path:
    [file] = folder.glob("*.pageform-packed")
    return file


def test_a_second_start_reads_what_the_first_one_packed(model: Path, restored: list[bool]) -> None:
    first = answer(model)
    assert restored == []
    assert the_file(model).stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert answer(model) == first
    assert restored == [True]
    the_file(model).unlink()
    assert answer(model) == first
    assert restored == [True]
    assert answer(model, packed_cache=None) == first
    answer(model, dtype="float32")  # of which nothing is kept
    assert restored == [True]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def damage(kind: str, data: bytearray) -> bytes:
    length = int.from_bytes(data[16:24], "little")
    match kind:
        case "empty":
            return b""
        case "short":
            return bytes(data[:-1])
        case "half":
            return bytes(data[: len(data) // 2])
        case "in the header":
            return bytes(data[: 32 + length // 2])
        case "magic":
            data[0] ^= 1
        case "length":
            data[18] ^= 1
        case "huge length":
            data[16:24] = (2**63).to_bytes(8, "little")
        case "header":
            data[32 + length // 2] ^= 1
        case "first weight":
            data[(32 + length + 63) // 64 * 64] ^= 1
        case "middle":
            data[len(data) // 2] ^= 128
        case "last byte":
            data[-1] ^= 1
        case "zeros":
            data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        case "swapped":
            at = len(data) // 2
            data[at : at + 64], data[at + 64 : at + 128] = data[at + 64 : at + 128], data[at : at + 64]
    return bytes(data)


@pytest.mark.parametrize(
    "kind",
    [
        *("empty", "short", "half", "in the header", "magic", "length", "huge length", "header"),
        *("first weight", "middle", "last byte", "zeros", "swapped"),
    ],
)
def test_damage_is_found_told_and_mended(
    model: Path, restored: list[bool], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    first = answer(model)
    file = the_file(model)
    sound = file.read_bytes()
    file.write_bytes(damage(kind, bytearray(sound)))
    with caplog.at_level(logging.WARNING, "pageform"):
        assert answer(model) == first
    assert True not in restored
    assert "is damaged" in caplog.text
    assert file.read_bytes() == sound
    assert answer(model) == first
    assert restored[-1]


def test_another_model_or_layout_is_packed_anew(
    model: Path, restored: list[bool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = answer(model)
    os.utime(model / "model.safetensors", (1, 1))
    with caplog.at_level(logging.INFO, "pageform"):
        assert answer(model) == first
    assert "another state of the model" in caplog.text
    write_tiny_llama(model, seed=1)  # other weights of the same size, and the old time
    os.utime(model / "model.safetensors", (1, 1))
    other = answer(model)
    assert other != first
    assert restored == []
    of = PackedCache.of
    monkeypatch.setattr(PackedCache, "of", lambda c, f, layout, *rest: of(c, f, f"{layout}-next", *rest))
    assert answer(model) == other
    assert restored == []
    assert answer(model) == other
    assert restored == [True]


def test_where_the_file_lies(model: Path, tmp_path: Path, restored: list[bool], monkeypatch: Any) -> None:
    chosen = tmp_path / "chosen" / "deep"
    first = answer(model, packed_cache=chosen)
    assert the_file(chosen)
    assert not list(model.glob("*.pageform-packed"))
    monkeypatch.setenv(packed_cache.VARIABLE, "off")
    assert answer(model) == first
    monkeypatch.setenv(packed_cache.VARIABLE, str(chosen))
    assert answer(model) == first
    assert restored == [True]
    for wrong in ("", 3, True, "a\0b"):
        with pytest.raises(ParameterError, match="packed_cache"):
            Engine(model, packed_cache=wrong)  # type: ignore[arg-type]


def test_the_users_folder_takes_what_the_models_can_not(
    model: Path, tmp_path: Path, restored: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = packed_cache._write

    def refusing(path: Path, *rest: Any) -> None:  # root may write anywhere, so permissions would not do
        if path.parent == model:
            raise PermissionError(errno.EACCES, "read-only")
        write(path, *rest)

    monkeypatch.setattr(packed_cache, "_write", refusing)
    first = answer(model)
    assert the_file(tmp_path / "home" / "pageform" / "packed")
    assert answer(model) == first
    assert restored == [True]


def test_a_full_disk_leaves_nothing_behind(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    first = answer(model)
    assert "could not be kept" in caplog.text
    assert "No space left" in caplog.text
    assert not [file for file in model.iterdir() if "pageform-packed" in file.name]
    monkeypatch.undo()
    assert answer(model, packed_cache=None) == first


def test_engines_may_start_and_write_at_once(model: Path, restored: list[bool]) -> None:
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(ask(model))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written()
    assert len(results) == 4
    assert all(result == results[0] for result in results)
    assert answer(model) == results[0]
    assert restored[-1]
    assert False not in restored
    assert [file.name for file in model.iterdir() if file.name.endswith(".tmp")] == []
