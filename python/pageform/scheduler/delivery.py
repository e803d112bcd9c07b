"""What a sampled token means for its request: it is appended, and with it what is certain to follow.

A function of the request and the token alone, so that a log replays through the very code that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..core.completion import FinishReason
from ..core.log import TokenOrigin
from ..core.plan import RowResult
from ..core.request import Request
from ..core.states import RequestState


class Finish(Protocol):
    """The scheduler's one way to end a request."""

    def __call__(
        self,
        request: Request,
        reason: FinishReason,
        now: float,
        *,
        detail: str | None = None,
        error: BaseException | None = None,
        forget: bool = False,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivers sampled tokens. `finish` ends a request, `finish_if_full` ends one that has reached its length."""

    finish: Finish
    finish_if_full: Callable[[Request, float], None]

    def deliver(self, request: Request, result: RowResult, now: float) -> None:
        """Appends a sampled token, and what is certain to follow it."""
        try:
            token = request.sink.choose(result.token)
            self._append(request, token, result, now)
        except Exception as error:
            self.finish(request, FinishReason.ERROR, now, detail=str(error), error=error)
            return
        self.go_on(request, now)

    def go_on(self, request: Request, now: float) -> None:
        """Appends what is certain to follow the output."""
        try:
            while request.state is RequestState.RUNNING and (forced := request.sink.forced()):
                for length, token in enumerate(forced, len(request.output_ids)):
                    if request.state is not RequestState.RUNNING or len(request.output_ids) != length:
                        break  # it has ended, or what was appended was taken back
                    self._append(request, token, None, now)
        except Exception as error:
            self.finish(request, FinishReason.ERROR, now, detail=str(error), error=error)

    def _append(self, request: Request, token: int, result: RowResult | None, now: float) -> None:
        """Appends one token; it is forced unless it is what the model gave, `result`."""
        given = result if result is not None and result.token == token else None
        request.append(token, TokenOrigin.FORCED if given is None else TokenOrigin.SAMPLED, result)
        request.protected = False
        if request.first_token_time is None:
            request.first_token_time = now
        try:
            reason = request.sink.token(token, given)
        except Exception as error:
            self.finish(request, FinishReason.ERROR, now, detail=str(error), error=error)
            return
        if reason is not None:
            self.finish(request, reason, now)
        elif request.state is RequestState.RUNNING:
            self.finish_if_full(request, now)
