"""Replaying a log: a new request is taken through what was recorded of another, up to where that stood.

Nothing is read from the log but what the model gave and what validators said. All else (forced text, ends, rewinds,
bans, attempts) comes about as it did the first time, through the same code, and must come out as it was recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..core.completion import FinishReason
from ..core.errors import ReplayError
from ..core.log import FinishEntry, LogEntry, RewindEntry, TokenEntry, TokenOrigin
from ..core.plan import RowResult
from ..core.request import Request
from ..core.states import RequestState
from ..core.stopwatch import Stopwatch
from ..scheduler.delivery import Delivery
from .sink import OutputSink


def replay(request: Request, recorded: Sequence[LogEntry], finish_time: float) -> None:
    """Takes a request that was never scheduled through a log. It is finished afterwards if the log is, else preempted.

    Raises ReplayError if the log does not follow from its own entries.
    """
    _Replay(request, recorded, finish_time).run()


class _Replay:
    def __init__(self, request: Request, recorded: Sequence[LogEntry], finish_time: float) -> None:
        assert isinstance(request.sink, OutputSink)
        self._request, self._sink = request, request.sink
        self._recorded, self._finish_time = recorded, finish_time
        self._checked = 0
        self._delivery = Delivery(self._finish, self._finish_if_recorded)

    def run(self) -> None:
        request = self._request
        with self._recorded_verdicts(), self._own_stopwatch():
            self._sink.start(request, self)
            request.to(RequestState.RUNNING)
            while (at := len(request.log.entries)) < len(self._recorded):
                self._check(at)
                if request.state is not RequestState.RUNNING:
                    raise ReplayError(at, "it stands behind the end")
                self._step(self._recorded[at])
        self._check(len(request.log.entries))
        request.num_computed = 0
        if request.is_finished:
            self._sink.finished(request)
        else:
            request.to(RequestState.PREEMPTED)

    def _step(self, entry: LogEntry) -> None:
        request = self._request
        if isinstance(entry, FinishEntry):
            self._finish(request, entry.reason, self._finish_time, detail=entry.detail)
        elif isinstance(entry, TokenEntry) and (entry.row is not None or entry.origin is TokenOrigin.SAMPLED):
            self._delivery.deliver(request, entry.row or RowResult(request.index, entry.id), 0.0)
        else:
            raise ReplayError(len(request.log.entries), f"{entry} was not to be expected")

    def _check(self, length: int) -> None:
        """The first entries came out as they were recorded."""
        if length > len(self._recorded):
            extra = self._request.log.entries[len(self._recorded)]
            raise ReplayError(len(self._recorded), f"{extra} came after the last entry")
        for at in range(self._checked, length):
            one, other = self._recorded[at], self._request.log.entries[at]
            if _shown(one) != _shown(other):
                raise ReplayError(at, f"{other} came where {one} was recorded")
        self._checked = length

    # What the request's own parts may do with it: see `RequestControl`.

    def rewind(
        self, request: Request, to_output_length: int, *, path: str = "", banned: Any = None, attempt: int = 0
    ) -> None:
        request.cut(RewindEntry(to_output_length, path, banned, attempt))

    def hold(self, request: Request) -> None:
        raise ReplayError(len(request.log.entries), "a verdict is missing")

    def resume(self, request: Request, reason: FinishReason | None = None) -> None:
        raise ReplayError(len(request.log.entries), "nothing was held")

    def post(self, command: Callable[[], None]) -> None:
        """Nobody is waited for."""

    def _finish(
        self,
        request: Request,
        reason: FinishReason,
        now: float,
        *,
        detail: str | None = None,
        error: BaseException | None = None,
        forget: bool = False,
    ) -> None:
        if not request.is_finished:
            request.finish(reason, self._finish_time, detail, error)

    def _finish_if_recorded(self, request: Request, now: float) -> None:
        """Limits of length were those of the engine that wrote the log."""
        at = len(request.log.entries)
        entry = self._recorded[at] if at < len(self._recorded) else None
        if isinstance(entry, FinishEntry):
            self._finish(request, entry.reason, now, detail=entry.detail)

    @contextmanager
    def _recorded_verdicts(self) -> Iterator[None]:
        verdicts = self._sink.verdicts
        if verdicts is None:
            yield
            return
        verdicts.recorded = self._recorded
        try:
            yield
        finally:
            verdicts.recorded = None

    @contextmanager
    def _own_stopwatch(self) -> Iterator[None]:
        """The engine's own belongs to its thread."""
        matcher: Any = self._sink.matcher
        if matcher is None or not hasattr(matcher, "watch"):
            yield
            return
        watch, matcher.watch = matcher.watch, Stopwatch()
        try:
            yield
        finally:
            matcher.watch = watch


def _shown(entry: LogEntry) -> Any:
    return (entry.id, entry.origin) if isinstance(entry, TokenEntry) else entry
