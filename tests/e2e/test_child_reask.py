"""Asking again on a real model: the parent's blocks are shared, valid values stay, only what failed is decoded."""

from __future__ import annotations

import itertools
import json
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field, create_model

from pageform import AsyncEngine, Engine, RewindOptions, SamplingParams, ValidationFailed

TEXT = "Ann Miller is 30 years old, lives in Rome and has two cats, Tom and Kit. She feels good today."


class Stubborn:
    """Turns away the first values that it is shown."""

    def __init__(self, rejections: int) -> None:
        self.rejections = rejections
        self.values: list[Any] = []

    def __call__(self, value: Any) -> Any:
        self.values.append(value)
        if len(self.values) <= self.rejections:
            raise ValueError(f"{value!r} is not what the books say")
        return value


class Cat(BaseModel):
    name: str = Field(max_length=12)
    lives: int = Field(ge=1, le=9)


class Owner(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)
    cats: list[Cat] = Field(min_length=2, max_length=2)
    mood: str = Field(max_length=12)


def owner(**validators: Any) -> type[BaseModel]:
    """`Owner` with validators on some fields."""
    fields: dict[str, Any] = {}
    for name, info in Owner.model_fields.items():
        kind = Annotated[info.annotation, info]
        fields[name] = (Annotated[kind, AfterValidator(validators[name])] if name in validators else kind, ...)
    return create_model("Owner", **fields)


CONVERSATION = [{"role": "system", "content": "You fill in forms."}, {"role": "user", "content": TEXT}]


@pytest.mark.parametrize("prompt", [TEXT, CONVERSATION], ids=["text", "chat"])
@pytest.mark.parametrize("names", [("age",), ("name", "mood"), ("cats",)], ids=" ".join)
def test_only_what_failed_is_decoded_again(engine: Engine, prompt: Any, names: tuple[str, ...]) -> None:
    model = owner(**{name: Stubborn(1) for name in names})
    value, completion = engine.generate_with_completion([prompt], model, on_invalid="reask")[0]
    first, second = completion.attempts
    old, new = json.loads(first.text), json.loads(second.text)
    assert {k: v for k, v in old.items() if k not in names} == {k: v for k, v in new.items() if k not in names}
    assert new == value.model_dump()
    parent, child = first.response, second.response
    shared = [*parent.prompt_token_ids, *parent.token_ids]
    while engine.tokenizer.token_bytes(shared[-1]) != b"}":
        shared.pop()
    assert child.prompt_token_ids[: len(shared)] == shared, "the parent's tokens as they are"
    assert child.usage.cached_tokens >= len(shared) - 16, "and out of the cache"
    assert "is not what the books say" in engine.tokenizer.decode(child.prompt_token_ids[len(shared) :])
    assert engine.stats().kv_blocks_used == 0


def test_several_reasks_follow_each_other(engine: Engine) -> None:
    stubborn = Stubborn(3)
    value, completion = engine.generate_with_completion(TEXT, owner(age=stubborn), on_invalid="reask")
    assert len(completion.attempts) == 4
    assert value.age == stubborn.values[-1]
    prompts = [attempt.response.prompt_token_ids for attempt in completion.attempts]
    for earlier, later in itertools.pairwise(prompts):
        assert later[: len(earlier)] == earlier


def test_spent_rewinds_are_followed_by_a_child(engine: Engine) -> None:
    """The answer that no rewind could mend ended early: what stands before the value is kept."""
    stubborn = Stubborn(3)
    value, completion = engine.generate_with_completion(TEXT, owner(age=stubborn), rewind=RewindOptions(tries=1))
    assert len(completion.attempts) == 2
    broken = completion.attempts[0].text
    kept = broken[: broken.index('"age": ') + len('"age": ')]
    assert completion.text.startswith(kept)
    assert value.age == stubborn.values[-1]


def test_the_same_alone_and_in_company(engine: Engine) -> None:
    def high(value: int) -> int:
        if value % 7:
            raise ValueError("must be divisible by 7")
        return value

    texts = [f"{TEXT} Number {i}." for i in range(4)]
    params = [SamplingParams(temperature=0.9, seed=i, max_tokens=150) for i in range(4)]
    options: dict[str, Any] = {"rewind": RewindOptions(tries=1), "max_retries": 3}
    alone = [
        engine.generate_with_completion(t, owner(age=high), p, return_exceptions=True, **options)
        for t, p in zip(texts, params, strict=True)
    ]
    together = engine.generate_with_completion(texts, owner(age=high), params, return_exceptions=True, **options)
    outcomes = [[a.text for a in (r.attempts if isinstance(r, Exception) else r[1].attempts)] for r in alone]
    assert outcomes == [[a.text for a in (r.attempts if isinstance(r, Exception) else r[1].attempts)] for r in together]
    assert any(len(one) > 1 for one in outcomes)


def test_streams_show_what_was_kept(engine: Engine) -> None:
    model = owner(mood=Stubborn(1))
    partials = list(engine.stream(TEXT, response_model=model, on_invalid="reask"))
    assert partials[-1].model_dump() == partials[-2].model_dump()
    assert partials[-1].name


def test_a_context_that_is_too_short_for_a_child_asks_for_the_whole_answer() -> None:
    with Engine("smollm2", threads=2, kv_cache_memory="64MB", max_model_len=420) as small:
        _, completion = small.generate_with_completion(
            TEXT, owner(age=Stubborn(2)), SamplingParams(temperature=0, max_tokens=90), on_invalid="reask"
        )
    assert len(completion.attempts) == 3


async def test_async_engines_too() -> None:
    async with AsyncEngine("smollm2", threads=2, kv_cache_memory="64MB", max_model_len=2048) as engine:
        value, completion = await engine.generate_with_completion(
            TEXT, response_model=owner(age=Stubborn(1)), on_invalid="reask"
        )
    first, second = (json.loads(attempt.text) for attempt in completion.attempts)
    assert {**first, "age": value.age} == second


def test_what_nothing_helps_is_told(engine: Engine) -> None:
    with pytest.raises(ValidationFailed) as caught:
        engine.generate(TEXT, response_model=owner(mood=Stubborn(99)), on_invalid="reask", max_retries=2)
    assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3]
    assert engine.stats().kv_blocks_used == 0
