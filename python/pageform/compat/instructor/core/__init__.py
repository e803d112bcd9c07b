"""Instructor's exceptions and hooks, where its programs import them from."""

from .exceptions import (
    AsyncValidationError,
    ClientError,
    ConfigurationError,
    FailedAttempt,
    IncompleteOutputException,
    InstructorError,
    InstructorRetryException,
    ModeError,
    MultimodalError,
    ProviderError,
    ResponseParsingError,
    TokenBudgetError,
    TokenBudgetExceeded,
    TokenUsageUnavailableError,
    ValidationError,
)
from .hooks import HookName, Hooks

__all__ = [
    "AsyncValidationError",
    "ClientError",
    "ConfigurationError",
    "FailedAttempt",
    "HookName",
    "Hooks",
    "IncompleteOutputException",
    "InstructorError",
    "InstructorRetryException",
    "ModeError",
    "MultimodalError",
    "ProviderError",
    "ResponseParsingError",
    "TokenBudgetError",
    "TokenBudgetExceeded",
    "TokenUsageUnavailableError",
    "ValidationError",
]
