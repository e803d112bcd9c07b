"""Caches: what is kept, for whom, for how long, and what happens when they fail."""

from __future__ import annotations

import pickle
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from pageform.core.completion import FinishReason, Usage
from pageform.core.errors import ParameterError
from pageform.structured import Answer, Judge, Spec, ToolCall
from pageform.structured.cache import MemoryCache, Slot, answer_of, entry_of
from pageform.structured.cache_disk import DiskCache


class Person(BaseModel):
    name: str
    age: int

    @field_validator("age")
    @classmethod
    def old_enough(cls, value: int, info: ValidationInfo) -> int:
        if value < (info.context or {}).get("least", 0):
            raise ValueError("too young")
        return value


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def caches(folder: Path, **options: Any) -> list[Any]:
    return [MemoryCache(**options), DiskCache(folder, **options)]


ANSWER = Answer('{"name":"Ann","age":30}', usage=Usage(10, 5))


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_value_is_made_anew_of_the_callers_class(tmp_path: Path) -> None:
    for cache in caches(tmp_path):
        slot = Slot(cache, "k")
        assert slot.load() is None
        slot.store(ANSWER)
        first, second = (Judge(Spec.of(Person))(slot.load()).value for _ in range(2))  # type: ignore[arg-type]
        assert type(first) is Person
        assert first == Person(name="Ann", age=30)
        first.age = 99
        assert second.age == 30
        assert slot.load().usage == Usage()  # type: ignore[union-attr]


def test_the_present_context_and_type_decide_over_an_old_answer() -> None:
    slot = Slot(MemoryCache(), "k")
    slot.store(ANSWER)
    kept = slot.load()
    assert kept is not None
    with pytest.raises(ValidationError):
        Judge(Spec.of(Person), context={"least": 40})(kept)

    class Newer(BaseModel):
        name: str
        age: int
        email: str

    with pytest.raises(ValidationError):
        Judge(Spec.of(Newer))(kept)


@pytest.mark.parametrize(
    "answer",
    [
        Answer('{"name"', finish_reason=FinishReason.LENGTH),
        Answer('{"name"', finish_reason=FinishReason.ABORT),
        Answer("", finish_reason=FinishReason.CONTENT_FILTER),
        Answer("", refusal="I can't"),
    ],
)
def test_what_broke_off_or_was_refused_is_not_kept(answer: Answer) -> None:
    slot = Slot(MemoryCache(), "k")
    slot.store(answer)
    assert slot.load() is None


TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=50)


@given(TEXT, st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=3))
def test_entries_hold_all_of_an_answer(text: str, calls: list[tuple[str, str, str]]) -> None:
    answer = Answer(text, tool_calls=tuple(ToolCall(*call) for call in calls))
    entry = entry_of(answer)
    assert entry.isascii()
    assert answer_of(entry) == answer


@given(st.one_of(st.text(), st.binary(), st.none(), st.integers(), st.recursive(st.none(), st.lists).map(repr)))
def test_what_is_no_entry_is_a_miss(entry: Any) -> None:
    assert answer_of(entry) is None


@pytest.mark.parametrize(
    "entry",
    [
        '{"format":2,"text":"","tool_calls":[],"response":null}',
        '{"format":1,"text":7,"tool_calls":[],"response":null}',
        '{"format":1,"text":"","tool_calls":[["a","b"]],"response":null}',
        '{"format":1,"text":"","tool_calls":[["a","b",{}]],"response":null}',
        '{"format":1,"text":""}',
        "[" * 100_000,
        '{"format":1,"text":"","tool_calls":[],"response":' + "[" * 100_000,
    ],
)
def test_damaged_entries_are_misses(entry: str) -> None:
    assert answer_of(entry) is None


def test_the_response_comes_back_with_its_fields() -> None:
    types = pytest.importorskip("openai.types")
    usage = types.CompletionUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    back = answer_of(entry_of(Answer("x", response=usage)))
    assert back is not None
    assert (back.response.prompt_tokens, back.response.total_tokens) == (1, 3)
    assert isinstance(back.response, SimpleNamespace)
    odd = answer_of(entry_of(Answer("x", response=object())))
    assert odd is not None
    assert odd.response is None


