"""Checks of a request against the model it is for, made once before the request exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import ParameterError
from ..core.params import SamplingParams


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a request must respect: vocabulary size in tokens, context length in tokens, seats in a step."""

    vocab_size: int
    max_model_len: int
    max_num_seqs: int


def check_against_model(params: SamplingParams, prompt_ids: Sequence[int], limits: ModelLimits) -> int:
    """Returns the resolved `max_tokens`; raises ParameterError naming the field that does not fit the model."""
    length = len(prompt_ids)
    if length == 0:
        raise ParameterError("prompt", "", "is empty", "Give at least one token of text (or a BOS token id).")
    for token in prompt_ids:
        if not isinstance(token, int) or isinstance(token, bool):
            raise ParameterError("prompt", token, "holds something that is not a token id", "Use integers only.")
        _in_vocabulary("prompt", token, limits)
    if length >= limits.max_model_len:
        raise ParameterError(
            "prompt",
            f"<{length} tokens>",
            f"leaves no room for an answer in the context of {limits.max_model_len} tokens",
            "Shorten the prompt, or make the engine with a larger max_model_len if the model allows it.",
        )
    room = limits.max_model_len - length
    if params.max_tokens is not None and params.max_tokens > room:
        raise ParameterError(
            "max_tokens",
            params.max_tokens,
            f"with a prompt of {length} tokens exceeds the context of {limits.max_model_len}",
            f"Use at most {room}, or None for the rest of the context.",
        )
    if params.min_tokens > room:
        raise ParameterError(
            "min_tokens", params.min_tokens, f"exceeds the {room} tokens left in the context", "Lower it."
        )
    if params.n > limits.max_num_seqs:
        raise ParameterError(
            "n", params.n, f"exceeds max_num_seqs={limits.max_num_seqs}", "Ask for fewer samples or raise max_num_seqs."
        )
    for token in params.stop_token_ids:
        _in_vocabulary("stop_token_ids", token, limits)
    for token in params.allowed_token_ids or ():
        _in_vocabulary("allowed_token_ids", token, limits)
    for token in params.logit_bias or ():
        _in_vocabulary("logit_bias", token, limits)
    return room if params.max_tokens is None else params.max_tokens


def _in_vocabulary(field: str, token: int, limits: ModelLimits) -> None:
    if not 0 <= token < limits.vocab_size:
        raise ParameterError(
            field,
            token,
            f"is outside the vocabulary of {limits.vocab_size} tokens",
            "Use ids of this model's tokenizer.",
        )
