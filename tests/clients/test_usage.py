"""Usage as each SDK reports it, made with the SDKs' own types, read into one meaning."""

from __future__ import annotations

from typing import Any

import pytest
from strict_types import check_model

from pageform.clients.usage import read_usage
from pageform.core.completion import Usage


def openai_chat() -> Any:
    from openai.types import CompletionUsage

    return check_model(
        CompletionUsage,
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 10, "image_tokens": 7},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 5},
        },
    )


def openai_responses() -> Any:
    from openai.types.responses import ResponseUsage

    return check_model(
        ResponseUsage,
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
            "output_tokens_details": {"reasoning_tokens": 30},
        },
    )


def anthropic() -> Any:
    from anthropic.types import Usage as AnthropicUsage

    return check_model(
        AnthropicUsage,
        {
            "input_tokens": 10,
            "output_tokens": 50,
            "cache_read_input_tokens": 64,
            "cache_creation_input_tokens": 26,
            "cache_creation": {"ephemeral_1h_input_tokens": 6, "ephemeral_5m_input_tokens": 20},
            "output_tokens_details": {"thinking_tokens": 30},
        },
    )


def cohere() -> Any:
    from cohere.types import Usage as CohereUsage

    tokens, billed = {"input_tokens": 100.0, "output_tokens": 50.0}, {"input_tokens": 90.0, "output_tokens": 50.0}
    return CohereUsage.model_validate({"tokens": tokens, "billed_units": billed, "cached_tokens": 64.0})


def mistral() -> Any:
    from mistralai.client.models import UsageInfo

    return UsageInfo.model_validate(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64},
        }
    )


def genai() -> Any:
    from google.genai.types import GenerateContentResponseUsageMetadata as Metadata

    return Metadata.model_validate(
        {
            "prompt_token_count": 90,
            "tool_use_prompt_token_count": 10,
            "candidates_token_count": 20,
            "thoughts_token_count": 30,
            "cached_content_token_count": 64,
            "total_token_count": 150,
            "prompt_tokens_details": [
                {"modality": "TEXT", "token_count": 73},
                {"modality": "AUDIO", "token_count": 10},
                {"modality": "IMAGE", "token_count": 7},
            ],
        }
    )


DETAILS = {
    openai_chat: {
        "reasoning_tokens": 30,
        "audio_completion_tokens": 5,
        "audio_prompt_tokens": 10,
        "image_prompt_tokens": 7,
    },
    openai_responses: {"reasoning_tokens": 30, "cache_write_tokens": 8},
    anthropic: {"reasoning_tokens": 30, "cache_write_tokens": 26, "cache_write_1h_tokens": 6},
    cohere: {},
    mistral: {},
    genai: {"reasoning_tokens": 30, "audio_prompt_tokens": 10, "image_prompt_tokens": 7},
}


@pytest.mark.parametrize("make", DETAILS, ids=lambda make: make.__name__)
def test_all_prompt_and_completion_tokens_are_counted_once(make: Any) -> None:
    raw = make()
    usage = read_usage(raw)
    assert usage == Usage(100, 50, 64, DETAILS[make])
    assert read_usage(raw.model_dump()) == usage  # as JSON, in a batch's lines


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"prompt_tokens": 3}, Usage(3)),
        ({"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None}, Usage(3)),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8}, Usage(9, 1, 8)),
        ({"billed_units": {"input_tokens": 3, "output_tokens": 4}}, Usage(3, 4)),
        ({"candidates_token_count": 4}, Usage(0, 4)),
        (object(), Usage()),
    ],
)
def test_what_is_missing_counts_as_nothing(raw: Any, usage: Usage) -> None:
    assert read_usage(raw) == usage


def test_details_are_summed_over_attempts() -> None:
    attempts = [Usage(10, 5, 1, {"reasoning_tokens": 3}), Usage(1, 1), Usage(2, 2, 0, {"reasoning_tokens": 1, "x": 4})]
    total = sum(attempts, Usage())
    assert total == Usage(13, 8, 1, {"reasoning_tokens": 4, "x": 4})
    assert attempts[0].details == {"reasoning_tokens": 3}
    assert hash(total) == hash(Usage(13, 8, 1))
