"""What the tests of suspending and resuming share: settings, a type whose values fail, and what is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field
from stepped import SteppedEngine
from tiny import write_tiny_llama

from pageform import Completion, Engine, RequestSuspended, SamplingParams
from pageform.core.log import TokenEntry
from pageform.engine.options import TypedOptions
from pageform.engine.typed import TypedCall

SETTINGS: dict[str, Any] = {"threads": 1, "max_model_len": 1024, "kv_cache_memory": "1MB"}
LONG = SamplingParams(temperature=0.7, seed=3, max_tokens=180, ignore_eos=True)


def write_model(folder: Path, seed: int = 3) -> Path:
    return write_tiny_llama(folder, layers=1, seed=seed, positions=1024)


def seen(completion: Completion) -> list[tuple[Any, ...]]:
    """All of a completion that is a function of the request, of every sample."""
    return [
        (
            c.token_ids,
            c.text,
            c.finish_reason,
            c.stop,
            c.detail,
            c.logprobs,
            c.prompt_logprobs,
            c.rewound_tokens,
            [(one.path, one.value, one.number, str(one.error)) for one in c.rewinds],
            [(e.id, e.origin) if isinstance(e, TokenEntry) else e for e in c.log],
        )
        for c in completion.choices or [completion]
    ]


judged: list[int] = []
"""The values that the validators of `Reading` were asked about."""


def third(value: int) -> int:
    judged.append(value)
    if value % 3:
        raise ValueError(f"{value} is no multiple of 3")
    return value


class Part(BaseModel):
    size: Annotated[int, Field(ge=0, le=99), AfterValidator(third)]
    unit: Literal["mm", "cm"]


class Reading(BaseModel):
    """A form whose values mostly fail at first."""

    name: Annotated[str, Field(max_length=5)]
    parts: Annotated[list[Part], Field(min_length=2, max_length=2)]
    total: Annotated[int, Field(ge=0, le=999), AfterValidator(third)]


def typed_call(engine: Engine, seed: int, **options: Any) -> TypedCall[Any]:
    params = SamplingParams(temperature=0.8 if seed % 2 else 0.0, seed=seed, max_tokens=100)
    return TypedCall(engine, engine.form(Reading), [5 + seed, 9, 7], params, TypedOptions(**options))


def typed_outcome(engine: SteppedEngine, call: TypedCall[Any], ticket: Any, limit: int | None = None) -> Any:
    """What became of the call: its value or its error, with all attempts; or its ticket after `limit` steps."""
    try:
        left = engine.answer(call, ticket, limit)
    except RequestSuspended:
        raise
    except Exception as error:
        told = [(a.number, a.text, a.usage.completion_tokens) for a in error.attempts]  # type: ignore[attr-defined]
        return type(error), str(error), told
    return left if left is not None else (call.value, seen(call.completion))
