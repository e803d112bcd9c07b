"""Tokens as the SDKs report them, read into `Usage`.

Providers count differently: Anthropic's input tokens leave out cached ones, Google's output tokens leave out thoughts.
`Usage` has one meaning: `prompt_tokens` are all tokens of the prompt, `completion_tokens` all that were made.
"""

from __future__ import annotations

from typing import Any

from ..core.completion import Usage


def read_usage(raw: Any) -> Usage:
    """The usage object (or dict) of any SDK as a `Usage`; an empty one for None, and for fields that are not there.

    Takes those of OpenAI's chat and Responses APIs and all that speak them (Groq, Mistral, LiteLLM …), Anthropic,
    Cohere and Google GenAI; told apart by their fields.
    """
    if raw is None:
        return Usage()
    if _get(raw, "prompt_token_count") is not None or _get(raw, "candidates_token_count") is not None:
        return _genai(raw)
    if _get(raw, "tokens") is not None or _get(raw, "billed_units") is not None:
        return _cohere(raw)
    if _get(raw, "input_tokens") is None and _get(raw, "output_tokens") is None:
        return _openai(raw, "prompt", "completion")
    if _get(raw, "input_tokens_details") is not None or _get(raw, "total_tokens") is not None:
        return _openai(raw, "input", "output")
    return _anthropic(raw)


def _openai(raw: Any, prompt: str, completion: str) -> Usage:
    of_prompt, of_completion = _get(raw, f"{prompt}_tokens_details"), _get(raw, f"{completion}_tokens_details")
    # DeepSeek reports its cache beside the totals.
    cached = _count(of_prompt, "cached_tokens") or _count(raw, "prompt_cache_hit_tokens")
    return _usage(
        _count(raw, f"{prompt}_tokens"),
        _count(raw, f"{completion}_tokens"),
        cached,
        reasoning_tokens=_count(of_completion, "reasoning_tokens"),
        audio_completion_tokens=_count(of_completion, "audio_tokens"),
        audio_prompt_tokens=_count(of_prompt, "audio_tokens"),
        image_prompt_tokens=_count(of_prompt, "image_tokens"),
        cache_write_tokens=_count(of_prompt, "cache_write_tokens"),
    )


def _anthropic(raw: Any) -> Usage:
    read, written = _count(raw, "cache_read_input_tokens"), _count(raw, "cache_creation_input_tokens")
    return _usage(
        _count(raw, "input_tokens") + read + written,
        _count(raw, "output_tokens"),
        read,
        reasoning_tokens=_count(_get(raw, "output_tokens_details"), "thinking_tokens"),
        cache_write_tokens=written,
        cache_write_1h_tokens=_count(_get(raw, "cache_creation"), "ephemeral_1h_input_tokens"),
    )


def _cohere(raw: Any) -> Usage:
    tokens = _get(raw, "tokens") or _get(raw, "billed_units")
    return _usage(_count(tokens, "input_tokens"), _count(tokens, "output_tokens"), _count(raw, "cached_tokens"))


def _genai(raw: Any) -> Usage:
    thoughts = _count(raw, "thoughts_token_count")
    of_prompt, of_candidates = _get(raw, "prompt_tokens_details"), _get(raw, "candidates_tokens_details")
    return _usage(
        _count(raw, "prompt_token_count") + _count(raw, "tool_use_prompt_token_count"),
        _count(raw, "candidates_token_count") + thoughts,
        _count(raw, "cached_content_token_count"),
        reasoning_tokens=thoughts,
        audio_completion_tokens=_of_modality(of_candidates, "AUDIO"),
        audio_prompt_tokens=_of_modality(of_prompt, "AUDIO"),
        image_prompt_tokens=_of_modality(of_prompt, "IMAGE"),
    )


def _usage(prompt: int, completion: int, cached: int, **details: int) -> Usage:
    return Usage(prompt, completion, cached, {name: count for name, count in details.items() if count})


def _get(raw: Any, name: str) -> Any:
    return raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)


def _count(raw: Any, name: str) -> int:
    """A number of tokens; 0 where there is none (SDKs also say None or a placeholder of their own)."""
    value = None if raw is None else _get(raw, name)
    return int(value) if isinstance(value, (int, float)) else 0


def _of_modality(details: Any, modality: str) -> int:
    """Google counts by modality in a list; the modality is an enum or its text."""
    entries = details if isinstance(details, (list, tuple)) else ()
    return sum(_count(entry, "token_count") for entry in entries if _modality(entry) == modality)


def _modality(entry: Any) -> str:
    value = _get(entry, "modality")
    return str(getattr(value, "value", value)).upper()
