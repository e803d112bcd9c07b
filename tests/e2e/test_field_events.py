"""What streams tell of a form's fields: in order, once validated, taken back where decoding goes back, or never."""

from __future__ import annotations

import copy
import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import pytest
from field_kit import OPTIONS, even
from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from pageform import (
    AsyncEngine,
    Engine,
    FieldClosed,
    FieldDelta,
    FieldOpened,
    FieldRetracted,
    ParameterError,
    RewindOptions,
    SamplingParams,
    ValidationFailed,
)


def of_even_length(value: str) -> str:
    if len(value) % 2:
        raise ValueError("must have an even length")
    return value


class Item(BaseModel):
    name: str = Field(max_length=5)
    count: Annotated[int, Field(ge=0, le=99), AfterValidator(even)]

    @model_validator(mode="after")
    def small(self) -> Item:
        if self.count % 3 == 1:
            raise ValueError("not this count")
        return self


class Order(BaseModel):
    when: date
    title: Annotated[str, Field(max_length=6), AfterValidator(of_even_length)]
    items: list[Item] = Field(min_length=2, max_length=2)
    codes: dict[str, int] = Field(max_length=1)
    last: Annotated[int, Field(ge=0, le=999), AfterValidator(even)]


class Follower:
    """Keeps what events tell."""

    def __init__(self) -> None:
        self.values: dict[tuple[Any, ...], Any] = {}
        self.open: dict[tuple[Any, ...], str] = {}
        self.retracted = 0

    def see(self, event: Any) -> None:
        if isinstance(event, FieldOpened):
            assert event.loc not in self.open
            assert event.loc not in self.values
            self.open[event.loc] = ""
        elif isinstance(event, FieldDelta):
            self.open[event.loc] += event.text
        elif isinstance(event, FieldClosed):
            text = self.open.pop(event.loc)
            assert not text or str(event.value) == text
            self.values[event.loc] = event.value
        else:
            assert isinstance(event, FieldRetracted)
            self.retracted += 1
            if not event.loc:
                self.values, self.open = {}, {}
            elif event.is_open:
                del self.values[event.loc]
                self.open[event.loc] = ""
            else:
                assert (event.loc in self.values) != (event.loc in self.open)
                self.values.pop(event.loc, None)
                self.open.pop(event.loc, None)


def told(engine: Engine, model: Any, sampling: SamplingParams, **options: Any) -> tuple[list[Any], Any]:
    """The events of a stream, and its value."""
    *events, value = engine.stream("Order:", sampling, model, events=True, **options)
    return events, value


SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]


@pytest.mark.parametrize("seed", SEEDS)
def test_events_add_up_to_the_answer(tiny: Engine, seed: int) -> None:
    sampling = SamplingParams(temperature=1.0, seed=seed, max_tokens=900)
    options = {"rewind": RewindOptions(tries=8, max_rewound_tokens=4000)}
    events, value = told(tiny, Order, sampling, **options)
    whole, completion = tiny.generate_with_completion("Order:", Order, sampling, **options)
    assert value == whole
    follower = Follower()
    for event in events:
        follower.see(event)
    assert follower.open == {}
    expected = {("when",): value.when, ("title",): value.title, ("items",): value.items, ("last",): value.last}
    expected |= {("codes",): value.codes} | {("codes", key): number for key, number in value.codes.items()}
    for i, item in enumerate(value.items):
        expected |= {("items", i): item, ("items", i, "name"): item.name, ("items", i, "count"): item.count}
    assert follower.values == expected
    text = completion.text.encode()
    boundaries = [0]
    for token in completion.token_ids:
        boundaries.append(boundaries[-1] + len(tiny.tokenizer.token_bytes(token)))
    standing: dict[Any, FieldClosed] = {}
    for event in events:
        if isinstance(event, FieldClosed):
            standing[event.loc] = event
    for event in standing.values():
        (start, end), (first, last) = event.byte_span, event.token_span
        json.loads(text[start:end])
        assert boundaries[first] <= start < boundaries[first + 1]
        assert boundaries[last - 1] < end <= boundaries[last]
    assert {"items[1].count", "last"} <= {event.path for event in standing.values()}


def test_some_of_these_answers_went_back(tiny: Engine) -> None:
    """Else nothing was shown above."""
    options = {"rewind": RewindOptions(tries=8, max_rewound_tokens=4000)}
    counts = []
    for seed in range(3):
        sampling = SamplingParams(temperature=1.0, seed=seed, max_tokens=900)
        events, _ = told(tiny, Order, sampling, **options)
        counts.append(sum(isinstance(event, FieldRetracted) for event in events))
    assert sum(counts) >= 3


def valid_as_far_as_known(partial: Any) -> None:
    """No value that a validator refuses is shown, unless it is still open."""
    for item in getattr(partial, "items", None) or []:
        assert item.count is None or item.count % 2 == 0
    assert partial.last is None or partial.last % 2 == 0


