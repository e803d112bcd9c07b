"""Mistral's chat completions, as the mistralai SDK speaks them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.completion import FinishReason
from ...core.errors import ParameterError
from ...structured.answer import Answer, Delta, Mode, ToolCall
from ...structured.dialects import mistral_strict
from ...structured.errors import ProviderError
from ...structured.loop import Rejection
from ...structured.prompt import add_to_system, instructions
from ..base import Call, Kwargs, Prepared, thawed
from ..offer import Offer, adapted_to, offer, refuse_format, required, user_complaint, with_turns
from ..usage import read_usage

MODES = (Mode.TOOLS, Mode.SCHEMA, Mode.TEXT)

_STOPPED = {
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "error": FinishReason.ERROR,
}
_NO_ID = "null"
"""What the SDK gives as the id of a call that has none."""


def prepare(call: Call) -> Prepared:
    """See `Provider.prepare`."""
    kwargs = thawed(call.kwargs)
    kwargs["messages"] = list(required(kwargs, "messages", "Give the conversation as a list of messages."))
    refuse_format(kwargs, "response_format")
    if (kwargs.get("n") or 1) != 1:
        raise ParameterError("n", kwargs["n"], "asks for several answers, of which one would be taken", "Leave it out.")
    if call.mode is Mode.TOOLS:
        return _with_tools(call, kwargs)
    if call.mode is Mode.SCHEMA:
        return _with_schema(call, kwargs)
    kwargs["messages"] = add_to_system(kwargs["messages"], instructions(call.spec))
    return Prepared(kwargs)


def read(response: Any) -> Answer:
    """See `Provider.read`. Thinking is no part of the text."""
    choices = getattr(response, "choices", None)
    message = choices[0].message if choices else None
    if not choices or message is None:
        raise ProviderError("mistral", "the response holds no message", response)
    calls = tuple(_call(call) for call in message.tool_calls or ())
    return Answer(
        text=_text(message.content),
        finish_reason=_finish(choices[0].finish_reason) or FinishReason.STOP,
        usage=read_usage(response.usage),
        response=response,
        tool_calls=calls,
        turn=_whole(message.content),
    )


def read_deltas(event: Any) -> Sequence[Delta]:
    """See `Provider.read_deltas`. A piece of the turn is a text or a part of a content."""
    chunk = event.data
    deltas = [Delta(usage=read_usage(chunk.usage))] if chunk.usage else []
    for choice in chunk.choices[:1]:
        content = getattr(choice.delta, "content", None)
        deltas += [
            Delta(_text([piece]) if not isinstance(piece, str) else piece, turn=piece) for piece in _pieces(content)
        ]
        for call in choice.delta.tool_calls or ():
            said = _call(call)
            deltas.append(Delta(call=call.index or 0, call_id=said.id, name=said.name, arguments=said.arguments))
        if choice.finish_reason:
            deltas.append(Delta(finish_reason=_finish(choice.finish_reason)))
    return deltas


def reask(kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
    """See `Provider.reask`. The API takes no user's message after those of tools, and no empty one of an assistant."""
    content = _content(answer.turn)
    turns: list[dict[str, Any]] = []
    if answer.tool_calls:
        turns.append(
            {"role": "assistant", "content": content, "tool_calls": [_echoed(call) for call in answer.tool_calls]}
        )
    elif content:
        turns.append({"role": "assistant", "content": content})
    for call, result in zip(answer.tool_calls, rejection.results(answer), strict=True):
        turns.append({"role": "tool", "name": call.name, "tool_call_id": call.id or _NO_ID, "content": result})
    if not answer.tool_calls:
        turns.append({"role": "user", "content": user_complaint(rejection)})
    return with_turns(kwargs, *turns)


# --- requests --------------------------------------------------------------------------------------------------------


