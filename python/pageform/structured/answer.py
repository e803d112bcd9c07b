"""What goes out and what comes back, in terms that no provider owns."""

from __future__ import annotations

from collections.abc import Iterable
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

    `response` is the SDK's own object, None for a stream; `turn` what a provider needs to echo the turn when
    it asks again, None if that can be rebuilt from the rest.
    """

    text: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = field(default_factory=Usage)
    response: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    turn: Any = None

    @property
    def payload(self) -> str:
        """What the answer says, as an error message shows it: the arguments of its tool calls, else its text."""
        return "\n".join(call.arguments for call in self.tool_calls) or self.text


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event of a stream adds to an answer.

    `call` numbers the tool call that `call_id`, `name` and `arguments` belong to. `usage` replaces what was known.
    """

    text: str = ""
    call: int | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    refusal: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Assembler:
    """Puts the deltas of a stream together to an `Answer`. A stream that ends without a finish reason was cut off."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: dict[int, tuple[list[str], list[str], list[str]]] = {}
        self._finish: FinishReason | None = None
        self._usage = Usage()

    def add(self, delta: Delta) -> None:
        """Take the next delta; the cost depends on its size alone."""
        if delta.text:
            self._texts.append(delta.text)
        if delta.refusal:
            self._refusals.append(delta.refusal)
        if delta.call is not None:
            ids, names, arguments = self._calls.setdefault(delta.call, ([], [], []))
            if delta.call_id and not ids:
                ids.append(delta.call_id)
            if delta.name:
                names.append(delta.name)
            if delta.arguments:
                arguments.append(delta.arguments)
        if delta.finish_reason is not None:
            self._finish = delta.finish_reason
        if delta.usage is not None:
            self._usage = delta.usage

    def answer(self, response: Any = None) -> Answer:
        """The answer as far as it has arrived. `ABORT` stands for a stream that ended early."""
        calls = (ToolCall(_join(names), _join(arguments), _join(ids)) for ids, names, arguments in self._in_order())
        return Answer(
            text=_join(self._texts),
            finish_reason=FinishReason.ABORT if self._finish is None else self._finish,
            usage=self._usage,
            response=response,
            tool_calls=tuple(calls),
            refusal=_join(self._refusals) or None,
        )

    def _in_order(self) -> Iterable[tuple[list[str], list[str], list[str]]]:
        return (self._calls[number] for number in sorted(self._calls))


def _join(pieces: list[str]) -> str:
    return "".join(pieces)
