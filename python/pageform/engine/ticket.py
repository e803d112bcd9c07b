"""A caller's hold on a request that runs in the engine's thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..core.completion import Completion, Usage
from ..core.request import Request

if TYPE_CHECKING:
    from ..core.snapshot import TypedSnapshot


@dataclass(slots=True, eq=False)
class Ticket:
    """One submitted request. `future` gets its Completion (of all samples) or the error that kept it from running.

    `requests` are its samples in order; `num_finished` of them are done. The engine's thread writes, callers only read
    `future`.
    """

    request_id: str
    requests: list[Request] = field(default_factory=list)
    future: Future[Completion] = field(default_factory=Future)
    typed: Callable[[], TypedSnapshot] | None = None
    """What the answer is judged by, where it is an attempt at a typed one."""
    _done: dict[int, Completion] = field(default_factory=dict)

    def finish(self, request: Request, completion: Completion) -> None:
        """Takes one sample's completion; resolves the future when all are there."""
        self._done[request.sample] = completion
        if len(self._done) < len(self.requests) or self.future.done():
            return
        samples = [self._done[i] for i in range(len(self.requests))]
        self.future.set_result(samples[0] if len(samples) == 1 else _merge(samples))

    def fail(self, error: BaseException) -> None:
        """Resolves the future with an error, unless it is resolved already."""
        if not self.future.done():
            self.future.set_exception(error)


def _merge(samples: list[Completion]) -> Completion:
    """The first sample, with all of them as choices; the prompt's tokens are counted once."""
    first = samples[0]
    usage = Usage(first.usage.prompt_tokens, sum(s.usage.completion_tokens for s in samples), first.usage.cached_tokens)
    return replace(first, usage=usage, choices=samples)
