"""No typed answer is cut off: from `min_tokens` on it is valid whatever the model does, below that it says so."""

from __future__ import annotations

import datetime
import enum
import random
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import BaseModel, Field, HttpUrl, TypeAdapter, create_model
from tiny import write_tiny_llama
from typing_extensions import TypedDict

from pageform import Engine, FinishReason, IncompleteOutput, SamplingParams


class Shade(enum.Enum):
    DARK = "dark"
    LIGHT = "light, or nearly so"


class Leaf(BaseModel):
    kind: Literal["leaf"]
    weight: Annotated[float, Field(ge=0, le=50)]


class Branch(BaseModel):
    kind: Literal["branch"]
    left: Leaf
    name: Annotated[str, Field(min_length=4, max_length=30)]


class Nested(BaseModel):
    tags: Annotated[list[str], Field(min_length=2, max_length=5)]
    parent: Nested | None = None


class Span(NamedTuple):
    start: int
    end: int = 0


class Note(TypedDict, total=False):
    text: Annotated[str, Field(max_length=9)]
    at: datetime.datetime


@dataclass
class Place:
    name: str
    inside: Place | None = None


FIELDS: list[Any] = [
    str,
    int,
    bool,
    float | None,
    Shade,
    Literal["one", "twenty-two", 3],
    datetime.date,
    list[int],
    dict[str, bool],
    Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3}$")],
    Annotated[int, Field(ge=1000, le=29999)],
    Annotated[list[Shade], Field(min_length=2, max_length=3)],
    Annotated[Leaf | Branch, Field(discriminator="kind")],
    tuple[int, str],
    Nested,
    Decimal,
    Annotated[Decimal, Field(ge=0, le=100, decimal_places=2)],
    uuid.UUID,
    datetime.timedelta,
    Annotated[datetime.date, Field(ge=datetime.date(2020, 2, 28))],
    HttpUrl,
    frozenset[Literal["a", "b"]],
    Annotated[bytes, Field(min_length=3, max_length=5)],
    Annotated[float, Field(multiple_of=0.25, ge=-1)],
    Span,
    Note,
    Place,
    dict[int, Shade],
]


def make_type(number: int) -> Any:
    """Type `number`: some of the fields above under names of different length, some of the types by themselves."""
    if number < len(FIELDS):
        return FIELDS[number]
    draw = random.Random(number)
    fields: dict[str, Any] = {
        f"{'field' * draw.randint(0, 2)}_{i}x": (draw.choice(FIELDS), ...) for i in range(draw.randint(1, 5))
    }
    return create_model(f"Drawn{number}", **fields)


TYPES = [make_type(number) for number in range(50)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of random weights: nothing that a grammar allows is unlikely."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"), seed=11)


def cases(engine: Engine, thorough: bool = False) -> list[tuple[Any, int, SamplingParams]]:
    """(type, tokens that suffice, parameters) for max_tokens from 1 upward; `thorough`: all near those."""
    found = []
    for number, type_ in enumerate(TYPES):
        form = engine.form(type_)
        assert form.plan.unenforced == ()
        least, draw = form.min_tokens, random.Random(number)
        assert least <= form.plan.min_tokens
        lengths = {1, 2, 3, least - 1, least, least + 1, least + 2, form.plan.min_tokens}
        lengths |= {draw.randint(1, 2 * least + 20) for _ in range(4)}
        if thorough:
            lengths |= {*range(1, least, 17), *range(least - 4, least + 12), *range(least + 12, least + 70, 19)}
        for max_tokens in sorted(length for length in lengths if 1 <= length <= 400):
            sampling = SamplingParams(
                temperature=draw.choice([0.0, 1.0]),
                seed=number + max_tokens,
                max_tokens=max_tokens,
                json_schema=form.plan.schema,
                forced=draw.choice(["verify", "accept"]),
                ignore_eos=draw.random() < 0.1,
            )
            found.append((type_, least, sampling))
    return found


@pytest.mark.slow
def test_from_1_token_upward_answers_are_valid_or_incomplete(tiny: Path) -> None:
    judge(tiny, thorough=False)


