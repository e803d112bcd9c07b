"""OpenAI's chat completions, and all services that speak them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.completion import FinishReason
from ...core.errors import ParameterError
from ...structured.answer import Answer, Delta, Mode, ToolCall
from ...structured.dialects import openai_strict
from ...structured.errors import ProviderError
from ...structured.loop import Rejection
from ...structured.prompt import add_to_system, instructions
from ..base import Call, Kwargs, Prepared, thawed
from ..offer import Offer, adapted_to, offer, refuse_format, required, user_complaint, with_turns
from ..usage import read_usage

MODES = (Mode.TOOLS, Mode.SCHEMA, Mode.TEXT)

_FINISH = {
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "error": FinishReason.ERROR,
}
"""Every other reason that services know ("stop", "tool_calls", "eos" …) means that the model was done."""


def prepare(call: Call) -> Prepared:
    """See `Provider.prepare`."""
    kwargs = thawed(call.kwargs)
    messages = required(kwargs, "messages", "Give the conversation as a list of messages.")
    if not isinstance(messages, list):
        raise ParameterError("messages", messages, "is no list", 'Give a list of {"role": …, "content": …}.')
    if (kwargs.get("n") or 1) != 1:
        raise ParameterError("n", kwargs["n"], "asks for several answers, of which one would be taken", "Leave it out.")
    if call.mode is not Mode.TEXT:  # text may be helped by {"type": "json_object"}
        refuse_format(kwargs, "response_format")
    if call.stream:
        kwargs["stream"] = True
        if call.quirks.stream_usage:
            kwargs["stream_options"] = {"include_usage": True, **(kwargs.get("stream_options") or {})}
    if call.mode is Mode.TOOLS:
        return _with_tools(call, kwargs)
    if call.mode is Mode.SCHEMA:
        return _with_schema(call, kwargs)
    kwargs["messages"] = add_to_system(kwargs["messages"], instructions(call.spec))
    return Prepared(kwargs)


def read(response: Any) -> Answer:
    """See `Provider.read`."""
    choice = _choice(response)
    message = choice.message
    return Answer(
        text=_text(message.content),
        finish_reason=_FINISH.get(choice.finish_reason, FinishReason.STOP),
        usage=read_usage(getattr(response, "usage", None)),
        response=response,
        tool_calls=tuple(_calls(message)),
        refusal=getattr(message, "refusal", None),
        turn=(message,),
    )


def read_deltas(event: Any) -> Sequence[Delta]:
    """See `Provider.read_deltas`. Only the first choice is read."""
    deltas = []
    for choice in getattr(event, "choices", None) or ():
        if getattr(choice, "index", 0):
            continue
        delta = choice.delta
        text, refusal = _text(getattr(delta, "content", None)), getattr(delta, "refusal", None) or ""
        finish = _FINISH.get(choice.finish_reason, FinishReason.STOP) if choice.finish_reason else None
        if text or refusal:
            deltas.append(Delta(text, refusal=refusal))
        for call in getattr(delta, "tool_calls", None) or ():
            name, arguments = getattr(call.function, "name", None), getattr(call.function, "arguments", None)
            deltas.append(
                Delta(call=call.index or 0, call_id=call.id or "", name=name or "", arguments=arguments or "")
            )
        if finish is not None:
            deltas.append(Delta(finish_reason=finish))
    usage = getattr(event, "usage", None) or _of_groq(event, "usage")
    fault = getattr(event, "error", None) or _of_groq(event, "error")
    if fault:
        raise ProviderError("openai", f"the stream ended with an error: {fault}", event)
    return [*deltas, Delta(usage=read_usage(usage))] if usage is not None else deltas


def reask(kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
    """See `Provider.reask`."""
    turns = [_turn(answer)] if answer.text or answer.tool_calls else []
    for one, text in zip(_ids(answer), rejection.results(answer), strict=True):
        turns.append({"role": "tool", "tool_call_id": one, "content": text})
    if not answer.tool_calls:
        turns.append({"role": "user", "content": user_complaint(rejection)})
    return with_turns(kwargs, *turns)


# --- asking -----------------------------------------------------------------------------------------------------------


def _with_tools(call: Call, kwargs: Kwargs) -> Prepared:
    offered = offer(call, openai_strict, call.quirks.strict or call.strict is True, kwargs.get("tools"))
    kwargs["tools"] = [*(kwargs.get("tools") or ()), *_definitions(offered)]
    choice = kwargs.get("tool_choice")
    if choice == "none":
        remedy = "Leave it out, or use mode schema or text."
        raise ParameterError("tool_choice", choice, "forbids the tool that is to carry the answer", remedy)
    if choice is None:
        named = {"type": "function", "function": {"name": offered.tools[0].name}}
        demand: Any = call.quirks.tool_choice
        if demand == "named":
            demand = named if len(offered.tools) == 1 else "required"
        kwargs["tool_choice"] = demand
        if demand == "auto":
            names = " or ".join(tool.name for tool in offered.tools)
            plea = f"Give your answer by calling the tool {names}, and write no other text."
            kwargs["messages"] = add_to_system(kwargs["messages"], plea)
    return Prepared(kwargs, offered.notes, strict=offered.adapted, tools_beside=offered.beside)


def _with_schema(call: Call, kwargs: Kwargs) -> Prepared:
    wanted = call.strict is True or (call.quirks.strict and call.strict is None)
    adapted = adapted_to(call.spec, openai_strict, demanded=bool(call.strict)) if wanted else None
    strict = adapted is not None and adapted.sendable
    described = {"description": call.spec.description} if call.spec.description else {}
    schema = thawed(adapted.schema if adapted is not None and strict else call.spec.object_schema)
    form = {"name": call.spec.tool_name, **described, "schema": schema, **({"strict": True} if strict else {})}
    if not call.quirks.sees_schema:
        kwargs["messages"] = add_to_system(kwargs["messages"], instructions(call.spec))
    kwargs["response_format"] = {"type": "json_schema", "json_schema": form}
    return Prepared(kwargs, adapted.notes if adapted is not None else (), strict=strict)


def _definitions(offered: Offer) -> Iterable[dict[str, Any]]:
    for tool in offered.tools:
        described = {"description": tool.description} if tool.description else {}
        strict = {"strict": True} if tool.strict else {}
        function = {"name": tool.name, **described, "parameters": tool.schema, **strict}
        yield {"type": "function", "function": function}


# --- reading ----------------------------------------------------------------------------------------------------------


def _choice(response: Any) -> Any:
    choices = getattr(response, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        # Some services report a fault in the body of a good status.
        fault = getattr(response, "error", None)
        told = f": {fault}" if fault else ""
        raise ProviderError("openai", f"the response holds no choice{told}", response)
    return choices[0]


def _of_groq(event: Any, name: str) -> Any:
    """Groq's addition to its events."""
    return getattr(getattr(event, "x_groq", None), name, None)


