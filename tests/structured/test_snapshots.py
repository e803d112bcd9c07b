"""Snapshots: never changed under their reader's hands, and linear in cost for all of them together."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel, computed_field, create_model
from typing_extensions import TypedDict

from pageform.structured import PartialBuilder, Spec


class Item(BaseModel):
    sku: str
    count: int = 1
    tags: list[str] = []


class Items(RootModel[list[Item]]):
    pass


@dataclass
class Shelf:
    items: Items
    notes: dict[str, str] = field(default_factory=dict)


class Row(TypedDict):
    cells: list[int]


class Store(BaseModel):
    name: str
    shelves: list[Shelf]
    rows: list[Row] = []
    words: list[str] = []
    below: Store | None = None


_TEXT = json.dumps(
    {
        "name": "a store",
        "shelves": [
            {"items": [{"sku": f"s{n}", "count": n, "tags": ["x", "yy"]} for n in range(3)], "notes": {"k": "v" * 9}}
        ]
        * 2,
        "rows": [{"cells": [1, 2, 3]}, {"cells": []}],
        "words": ["one", "two", "three"],
        "below": {"name": "cellar", "shelves": [], "words": ["four"]},
    }
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_a_snapshot_stays_as_it_was_however_long_it_is_kept(sizes: list[int], kept: list[int]) -> None:
    """The reader keeps some snapshots for a while, parts of others, and lets go of the rest."""
    builder = PartialBuilder(Spec.of(Store))
    reference = PartialBuilder(Spec.of(Store), live=True)
    held: list[tuple[Any, Any]] = []
    at = turn = 0
    while at < len(_TEXT):
        size = sizes[turn % len(sizes)]
        partial = builder.feed(_TEXT[at : at + size])
        live = reference.feed(_TEXT[at : at + size])
        assert partial == live
        choice = kept[turn % len(kept)]
        if partial is not None and choice == 1:
            held.append((partial, copy.deepcopy(partial)))
        elif partial is not None and choice == 2 and partial.shelves:
            part = partial.shelves[-1].items if partial.shelves[-1].items is not None else partial.shelves
            held.append((part, copy.deepcopy(part)))
        elif partial is not None and choice == 3:
            held.append((vars(partial), copy.deepcopy(vars(partial))))
        elif choice == 4:
            assert all(now == then for now, then in held)
            held.clear()
        at += size
        turn += 1
    assert all(now == then for now, then in held)
    assert builder.finish() == Store.model_validate_json(_TEXT)


def test_a_reader_of_one_after_the_other_gets_few_objects_and_one_who_keeps_all_gets_all_different() -> None:
    builder = PartialBuilder(Spec.of(Store))
    ids = set()
    count = 0
    for char in _TEXT:
        partial = builder.feed(char)
        if partial is not None:
            count += 1
            ids.add(id(partial))
    assert count > 150
    assert len(ids) <= 4
    builder = PartialBuilder(Spec.of(Store))
    everything = [partial for char in _TEXT if (partial := builder.feed(char)) is not None]
    assert len({id(partial) for partial in everything[:-1]}) == len(everything) - 1 == count - 1
    names = [len(partial.shelves or ()) for partial in everything]
    assert all(a <= b for a, b in pairwise(names))
    assert names[0] == 0


def test_properties_are_computed_anew() -> None:
    class Sum(BaseModel):
        parts: list[int]

        @computed_field  # type: ignore[prop-decorator]
        @cached_property
        def total(self) -> int:
            return sum(self.parts or ())

    builder = PartialBuilder(Spec.of(Sum))
    totals = []
    for char in '{"parts":[1,2,3,4]}':
        partial = builder.feed(char)
        if partial is not None:
            totals.append(partial.total)
    assert totals == [0, 0, 1, 3, 6, 10, 10]


def _stream(annotation: Any, text: str, size: int, keep: bool, live: bool = False) -> tuple[float, int]:
    builder = PartialBuilder(Spec.of(annotation), live=live)
    kept = []
    count = 0
    start = time.process_time()
    for at in range(0, len(text), size):
        partial = builder.feed(text[at : at + size])
        count += partial is not None
        if keep:
            kept.append(partial)
    return time.process_time() - start, count


class Catalogue(BaseModel):
    title: str
    items: list[Item]


def _catalogue(n: int) -> str:
    return json.dumps({"title": "t", "items": [{"sku": "abc", "count": 3, "tags": ["x", "y"]}] * n})


def _wide(n: int) -> Any:
    return create_model("Wide", **{f"field_{number}": (int, ...) for number in range(n)})  # type: ignore[call-overload]


@pytest.mark.parametrize("keep", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("annotation", "make", "size"),
    [
        (lambda n: Catalogue, _catalogue, 12),
        (lambda n: Items, lambda n: json.dumps([{"sku": "abc"}] * n), 6),
        (lambda n: dict[str, int], lambda n: json.dumps({f"key {k}": k for k in range(n)}), 8),
        (_wide, lambda n: json.dumps({f"field_{k}": k for k in range(n)}), 9),
        (lambda n: list[str], lambda n: json.dumps(["word"] * n), 4),
    ],
    ids=["model", "root model", "dict", "5000 fields", "strings"],
)
def test_5000_of_anything_cost_ten_times_500(
    annotation: Any, make: Callable[[int], str], size: int, keep: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """With snapshots, let go of or all kept. Ten times the size in less than 25 times the time; a square is 100."""
    few, many = annotation(500), annotation(5000)
    for spec in (few, many):
        _stream(spec, make(1), 1000, False)  # reads the fields of the type
    small = min(_stream(few, make(500), size, keep)[0] for _ in range(3))
    large, count = min(_stream(many, make(5000), size, keep) for _ in range(2))
    with capsys.disabled():
        print(
            f"\n  {large / 5000 * 1e6:.0f} µs an item, {large / small:.1f} times the time of 500, {count} partials",
            end="",
        )
    assert large < 25 * small
    assert count > (300 if keep else 4000)


def test_all_are_shown_to_a_reader_who_lets_go() -> None:
    text = _catalogue(2000)
    shown = _stream(Catalogue, text, 4, keep=False)[1]
    assert shown == _stream(Catalogue, text, 4, keep=False, live=True)[1]
