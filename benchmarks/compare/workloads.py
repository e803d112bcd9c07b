"""The six workloads. Every round has prompts of its own, so that no prefix cache of any engine knows them already."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..job import Job
from ..workload import OUTPUT, PROMPT, cut_text, make_jobs

Encode = Callable[[str], list[int]]
Batches = list[list[Job]]
"""Batches of one round, run one after another; the jobs of a batch are given at once, or as their `at` says."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`make(round)` gives a round's batches. `requests` run at once at most, each within `context` tokens."""

    name: str
    title: str
    requests: int
    context: int
    make: Callable[[int], Batches]

    @property
    def is_guided(self) -> bool:
        """Whether answers follow a schema."""
        return self.name in ("W5", "BFCL", "wnut17")


@dataclass(frozen=True, slots=True)
class Material:
    """What prompts are made of. `chat` turns a conversation into token ids by the model's own template."""

    texts: Sequence[str]
    encode: Encode
    chat: Callable[[list[Any]], list[int]]
    seed: int = 0
    smoke: bool = False
    arrivals: Path | None = None


REPEATS = 3
"""Lone requests of a round of W1; each takes a second or two."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 3, "maxLength": 60},
        "kind": {"enum": ["mail", "receipt", "notice", "note"]},
        "sender": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 40},
                "is_company": {"type": "boolean"},
            },
            "required": ["name", "is_company"],
            "additionalProperties": False,
        },
        "urgency": {"enum": ["low", "normal", "high"]},
        "topics": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "maxLength": 24}},
    },
    "required": ["title", "kind", "sender", "urgency", "topics"],
    "additionalProperties": False,
}
"""Nested, with enums and a list, and bounded, so that an answer ends within W5's limit whatever the model likes."""


def workloads(material: Material) -> dict[str, Workload]:
    """All of them by name; W6 only when there are arrivals. Smoke makes each tiny."""
    small = material.smoke
    count = 4 if small else 64
    made = [
        Workload("W1", "batch 1, 128 in, 128 out", 1, 256, lambda number: lone(material, number)),
        Workload(
            "W2",
            f"{count} requests at once, lognormal prompts and answers",
            count,
            PROMPT.high + OUTPUT.high,
            lambda number: mixed(material, number, count),
        ),
        Workload(
            "W3",
            f"{count} requests that share 512 tokens, 32 own, 32 out",
            count,
            576,
            lambda number: shared(material, number, count),
        ),
        Workload("W4", "four prompts of 1,800, 64 out", 4, 1864, lambda number: long(material, number)),
        Workload("W5", "16 JSON extractions by schema", 16, 1024, lambda number: extractions(material, number)),
    ]
    if material.arrivals is not None:
        path = material.arrivals
        made.append(Workload("W6", "arrivals of the Azure trace", 64, 1024, lambda n: replayed(material, n, path)))
    return {workload.name: workload for workload in made}


def lone(material: Material, number: int) -> Batches:
    """W1: single requests, one after another."""
    repeats, length, output = (1, 16, 4) if material.smoke else (REPEATS, 128, 128)
    random_ = _random(material, "W1", number)
    return [[Job(_prompt(material, random_, f"{number}.{i}.", length), output)] for i in range(repeats)]


def mixed(material: Material, number: int, count: int) -> Batches:
    """W2: the same lengths in every round."""
    jobs = make_jobs(count, material.texts, material.encode, material.seed, variation=number)
    return [[Job(job.prompt[:64], min(8, job.output_tokens)) for job in jobs] if material.smoke else jobs]


def shared(material: Material, number: int, count: int) -> Batches:
    """W3: one beginning for all."""
    prefix, own, output = (64, 8, 4) if material.smoke else (512, 32, 32)
    random_ = _random(material, "W3", number)
    start = _prompt(material, random_, f"{number}. Shared.", prefix)
    return [[Job(start + _prompt(material, random_, f"\n{i}.", own), output) for i in range(count)]]


def long(material: Material, number: int) -> Batches:
    """W4."""
    count, length, output = (1, 200, 4) if material.smoke else (4, 1800, 64)
    random_ = _random(material, "W4", number)
    return [[Job(_prompt(material, random_, f"{number}.{i}.", length), output) for i in range(count)]]


def extractions(material: Material, number: int) -> Batches:
    """W5: a record out of a text, the schema said in the prompt as well."""
    random_ = _random(material, "W5", number)
    instruction = f"Answer with one JSON object by this schema: {json.dumps(SCHEMA, separators=(',', ':'))}"
    jobs = []
    for _ in range(1 if material.smoke else 16):
        text = random_.choice(material.texts)[:600]
        messages = [{"role": "system", "content": instruction}, {"role": "user", "content": f"{number}. {text}"}]
        jobs.append(Job(material.chat(messages), 400, SCHEMA))
    return [jobs]


def replayed(material: Material, number: int, path: Path) -> Batches:
    """W6: a stretch of the trace, its lengths divided by four so that they fit a small model's context. Times are the
    trace's own; `scaled` fits them to a load."""
    count = 4 if material.smoke else 48
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    first = number * count % max(1, len(lines) - count)
    chosen = lines[first : first + count]
    random_ = _random(material, "W6", number)
    return [
        [
            Job(
                _prompt(material, random_, f"{number}.{i}.", min(PROMPT.high, max(PROMPT.low, line["input"] // 4))),
                min(OUTPUT.high, max(OUTPUT.low, line["output"] // 4)),
                at=line["t"] - chosen[0]["t"],
            )
            for i, line in enumerate(chosen)
        ]
    ]


def scaled(jobs: Sequence[Job], seconds: float) -> list[Job]:
    """The jobs with their arrivals stretched or squeezed so that they would take `seconds` for all at the same rate;
    zero lets all arrive at once."""
    span = jobs[-1].at * len(jobs) / max(1, len(jobs) - 1)
    factor = seconds / span if span else 0.0
    return [Job(job.prompt, job.output_tokens, job.schema, job.at * factor) for job in jobs]


def _random(material: Material, workload: str, number: int) -> random.Random:
    return random.Random(f"{material.seed}-{workload}-{number}")


def _prompt(material: Material, random_: random.Random, head: str, length: int) -> list[int]:
    return cut_text(material.texts, material.encode, random_, head, length)