def _text(content: Any) -> str:
    """The text of a message, which some services give in parts."""
    if isinstance(content, (list, tuple)):
        parts = (part.get("text") if isinstance(part, Mapping) else getattr(part, "text", None) for part in content)
        return "".join(part for part in parts if isinstance(part, str))
    return content or ""


def _calls(message: Any) -> list[ToolCall]:
    calls = []
    for call in getattr(message, "tool_calls", None) or ():
        if getattr(call, "function", None) is not None:
            calls.append(ToolCall(call.function.name or "", call.function.arguments or "", call.id or ""))
    return calls


# --- asking again -----------------------------------------------------------------------------------------------------

_ECHOED = ("content", "refusal", "tool_calls", "reasoning_details")
"""What a message of an assistant may hold when it is sent back. Services want their own additions to tool calls, and
OpenRouter its `reasoning_details`, back as they were; DeepSeek refuses its `reasoning_content`."""


def _turn(answer: Answer) -> dict[str, Any]:
    """The assistant's message as it came, or rebuilt from a stream."""
    if answer.turn:
        said = answer.turn[0].model_dump(exclude_none=True)
        return {"role": "assistant", **{name: said[name] for name in _ECHOED if name in said}}
    calls = [
        {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for id, call in zip(_ids(answer), answer.tool_calls, strict=True)
    ]
    return {"role": "assistant", "content": answer.text or None, **({"tool_calls": calls} if calls else {})}


def _ids(answer: Answer) -> list[str]:
    return [call.id or f"call_{number}" for number, call in enumerate(answer.tool_calls)]
