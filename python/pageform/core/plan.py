"""What crosses between scheduler and executor: plain msgspec structs, so that an executor may live anywhere."""

from __future__ import annotations

from typing import Any

import msgspec


class RowSampling(msgspec.Struct, frozen=True, gc=False):
    """The constant part of how a request's rows are sampled. See `PfSampling` in csrc/runtime/backend.h."""

    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    num_logprobs: int = -1
    defer: bool = False
    """Sampling waits for a Python logits processor."""
    weigh: bool = False
    """Also measure the probability mass that the row's mask allows, which takes the logits of all tokens."""

    @property
    def needs_counts(self) -> bool:
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


class RowPlan(msgspec.Struct, gc=False):
    """One row of logits.

    `offset` is the index within the sequence's chunk whose hidden state makes the row. `target` is -1 to sample, or the
    token to score (prompt logprobs). `position` is the index of the sampled token in the request's output; with
    `stream` (sample index and attempt) and the seed it determines the noise.
    """

    request: int
    offset: int
    sampling: RowSampling
    position: int = 0
    stream: int = 0
    target: int = -1
    bias: dict[int, float] | None = None
    """Added to the logits; -inf forbids a token (logit_bias, bad words, min_tokens)."""
    counts: dict[int, int] | None = None
    """Occurrences in the output of each token seen in prompt or output, where a penalty needs them."""
    mask: int = -1
    """Row of the step's grammar masks, -1 for none."""


class SeqPlan(msgspec.Struct, gc=False):
    """One request's share of a step: `tokens` are computed at positions start, start+1, …

    The last `num_drafts` of them are guesses: the row of the token before each samples what it should be.
    """

    request: int
    start: int
    tokens: list[int]
    blocks: list[int]
    rows: list[RowPlan]
    num_drafts: int = 0
    prompt_len: int = 0
    """Tokens of the request's prompt: positions below are not generated ones."""


class StepPlan(msgspec.Struct):
    """One step. `request` everywhere is the request's `index`: unique in an engine and never reused."""

    step_id: int
    seqs: list[SeqPlan]
    copies: list[tuple[int, int]] = []
    """Cache blocks (source, destination) to copy, in this order, before anything is written."""

    @property
    def num_tokens(self) -> int:
        return sum(len(seq.tokens) for seq in self.seqs)


class RowResult(msgspec.Struct, gc=False):
    """What came of one `RowPlan`. `error` is set where the row has no token.

    Where rows are weighed, `log_allowed` is the log of the raw probability mass that the mask allows, and
    `allowed_logprob` the token's log-probability among what it allows.
    """

    request: int
    token: int
    logprob: float = 0.0
    rank: int = 0
    top: list[tuple[int, float]] | None = None
    error: str | None = None
    log_allowed: float = 0.0
    allowed_logprob: float = 0.0


class StepResult(msgspec.Struct):
    """Rows in the order of the plan: seqs in order, each seq's rows in order."""

    step_id: int
    rows: list[RowResult]
    logits: dict[int, Any] | None = None
    """Raw logits [vocab] (float32 arrays) of deferred rows, by index in `rows`; they wait for a Python processor."""
    seconds: float = 0.0
    """What the step took on its device."""
