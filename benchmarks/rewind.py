"""What a value that is not valid costs: it alone decoded again, against asking for the whole answer again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, create_model

from pageform import AsyncEngine, SamplingParams, ValidationFailed
from pageform.structured.diagnose import summary
from pageform.structured.prompt import complaint

from .options import Options
from .report import Report

OBJECTS = 104
FIELDS = 40
TOGETHER = 13
"""Objects that are asked for at the same time, and counted together."""
MOST_OF_PLAIN = 1.15
MOST_OF_REASK = 0.4

Number = Annotated[int, Field(ge=0, le=99)]
Word = Annotated[str, Field(min_length=1, max_length=12)]

PLACES: dict[str, tuple[int, Any]] = {
    "first": (0, Number),
    "in the middle": (FIELDS // 2, Number),
    "last": (FIELDS - 1, Number),
    "inside a token": (FIELDS // 2 + 5, Word),
}
"""Which field fails, and what it holds. The quote that opens a string shares a token with what stands before it."""

TOWNS = ("Aalen", "Bergen", "Cahors", "Delft", "Évora", "Faro", "Gera", "Hobro", "Ischia", "Jena")
GOODS = ("apples", "kettles", "lamps", "chairs", "bells", "ropes", "bricks", "maps", "coats", "clocks")


@dataclass(slots=True)
class Stubborn:
    """Turns away the first values that it is shown, whatever they are, so that every way to ask again gets there."""

    rejections: int
    values: list[Any] = field(default_factory=list)

    def judge(self, value: Any) -> Any:
        """The value. Raises ValueError."""
        self.values.append(value)
        if len(self.values) <= self.rejections:
            raise ValueError(f"{value!r} is not what the books say")
        return value


def _asked(value: Any, info: ValidationInfo[Any]) -> Any:
    return info.context["stubborn"].judge(value)


def record(place: str) -> type[BaseModel]:
    """A type of forty fields, one of which asks `Stubborn`."""
    at, kind = PLACES[place]
    fields: dict[str, Any] = {f"bay_{i:02d}": (Number, ...) for i in range(FIELDS)}
    fields[f"bay_{at:02d}"] = (Annotated[kind, AfterValidator(_asked)], ...)
    return create_model("Store", **fields)


def prompt(number: int) -> str:
    """The text of one object: no two begin alike."""
    town, goods, other = TOWNS[number % 10], GOODS[number // 10 % 10], GOODS[(number * 7 + 3) % 10]
    return (
        f"Count number {number} of the store in {town}: the first bay holds {number % 90 + 3} {goods}, the second "
        f"{number * 13 % 97}, and every further bay about as many {other}."
    )


async def rewound(engine: AsyncEngine, text: str, model: type[BaseModel], stubborn: Stubborn) -> int:
    """One object with rewinds; returns the number of attempts."""
    _, completion = await engine.generate_with_completion(
        text, response_model=model, context={"stubborn": stubborn}, sampling=SamplingParams(temperature=0)
    )
    return len(completion.attempts)


async def reasked(engine: AsyncEngine, text: str, model: type[BaseModel], stubborn: Stubborn) -> int:
    """One object, asked for again as a child of the request that failed, which keeps its valid values."""
    _, completion = await engine.generate_with_completion(
        text,
        response_model=model,
        context={"stubborn": stubborn},
        sampling=SamplingParams(temperature=0),
        on_invalid="reask",
    )
    return len(completion.attempts)


async def asked_again(engine: AsyncEngine, text: str, model: type[BaseModel], stubborn: Stubborn) -> int:
    """One object, asked for as a whole until it is valid: the last answer and its errors follow the question."""
    asked = text
    for attempt in range(1, stubborn.rejections + 2):
        try:
            await engine.generate_with_completion(
                asked,
                response_model=model,
                context={"stubborn": stubborn},
                sampling=SamplingParams(temperature=0),
                on_invalid="raise",
            )
        except ValidationFailed as failed:
            last = failed.attempts[-1]
            asked = f"{text}\n\nJSON:\n{last.text}\n\n{complaint(summary(last.faults))}"
        else:
            return attempt
    raise RuntimeError(f"{stubborn.values} were all turned away")


Way = Callable[[AsyncEngine, str, type[BaseModel], Stubborn], Awaitable[int]]
"""`rewound` or one of its kind."""

WAYS: dict[str, tuple[Way, int, int]] = {
    "no retry": (rewound, 0, 1),
    "rewind": (rewound, 2, 1),
    "child reask": (reasked, 2, 3),
    "whole answer asked for again": (asked_again, 2, 3),
}
"""How, with how many rejections, and the number of attempts that must come of it."""


def run(options: Options) -> Report:
    """Tokens that the model computes for an object, prompts included, by way of asking again and place of the field."""
    places = ("in the middle", "inside a token") if options.smoke else tuple(PLACES)
    count = len(places) if options.smoke else OBJECTS
    together = 1 if options.smoke else TOGETHER
    report = Report("rewind", {"model": options.model, "threads": options.threads, "objects": count, "fields": FIELDS})
    counted = asyncio.run(_measure(options, places, count, together))
    for way in WAYS:
        report.add(f"computed, {way}", "tokens an object", [n for place in places for n in counted[way, place]])
    for name, divisor, most in (
        ("no retry", "no retry", MOST_OF_PLAIN),
        ("whole answer asked for again", "whole answer asked for again", MOST_OF_REASK),
    ):
        for place in places:
            shares = _shares(counted["rewind", place], counted[divisor, place])
            report.add(f"rewind of {name}, field {place}", "×", shares)
            mean = sum(counted["rewind", place]) / sum(counted[divisor, place])
            report.check(f"field {place}: rewind at most {most} × {name} (it is {mean:.3f} ×)", mean <= most)
    report.note(f"two values of one field are turned away; {together} objects at a time, each a sample of their mean")
    report.note("prompts of a type share its outline, which is in the prefix cache as it is from the second object on")
    return report


async def _measure(
    options: Options, places: Sequence[str], count: int, together: int
) -> dict[tuple[str, str], list[float]]:
    """Tokens an object of each batch, by way and place."""
    counted: dict[tuple[str, str], list[float]] = {}
    async with AsyncEngine(options.model, threads=options.threads, kv_cache_memory="1GB") as engine:
        share = count // len(places)
        for number, place in enumerate(places):
            model = record(place)
            texts = [prompt(number * share + i) for i in range(share)]
            for way in WAYS:
                await engine.reset_prefix_cache()
                await rewound(engine, prompt(count + number), model, Stubborn(0))
                batches = [texts[i : i + together] for i in range(0, share, together)]
                counted[way, place] = [await _batch(engine, batch, model, way) for batch in batches]
    return counted


async def _batch(engine: AsyncEngine, texts: Sequence[str], model: type[BaseModel], name: str) -> float:
    way, rejections, attempts = WAYS[name]
    before: int = (await engine.stats()).computed_tokens
    made = await asyncio.gather(*(way(engine, text, model, Stubborn(rejections)) for text in texts))
    if set(made) != {attempts}:
        raise RuntimeError(f"{name}: {made} attempts instead of {attempts}")
    after: int = (await engine.stats()).computed_tokens
    return (after - before) / len(texts)


def _shares(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(these, those, strict=True)]
