"""Field-level rewind on a real model: only the value that fails is decoded again, and nothing else changes."""

from __future__ import annotations

import itertools
import threading
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, create_model, field_validator, model_validator

from pageform import AsyncEngine, Engine, ParameterError, RewindOptions, SamplingParams, ValidationFailed

TEXT = "Ann Miller is 30 years old, lives in Rome and has two cats, Tom and Kit. She feels good today."


class Rejects:
    """A validator that turns away the first `count` different values."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen: list[Any] = []

    def __call__(self, value: Any) -> Any:
        if value not in self.seen:
            self.seen.append(value)
        if self.seen.index(value) < self.count:
            raise ValueError(f"{value!r} is not wanted")
        return value


def wide(name: str, kind: Any, rejects: Rejects, at: int) -> type[BaseModel]:
    """Forty fields, of which one has the validator."""
    fields: dict[str, Any] = {f"value_{i:02d}": (Annotated[int, Field(ge=0, le=999)], ...) for i in range(40)}
    fields[f"value_{at:02d}"] = (Annotated[kind, AfterValidator(rejects)], ...)
    return create_model(name, **fields)


@pytest.mark.parametrize("at", [pytest.param(0, marks=pytest.mark.slow), 20, pytest.param(39, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind",
    [Annotated[int, Field(ge=0, le=999)], pytest.param(Annotated[str, Field(max_length=12)], marks=pytest.mark.slow)],
)
def test_a_value_that_fails_twice_costs_little(engine: Engine, at: int, kind: Any) -> None:
    """A string begins inside a token: its opening quote comes together with the colon."""

    def computed(rejects: int, **options: Any) -> tuple[int, Any, Any, Rejects]:
        validator = Rejects(rejects)
        engine.reset_prefix_cache()
        before = engine.stats().computed_tokens
        model = wide("Wide", kind, validator, at)
        value, completion = engine.generate_with_completion(TEXT, model, **options)
        return engine.stats().computed_tokens - before, value, completion, validator

    plain, first, _, _ = computed(0)
    cost, second, completion, rejects = computed(2)
    assert cost <= 1.15 * plain, f"{cost} tokens instead of {plain}"
    assert len(completion.attempts) == 1
    assert [one.path for one in completion.rewinds] == [f"value_{at:02d}"] * 2
    assert len({one.value for one in completion.rewinds}) == 2
    assert completion.rewound_tokens > 0
    earlier = {f"value_{i:02d}" for i in range(at)}
    assert first.model_dump(include=earlier) == second.model_dump(include=earlier), "closed fields never change"
    assert getattr(second, f"value_{at:02d}") == rejects.seen[2]
    assert engine.stats().kv_blocks_used == 0


class Cat(BaseModel):
    name: str = Field(max_length=12)
    lives: int = Field(ge=1, le=9)


class Owner(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)
    mood: Literal["good", "bad", "odd"]
    cats: list[Cat] = Field(min_length=2, max_length=2)


def owner(**validators: Any) -> type[BaseModel]:
    """`Owner` with validators on some fields."""
    checked: Any = {f"check_{name}": field_validator(name)(function) for name, function in validators.items()}
    return create_model("Owner", __base__=Owner, __validators__=checked)


def test_a_banned_literal_leaves_the_others(engine: Engine) -> None:
    def odd(value: str) -> str:
        if value != "odd":
            raise ValueError("only odd moods")
        return value

    value, completion = engine.generate_with_completion(TEXT, owner(mood=odd))
    assert value.mood == "odd"
    assert {one.value for one in completion.rewinds} <= {'"good"', '"bad"'}
    assert all("only odd moods" in str(one.error) for one in completion.rewinds)
    assert len(completion.attempts) == 1


def test_values_inside_lists_are_decoded_again_where_they_stand(engine: Engine) -> None:
    rejects = Rejects(1)

    class Picky(Owner):
        @field_validator("cats")
        @classmethod
        def known(cls, value: list[Cat]) -> list[Cat]:
            rejects(str(value))
            return value

    value, completion = engine.generate_with_completion(TEXT, Picky)
    assert [one.path for one in completion.rewinds] == ["cats"]
    assert str(value.cats) == rejects.seen[1]


def test_an_objects_own_validator_has_it_decoded_again(engine: Engine) -> None:
    class Range(BaseModel):
        low: int = Field(ge=0, le=99)
        high: int = Field(ge=0, le=99)

        @model_validator(mode="after")
        def ordered(self) -> Range:
            if self.low >= self.high:
                raise ValueError("low must be below high")
            return self

    class Report(BaseModel):
        title: str = Field(max_length=20)
        ranges: list[Range] = Field(min_length=3, max_length=3)

    options = RewindOptions(tries=20)
    value, completion = engine.generate_with_completion("Temperatures by day: 7, 7, 7.", Report, rewind=options)
    assert all(one.low < one.high for one in value.ranges)
    assert all(one.path.startswith("ranges[") for one in completion.rewinds)
    assert len(completion.attempts) == 1


def test_siblings_are_seen_by_validators(engine: Engine) -> None:
    class Pair(BaseModel):
        first: int = Field(ge=0, le=99)
        second: int = Field(ge=0, le=99)

        @field_validator("second")
        @classmethod
        def another(cls, value: int, info: Any) -> int:
            if value == info.data.get("first"):
                raise ValueError("must differ from first")
            return value

    value, _ = engine.generate_with_completion("Two equal numbers: 7 and 7.", Pair)
    assert value.first != value.second


def test_what_nothing_helps_is_asked_for_again_and_told(engine: Engine) -> None:
    def never(value: str) -> str:
        raise ValueError("never good enough")

    with pytest.raises(ValidationFailed) as caught:
        engine.generate(TEXT, response_model=owner(mood=never), max_retries=1)
    assert [attempt.number for attempt in caught.value.attempts] == [1, 2]
    assert "mood" in str(caught.value)
    assert "never good enough" in str(caught.value)
    assert engine.stats().kv_blocks_used == 0


def test_the_number_of_thrown_away_tokens_is_bounded(engine: Engine) -> None:
    def never(value: int) -> int:
        raise ValueError("never good enough")

    options = RewindOptions(tries=1000, max_rewound_tokens=40)
    before = engine.stats().rewound_tokens
    with pytest.raises(ValidationFailed):
        engine.generate(TEXT, response_model=owner(age=never), max_retries=0, rewind=options)
    assert 0 < engine.stats().rewound_tokens - before <= 40


def test_policies(engine: Engine) -> None:
    with pytest.raises(ValidationFailed) as caught:
        engine.generate(TEXT, response_model=owner(age=Rejects(1000)), on_invalid="reask", max_retries=1)
    assert [attempt.number for attempt in caught.value.attempts] == [1, 2]
    assert all(attempt.response.rewinds == [] for attempt in caught.value.attempts)
    with pytest.raises(ValidationFailed) as caught:
        engine.generate(TEXT, response_model=owner(age=Rejects(1)), on_invalid="raise")
    assert len(caught.value.attempts) == 1
    for wrong in ({"on_invalid": "ignore"}, {"rewind": RewindOptions, "on_invalid": None}):
        with pytest.raises(ParameterError):
            engine.generate(TEXT, response_model=Owner, **wrong)
    for wrong in ({"tries": -1}, {"max_rewound_tokens": 1.5}, {"temperature": float("nan")}):
        with pytest.raises(ParameterError):
            RewindOptions(**wrong)  # type: ignore[arg-type]


def test_streams_never_show_what_failed(engine: Engine) -> None:
    rejects = Rejects(2)
    partials = list(engine.stream(TEXT, response_model=owner(age=rejects)))
    ages = [age for age, _ in itertools.groupby(getattr(partial, "age", None) for partial in partials)]
    assert ages == [None, rejects.seen[2]]
    whole = engine.generate(TEXT, response_model=owner(age=Rejects(2)))
    assert partials[-1].model_dump() == whole.model_dump()
    names = {partial.name for partial in partials if partial.age is not None}
    assert len(names) == 1


async def test_async_streams_too() -> None:
    async with AsyncEngine("smollm2", threads=2, kv_cache_memory="64MB", max_model_len=2048) as engine:
        partials = [one async for one in engine.stream(TEXT, response_model=owner(age=Rejects(1)))]
    assert len({getattr(partial, "age", None) for partial in partials}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_rewound_answer_is_the_same_alone_and_in_company(engine: Engine, temperature: float) -> None:
    """Preempted, drafted, chunked or not: what a rewind gives depends on the request alone."""
    params = [SamplingParams(temperature=temperature, seed=i, repetition_penalty=1.1, max_tokens=200) for i in range(8)]
    texts = [f"{TEXT} Number {i}." for i in range(8)]

    def odd(value: str) -> str:
        if value != "odd":
            raise ValueError("only odd moods")
        return value

    def high(value: int) -> int:
        if value % 3:
            raise ValueError("must be divisible by 3")
        return value

    model = owner(mood=odd, age=high)
    options = RewindOptions(tries=6, max_rewound_tokens=2000, temperature=1.0 if temperature else None)
    alone = [
        engine.generate_with_completion(t, model, p, rewind=options)[1] for t, p in zip(texts, params, strict=True)
    ]
    assert sum(len(one.rewinds) for one in alone) >= 8
    tight = {"kv_cache_memory": "9.4MB", "max_num_batched_tokens": 48, "max_model_len": 400, "max_num_seqs": 8}
    for settings in (tight, {"drafts": "none", "threads": 1, "kv_cache_memory": "64MB", "max_model_len": 400}):
        with Engine("smollm2", check_invariants=True, **settings) as other:  # type: ignore[arg-type]
            together = other.generate_with_completion(texts, model, params, rewind=options)
            assert [one[1].token_ids for one in together] == [one.token_ids for one in alone]
            assert [one[1].rewound_tokens for one in together] == [one.rewound_tokens for one in alone]
            if settings is tight:
                assert other.stats().preemptions > 0


def test_aborts_and_deadlines_end_rewinding_requests(engine: Engine) -> None:
    def never(value: int) -> int:
        raise ValueError("never good enough")

    options = RewindOptions(tries=10**6, max_rewound_tokens=10**6)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            engine.generate(TEXT, response_model=owner(age=never), rewind=options, request_id="endless")
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    before = engine.stats().steps
    thread.start()
    while engine.stats().steps < before + 40:
        pass
    engine.abort("endless")
    thread.join(20)
    assert len(failures) == 1
    sampling = SamplingParams(temperature=0, timeout=0.3)
    with pytest.raises(Exception, match="timeout"):
        engine.generate(TEXT, sampling, response_model=owner(age=never), rewind=options, max_retries=0)
    assert engine.stats().kv_blocks_used == 0
