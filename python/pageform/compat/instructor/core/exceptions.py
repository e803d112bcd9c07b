"""Instructor's exceptions, and how pageform's errors become them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ....core.errors import PageformError, ParameterError
from ....structured import errors as own


class InstructorError(Exception):
    """Base of all. `failed_attempts` holds what was tried."""

    def __init__(self, *args: Any, failed_attempts: list[FailedAttempt] | None = None) -> None:
        self.failed_attempts = list(failed_attempts or [])
        super().__init__(*args)


class FailedAttempt(NamedTuple):
    """One attempt: its number from 1, what was wrong with it, and the provider's response."""

    attempt_number: int
    exception: Exception
    completion: Any = None


class InstructorRetryException(InstructorError):
    """No valid answer came. `__cause__` is the last error."""

    def __init__(
        self,
        *args: Any,
        last_completion: Any = None,
        messages: list[Any] | None = None,
        n_attempts: int,
        total_usage: Any,
        create_kwargs: dict[str, Any] | None = None,
        failed_attempts: list[FailedAttempt] | None = None,
    ) -> None:
        self.last_completion, self.messages, self.n_attempts = last_completion, messages, n_attempts
        self.total_usage, self.create_kwargs = total_usage, create_kwargs
        super().__init__(*args, failed_attempts=failed_attempts)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), self.args, {k: v for k, v in self.__dict__.items() if k != "__notes__"}))


class IncompleteOutputException(InstructorError):
    """The answer was cut off by a limit of tokens. It is not asked for again."""

    def __init__(self, *args: Any, last_completion: Any = None, message: str = "The output is incomplete.") -> None:
        self.last_completion = last_completion
        super().__init__(*(args or (message,)))


class ValidationError(InstructorError):
    """An answer is not valid."""


class AsyncValidationError(ValueError, InstructorError):
    """An async validator failed."""


class ProviderError(InstructorError):
    """A provider's answer can't be read."""

    def __init__(self, provider: str, message: str) -> None:
        self.provider = provider
        super().__init__(f"{provider}: {message}")


class ConfigurationError(InstructorError):
    """A client was asked for wrongly."""


class ModeError(InstructorError):
    """A provider does not have a mode."""


class ClientError(InstructorError):
    """An object is no client that is known."""


class ResponseParsingError(ValueError, InstructorError):
    """An answer has not the form that was asked for."""


class MultimodalError(ValueError, InstructorError):
    """A picture, sound or document can't be used."""


class TokenBudgetError(InstructorError):
    """Something about `token_budget`."""


class TokenBudgetExceeded(TokenBudgetError):
    """The attempts used it up."""


class TokenUsageUnavailableError(TokenBudgetError):
    """The provider reports no usage to count against it."""


def translated(error: Exception, kwargs: dict[str, Any]) -> Exception:
    """The exception that Instructor has for an error of pageform or of an SDK."""
    if isinstance(error, own.IncompleteOutput):
        last = error.attempts[-1].response if error.attempts else None
        return IncompleteOutputException(str(error), last_completion=last)
    if isinstance(error, (own.TokenBudgetExceeded, own.UsageUnavailable)):
        kind = TokenBudgetExceeded if isinstance(error, own.TokenBudgetExceeded) else TokenUsageUnavailableError
        return kind(str(error), failed_attempts=_failed(error))
    if isinstance(error, own.StructuredError):
        return _retry(error, _failed(error), error.usage, kwargs)
    if isinstance(error, own.ModeError):
        return ModeError(str(error))
    if isinstance(error, own.ClientError):
        return ClientError(str(error))
    if isinstance(error, own.ConfigurationError):
        return ConfigurationError(str(error))
    if isinstance(error, own.ProviderError):
        return ProviderError(error.provider, str(error))
    if isinstance(error, (ParameterError, PageformError)):
        return error
    return _retry(error, [FailedAttempt(1, error)], None, kwargs)


def _retry(error: Exception, failed: list[FailedAttempt], usage: Any, kwargs: dict[str, Any]) -> Exception:
    return InstructorRetryException(
        str(error),
        last_completion=failed[-1].completion if failed else None,
        messages=kwargs.get("messages"),
        n_attempts=len(failed),
        total_usage=usage,
        create_kwargs=kwargs,
        failed_attempts=failed,
    )


def _failed(error: own.StructuredError) -> list[FailedAttempt]:
    rejected = [one for one in error.attempts if one.error is not None]
    return [FailedAttempt(one.number, one.error, one.response) for one in rejected if one.error is not None]


def _rebuilt(cls: type[InstructorRetryException], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    made = cls.__new__(cls, *args)
    made.args = args
    made.__dict__.update(state)
    return made
