"""The contract of a provider: pure functions between what a caller asks, an SDK's kwargs, and what comes back.

A provider never sends anything, never changes its arguments, imports no SDK (responses and events are read by
attribute), and keeps no state, so one serves all threads, sync, async, streaming and batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..structured.answer import Answer, Delta, Mode
from ..structured.loop import Rejection
from ..structured.spec import Spec

Kwargs = dict[str, Any]
"""Arguments of an SDK's method. Treated as frozen: what changes one makes a new one."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller asks of a provider.

    `kwargs` are the SDK's own arguments as given (`messages`, `model`, …), media and templates already resolved.
    `strict` asks for the provider's own strict schema enforcement where it has one: True demands it, None takes it where
    the type allows, False leaves it off.
    """

    spec: Spec[Any]
    mode: Mode
    kwargs: Mapping[str, Any]
    stream: bool = False
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The request that a provider makes of a call. `notes` tells what of the type it could not express (a constraint that
    the provider does not enforce, a fall-back to a weaker mode); nothing is left out silently."""

    kwargs: Kwargs
    notes: tuple[str, ...] = field(default=())


class Provider(Protocol):
    """A wire format. Modules of `clients.providers` have these names at their top level."""

    MODES: tuple[Mode, ...]
    """The modes that the provider has, the default first."""

    def prepare(self, call: Call) -> Prepared:
        """The SDK's kwargs of the first attempt. Raises `ParameterError` for what the provider can't do."""

    def read(self, response: Any) -> Answer:
        """What a complete response says. Raises nothing for odd content: an empty answer is an `Answer` too."""

    def read_delta(self, event: Any) -> Delta | None:
        """What one event of a stream adds; None for events that add nothing (pings, starts)."""

    def reask(self, kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
        """New kwargs that ask again: the assistant's turn echoed verbatim, then the faults in the provider's own
        protocol (tool results for tool calls)."""