# --- for how long ----------------------------------------------------------------------------------------------------


def test_entries_end_with_their_time(tmp_path: Path) -> None:
    clock = Clock()
    for cache in caches(tmp_path, ttl=10, clock=clock):
        cache.set("default", "a")
        cache.set("short", "b", ttl=2)
        cache.set("long", "c", 100)
        assert [cache.get(name) for name in ("default", "short", "long")] == ["a", "b", "c"]
        clock.now += 2
        assert [cache.get(name) for name in ("default", "short", "long")] == ["a", None, "c"]
        clock.now += 8
        assert [cache.get(name) for name in ("default", "short", "long")] == [None, None, "c"]
        assert len(cache) == 1
        cache.set("default", "again")
        assert cache.get("default") == "again"


@pytest.mark.parametrize("ttl", [0, -1, True, "1", float("nan")])
def test_odd_lifetimes_are_errors(ttl: Any, tmp_path: Path) -> None:
    for make in (lambda: MemoryCache(ttl=ttl), lambda: DiskCache(tmp_path, ttl=ttl)):
        with pytest.raises(ParameterError, match="positive number of seconds"):
            make()


def test_odd_limits_are_errors(tmp_path: Path) -> None:
    for make in (lambda: MemoryCache(0), lambda: MemoryCache(max_bytes=0), lambda: DiskCache(tmp_path, max_bytes=1)):
        with pytest.raises(ParameterError, match="is too small"):
            make()


def test_the_least_recently_used_entry_goes_first() -> None:
    cache = MemoryCache(max_entries=3)
    for name in "abc":
        cache.set(name, name)
    assert cache.get("a") == "a"
    cache.set("d", "d")
    assert [cache.get(name) for name in "abcd"] == ["a", None, "c", "d"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.text("xé", max_size=30), st.booleans()), max_size=60))
def test_memory_is_bounded_and_counted_right(steps: list[tuple[str, str, bool]]) -> None:
    cache = MemoryCache(max_entries=4, max_bytes=60)
    for name, value, reads in steps:
        if reads:
            cache.get(name)
        else:
            cache.set(name, value)
            assert cache.get(name) == (value if 1 + len(value.encode()) <= 60 else None)
        held = sum(len(key.encode()) + len(entry[0].encode()) for key, entry in cache._entries.items())
        assert cache._bytes == held <= 60
        assert len(cache) <= 4
    cache.clear()
    assert (len(cache), cache._bytes) == (0, 0)


def test_threads_may_share_a_cache(tmp_path: Path) -> None:
    for cache in (MemoryCache(max_entries=8), DiskCache(tmp_path)):
        faults: list[Any] = []

        def work(number: int, cache: Any = cache, faults: list[Any] = faults) -> None:
            for i in range(60):
                name = f"k{(number + i) % 12}"
                cache.set(name, name * 10)
                found = cache.get(name)
                if found not in (None, name * 10):
                    faults.append(found)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []


# --- when it fails ---------------------------------------------------------------------------------------------------


class Broken:
    def get(self, key: str) -> str:
        raise ConnectionError("redis is down")

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        raise ConnectionError("redis is down")


def test_a_cache_that_fails_is_a_warning_and_a_miss() -> None:
    slot = Slot(Broken(), "k")
    with pytest.warns(RuntimeWarning, match="failed to get and is left out: ConnectionError: redis is down"):
        assert slot.load() is None
    with pytest.warns(RuntimeWarning, match="failed to set"):
        slot.store(ANSWER)


def test_other_caches_need_only_get_and_set() -> None:
    class Plain(dict[str, Any]):
        def set(self, key: str, value: str, ttl: float | None = None) -> None:
            self[key] = value, ttl

        def get(self, key: str) -> Any:  # type: ignore[override]
            return self[key][0] if key in self else None

    cache = Plain()
    slot = Slot(cache, "k", ttl=5)
    slot.store(ANSWER)
    assert cache["k"][1] == 5
    assert slot.load() == Answer(ANSWER.text)
    assert slot.blocking
    assert not Slot(MemoryCache(), "k").blocking


def test_a_cache_of_a_pickled_disk_cache_is_the_same_file(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.set("a", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pickle.loads(pickle.dumps(cache)).get("a") == "1"
