"""OpenAI's chat completions, and all services that speak them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...core.completion import FinishReason
from ...core.errors import ParameterError
from ...structured.answer import Answer, Delta, Mode, ToolCall
from ...structured.dialects import Adapted, openai_strict
from ...structured.errors import ProviderError
from ...structured.loop import Rejection
from ...structured.prompt import add_to_messages, complaint
from ...structured.spec import Spec
from ..base import Call, Kwargs, Prepared, thawed
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
    _refuse_conflicts(call)
    if call.stream:
        kwargs["stream"] = True
        if call.quirks.stream_usage:
            kwargs["stream_options"] = {"include_usage": True, **(kwargs.get("stream_options") or {})}
    if call.mode is Mode.TOOLS:
        return _with_tools(call, kwargs)
    if call.mode is Mode.SCHEMA:
        return _with_schema(call, kwargs)
    return Prepared({**kwargs, "messages": add_to_messages(call.spec, kwargs["messages"])})


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
    if answer.tool_calls:
        ids = _ids(answer)
        turns += [
            {"role": "tool", "tool_call_id": one, "content": text}
            for one, text in zip(ids, rejection.results(answer), strict=True)
        ]
    else:
        turns.append({"role": "user", "content": complaint(rejection.text)})
    return {**kwargs, "messages": [*kwargs["messages"], *turns]}


# --- asking -----------------------------------------------------------------------------------------------------------


def _refuse_conflicts(call: Call) -> None:
    taken = {Mode.TOOLS: ("tools", "tool_choice", "functions"), Mode.SCHEMA: ("response_format",), Mode.TEXT: ()}
    for name in taken[call.mode]:
        if call.kwargs.get(name) is not None:
            reason = f"it is what {call.mode} mode sets to get an answer of the response type"
            raise ParameterError(name, call.kwargs[name], reason, "Leave it out, or choose another mode.")
    if call.kwargs.get("n") not in (None, 1):
        raise ParameterError("n", call.kwargs["n"], "a typed answer is one choice", "Leave it out, or call n times.")
    if not isinstance(call.kwargs.get("messages"), (list, tuple)):
        remedy = 'Give a list of {"role": …, "content": …}.'
        raise ParameterError("messages", call.kwargs.get("messages"), "must be a list of messages", remedy)


def _with_tools(call: Call, kwargs: Kwargs) -> Prepared:
    tools: list[dict[str, Any]] = []
    strict, notes = False, []
    for name, spec in (call.spec.members or {call.spec.tool_name: call.spec}).items():
        function, is_strict, about = _described(call, spec, name, "parameters")
        strict |= is_strict
        notes += about
        tools.append({"type": "function", "function": function})
    choice: Any = call.quirks.tool_choice
    if choice == "named" and len(tools) == 1:
        choice = {"type": "function", "function": {"name": tools[0]["function"]["name"]}}
    elif choice == "named":
        choice = "required"
    return Prepared({**kwargs, "tools": tools, "tool_choice": choice}, tuple(dict.fromkeys(notes)), strict=strict)


def _with_schema(call: Call, kwargs: Kwargs) -> Prepared:
    described, strict, notes = _described(call, call.spec, call.spec.tool_name, "schema")
    if not call.quirks.sees_schema:
        kwargs = {**kwargs, "messages": add_to_messages(call.spec, kwargs["messages"])}
    format = {"type": "json_schema", "json_schema": described}
    return Prepared({**kwargs, "response_format": format}, tuple(notes), strict=strict)


def _described(call: Call, spec: Spec[Any], name: str, key: str) -> tuple[dict[str, Any], bool, list[str]]:
    """A type as a function or response format, its schema under `key`; whether it is strict; what is not enforced."""
    purpose = spec.description or f"Answer with a {spec.name}."
    schema, strict, notes = _schema(call, spec)
    marked = {"strict": True} if strict else {}
    return {"name": name, "description": purpose, key: schema, **marked}, strict, notes


def _schema(call: Call, spec: Spec[Any]) -> tuple[Mapping[str, Any], bool, list[str]]:
    plain = copy.deepcopy(spec.object_schema)  # some SDKs write into what they are given
    if call.strict is False or (call.strict is None and not call.quirks.strict):
        return plain, False, []
    adapted = _strict(spec)
    if adapted.sendable:
        return copy.deepcopy(adapted.schema), True, list(adapted.notes)
    if call.strict:
        reasons = "; ".join(adapted.obstacles)
        remedy = "Change the type, or leave strict_schema out to have the answer validated only."
        raise ParameterError("strict_schema", True, f"{spec.name} can't be sent as a strict schema ({reasons})", remedy)
    return plain, False, [f"{spec.name} is not sent as a strict schema: {reason}" for reason in adapted.obstacles]


@lru_cache(maxsize=256)
def _strict(spec: Spec[Any]) -> Adapted:
    return openai_strict(spec.object_schema)


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
