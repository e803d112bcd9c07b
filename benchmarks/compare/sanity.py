"""Whether answers make sense: right lengths, real text, the same beginnings as transformers' greedy answers.

Engines that quantize differently part ways after some tokens, so equality is not asked for. But greedy answers of one
model agree at first; an engine whose answers seldom begin as the reference's does not run this model.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import jsonschema

from ..job import Answer, Job

Decode = Callable[[list[int]], str]
AGREEING = 6
"""Characters of an answer, a token or two, that must be the reference's for it to begin alike."""
REQUIRED_SHARE = 0.25
"""Share of answers that must begin alike. Of 4-bit weights that were quantized again, four to nine in ten do."""
ENOUGH = 8
"""Answers below which a share is told, but not judged."""


def faults(jobs: Sequence[Job], answers: Sequence[Answer], decode: Decode) -> list[str]:
    """What is wrong with answers by themselves; one line a fault."""
    found = []
    for number, (job, answer) in enumerate(zip(jobs, answers, strict=True)):
        wanted = f"{job.output_tokens} tokens"
        if job.schema is None and answer.count != job.output_tokens:
            found.append(f"job {number} has {answer.count} tokens instead of {wanted}")
        elif not 0 < answer.count <= job.output_tokens:
            found.append(f"job {number} has {answer.count} tokens, of at most {wanted}")
        elif not text_of(answer, decode).strip():
            found.append(f"job {number} has no text")
    return found


def text_of(answer: Answer, decode: Decode) -> str:
    """The answer's text, by the one tokenizer where the engine gives tokens."""
    return decode(answer.tokens) if answer.tokens else answer.text


def agreement(answers: Sequence[Answer], reference: Sequence[Answer], decode: Decode) -> tuple[float, float]:
    """(share of answers that begin as the reference's, mean number of characters that agree from the start)."""
    common = []
    for answer, other in zip(answers, reference, strict=True):
        mine, theirs = text_of(answer, decode), text_of(other, decode)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=False)))
        common.append((same, min(AGREEING, len(theirs))))
    alike = sum(same >= needed for same, needed in common)
    return alike / len(common), sum(same for same, _ in common) / len(common)


def is_valid(answer: Answer, schema: dict[str, Any], decode: Decode) -> bool:
    """Whether the whole text is JSON by the schema."""
    try:
        jsonschema.validate(json.loads(text_of(answer, decode)), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
