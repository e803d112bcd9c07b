"""Cohere's chat API, version 2, as the cohere SDK speaks it. Arguments of version 1 are rewritten to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from ...core.completion import FinishReason
from ...core.errors import ParameterError
from ...structured.answer import Answer, Delta, Mode, ToolCall
from ...structured.dialects import cohere as cohere_schema
from ...structured.errors import ProviderError
from ...structured.loop import Rejection
from ...structured.prompt import add_to_system, instructions
from ..base import Call, Kwargs, Prepared, thawed
from ..offer import adapted_to, fell_back, offer, refuse_format, required, user_complaint, with_turns
from ..usage import read_usage

MODES = (Mode.TOOLS, Mode.SCHEMA, Mode.TEXT)

_WITHOUT_CHOICE = (
    "command-r-plus",
    "command-r-0",
    "command-light",
    "command-nightly",
    "c4ai-",
)
"""Beginnings of the names of models older than Command R7B, which can't be required to call a tool (the SDK's docstring
of `tool_choice`); `command-r` and `command` too."""

_STOPPED = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "TOOL_CALL": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TIMEOUT": FinishReason.TIMEOUT,
    "ERROR": FinishReason.ERROR,
    "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
    "ERROR_LIMIT": FinishReason.LENGTH,
}

_OF_VERSION_1 = {
    "accepts": "nothing",
    "citation_quality": "citation_options",
    "connectors": "documents",
    "conversation_id": "messages",
    "force_single_step": "nothing",
    "max_input_tokens": "nothing",
    "prompt_truncation": "nothing",
    "raw_prompting": "nothing",
    "search_queries_only": "nothing",
    "tool_results": "messages of role tool",
}
"""Arguments that version 2 does not have, and what it has instead."""
_ROLES = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system"}


def prepare(call: Call) -> Prepared:
    """See `Provider.prepare`."""
    kwargs = _of_version_2(thawed(call.kwargs))
    kwargs["messages"] = list(required(kwargs, "messages", "Give the conversation as a list of messages."))
    refuse_format(kwargs, "response_format")
    if call.mode is Mode.TOOLS:
        return _with_tools(call, kwargs)
    if call.mode is Mode.SCHEMA:
        return _with_schema(call, kwargs)
    return Prepared(_with_instructions(kwargs, instructions(call.spec)))


def read(response: Any) -> Answer:
    """See `Provider.read`. Thinking and plans are no part of the text."""
    message = getattr(response, "message", None)
    if message is None:
        raise ProviderError("cohere", "the response holds no message", response)
    calls = [
        ToolCall(getattr(call.function, "name", None) or "", getattr(call.function, "arguments", None) or "", call.id)
        for call in message.tool_calls or ()
    ]
    turn = message.model_dump(mode="json", exclude_none=True, warnings=False)
    return Answer(
        text="".join(part.text for part in message.content or () if part.type == "text"),
        finish_reason=_finish(response.finish_reason) or FinishReason.STOP,
        usage=read_usage(response.usage),
        response=response,
        tool_calls=tuple(calls),
        refusal=_refusal(response.finish_reason),
        turn=(turn,),
    )


def read_deltas(event: Any) -> Sequence[Delta]:
    """See `Provider.read_deltas`. A piece of the turn is a message that holds nothing but what was added."""
    delta = getattr(event, "delta", None)
    message = getattr(delta, "message", None)
    if event.type in ("content-start", "content-delta"):
        content = getattr(message, "content", None)
        text, thinking = getattr(content, "text", None) or "", getattr(content, "thinking", None) or ""
        pieces = [{"type": "text", "text": text}] if text else []
        pieces += [{"type": "thinking", "thinking": thinking}] if thinking else []
        return [Delta(text, turn={"content": pieces})] if pieces else []
    if event.type == "tool-plan-delta":
        return [Delta(turn={"tool_plan": getattr(message, "tool_plan", None) or ""})]
    if event.type in ("tool-call-start", "tool-call-delta"):
        call = getattr(message, "tool_calls", None)
        function = getattr(call, "function", None)
        name, arguments = getattr(function, "name", None) or "", getattr(function, "arguments", None) or ""
        return [Delta(call=event.index or 0, call_id=getattr(call, "id", None) or "", name=name, arguments=arguments)]
    if event.type == "message-end" and delta is not None:
        return [
            Delta(
                finish_reason=_finish(delta.finish_reason),
                usage=read_usage(delta.usage),
                refusal=_refusal(delta.finish_reason) or "",
            )
        ]
    return []


def reask(kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
    """See `Provider.reask`. Results of tools are JSON objects, as the API wants them."""
    assistant = _assistant(answer)
    turns: list[dict[str, Any]] = [assistant] if assistant else []
    for call, result in zip(answer.tool_calls, rejection.results(answer), strict=True):
        content = json.dumps({"error": result}, ensure_ascii=False)
        turns.append({"role": "tool", "tool_call_id": call.id, "content": content})
    if not answer.tool_calls:
        turns.append({"role": "user", "content": user_complaint(rejection)})
    return with_turns(kwargs, *turns)


# --- requests --------------------------------------------------------------------------------------------------------


def _with_tools(call: Call, kwargs: Kwargs) -> Prepared:
    given = kwargs.get("tools") or ()
    offered = offer(call, cohere_schema, given=given)
    notes = offered.notes
    kwargs["tools"] = [*given, *(_definition(tool.name, tool.description, tool.schema) for tool in offered.tools)]
    if offered.strict and (call.strict or not given):
        kwargs.setdefault("strict_tools", True)
    elif offered.strict:  # it would hold for the caller's tools too
        notes = (
            *notes,
            "Cohere does not enforce the schema of the answer beside other tools: set strict_tools if it should",
        )
    choice = kwargs.get("tool_choice")
    if str(choice).upper() == "NONE" and choice is not None:
        remedy = "Leave it out, or use mode schema or text."
        raise ParameterError("tool_choice", choice, "forbids the tool that is to carry the answer", remedy)
    if choice is None and _can_require(str(kwargs.get("model"))):
        kwargs["tool_choice"] = "REQUIRED"
    elif choice is None:
        names = " or ".join(tool.name for tool in offered.tools)
        kwargs = _with_instructions(kwargs, f"Give your answer by calling the tool {names}, and write no other text.")
        notes = (*notes, f"the model {kwargs.get('model')} can't be required to call a tool: it is asked to")
    return Prepared(kwargs, notes, strict=offered.adapted, tools_beside=offered.beside)


def _with_schema(call: Call, kwargs: Kwargs) -> Prepared:
    for name in ("tools", "documents"):
        if kwargs.get(name):
            reason = "can't be combined with mode schema: Cohere refuses response_format beside it"
            raise ParameterError(name, kwargs[name], reason, "Use mode tools or text.")
    adapted = adapted_to(call.spec, cohere_schema, demanded=bool(call.strict))
    if not adapted.sendable:
        prepared = _with_tools(call, kwargs)
        return replace(prepared, notes=fell_back(adapted, Mode.TOOLS), mode=Mode.TOOLS)
    kwargs["response_format"] = {"type": "json_object", "json_schema": thawed(adapted.schema)}
    # Without being told so, models may not stop (the SDK's docstring of `response_format`).
    return Prepared(
        _with_instructions(kwargs, f"Generate a JSON object: {call.spec.name}."), adapted.notes, strict=True
    )


def _definition(name: str, description: str | None, schema: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": description} if description else {}
    return {"type": "function", "function": {"name": name, **described, "parameters": schema}}


def _can_require(model: str) -> bool:
    return model not in ("command", "command-r") and not model.startswith(_WITHOUT_CHOICE)


def _with_instructions(kwargs: Kwargs, text: str) -> Kwargs:
    return {**kwargs, "messages": add_to_system(kwargs["messages"], text)}


def _of_version_2(kwargs: Kwargs) -> Kwargs:
    """Version 1 has a preamble, a history and a message."""
    for name, instead in _OF_VERSION_1.items():
        if kwargs.get(name) is not None:
            reason = "is an argument of Cohere's chat API version 1; version 2 is used"
            raise ParameterError(name, kwargs[name], reason, f"Version 2 has {instead} instead.")
    kwargs = {name: value for name, value in kwargs.items() if name not in _OF_VERSION_1}
    preamble, history, message = (kwargs.pop(name, None) for name in ("preamble", "chat_history", "message"))
    if preamble is None and history is None and message is None:
        return kwargs
    if kwargs.get("messages"):
        reason = "can't be given together with preamble, chat_history and message of version 1"
        raise ParameterError("messages", kwargs["messages"], reason, "Put all into messages.")
    messages = [{"role": "system", "content": preamble}] if preamble else []
    messages += [_turn_of_version_1(turn) for turn in history or ()]
    messages += [{"role": "user", "content": message}] if message else []
    return {**kwargs, "messages": messages}


def _turn_of_version_1(turn: Any) -> dict[str, Any]:
    role, message = (
        turn.get(name) if isinstance(turn, Mapping) else getattr(turn, name, None) for name in ("role", "message")
    )
    known = _ROLES.get(str(role).upper(), str(role) if role in _ROLES.values() else None)
    if known is None or message is None:
        remedy = "Give the conversation as messages of version 2."
        raise ParameterError("chat_history", turn, "holds a turn that is no message of user, chatbot or system", remedy)
    return {"role": known, "content": message}


# --- answers ---------------------------------------------------------------------------------------------------------


def _finish(reason: str | None) -> FinishReason | None:
    """A reason that is not known here is taken for an error: the answer may not be whole."""
    return None if reason is None else _STOPPED.get(reason, FinishReason.ERROR)


def _refusal(reason: str | None) -> str | None:
    return "the answer was found to be toxic" if reason == "ERROR_TOXIC" else None


def _assistant(answer: Answer) -> dict[str, Any]:
    """The message to echo, empty if there is nothing in it, which the API would refuse."""
    message: dict[str, Any] = {"role": "assistant"}
    for piece in answer.turn:
        message.update({name: value for name, value in piece.items() if name not in ("content", "tool_plan")})
    plan = "".join(piece.get("tool_plan", "") for piece in answer.turn)
    content = _grouped(part for piece in answer.turn for part in piece.get("content", ()))
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.tool_calls
    ]
    if not calls and not content:
        return {}
    filled = {"tool_calls": calls, "tool_plan": plan, "content": content}
    return {**message, **{name: value for name, value in filled.items() if value}}


def _grouped(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Texts, and thoughts, that follow each other as one."""
    groups = ((str(kind), list(group)) for kind, group in groupby(parts, key=lambda part: part.get("type")))
    joined = ({"type": kind, kind: "".join(part.get(kind, "") for part in group)} for kind, group in groups)
    return [part for part in joined if part[part["type"]].strip()]
