"""Two hundred extractions with nested models, unions, enums, lists and bounds: how many finish, how many are valid."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import Counter
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from examples.extract.documents import Document, conversation, load
from examples.extract.records import KINDS
from pageform import AsyncEngine, Completion, SamplingParams

from .options import Options
from .report import Report

REQUESTS = 200
MAX_TOKENS = 600
REQUIRED_FINISHED = 0.97

Short = Annotated[str, Field(min_length=1, max_length=40)]


class Person(BaseModel):
    role: Literal["person"]
    name: Short
    contact: Annotated[str, Field(max_length=40)] | None


class Organisation(BaseModel):
    role: Literal["organisation"]
    name: Short
    place: Short | None


Party = Annotated[Person | Organisation, Field(discriminator="role")]


class Parties(BaseModel):
    """A list of a discriminated union."""

    parties: Annotated[
        list[Annotated[Person | Organisation, Field(discriminator="role")]], Field(min_length=1, max_length=3)
    ]


class Money(BaseModel):
    amount: Annotated[float, Field(ge=0, lt=1_000_000)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Percent(BaseModel):
    percent: Annotated[int, Field(ge=0, le=100)]


class Amounts(BaseModel):
    """A plain union inside a list, and a bounded map."""

    figures: Annotated[list[Money | Percent | int], Field(max_length=4)]
    exact: bool


class Weight(IntEnum):
    LIGHT = 1
    MIDDLING = 2
    HEAVY = 3


class Mood(Enum):
    CALM = "calm"
    GLAD = "glad"
    ANNOYED = "annoyed"


class Judgement(BaseModel):
    """Enums of text and of numbers, a tuple, and a date that may be missing."""

    mood: Mood
    weight: Weight
    confidence: Annotated[float, Field(gt=0, lt=1)]
    span: tuple[Annotated[int, Field(ge=0, le=500)], Annotated[int, Field(ge=0, le=500)]]
    day: datetime.date | None


class Part(BaseModel):
    heading: Short
    sentences: Annotated[list[Annotated[str, Field(min_length=1, max_length=80)]], Field(min_length=1, max_length=2)]


class Outline(BaseModel):
    """Three levels deep."""

    title: Short
    parts: Annotated[list[Part], Field(min_length=1, max_length=2)]


Labels = Annotated[list[Literal["price", "date", "address", "complaint", "thanks"]], Field(min_length=1, max_length=3)]

EXTRA: list[tuple[Any, str]] = [
    (Parties, "Name the people and organisations in this text, with how to reach them."),
    (Amounts, "Collect the amounts of money, percentages and counts in this text."),
    (Judgement, "Judge the tone and weight of this text; span is the range of counts it mentions."),
    (Outline, "Write an outline of this text."),
    (Labels, "Which of the labels fit this text?"),
]


Task = tuple[Any, list[Any]]
"""A response type and the conversation that asks for it."""


def tasks(documents: list[Document], count: int) -> list[Task]:
    """`count` tasks: each text with its own kind's record and with each of the other types, in turn."""
    result: list[Task] = []
    for shift in range(len(EXTRA) + 1):
        for document in documents:
            own, user = conversation(document), {"role": "user", "content": document.text}
            choices = [(KINDS[document.kind].model, own)]
            choices += [(kind, [{"role": "system", "content": instruction}, user]) for kind, instruction in EXTRA]
            result.append(choices[(document.number + shift) % len(choices)])
    return [result[i % len(result)] for i in range(count)]


def run(options: Options) -> Report:
    """Share of requests that finish, share of those whose text validates again, and what the rest failed of."""
    count = 12 if options.smoke else REQUESTS
    report = Report("extraction", {"model": options.model, "threads": options.threads, "requests": count})
    requests = tasks(load(), count)
    start = time.perf_counter()
    results = asyncio.run(answers(options, requests))
    seconds = time.perf_counter() - start
    finished = [i for i, result in enumerate(results) if not isinstance(result, BaseException)]
    valid = [i for i in finished if is_valid(requests[i][0], *results[i])]
    completions: list[Completion] = [results[i][1] for i in finished]
    report.add("finished", "%", 100 * len(finished) / count)
    report.add("valid of the finished", "%", 100 * len(valid) / len(finished) if finished else 0.0)
    report.add("duration", "s", seconds)
    if completions:
        report.add("tokens of an answer", "tokens", [float(len(completion.token_ids)) for completion in completions])
        decoded = sum(completion.usage.completion_tokens for completion in completions)
        report.add("decoded", "tokens/s", decoded / seconds)
        report.add(
            "needed another attempt", "requests", sum(len(completion.attempts) > 1 for completion in completions)
        )
        report.add("prompt tokens from the prefix cache", "%", 100 * cached_share(completions))
    failures = Counter(type(result).__name__ for result in results if isinstance(result, BaseException))
    for name, number in failures.most_common():
        example = next(result for result in results if type(result).__name__ == name)
        report.note(f"{number} × {name}, for example: {' '.join(str(example).split())[:200]}")
    report.note("half of the requests are greedy, half sampled at temperature 0.8 with fixed seeds")
    report.check(f"at least {REQUIRED_FINISHED:.0%} finish", len(finished) >= REQUIRED_FINISHED * count)
    report.check("all that finish are valid", len(valid) == len(finished))
    return report


async def answers(options: Options, requests: list[Task]) -> list[Any]:
    """(value, completion) of each request, or the exception it ended with; all are made at once."""
    async with AsyncEngine(options.model, threads=options.threads, max_num_seqs=64, kv_cache_memory="2GB") as engine:
        calls = [
            engine.generate_with_completion([messages], response_model=response_type, sampling=sampling(number))
            for number, (response_type, messages) in enumerate(requests)
        ]
        gathered = await asyncio.gather(*calls, return_exceptions=True)
        return [result if isinstance(result, BaseException) else result[0] for result in gathered]


def sampling(number: int) -> SamplingParams:
    """Every second request is sampled, so that the model's odd moments are tried too."""
    temperature = 0.8 if number % 2 else 0.0
    return SamplingParams(temperature=temperature, seed=number, max_tokens=MAX_TOKENS)


def is_valid(response_type: Any, value: Any, completion: Completion) -> bool:
    """Whether the final text, validated afresh by Pydantic alone, gives the very value that was returned."""
    try:
        return bool(TypeAdapter(response_type).validate_json(completion.text) == value)
    except ValidationError:
        return False


def cached_share(completions: list[Completion]) -> float:
    """Share of all prompt tokens that were in the prefix cache."""
    prompt = sum(completion.usage.prompt_tokens for completion in completions)
    return sum(completion.usage.cached_tokens for completion in completions) / prompt if prompt else 0.0
