"""What a request's own parts may do with it: the scheduler's verbs, and a way into the engine's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.completion import FinishReason

if TYPE_CHECKING:
    from ..core.request import Request
    from ..scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class RequestControl:
    """The verbs may be called in the engine's thread, with no step in flight; `post` anywhere."""

    scheduler: Scheduler
    clock: Callable[[], float]
    post: Callable[[Callable[[], None]], None]
    """Has a function called between steps; it is dropped when the engine is closed."""

    def rewind(self, request: Request, to_output_length: int, **entry: Any) -> None:
        """See `Scheduler.rewind`."""
        self.scheduler.rewind(request, to_output_length, **entry)

    def hold(self, request: Request) -> None:
        """See `Scheduler.hold`."""
        self.scheduler.hold(request)

    def resume(self, request: Request, reason: FinishReason | None = None) -> None:
        """See `Scheduler.resume`."""
        self.scheduler.resume(request, self.clock(), reason)
