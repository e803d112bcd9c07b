"""What a request gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .confidence import Fields
from .errors import ParameterError

if TYPE_CHECKING:
    from .log import LogEntry


class FinishReason(StrEnum):
    """Why a request ended. `timeout` and `validation` say more in `Completion.detail`."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    TIMEOUT = "timeout"
    ERROR = "error"
    REPETITION = "repetition"
    VALIDATION = "validation"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all attempts together; `cached_tokens` of the prompt tokens came from the prefix cache.

    `details` says more where a provider does, each a number of tokens that the totals above contain already:
    `reasoning_tokens`, `audio_completion_tokens` (of the completion), `audio_prompt_tokens`, `image_prompt_tokens`,
    `cache_write_tokens`, `cache_write_1h_tokens` (of the prompt). Treat it as read-only.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    details: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            _added(self.details, other.details),
        )


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> Mapping[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in (*left, *right)} if right else left


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Raw log-probability (before any processing) of one token, its rank from 1, and the `top` alternatives."""

    token_id: int
    logprob: float
    rank: int
    top: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. `queued` until first scheduled, `first_token` from arrival, `total` from arrival to the end."""

    queued: float = 0.0
    first_token: float | None = None
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an answer, as plain data of bounded size.

    `loc` is the place as Pydantic gives it, `path` the same as it is written in Python, without the names of a union's
    branches; `input` a cut copy of the value found there; `expected` and `suggestion` say in words what belongs there
    and how to mend it, None where nobody knows.
    """

    loc: tuple[int | str, ...]
    path: str
    type: str
    msg: str
    input: Any = None
    expected: str | None = None
    suggestion: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fault as a dict that JSON can carry, but for the tuple `loc`."""
        return {name: getattr(self, name) for name in self.__slots__}

    def below(self) -> Fault:
        """The fault as seen from the item of a list that it lies in: without the first step of its place."""
        return replace(self, loc=self.loc[1:], path=self.path.partition("]")[2].removeprefix("."))

    def __str__(self) -> str:
        shown = repr(self.input)
        got = f" (got {shown})" if self.input is not None and len(shown) <= 80 else ""
        mend = f". {self.suggestion}" if self.suggestion else ""
        return f"{self.path or 'the answer'}: {self.msg}{got}{mend}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a validated answer: the text, and the error that rejected it (None for the accepted one).

    `response` is what the provider sent, where there is one; `faults` are those of `error`."""

    number: int
    text: str
    error: Exception | None
    usage: Usage = Usage()
    finish_reason: FinishReason | None = None
    response: Any = field(default=None, compare=False, repr=False)
    faults: tuple[Fault, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rewind:
    """A value that was rejected the moment it closed, and decoded again: its place, its JSON, what was wrong with it,
    and which try it was, from 1."""

    path: str
    value: str
    error: Exception
    number: int


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model called.

    `arguments` is the validated value: an instance of the class that stands for the tool, the keyword arguments of a
    function, or a dict under a JSON schema. `text` is its JSON as the model wrote it.
    """

    id: str
    name: str
    arguments: Any
    text: str


@dataclass(frozen=True, slots=True)
class Completion:
    """The outcome of one request. With `n > 1`, `choices` holds all samples and the other fields are the first's."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    usage: Usage = Usage()
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    timings: Timings = Timings()
    attempts: list[Attempt] = field(default_factory=list)
    request_id: str = ""
    prompt_token_ids: list[int] = field(default_factory=list)
    detail: str | None = None
    """More about the finish: the deadline that passed, the stop string or token, the error's text."""
    stop: str | int | None = None
    choices: list[Completion] = field(default_factory=list)
    error: BaseException | None = None
    parsed: Any = None
    rewinds: list[Rewind] = field(default_factory=list)
    """Values that were decoded again; with several attempts, those of the last."""
    rewound_tokens: int = 0
    """Tokens that were decoded and thrown away; `token_ids` and `usage` hold what was kept."""
    log: list[LogEntry] = field(default_factory=list, compare=False, repr=False)
    """What happened to the output, in order: every token that came, what was taken back and why, the end."""
    reasoning: str | None = None
    """The model's thoughts, which are no part of `text`; None without `reasoning`. `usage.details` counts their tokens
    as `reasoning_tokens`; `token_ids` and `usage.completion_tokens` have them too."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    """The tools that the model called, in order; their wording is no part of `text`."""
    scores: Fields | None = field(default=None, repr=False)
    """What `fields` gives; None without `confidence=True`."""

    @property
    def fields(self) -> Fields:
        """How sure the model was of each value of the answer: `fields["lines[0].price"].confidence`.

        Raises ParameterError if that was not asked for.
        """
        if self.scores is None:
            raise ParameterError(
                "confidence", False, "was not asked for", "Pass confidence=True, or SamplingParams(confidence=True)."
            )
        return self.scores
