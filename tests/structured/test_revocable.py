"""Partial objects whose end is taken back: as if what was taken back had never come."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, TypeAdapter, field_validator
from typing_extensions import TypedDict

from pageform.structured import Spec, Stream
from pageform.structured.json_machine import Event, JsonMachine
from pageform.structured.json_table import NUMBER, STRING_CHUNK, STRING_CLOSED, STRING_OPENED
from pageform.structured.revocable import RevocablePartial


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9

    @field_validator("lives")
    @classmethod
    def few(cls, value: int) -> int:
        if value > 90:
            raise ValueError("too many")
        return value


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str | None = None


@dataclass
class Point:
    x: int
    y: int = 0


class Loose(TypedDict, total=False):
    a: int
    b: str


class Words(RootModel[list[str]]):
    pass


@Stream(done=True)
class Whole(BaseModel):
    v: int


class Everything(BaseModel):
    name: str
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    points: list[Point] = []
    loose: Loose = {}
    words: Words = Words([])
    pair: tuple[int, str] | None = None
    by: dict[str, list[int]] = {}
    whole: list[Whole] = []
    total: Annotated[float | None, Stream(not_null=True)] = None
    inner: Everything | None = None


TEXT = st.text('ab\n"é', max_size=4)
ADAPTER = TypeAdapter(Everything)


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def everything(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    pets = st.one_of(
        st.builds(lambda n: {"kind": "cat", "lives": n}, st.integers(0, 99)),
        st.builds(lambda n: {"name": n, "kind": "dog"}, TEXT),
    )
    return record(
        name=TEXT,
        pets=st.lists(pets, max_size=3),
        points=st.lists(record(x=st.integers(0, 9), y=st.integers(0, 9)), max_size=3),
        loose=record(a=st.integers(0, 9), b=TEXT),
        words=st.lists(TEXT, max_size=3),
        pair=st.tuples(st.integers(0, 9), TEXT),
        by=st.dictionaries(st.text("kl", min_size=1, max_size=2), st.lists(st.integers(0, 9), max_size=3), max_size=3),
        whole=st.lists(record(v=st.integers(0, 9)), max_size=3),
        total=st.none() | st.integers(0, 9),
        inner=inner,
    )


VALUES = st.recursive(everything(st.none()), everything, max_leaves=3)


def told_at(event: Event) -> int:
    """How many bytes are needed for an event to be known."""
    return event[2] + (event[0] == NUMBER)


def kept(events: list[Event], size: int) -> tuple[int, int]:
    """How many events and bytes stay when `size` bytes are to stay: no part of a string."""
    count = sum(told_at(event) <= size for event in events)
    if count < len(events) and events[count][0] in (STRING_CHUNK, STRING_CLOSED):
        start = next(event[1] for event in reversed(events[:count]) if event[0] == STRING_OPENED)
        return kept(events, start)
    return count, size


class Follower:
    """Feeds a builder as the engine does."""

    def __init__(self) -> None:
        self.builder = RevocablePartial(Spec.of(Everything))
        self.events: list[Event] = []
        self.machine = JsonMachine()

    def feed(self, data: bytes) -> Any:
        events = self.machine.feed(data)
        self.events += events
        return self.builder.take(data, events)


def shown(partial: Any) -> Any:
    """A partial as it is, with the fields that were set."""
    if isinstance(partial, BaseModel):
        return type(partial).__name__, {k: shown(v) for k, v in partial.__dict__.items()}, partial.model_fields_set
    if isinstance(partial, dict):
        return [(k, shown(v)) for k, v in partial.items()]
    if isinstance(partial, (list, tuple)):
        return [shown(v) for v in partial]
    return (type(partial).__name__, vars(partial)) if isinstance(partial, Point) else partial


@settings(max_examples=60, deadline=None)
@given(VALUES, st.data())
def test_as_if_it_had_never_come(value: Any, data: st.DataObject) -> None:
    """An answer is taken back to some places, each time compared with one that came only so far, and told again."""
    text = json.dumps(value, ensure_ascii=False).encode()
    follower = Follower()
    held: list[tuple[Any, Any]] = []

    def feed(piece: bytes) -> None:
        partial = follower.feed(piece)
        if partial is not None and data.draw(st.booleans()):
            held.append((partial, copy.deepcopy(shown(partial))))

    at = 0
    while at < len(text):
        size = data.draw(st.integers(1, 12))
        feed(text[at : at + size])
        at += size
    for _ in range(data.draw(st.integers(1, 3))):
        keep, bytes_kept = kept(follower.events, data.draw(st.integers(0, len(text))))
        del follower.events[keep:]
        partial = follower.builder.retract(keep, bytes_kept)
        if partial is not None:
            held.append((partial, copy.deepcopy(shown(partial))))
        fresh = Follower()
        fresh.feed(text[:bytes_kept])
        assert shown(follower.builder.finish()) == shown(fresh.builder.finish())
        follower.machine = fresh.machine
        for at in range(bytes_kept, len(text), 7):
            feed(text[at : at + 7])
        fresh = Follower()
        fresh.feed(text)
        assert shown(follower.builder.finish()) == shown(fresh.builder.finish())
        assert [f.path for f in follower.builder.faults] == [f.path for f in fresh.builder.faults]
    for partial, was in held:
        assert shown(partial) == was, "what a reader holds never changes"
