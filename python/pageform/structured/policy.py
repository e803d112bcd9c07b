"""When to ask again, and how long to wait before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..core.completion import Usage
from ..core.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting with full jitter: before retry n a random time of up to `initial * factor ** (n - 1)` seconds
    and at most `longest`. (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)"""

    initial: float = 0.5
    factor: float = 2.0
    longest: float = 30.0
    jitter: bool = True

    def delay(self, retry: int) -> float:
        """Seconds to wait before the retry of that number, counted from 1."""
        limit = min(self.longest, self.initial * self.factor ** min(retry - 1, 64))
        return random.uniform(0.0, limit) if self.jitter else limit


class Policy(Protocol):
    """Decides after a rejected attempt."""

    @property
    def max_attempts(self) -> int | None:
        """How many attempts there may be at most, None if the policy doesn't know beforehand."""

    def delay(self, attempt: int, error: Exception, started: float) -> float | None:
        """Seconds until the next attempt, or None to give up. `started` is `time.monotonic()` of the first one."""


@dataclass(frozen=True, slots=True)
class CountedPolicy:
    """`max_retries` further attempts, with or without waiting."""

    max_retries: int = 3
    backoff: Backoff | None = None

    @property
    def max_attempts(self) -> int | None:
        return self.max_retries + 1

    def delay(self, attempt: int, error: Exception, started: float) -> float | None:
        if attempt > self.max_retries:
            return None
        return self.backoff.delay(attempt) if self.backoff is not None else 0.0


class TenacityPolicy:
    """A `tenacity.Retrying` or `AsyncRetrying`: its stop, wait and retry conditions decide, its callbacks are called.

    The loop neither sleeps nor calls through tenacity, so both kinds serve sync and async callers.
    """

    def __init__(self, retrying: Any) -> None:
        self._retrying = retrying
        self.max_attempts: int | None = getattr(retrying.stop, "max_attempt_number", None)

    def delay(self, attempt: int, error: Exception, started: float) -> float | None:
        """See `Policy.delay`."""
        from tenacity import Future, RetryCallState

        state = RetryCallState(self._retrying, None, (), {})
        state.start_time = started
        state.attempt_number = attempt
        outcome: Any = Future(attempt)
        outcome.set_exception(error)
        state.outcome, state.outcome_timestamp = outcome, time.monotonic()
        if self._retrying.after is not None:
            self._retrying.after(state)
        if not self._retrying.retry(state):
            return None
        state.upcoming_sleep = float(self._retrying.wait(state)) if self._retrying.wait is not None else 0.0
        if self._retrying.stop is not None and self._retrying.stop(state):
            return None
        if self._retrying.before_sleep is not None:
            self._retrying.before_sleep(state)
        return max(0.0, state.upcoming_sleep)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on all attempts together. `timeout` in seconds: no attempt starts later. `token_budget`: none starts once
    so many tokens (prompt and completion) are used; a provider that reports no usage is an error then."""

    timeout: float | None = None
    token_budget: int | None = None
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)

    def __post_init__(self) -> None:
        _positive("timeout", self.timeout, "seconds")
        _positive("token_budget", self.token_budget, "tokens")

    def passed(self, started: float, delay: float) -> bool:
        """Whether an attempt after `delay` seconds would start too late."""
        return self.timeout is not None and self.clock() + delay - started >= self.timeout

    def spent(self, usage: Usage) -> bool:
        """Whether the budget is used up."""
        return self.token_budget is not None and usage.total_tokens >= self.token_budget


def policy_of(max_retries: Any, backoff: Backoff | bool | None = None) -> Policy:
    """The policy that a caller's `max_retries` means: an int, a tenacity retrying object, or a `Policy`."""
    if isinstance(max_retries, int) and not isinstance(max_retries, bool) and max_retries >= 0:
        return CountedPolicy(max_retries, Backoff() if backoff is True else backoff or None)
    if all(hasattr(max_retries, name) for name in ("stop", "wait", "retry")):
        return TenacityPolicy(max_retries)
    if hasattr(max_retries, "delay") and hasattr(max_retries, "max_attempts"):
        policy: Policy = max_retries
        return policy
    raise ParameterError(
        "max_retries",
        max_retries,
        "must be an integer of at least 0, a tenacity Retrying object or a Policy",
        "Give 0 for one attempt.",
    )


def _positive(name: str, value: Any, unit: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
        raise ParameterError(name, value, f"must be a positive number of {unit}", "Leave it out for no limit.")
