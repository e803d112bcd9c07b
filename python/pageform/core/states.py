"""The states of a request, and the one table of transitions between them."""

from __future__ import annotations

from enum import Enum

from .errors import IllegalTransition


class RequestState(Enum):
    QUEUED = "queued"
    """Waits to be admitted."""
    PREPARING = "preparing"
    """Waits for something else first: a sample for its leader's prompt."""
    RUNNING = "running"
    """Holds blocks and a seat, and is scheduled."""
    PREEMPTED = "preempted"
    """Gave its blocks back and waits to be admitted again."""
    VALIDATING = "validating"
    """Decoded, waits for a verdict: keeps blocks and seat, is not scheduled."""
    FINISHED = "finished"

    def __str__(self) -> str:
        return self.value


LEGAL_TRANSITIONS: dict[RequestState, frozenset[RequestState]] = {
    RequestState.QUEUED: frozenset({RequestState.PREPARING, RequestState.RUNNING, RequestState.FINISHED}),
    RequestState.PREPARING: frozenset({RequestState.RUNNING, RequestState.FINISHED}),
    RequestState.RUNNING: frozenset({RequestState.PREEMPTED, RequestState.VALIDATING, RequestState.FINISHED}),
    RequestState.PREEMPTED: frozenset({RequestState.RUNNING, RequestState.FINISHED}),
    RequestState.VALIDATING: frozenset({RequestState.RUNNING, RequestState.FINISHED}),
    RequestState.FINISHED: frozenset(),
}


def check_transition(request_id: str, old: RequestState, new: RequestState) -> None:
    """Raises `IllegalTransition` unless a request may go from `old` to `new`."""
    if new not in LEGAL_TRANSITIONS[old]:
        legal = ", ".join(sorted(map(str, LEGAL_TRANSITIONS[old]))) or "none"
        raise IllegalTransition(f"request {request_id}: {old} -> {new} is not a transition (legal: {legal})")
