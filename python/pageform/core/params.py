"""Sampling parameters: what a caller may ask of one request. Checked here as far as no model is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .confidence import ConfidenceOptions
from .drafts import check_draft_mode
from .errors import ParameterError
from .reasoning import Reasoning

LogitsProcessor = Callable[[list[int], Any], Any]
"""(output token ids so far, float32 logits [vocab]) -> logits [vocab]; may change the array in place."""


@dataclass(frozen=True, slots=True)
class RepetitionDetection:
    """Finish with reason `repetition` once the output ends in `min_count` copies of one pattern.

    Patterns of `min_pattern` to `max_pattern` tokens are looked for after each token.
    """

    max_pattern: int = 32
    min_pattern: int = 1
    min_count: int = 8

    def __post_init__(self) -> None:
        for name, low in (("max_pattern", 1), ("min_pattern", 1), ("min_count", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ParameterError(f"repetition_detection.{name}", value, f"must be an integer of at least {low}", "")
        if self.min_pattern > self.max_pattern:
            raise ParameterError(
                "repetition_detection.min_pattern", self.min_pattern, "exceeds max_pattern", "Swap or lower it."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one request is sampled, stopped and scheduled. Names and meanings follow vLLM where it has them.

    temperature 0 is greedy. `max_tokens=None` means the rest of the context. `seed=None` takes one from the engine's
    own seed and the request's arrival number, so that runs repeat. Deadlines are in seconds from arrival:
    `queue_timeout` until first scheduled, `first_token_timeout` until the first token, `timeout` until the end; a
    missed one finishes the request with reason `timeout` and keeps what was decoded. A higher `priority` is served
    first. At most one of `json_schema`, `regex`, `choice`, `grammar` (Lark) may be given.

    `drafts` overrides the engine's draft mode; no mode changes a result. `forced="accept"` does: text that the grammar
    leaves no choice about is appended without asking the model, so it has no log-probabilities.

    `confidence` measures how sure the model is of each value of the answer: `Completion.fields`.

    With `reasoning` the model thinks before it answers: freely until the end tag, which no grammar constrains, and only
    then under the request's grammar. True takes the tags from the chat template, `Reasoning(start, end)` names them;
    False tells templates that know the choice (`enable_thinking`) not to. After `thinking_token_budget` tokens of
    thoughts the end tag is forced.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    bad_words: Sequence[str] = ()
    skip_special_tokens: bool = True
    priority: int = 0
    queue_timeout: float | None = None
    first_token_timeout: float | None = None
    timeout: float | None = None
    cache_salt: str | None = None
    repetition_detection: RepetitionDetection | None = None
    logits_processors: Sequence[LogitsProcessor] = ()
    json_schema: Mapping[str, Any] | str | bool | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    grammar: str | None = None
    drafts: str | None = None
    forced: str = "verify"
    confidence: bool | ConfidenceOptions = False
    reasoning: bool | Reasoning | None = None
    thinking_token_budget: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        _check(self)

    def with_(self, **changes: Any) -> SamplingParams:
        """A copy with some fields changed (and checked)."""
        return replace(self, **changes)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


MAX_LOGPROBS = 100
"""Upper bound of `logprobs`: a wider table would cost more than the step that fills it."""


def _check(p: SamplingParams) -> None:
    _number(p, "temperature", 0.0, math.inf, "Give 0 for greedy decoding or a positive number.")
    _number(p, "top_p", 0.0, 1.0, "Give a number in (0, 1]; 1 turns it off.", low_open=True)
    _number(p, "min_p", 0.0, 1.0, "Give a number in [0, 1]; 0 turns it off.")
    _integer(p, "top_k", -1, "Give 0 (or -1) for all tokens, or a positive count.")
    _number(p, "presence_penalty", -2.0, 2.0, "Give a number in [-2, 2].")
    _number(p, "frequency_penalty", -2.0, 2.0, "Give a number in [-2, 2].")
    _number(p, "repetition_penalty", 0.0, math.inf, "Give a positive number; 1 turns it off.", low_open=True)
    if p.seed is not None:
        _integer(p, "seed", None, "Give an integer or None.")
    if p.max_tokens is not None:
        _integer(p, "max_tokens", 1, "Give a positive integer, or None for the rest of the context.")
    _integer(p, "min_tokens", 0, "Give a non-negative integer.")
    if p.max_tokens is not None and p.min_tokens > p.max_tokens:
        raise ParameterError("min_tokens", p.min_tokens, f"exceeds max_tokens={p.max_tokens}", "Lower min_tokens.")
    _integer(p, "n", 1, "Give the number of samples wanted.")
    if p.n > 1 and p.greedy:
        raise ParameterError("n", p.n, "greedy decoding repeats itself", "Set temperature above 0, or n=1.")
    for name in ("logprobs", "prompt_logprobs"):
        value = getattr(p, name)
        if value is not None:
            _integer(p, name, 0, "Give the number of alternatives per token, or None.")
            if value > MAX_LOGPROBS:
                raise ParameterError(name, value, f"at most {MAX_LOGPROBS} alternatives are supported", "Lower it.")
    _integer(p, "priority", None, "Give an integer; higher is served first.")
    for name in ("queue_timeout", "first_token_timeout", "timeout"):
        if getattr(p, name) is not None:
            _number(p, name, 0.0, math.inf, "Give seconds above 0, or None.", low_open=True)
    for name in ("stop", "bad_words"):
        for text in _sequence(p, name):
            if not isinstance(text, str) or not text:
                raise ParameterError(name, text, "must hold non-empty strings", "Remove the empty or non-text entry.")
    for name in ("stop_token_ids", "allowed_token_ids"):
        if getattr(p, name) is not None:
            for token in _sequence(p, name):
                if not isinstance(token, int) or isinstance(token, bool) or token < 0:
                    raise ParameterError(name, token, "must hold token ids, 0 or more", "Correct the entry.")
    if p.allowed_token_ids is not None and len(p.allowed_token_ids) == 0:
        raise ParameterError("allowed_token_ids", [], "allows no token at all", "Leave it None to allow all.")
    for token, bias in (p.logit_bias or {}).items():
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise ParameterError("logit_bias", token, "keys must be token ids", "Use integer token ids as keys.")
        if not isinstance(bias, (int, float)) or isinstance(bias, bool) or math.isnan(bias) or bias == math.inf:
            raise ParameterError(f"logit_bias[{token}]", bias, "must be a number below infinity", "Give a finite bias.")
    for name in ("ignore_eos", "include_stop_str_in_output", "skip_special_tokens"):
        if not isinstance(getattr(p, name), bool):
            raise ParameterError(name, getattr(p, name), "must be True or False", "Give a bool.")
    if p.repetition_detection is not None and not isinstance(p.repetition_detection, RepetitionDetection):
        raise ParameterError(
            "repetition_detection", p.repetition_detection, "has another type", "Pass RepetitionDetection(…)."
        )
    for processor in _sequence(p, "logits_processors"):
        if not callable(processor):
            raise ParameterError("logits_processors", processor, "is not callable", "Pass functions of (ids, logits).")
    if p.cache_salt is not None and not isinstance(p.cache_salt, str):
        raise ParameterError("cache_salt", p.cache_salt, "must be text", "Give a string or None.")
    if not isinstance(p.confidence, (bool, ConfidenceOptions)):
        raise ParameterError("confidence", p.confidence, "must be a bool or ConfidenceOptions", "Give True or False.")
    if p.drafts is not None:
        check_draft_mode("drafts", p.drafts)
    if p.forced not in ("verify", "accept"):
        raise ParameterError("forced", p.forced, "is not known", 'Use "verify" or "accept".')
    if p.forced == "accept" and p.logprobs is not None:
        raise ParameterError(
            "logprobs", p.logprobs, 'can\'t be had with forced="accept": the model is not asked', 'Use forced="verify".'
        )
    if p.reasoning is not None and not isinstance(p.reasoning, (bool, Reasoning)):
        raise ParameterError("reasoning", p.reasoning, "has another type", "Give True, False or Reasoning(start, end).")
    if p.thinking_token_budget is not None:
        _integer(p, "thinking_token_budget", 0, "Give the number of tokens that thoughts may take.")
        if not p.reasoning:
            remedy = "Set reasoning=True, or leave it out."
            raise ParameterError("thinking_token_budget", p.thinking_token_budget, "needs reasoning", remedy)
    given = [name for name in ("json_schema", "regex", "choice", "grammar") if getattr(p, name) is not None]
    if len(given) > 1:
        raise ParameterError(given[1], getattr(p, given[1]), f"can't be combined with {given[0]}", "Give one of them.")


def _number(p: SamplingParams, name: str, low: float, high: float, remedy: str, low_open: bool = False) -> None:
    value = getattr(p, name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ParameterError(name, value, "must be a number", remedy)
    if math.isnan(value):
        raise ParameterError(name, value, "is not a number (NaN)", remedy)
    if value < low or value > high or (low_open and value == low) or (high == math.inf and value == math.inf):
        raise ParameterError(name, value, "is out of range", remedy)


def _integer(p: SamplingParams, name: str, low: int | None, remedy: str) -> None:
    value = getattr(p, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ParameterError(name, value, "must be an integer", remedy)
    if low is not None and value < low:
        raise ParameterError(name, value, f"must be at least {low}", remedy)


def _sequence(p: SamplingParams, name: str) -> Sequence[Any]:
    value = getattr(p, name)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ParameterError(name, value, "must be a list", "Wrap it in a list.")
    return value