def _with_tools(call: Call, kwargs: Kwargs) -> Prepared:
    offered = offer(call, mistral_strict, given=kwargs.get("tools"))
    kwargs["tools"] = [*(kwargs.get("tools") or ()), *_definitions(offered)]
    choice = kwargs.get("tool_choice")
    if choice == "none":
        remedy = "Leave it out, or use mode schema or text."
        raise ParameterError("tool_choice", choice, "forbids the tool that is to carry the answer", remedy)
    if choice is None:
        named = {"type": "function", "function": {"name": call.spec.tool_name}}
        kwargs["tool_choice"] = "any" if call.spec.members else named
    if not call.spec.members:
        kwargs.setdefault("parallel_tool_calls", False)
    return Prepared(kwargs, offered.notes, strict=offered.adapted, tools_beside=offered.beside)


def _with_schema(call: Call, kwargs: Kwargs) -> Prepared:
    adapted = adapted_to(call.spec, mistral_strict, demanded=bool(call.strict))
    strict = adapted.sendable and call.strict is not False
    described = {"description": call.spec.description} if call.spec.description else {}
    schema = thawed(adapted.schema if strict else call.spec.object_schema)
    # The SDK calls `schema` so, since its models have a method of that name.
    form = {"name": call.spec.tool_name, **described, "schema_definition": schema, "strict": strict}
    kwargs["response_format"] = {"type": "json_schema", "json_schema": form}
    return Prepared(kwargs, adapted.notes if strict or call.strict is None else (), strict=strict)


def _definitions(offered: Offer) -> Iterable[dict[str, Any]]:
    for tool in offered.tools:
        described = {"description": tool.description} if tool.description else {}
        strict = {"strict": True} if tool.strict else {}
        function = {"name": tool.name, **described, "parameters": tool.schema, **strict}
        yield {"type": "function", "function": function}


# --- answers ---------------------------------------------------------------------------------------------------------


def _finish(reason: str | None) -> FinishReason | None:
    """A reason that is not known here is taken for an error: the answer may not be whole."""
    return None if reason is None else _STOPPED.get(str(reason), FinishReason.ERROR)


def _call(call: Any) -> ToolCall:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(call.function.name or "", text, "" if call.id in (None, _NO_ID) else call.id)


def _echoed(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id or _NO_ID, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _text(content: Any) -> str:
    """The text of a content, which is a text or a list of parts (objects or dicts)."""
    return "".join(piece if isinstance(piece, str) else piece.get("text", "") for piece in _pieces(content))


def _pieces(content: Any) -> Iterable[Any]:
    """The texts of a content, and its parts as dicts."""
    if isinstance(content, str):
        content = [content]
    for part in content if isinstance(content, (list, tuple)) else ():
        if part == "":
            continue
        yield (
            part if isinstance(part, (str, Mapping)) else part.model_dump(mode="json", by_alias=True, exclude_none=True)
        )


def _whole(content: Any) -> tuple[Any, ...]:
    """A turn that is echoed as it came."""
    pieces = list(_pieces(content))
    return (pieces,) if pieces and not isinstance(content, str) else tuple(pieces)


def _content(turn: Sequence[Any]) -> Any:
    """A content from its whole, or from the pieces of a stream: a text if all are texts, else a list of parts."""
    if all(isinstance(piece, str) for piece in turn):
        return "".join(turn)
    if isinstance(turn[0], list):
        return turn[0]
    runs: list[list[Mapping[str, Any]]] = []
    for piece in turn:
        part = {"type": "text", "text": piece} if isinstance(piece, str) else piece
        goes_on = bool(runs) and runs[-1][-1].get("type") == part.get("type") in ("text", "thinking")
        if goes_on and "signature" not in runs[-1][-1]:
            runs[-1].append(part)
        else:
            runs.append([part])
    return [_part(run) for run in runs]


def _part(run: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One part from the pieces that it was streamed in."""
    made = {name: value for piece in run for name, value in piece.items()}
    if made.get("type") == "text":
        made["text"] = "".join(piece["text"] for piece in run)
    elif made.get("type") == "thinking" and len(run) > 1:
        thoughts = [thought for piece in run for thought in piece["thinking"]]
        plain = all(thought.get("type") == "text" for thought in thoughts)
        made["thinking"] = [_part(thoughts)] if plain and thoughts else thoughts
    return made
