"""What a request's own parts may do with it: the scheduler's verbs, and a way into the engine's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from ..core.completion import FinishReason

if TYPE_CHECKING:
    from ..core.request import Request
    from ..scheduler import Scheduler


class Verdict(Enum):
    """What became of the values that a token closed."""

    FINE = "fine"
    REWOUND = "rewound"
    WAITING = "waiting"
    """The request is held until verdicts have come."""
    GIVEN_UP = "given up"


class RequestControl(Protocol):
    """The verbs are the scheduler's. They may be called in the engine's thread, with no step in flight; `post`
    anywhere."""

    def rewind(
        self, request: Request, to_output_length: int, *, path: str = "", banned: Any = None, attempt: int = 0
    ) -> None:
        """See `Scheduler.rewind`."""

    def hold(self, request: Request) -> None:
        """See `Scheduler.hold`."""

    def resume(self, request: Request, reason: FinishReason | None = None) -> None:
        """See `Scheduler.resume`."""

    def post(self, command: Callable[[], None]) -> None:
        """Has something called between steps; it is dropped when the engine is closed."""


@dataclass(frozen=True, slots=True)
class EngineControl:
    """The control of an engine's requests. `add` queues what is posted."""

    scheduler: Scheduler
    clock: Callable[[], float]
    add: Callable[[Callable[[], None]], None]

    def rewind(
        self, request: Request, to_output_length: int, *, path: str = "", banned: Any = None, attempt: int = 0
    ) -> None:
        self.scheduler.rewind(request, to_output_length, path=path, banned=banned, attempt=attempt)

    def hold(self, request: Request) -> None:
        self.scheduler.hold(request)

    def resume(self, request: Request, reason: FinishReason | None = None) -> None:
        self.scheduler.resume(request, self.clock(), reason)

    def post(self, command: Callable[[], None]) -> None:
        self.add(command)
