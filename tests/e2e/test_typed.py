"""Typed answers from the real model: planned, decoded under a grammar, validated, asked for again, streamed."""

from __future__ import annotations

import enum
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from pageform import (
    BatchFailed,
    Completion,
    Engine,
    FinishReason,
    Hooks,
    IncompleteOutput,
    SamplingParams,
    SchemaError,
    ValidationFailed,
)

MAIL = "Hello, my name is Ann Smith. I bought two lamps for 40 dollars and one of them is broken. Please help soon."


class Urgency(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Item(BaseModel):
    name: str = Field(max_length=30)
    count: int = Field(ge=1, le=99)


class Ticket(BaseModel):
    customer: str = Field(max_length=40)
    urgency: Urgency
    kind: Literal["question", "complaint", "order"]
    items: list[Item] = Field(min_length=1, max_length=3)
    amount: float | None = Field(default=None, ge=0, le=10000)


@dataclass
class Point:
    x: int
    y: int


@pytest.fixture(scope="module")
def prompt() -> str:
    return f"Extract the ticket from this mail.\n\n{MAIL}"


def test_a_value_of_the_callers_class(engine: Engine, prompt: str) -> None:
    value = engine.generate(prompt, response_model=Ticket)
    assert type(value) is Ticket
    assert 1 <= len(value.items) <= 3


def test_generate_with_completion_gives_text_that_is_the_value(engine: Engine, prompt: str) -> None:
    value, completion = engine.generate_with_completion(prompt, Ticket)
    assert isinstance(completion, Completion)
    assert completion.finish_reason is FinishReason.STOP
    assert Ticket.model_validate_json(completion.text) == value == completion.parsed
    assert [a.number for a in completion.attempts] == [1]
    assert completion.attempts[0].error is None


@pytest.mark.parametrize(
    ("response_type", "check"),
    [
        (int, lambda v: type(v) is int),
        (bool, lambda v: type(v) is bool),
        (Urgency, lambda v: isinstance(v, Urgency)),
        (Literal["red", "green"], lambda v: v in ("red", "green")),
        (list[Literal["a", "b"]], lambda v: isinstance(v, list) and set(v) <= {"a", "b"}),
        (Annotated[int, Field(ge=3, le=5)], lambda v: 3 <= v <= 5),
        (Point, lambda v: isinstance(v, Point)),
        (Item | Point, lambda v: isinstance(v, (Item, Point))),
        (tuple[int, bool], lambda v: len(v) == 2 and type(v[1]) is bool),
    ],
    ids=str,
)
def test_any_type_pydantic_knows(engine: Engine, response_type: Any, check: Any) -> None:
    assert check(engine.generate("Give a small example.", SamplingParams(temperature=0, max_tokens=400), response_type))


def test_a_list_gives_values_in_order_and_shares_prefixes(engine: Engine) -> None:
    class Answer(BaseModel):
        number: Literal[1, 2, 3]

    prompts = [f"{MAIL} " * 3 + f"Repeat the number {i}." for i in (1, 2, 3)]
    pairs = engine.generate_with_completion(prompts, Answer)
    assert [p[1].prompt_token_ids for p in pairs] == [
        engine.generate_with_completion(p, Answer)[1].prompt_token_ids for p in prompts
    ]
    assert engine.generate_with_completion(prompts[0], Answer)[1].usage.cached_tokens > 0


def test_chat_and_token_ids_take_response_models(engine: Engine, prompt: str) -> None:
    messages = [{"role": "user", "content": prompt}]
    before = json.dumps(messages)
    assert isinstance(engine.chat(messages, response_model=Ticket), Ticket)
    assert json.dumps(messages) == before
    assert isinstance(engine.generate(engine.tokenizer.encode(prompt), response_model=Ticket), Ticket)


def test_retries_show_the_model_its_error(engine: Engine) -> None:
    seen: list[str] = []

    class Picky(BaseModel):
        name: str = Field(max_length=20)

        @field_validator("name")
        @classmethod
        def reject_first(cls, value: str) -> str:
            seen.append(value)
            if len(seen) == 1:
                raise ValueError("the name must be a different one")
            return value

    events: list[str] = []
    hooks = Hooks({"parse:error": lambda error: events.append(str(error))})
    value, completion = engine.generate_with_completion("Name a fruit.", Picky, hooks=hooks, on_invalid="reask")
    assert len(seen) == 2
    assert [a.number for a in completion.attempts] == [1, 2]
    assert "the name must be a different one" in str(completion.attempts[0].error)
    assert "different one" in engine.tokenizer.decode(completion.prompt_token_ids)
    assert completion.usage.completion_tokens > len(completion.token_ids)
    assert len(events) == 1
    assert value.name == seen[1]


def test_spent_retries_report_every_attempt_and_others_are_served(engine: Engine) -> None:
    class Never(BaseModel):
        flag: bool

        @field_validator("flag")
        @classmethod
        def never(cls, value: bool) -> bool:
            raise ValueError("never good enough")

    with pytest.raises(ValidationFailed) as caught:
        engine.generate("Yes or no?", response_model=Never, max_retries=2)
    assert len(caught.value.attempts) == 3
    assert "never good enough" in str(caught.value)


def test_context_reaches_validators_and_decides_per_value(engine: Engine) -> None:
    class Owner(BaseModel):
        color: Literal["red", "green"]

        @field_validator("color")
        @classmethod
        def known(cls, value: str, info: Any) -> str:
            if value not in info.context["allowed"]:
                raise ValueError(f"use one of {info.context['allowed']}")
            return value

    assert engine.generate("Pick.", response_model=Owner, context={"allowed": ["red", "green"]})
    with pytest.raises(ValidationFailed):
        engine.generate("Pick.", response_model=Owner, context={"allowed": []}, max_retries=1)


def test_an_odd_validator_fails_its_own_request_only(engine: Engine) -> None:
    calls = 0

    class Odd(BaseModel):
        flag: bool

        @field_validator("flag")
        @classmethod
        def odd(cls, value: bool) -> bool:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise KeyError("database is down")
            return value

    with pytest.raises(BatchFailed) as caught:
        engine.generate(["One?", "Two?", "Three?"], response_model=Odd)
    assert sum(isinstance(r, Odd) for r in caught.value.results) == 2
    [error] = caught.value.errors.values()
    assert isinstance(error.__cause__, KeyError)


def test_streaming_gives_growing_objects_and_ends_with_the_value(engine: Engine, prompt: str) -> None:
    parts = list(engine.stream(prompt, response_model=Ticket))
    assert len(parts) > 5
    assert type(parts[-1]) is Ticket
    assert parts[-1] == engine.generate(prompt, response_model=Ticket)
    customers = [getattr(p, "customer", None) or "" for p in parts]
    assert all(b.startswith(a) for a, b in itertools.pairwise(customers))
    assert len(set(customers)) > 2


def test_truncated_answers_are_told_apart(engine: Engine, prompt: str) -> None:
    too_few = SamplingParams(temperature=0, max_tokens=engine.form(Ticket).min_tokens - 1)
    with pytest.raises(IncompleteOutput) as caught:
        engine.generate(prompt, too_few, response_model=Ticket)
    assert len(caught.value.attempts) == 1
    assert caught.value.partial_text.startswith("{")


def _schema_errors() -> Iterator[Any]:
    class Empty(BaseModel):
        count: int = Field(ge=5, le=3)

    class Endless(BaseModel):
        child: Endless

    Endless.model_rebuild()
    yield pytest.param({"response_model": Empty}, id="minimum above maximum")
    yield pytest.param({"response_model": Endless}, id="infinite recursion")
    yield pytest.param({"response_model": object()}, id="not a type")
    for name, value in (
        ("regex", "(unclosed"),
        ("grammar", "start: undefined_rule"),
        ("choice", []),
        ("json_schema", False),
        ("json_schema", "{not json"),
        ("json_schema", {"type": "integer", "minimum": 5, "maximum": 1}),
        ("json_schema", {"enum": []}),
    ):
        yield pytest.param({"sampling": SamplingParams(**{name: value})}, id=f"{name}={value}"[:40])


@pytest.mark.parametrize("call", list(_schema_errors()))
def test_impossible_schemas_are_refused_before_work(engine: Engine, call: dict[str, Any]) -> None:
    steps = engine.stats().steps
    with pytest.raises(SchemaError) as caught:
        engine.generate("x", **call)
    assert caught.value.remedy
    assert engine.stats().steps == steps


def test_grammars_of_sampling_params(engine: Engine) -> None:
    def text(**grammar: Any) -> str:
        c = engine.generate("Say something:", SamplingParams(temperature=0, max_tokens=60, **grammar))
        assert c.finish_reason is FinishReason.STOP
        return c.text

    assert text(choice=["apple", "banana split", "cherry"]) in ("apple", "banana split", "cherry")
    import re

    assert re.fullmatch(r"[a-c]{3}-\d{2}", text(regex=r"[a-c]{3}-\d{2}"))
    parsed = json.loads(
        text(json_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    )
    assert type(parsed["n"]) is int
    assert text(grammar='start: "yes" | "no"') in ("yes", "no")


def test_typed_and_free_requests_share_a_batch(engine: Engine) -> None:
    free = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    typed = SamplingParams(temperature=0, max_tokens=12, choice=["up", "down"])
    mixed = engine.generate(["The sky is"] * 6, [free, typed] * 3)
    alone = [engine.generate("The sky is", p) for p in (free, typed)]
    assert [c.token_ids for c in mixed] == [c.token_ids for c in alone] * 3


@pytest.mark.slow
def test_two_hundred_extractions_finish_and_validate() -> None:
    """≥ 97 % of nested, bounded extraction requests finish; every finished one parses and validates."""
    names = ["Ann Smith", "Bob Jones", "Chris Lee", "Dana White", "Eli Brown"]
    things = ["lamps", "chairs", "notebooks", "mugs", "bags"]
    prompts = [
        f"Extract the ticket from this mail.\n\nHi, {names[i % 5]} here. Regarding order {1000 + i}: I got {i % 7 + 1} "
        f"{things[i // 5 % 5]} for {10 + i} dollars. {'One is broken!' if i % 2 else 'When will the rest arrive?'}"
        for i in range(200)
    ]
    with Engine("smollm2", threads=2, max_model_len=1024, kv_cache_memory="1GB") as engine:
        sampling = SamplingParams(temperature=0, max_tokens=256)
        results = engine.generate_with_completion(prompts, Ticket, sampling, return_exceptions=True)
    finished = [r for r in results if not isinstance(r, Exception)]
    assert len(finished) >= 0.97 * len(prompts)
    assert all(Ticket.model_validate_json(completion.text) == value for value, completion in finished)