@pytest.mark.slow
def test_every_length_about_the_shortest_answer(tiny: Path) -> None:
    judge(tiny, thorough=True)


def judge(tiny: Path, thorough: bool) -> None:
    with Engine(tiny, threads=1, max_model_len=512, kv_cache_memory="64MB", check_invariants=True) as engine:
        drawn = cases(engine, thorough)
        prompts = [[5 + i % 200, 9, 17] for i in range(len(drawn))]
        completions = engine.generate(prompts, [sampling for _, _, sampling in drawn], progress=False)
        forced = 0
        for (type_, least, sampling), completion in zip(drawn, completions, strict=True):
            assert sampling.max_tokens is not None
            assert len(completion.token_ids) <= sampling.max_tokens
            if completion.finish_reason is FinishReason.STOP:
                TypeAdapter(type_).validate_json(completion.text)
            else:
                assert completion.finish_reason is FinishReason.LENGTH
                assert sampling.max_tokens < least, f"{type_}: {completion.text!r}"
            forced += completion.detail is not None and "forced" in completion.detail
        assert forced > 60
        # The same alone, and without drafts.
        for place in range(0, len(drawn), 7):
            sampling = drawn[place][2].with_(drafts="none")
            alone = engine.generate(prompts[place], sampling)
            assert (alone.token_ids, alone.text) == (completions[place].token_ids, completions[place].text)


def test_typed_answers_are_values_or_incomplete_with_what_there_is(tiny: Path) -> None:
    with Engine(tiny, threads=1, max_model_len=512, kv_cache_memory="16MB") as engine:
        incomplete = 0
        for type_ in (Nested, Branch, list[int]):
            form = engine.form(type_)
            least = form.min_tokens
            assert least <= form.plan.min_tokens
            for max_tokens in range(1, least + 12):
                sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
                [outcome] = engine.generate([[7, 8, 9]], sampling, response_model=type_, return_exceptions=True)
                if isinstance(outcome, IncompleteOutput):
                    assert max_tokens < least
                    assert outcome.last_text
                    incomplete += 1
                else:
                    TypeAdapter(type_).validate_python(outcome)
        assert incomplete > 40
        with pytest.raises(IncompleteOutput) as caught:
            engine.generate([7, 8, 9], SamplingParams(temperature=0, max_tokens=15), response_model=Branch)
        assert getattr(caught.value.partial, "kind", None) in ("branch", None)


def test_logprobs_of_forced_ends_are_not_a_number(tiny: Path) -> None:
    with Engine(tiny, threads=1, max_model_len=256, kv_cache_memory="8MB") as engine:
        schema = {"type": "array", "items": {"type": "string", "minLength": 9}, "minItems": 2}
        sampling = SamplingParams(temperature=0, max_tokens=30, json_schema=schema, logprobs=1)
        completion = engine.generate([7, 8, 9], sampling)
    assert completion.logprobs is not None
    assert len(completion.logprobs) == len(completion.token_ids)
    asked = [scored.logprob == scored.logprob for scored in completion.logprobs]
    assert asked[0]
    assert not asked[-1]
    assert completion.finish_reason is FinishReason.STOP


@pytest.mark.slow
def test_a_real_model_ends_in_time(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "people": {"type": "array", "items": {"type": "string"}},
            "year": {"type": "integer"},
        },
        "required": ["title", "people", "year"],
    }
    model = TypeAdapter(create_model("Work", title=(str, ...), people=(list[str], ...), year=(int, ...)))
    chat = [{"role": "user", "content": "Describe the play Hamlet as JSON: title, people, year."}]
    texts = {}
    least = engine.form(schema).min_tokens
    assert 8 < least < 16
    for max_tokens in range(least, least + 30, 4):
        completion = engine.chat(chat, SamplingParams(temperature=0, max_tokens=max_tokens, json_schema=schema))
        assert completion.finish_reason is FinishReason.STOP
        model.validate_json(completion.text)
        texts[max_tokens] = completion.text
    assert len(set(texts.values())) > 1
