"""What goes out and what comes back, in terms that no provider owns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..core.completion import FinishReason, Usage


class Mode(StrEnum):
    """How a model is made to answer with a type's JSON.

    TOOLS: as arguments of a tool that it must call. SCHEMA: as text under the provider's own structured output.
    TEXT: as text, asked for in the prompt.
    """

    TOOLS = "tools"
    SCHEMA = "schema"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool called by the model. `arguments` is JSON text as the model wrote it; `id` is empty where there is none."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model.

    `response` is the SDK's own object, None for a stream. `turn` is what a provider needs to echo the turn when it asks
    again, in order, empty if that can be rebuilt from the rest. An `anchored` turn may be echoed only behind the very
    messages that it answered (some reasoning is signed together with them). `error` is what rejected the answer before
    it had ended.
    """

    text: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = field(default_factory=Usage)
    response: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    turn: tuple[Any, ...] = ()
    anchored: bool = False
    error: Exception | None = None

    @property
    def payload(self) -> str:
        """What the answer says, as an error message shows it: the arguments of its tool calls, else its text."""
        return "\n".join(call.arguments for call in self.tool_calls) or self.text


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event of a stream adds to an answer.

    `call` numbers the tool call that `call_id`, `name` and `arguments` belong to; without a number they are a whole
    call. What never gets a name is none of the caller's tools. `usage` holds running totals: of each count the largest
    that was told is true. `turn` is a piece of the answer's, and `anchored` holds for all of it.
    """

    text: str = ""
    call: int | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    refusal: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    turn: Any = None
    anchored: bool = False


class Assembler:
    """Puts the deltas of a stream together to an `Answer`. A stream that ends without a finish reason was cut off."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: list[_GrowingCall] = []
        self._growing: dict[int, _GrowingCall] = {}
        self._finish: FinishReason | None = None
        self._usage = Usage()
        self._turn: list[Any] = []
        self._anchored = False

    @property
    def finished(self) -> bool:
        """Whether the provider said why the answer ended."""
        return self._finish is not None

    def add(self, delta: Delta) -> int | None:
        """Take the next delta; the cost depends on its size alone. Returns which of the tool calls it belongs to,
        counted from 0 in their order, None while it has no name. Another id and name under an old number is a new call:
        some servers number all of them 0."""
        if delta.text:
            self._texts.append(delta.text)
        if delta.refusal:
            self._refusals.append(delta.refusal)
        if delta.finish_reason is not None:
            self._finish = delta.finish_reason
        if delta.usage is not None:
            self._usage = _largest(self._usage, delta.usage)
        if delta.turn is not None:
            self._turn.append(delta.turn)
        self._anchored |= delta.anchored
        return None if delta.call is None and not delta.name else self._add_to_call(delta)

    def _add_to_call(self, delta: Delta) -> int | None:
        call = None if delta.call is None else self._growing.get(delta.call)
        if call is None or (delta.call_id and delta.name and call.id not in ("", delta.call_id)):
            call = _GrowingCall()
            if delta.call is not None:
                self._growing[delta.call] = call
        call.id = call.id or delta.call_id
        if delta.name and delta.name not in call.names:  # some servers repeat it in each event
            call.names.append(delta.name)
            if call.index is None:
                call.index = len(self._calls)
                self._calls.append(call)
        if delta.arguments:
            call.arguments.append(delta.arguments)
        return call.index

    def answer(self, response: Any = None) -> Answer:
        """The answer as far as it has arrived. `ABORT` stands for a stream that ended early."""
        calls = (ToolCall(_join(call.names), _join(call.arguments), call.id) for call in self._calls)
        return Answer(
            text=_join(self._texts),
            finish_reason=FinishReason.ABORT if self._finish is None else self._finish,
            usage=self._usage,
            response=response,
            tool_calls=tuple(calls),
            refusal=_join(self._refusals) or None,
            turn=tuple(self._turn),
            anchored=self._anchored,
        )


@dataclass
class _GrowingCall:
    index: int | None = None
    id: str = ""
    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)


def _largest(one: Usage, other: Usage) -> Usage:
    details = {
        name: max(one.details.get(name, 0), other.details.get(name, 0)) for name in (*one.details, *other.details)
    }
    return Usage(
        max(one.prompt_tokens, other.prompt_tokens),
        max(one.completion_tokens, other.completion_tokens),
        max(one.cached_tokens, other.cached_tokens),
        {**one.details, **details},
    )


def _join(pieces: list[str]) -> str:
    return "".join(pieces)
