"""Limits of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """`max_num_seqs` requests run at once, a step computes at most `max_num_batched_tokens` tokens and at most
    `prefill_chunk` of one request (None: no limit of its own). `max_model_len` bounds prompt and output together.
    Requests beyond `max_queued_requests`, or prompts beyond `max_queued_tokens` in total, are refused (None: no limit).
    A step carries at most `max_draft_tokens` drafts of one request (0: none).
    `watermark` is the share of the blocks that stays free when a request is admitted, as room for the others to grow.
    """

    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_model_len: int = 4096
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None
    prefill_chunk: int | None = None
    watermark: float = 0.01
    max_draft_tokens: int = 16

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len"):
            _at_least_one(name, getattr(self, name))
        for name in ("max_queued_requests", "max_queued_tokens", "prefill_chunk"):
            if getattr(self, name) is not None:
                _at_least_one(name, getattr(self, name))
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ParameterError(
                "max_num_batched_tokens",
                self.max_num_batched_tokens,
                f"is below max_num_seqs={self.max_num_seqs}, so that not every running request gets a token each step",
                "Raise it, or lower max_num_seqs.",
            )
        drafts = self.max_draft_tokens
        if not isinstance(drafts, int) or isinstance(drafts, bool) or drafts < 0:
            raise ParameterError("max_draft_tokens", drafts, "must be an integer of at least 0", "Give 0 for none.")
        if not 0.0 <= self.watermark < 1.0:
            raise ParameterError("watermark", self.watermark, "is not in [0, 1)", "Give a share such as 0.01.")


def _at_least_one(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ParameterError(name, value, "must be a positive integer", "Give 1 or more.")
