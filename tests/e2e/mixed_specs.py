"""The requests of mixed_walk.py: what their answers depend on is drawn, of every kind some."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field
from stepped import SteppedEngine

from pageform import RepetitionDetection, RewindOptions, SamplingParams
from pageform.engine.options import TypedOptions
from pageform.engine.ticket import Ticket
from pageform.engine.typed import TypedCall


def even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


def third(value: int) -> int:
    if value % 3:
        raise ValueError("must be divisible by 3")
    return value


def short(value: str) -> str:
    if len(value.encode()) > 3:
        raise ValueError("must be short")
    return value


class Pair(BaseModel):
    a: Annotated[int, Field(ge=0, le=99), AfterValidator(even)]
    b: Annotated[str, Field(max_length=4), AfterValidator(short)]


Rows = Annotated[list[Annotated[int, Field(ge=0, le=99), AfterValidator(third)]], Field(min_length=2, max_length=12)]
"""Digits that end a valid number end others, too: drafts behind a value that fails are often right, and don't count."""
TYPES: tuple[Any, ...] = (Pair, Rows, Literal["left", "right"])
GRAMMARS: tuple[dict[str, Any], ...] = (
    {"regex": r"(yes|no)(, (yes|no)){0,5}"},
    {"choice": ["approximately right", "approximately wrong", "certain"]},
    {"json_schema": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}},
    {
        "json_schema": {
            "type": "object",
            "properties": {"kind": {"const": "measurement"}, "value": {"type": ["integer", "null"]}},
            "required": ["kind", "value"],
        }
    },
)


@dataclass(frozen=True, slots=True)
class Spec:
    """A request as it is drawn: what its answer depends on."""

    prompt: list[int]
    params: SamplingParams
    type: Any = None

    def call(self, engine: SteppedEngine, **changes: Any) -> TypedCall[Any] | None:
        if self.type is None:
            return None
        options = TypedOptions(max_retries=1, rewind=RewindOptions(tries=3, max_rewound_tokens=60))
        return TypedCall(engine, engine.form(self.type), self.prompt, self.params.with_(**changes), options)

    def ticket(self, engine: SteppedEngine, call: TypedCall[Any] | None, **changes: Any) -> Ticket:
        if call is not None:
            return call.next_ticket()
        return engine.ticket(self.prompt, self.params.with_(**changes))


def make_spec(draw: random.Random, number: int) -> Spec:
    words = [[draw.randint(3, 258) for _ in range(draw.randint(2, 6))] for _ in range(3)]
    prompt = [token for _ in range(draw.randint(1, 10)) for token in draw.choice(words)]
    options: dict[str, Any] = {
        "max_tokens": draw.choice([1, 4, 12, 30, 60]),
        "temperature": draw.choice([0.0, 0.5, 0.9]),
        "seed": number,
        "ignore_eos": draw.random() < 0.3,
    }
    for chance, more in (
        (0.2, {"repetition_penalty": 1.3, "presence_penalty": 0.4}),
        (0.2, {"logprobs": 2}),
        (0.1, {"prompt_logprobs": 1}),
        (0.1, {"top_k": 20, "top_p": 0.9}),
        (0.1, {"repetition_detection": RepetitionDetection(max_pattern=4, min_count=3)}),
    ):
        if draw.random() < chance:
            options |= more
    kind = draw.choice(["typed", "typed", "grammar", "grammar", "few tokens", "free", "stop"])
    if kind == "typed":
        options["max_tokens"] = max(40, options["max_tokens"])
        return Spec(prompt[:20], SamplingParams(**options), draw.choice(TYPES))
    if options["temperature"] and draw.random() < 0.2:
        options["n"] = 3
    if kind == "grammar":
        options |= draw.choice(GRAMMARS)
    elif kind == "few tokens":  # so that texts repeat themselves
        options["allowed_token_ids"] = draw.sample(range(3, 259), draw.choice([2, 3, 5]))
    elif kind == "stop":
        options["stop"] = [chr(draw.randint(33, 126)) for _ in range(4)]
    return Spec(prompt, SamplingParams(**options))
