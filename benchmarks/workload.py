"""Requests with the lengths of everyday traffic: prompt and output tokens are drawn from lognormal distributions."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.extract.documents import load

from .job import Job


@dataclass(frozen=True, slots=True)
class Lengths:
    """A lognormal distribution of token counts, cut to [low, high]."""

    median: int
    sigma: float
    low: int
    high: int

    def draw(self, random_: random.Random) -> int:
        value = random_.lognormvariate(math.log(self.median), self.sigma)
        return min(self.high, max(self.low, round(value)))


PROMPT = Lengths(median=128, sigma=0.8, low=16, high=768)
OUTPUT = Lengths(median=96, sigma=0.7, low=8, high=256)


def read_texts(folder: Path | None) -> list[str]:
    """Texts to make prompts of: every JSON lines file with questions or turns in `folder`, or the demo's texts."""
    if folder is None:
        return [document.text for document in load()]
    texts: list[str] = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if isinstance(entry.get("question"), str):
                texts.append(f"{entry['question']}\n{entry.get('answer', '')}".strip())
            elif isinstance(entry.get("turns"), list):
                texts.extend(entry["turns"])
    if not texts:
        raise ValueError(f'--data {folder}: no *.jsonl file there has a "question" or "turns"')
    return texts


def make_jobs(
    count: int, texts: Sequence[str], encode: Callable[[str], list[int]], seed: int, variation: int = 0
) -> list[Job]:
    """`count` jobs, the same for the same arguments. Each prompt is its own sequence of texts, so that prompts share no
    beginning that a prefix cache could use. A `variation` has other texts and the same lengths."""
    lengths, choice = random.Random(seed), random.Random(f"{seed}-{variation}")
    jobs = []
    for number in range(count):
        length = PROMPT.draw(lengths)
        prompt = cut_text(texts, encode, choice, f"{variation}.{number}.", length)
        jobs.append(Job(prompt, OUTPUT.draw(lengths)))
    return jobs


def cut_text(
    texts: Sequence[str], encode: Callable[[str], list[int]], random_: random.Random, head: str, length: int
) -> list[int]:
    """Exactly `length` token ids: `head`, then texts drawn at random."""
    ids = encode(head)
    while len(ids) < length:
        ids += encode("\n" + random_.choice(texts))
    return ids[:length]


def stratified(jobs: Sequence[Job], count: int, seed: int) -> list[Job]:
    """`count` jobs that represent all: one drawn from each of `count` groups of similar output length."""
    if count >= len(jobs):
        return list(jobs)
    random_ = random.Random(seed)
    ordered = sorted(jobs, key=lambda job: (job.output_tokens, len(job.prompt)))
    bounds = [round(i * len(ordered) / count) for i in range(count + 1)]
    return [random_.choice(ordered[low:high]) for low, high in itertools.pairwise(bounds)]