@pytest.mark.parametrize("partials", ["text", "fields"])
def test_partials_show_only_what_is_valid_and_one_a_field(tiny: Engine, partials: Any) -> None:
    for seed in range(2):
        sampling = SamplingParams(temperature=1.0, seed=seed, max_tokens=900)
        options = {"rewind": RewindOptions(tries=8, max_rewound_tokens=4000)}
        *shown, value = tiny.stream("Order:", sampling, Order, partials=partials, **options)
        assert shown[-1].model_dump() == value.model_dump()
        for one in shown:
            valid_as_far_as_known(one)
        events, _ = told(tiny, Order, sampling, **options)
        closed = sum(isinstance(event, FieldClosed) for event in events)
        retracted = sum(isinstance(event, FieldRetracted) for event in events)
        if partials == "fields":
            assert len(shown) <= closed + retracted + 1
            titles = {one.title for one in shown} - {None}
            assert titles == {value.title}
        else:
            assert any(one.title and value.title.startswith(one.title) and one.title != value.title for one in shown)


def is_beginning(partial: Any, whole: Any) -> bool:
    """Whether what is shown will not change, but for what is missing or grows."""
    if isinstance(whole, BaseModel):
        fields = partial.model_fields_set
        return all(is_beginning(getattr(partial, name), getattr(whole, name)) for name in fields)
    if isinstance(whole, list):
        return len(partial) <= len(whole) and all(map(is_beginning, partial, whole))
    if isinstance(whole, dict):
        return all(is_beginning(partial[key], whole[key]) for key in partial)
    return whole.startswith(partial) if isinstance(whole, str) else partial == whole


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("on_invalid", ["rewind", "reask"])
def test_stable_streams_take_nothing_back(tiny: Engine, on_invalid: Any, seed: int) -> None:
    """Also over further attempts, which `tries=1` and "reask" make."""
    sampling = SamplingParams(temperature=1.0, seed=seed, max_tokens=700)
    options: dict[str, Any] = {"rewind": RewindOptions(tries=1), "on_invalid": on_invalid, "max_retries": 50}
    held = []
    value = None
    for value in tiny.stream("Order:", sampling, Order, stable=True, **options):
        held.append(copy.deepcopy(value))
    assert isinstance(value, Order)
    for one in held:
        assert is_beginning(one, value)
    assert len(held) > 1
    *events, last = tiny.stream("Order:", sampling, Order, stable=True, events=True, **options)
    assert last == value
    assert not any(isinstance(event, FieldRetracted) for event in events)


def test_a_stable_stream_of_what_cannot_fail_grows_like_any_other(tiny: Engine) -> None:
    class Plain(BaseModel):
        title: str = Field(max_length=12)
        numbers: list[Annotated[int, Field(ge=0, le=9)]] = Field(min_length=3, max_length=3)

    sampling = SamplingParams(temperature=1.0, seed=1, max_tokens=300)
    some = [one.model_dump() for one in tiny.stream("x", sampling, Plain)]
    assert some == [one.model_dump() for one in tiny.stream("x", sampling, Plain, stable=True)]
    assert len(some) > 6


def test_what_a_whole_answers_validator_may_refuse_is_shown_at_the_end(tiny: Engine) -> None:
    class Judged(BaseModel):
        first: Annotated[int, Field(ge=0, le=99)]
        second: Annotated[int, Field(ge=0, le=99)]

        @model_validator(mode="after")
        def differ(self) -> Judged:
            if self.first == self.second:
                raise ValueError("must differ")
            return self

    sampling = SamplingParams(temperature=1.0, seed=1, max_tokens=300)
    assert len(list(tiny.stream("x", sampling, Judged, stable=True))) == 1


def test_a_further_attempt_takes_everything_back(tiny: Engine) -> None:
    seen: list[int] = []

    class Once(BaseModel):
        number: Annotated[int, Field(ge=0, le=99)]

        @field_validator("number")
        @classmethod
        def second(cls, value: int) -> int:
            seen.append(value)
            if len(seen) == 1:
                raise ValueError("not at first")
            return value

    *events, _ = tiny.stream("x", None, Once, events=True, on_invalid="reask")
    kinds = [type(event) for event in events]
    assert kinds == [FieldOpened, FieldClosed, FieldRetracted, FieldOpened, FieldClosed]
    assert events[2].loc == ()


async def test_async_streams_tell_the_same(tiny: Engine, folder: Path) -> None:
    sampling = SamplingParams(temperature=1.0, seed=3, max_tokens=900)
    options: dict[str, Any] = {"rewind": RewindOptions(tries=8, max_rewound_tokens=4000)}
    expected = list(tiny.stream("Order:", sampling, Order, events=True, **options))
    async with AsyncEngine(folder, **OPTIONS) as engine:
        events = [one async for one in engine.stream("Order:", sampling, Order, events=True, **options)]
        stable = [one async for one in engine.stream("Order:", sampling, Order, stable=True, **options)]
    assert events == expected
    assert stable[-1] == expected[-1]


def test_wrong_options_are_refused(tiny: Engine) -> None:
    with pytest.raises(ParameterError, match="partials"):
        next(tiny.stream("x", None, Order, partials="words"))  # type: ignore[call-overload]


def test_an_answer_that_fails_ends_its_stream_with_the_error(tiny: Engine) -> None:
    class Never(BaseModel):
        number: Annotated[int, Field(ge=0, le=99), AfterValidator(lambda _: int("no"))]

    with pytest.raises(ValidationFailed):
        list(tiny.stream("x", None, Never, max_retries=1, events=True))
    assert tiny.stats().kv_blocks_used == 0
