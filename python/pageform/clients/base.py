"""The contract of a provider: pure functions between what a caller asks, an SDK's kwargs, and what comes back.

A provider never sends anything, never changes its arguments, imports no SDK (responses and events are read by
attribute), and keeps no state, so one serves all threads, sync, async, streaming and batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..structured.answer import Answer, Delta, Mode
from ..structured.loop import Rejection
from ..structured.spec import Spec

Kwargs = dict[str, Any]
"""Arguments of an SDK's method. Treated as frozen: what changes one makes a new one."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """How far a service goes with the wire format that it speaks; the defaults are those of the format's own inventor.

    `strict`: it enforces schemas that are marked as strict. `tool_choice`: a call can be demanded of a tool by its
    name ("named"), of any tool ("required"), or not at all ("auto"). `sees_schema`: the model is shown the schema of
    SCHEMA mode, so the prompt need not tell it. `stream_usage`: a stream tells its usage if asked by `stream_options`.
    """

    strict: bool = True
    tool_choice: str = "named"
    sees_schema: bool = True
    stream_usage: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller asks of a provider.

    `kwargs` are the SDK's own arguments as given (`messages`, `model`, …), media and templates already resolved.
    `strict` asks for the provider's own strict schema enforcement where it has one: True demands it, None takes it
    where the type allows, False leaves it off.
    """

    spec: Spec[Any]
    mode: Mode
    kwargs: Mapping[str, Any]
    stream: bool = False
    strict: bool | None = None
    quirks: Quirks = Quirks()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The request that a provider makes of a call. `notes` tells what of the type it could not express (a constraint
    that the provider does not enforce, a fall-back to a weaker mode); nothing is left out silently. `mode` is that of
    the request if it is not the call's; `strict` says that the schema is of a dialect in which null may stand for what
    was not given (`structured.dialects.restore`); `tools_beside`, that the caller offers tools of their own too."""

    kwargs: Kwargs
    notes: tuple[str, ...] = field(default=())
    mode: Mode | None = None
    strict: bool = False
    tools_beside: bool = False


class Provider(Protocol):
    """A wire format. Modules of `clients.providers` have these names at their top level.

    One whose callers may write a conversation in another way than the SDK takes it also has `plain(kwargs)`: the SDK's
    kwargs of a call without a response type.
    """

    MODES: tuple[Mode, ...]
    """The modes that the provider has, the default first."""

    def prepare(self, call: Call) -> Prepared:
        """The SDK's kwargs of the first attempt. Raises `ParameterError` for what the provider can't do."""

    def read(self, response: Any) -> Answer:
        """What a complete response says. Raises nothing for odd content: an empty answer is an `Answer` too. Raises
        `ProviderError` for what is no response at all."""

    def read_deltas(self, event: Any) -> Sequence[Delta]:
        """What one event of a stream adds, in order; nothing for events that add nothing (pings, starts)."""

    def reask(self, kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
        """New kwargs that ask again: the assistant's turn echoed verbatim, then the faults in the provider's own
        protocol (a result for each tool call, with `rejection.results`)."""


def thawed(value: Any) -> Any:
    """A copy of nested mappings, lists and tuples as plain dicts and lists; everything else in them stays the same
    object. SDKs want plain containers, and some write into them."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return [thawed(item) for item in value]
    return value
