"""Batches: many requests for values of one type, answered some time later, here or at a provider.

Owns the state files. A job is worked on by one process at a time, which may die at any moment; whoever opens it next
goes on. Answers are judged by the retry loop of `structured`, as those of every other client. A backend (`base`) is a
provider's batch service or an engine in this process; it holds the caller's SDK client or engine, and no state.
"""

from typing import Any

from .engine import EngineBatches
from .job import Batch, find_job, list_jobs
from .results import BatchStatus, LineFailed, LineResult, NoAnswer, ProviderRejected
from .store import JobBusyError

__all__ = [
    "AnthropicBatches",
    "Batch",
    "BatchStatus",
    "EngineBatches",
    "JobBusyError",
    "LineFailed",
    "LineResult",
    "NoAnswer",
    "OpenAIBatches",
    "ProviderRejected",
    "find_job",
    "list_jobs",
]


def __getattr__(name: str) -> Any:
    """Providers, imported when they are used."""
    if name == "OpenAIBatches":
        from .openai import OpenAIBatches

        return OpenAIBatches
    if name == "AnthropicBatches":
        from .anthropic import AnthropicBatches

        return AnthropicBatches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
