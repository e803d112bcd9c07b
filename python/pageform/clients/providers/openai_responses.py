"""OpenAI's Responses API. The conversation is `input`; chat `messages` are taken for it too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.completion import FinishReason
from ...core.errors import ParameterError
from ...structured.answer import Answer, Delta, Mode, ToolCall
from ...structured.dialects import openai_strict
from ...structured.errors import ProviderError
from ...structured.loop import Rejection
from ...structured.prompt import instructions
from ..base import Call, Kwargs, Prepared, thawed
from ..offer import Offer, adapted_to, offer, refuse_format, required, user_complaint
from ..usage import read_usage

MODES = (Mode.TOOLS, Mode.SCHEMA, Mode.TEXT)

_INCOMPLETE = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


def prepare(call: Call) -> Prepared:
    """See `Provider.prepare`."""
    kwargs = thawed(call.kwargs)
    if "messages" in kwargs:
        if kwargs.get("input") is not None:
            raise ParameterError("messages", kwargs["messages"], "is given besides input", "Give only one of them.")
        kwargs["input"] = kwargs.pop("messages")
    given = required(kwargs, "input", "Give the conversation, a text or a list of messages.")
    if not isinstance(given, (str, list)):
        raise ParameterError("input", given, "is neither text nor a list", 'Give a list of {"role": …, "content": …}.')
    if kwargs.get("background"):
        raise ParameterError("background", True, "gives no answer to validate", "Leave it out.")
    if call.mode is not Mode.TEXT:  # text may be helped by {"type": "json_object"}
        refuse_format(kwargs.get("text") or {}, "format")
    if call.stream:
        kwargs["stream"] = True
    if call.mode is Mode.TOOLS:
        return _with_tools(call, kwargs)
    if call.mode is Mode.SCHEMA:
        return _with_schema(call, kwargs)
    told = kwargs.get("instructions")
    kwargs["instructions"] = f"{told}\n\n{instructions(call.spec)}" if told else instructions(call.spec)
    return Prepared(kwargs)


def read(response: Any) -> Answer:
    """See `Provider.read`. Reasoning is no part of the text."""
    if not isinstance(getattr(response, "output", None), list):
        raise ProviderError("openai", "the response holds no output", response)
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    return Answer(
        text="".join(part.text for part in parts if part.type == "output_text"),
        finish_reason=_finish(response),
        usage=read_usage(response.usage),
        response=response,
        tool_calls=tuple(
            ToolCall(item.name, item.arguments, item.call_id)
            for item in response.output
            if item.type == "function_call"
        ),
        refusal="".join(part.refusal for part in parts if part.type == "refusal") or None,
        turn=tuple(_echo(item) for item in response.output),
    )


def read_deltas(event: Any) -> Sequence[Delta]:
    """See `Provider.read_deltas`. A piece of the turn is an item."""
    kind = getattr(event, "type", None)
    if kind == "response.output_text.delta":
        return [Delta(event.delta)]
    if kind == "response.refusal.delta":
        return [Delta(refusal=event.delta)]
    if kind == "response.output_item.added" and event.item.type == "function_call":
        item = event.item
        return [Delta(call=event.output_index, call_id=item.call_id, name=item.name, arguments=item.arguments or "")]
    if kind == "response.function_call_arguments.delta":
        return [Delta(call=event.output_index, arguments=event.delta)]
    if kind == "response.output_item.done":
        return [Delta(turn=_echo(event.item))]
    if kind in ("response.completed", "response.incomplete", "response.failed"):
        return [Delta(finish_reason=_finish(event.response), usage=read_usage(event.response.usage))]
    if kind == "error":
        raise ProviderError("openai", f"the stream ended with an error: {event.message}", event)
    return []


def reask(kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
    """See `Provider.reask`. All items of the output are echoed, since calls may not stand without their reasoning."""
    said = _said(answer)
    told: list[dict[str, Any]] = [
        {"type": "function_call_output", "call_id": id, "output": text}
        for id, text in zip(_ids(answer), rejection.results(answer), strict=True)
    ]
    if not told:
        told.append({"role": "user", "content": user_complaint(rejection)})
    if kwargs.get("conversation") is not None:  # the provider holds what was said before
        return {**kwargs, "input": told}
    given = kwargs["input"]
    before = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return {**kwargs, "input": [*before, *said, *told]}


# --- asking -----------------------------------------------------------------------------------------------------------


def _with_tools(call: Call, kwargs: Kwargs) -> Prepared:
    offered = offer(call, openai_strict, call.quirks.strict or call.strict is True, kwargs.get("tools"))
    kwargs["tools"] = [*(kwargs.get("tools") or ()), *_definitions(offered)]
    choice = kwargs.get("tool_choice")
    if choice == "none":
        remedy = "Leave it out, or use mode schema or text."
        raise ParameterError("tool_choice", choice, "forbids the tool that is to carry the answer", remedy)
    if choice is None:
        one = {"type": "function", "name": offered.tools[0].name}
        kwargs["tool_choice"] = one if len(offered.tools) == 1 else "required"
    return Prepared(kwargs, offered.notes, strict=offered.adapted, tools_beside=offered.beside)


def _with_schema(call: Call, kwargs: Kwargs) -> Prepared:
    wanted = call.strict is True or (call.quirks.strict and call.strict is None)
    adapted = adapted_to(call.spec, openai_strict, demanded=bool(call.strict)) if wanted else None
    strict = adapted is not None and adapted.sendable
    schema = thawed(adapted.schema if adapted is not None and strict else call.spec.object_schema)
    described = {"description": call.spec.description} if call.spec.description else {}
    form = {"type": "json_schema", "name": call.spec.tool_name, **described, "schema": schema, "strict": strict}
    kwargs["text"] = {**(kwargs.get("text") or {}), "format": form}
    return Prepared(kwargs, adapted.notes if adapted is not None else (), strict=strict)


def _definitions(offered: Offer) -> Iterable[dict[str, Any]]:
    """Here `strict` is true unless it is said not to be."""
    for tool in offered.tools:
        described = {"description": tool.description} if tool.description else {}
        yield {
            "type": "function",
            "name": tool.name,
            **described,
            "parameters": tool.schema,
            "strict": tool.strict,
        }


# --- reading ----------------------------------------------------------------------------------------------------------


def _finish(response: Any) -> FinishReason:
    if response.status == "failed" or response.error is not None:
        message = getattr(response.error, "message", None) or "no reason is told"
        raise ProviderError("openai", f"the response failed: {message}", response)
    if response.status in (None, "completed"):
        return FinishReason.STOP
    reason = getattr(response.incomplete_details, "reason", None)
    return _INCOMPLETE.get(reason, FinishReason.ABORT) if reason else FinishReason.ABORT


def _echo(item: Any) -> dict[str, Any]:
    """An item of the output as an item of the next input."""
    said: dict[str, Any] = item.model_dump(mode="json", by_alias=True, exclude_none=True)
    return said


# --- asking again -----------------------------------------------------------------------------------------------------


def _said(answer: Answer) -> list[Mapping[str, Any]]:
    """The output's items, those of a stream that ended early rebuilt."""
    said = list(answer.turn)
    known = {item.get("call_id") for item in said}
    for id, call in zip(_ids(answer), answer.tool_calls, strict=True):
        if id not in known:
            said.append({"type": "function_call", "call_id": id, "name": call.name, "arguments": call.arguments})
    if answer.text and not any(item.get("type") == "message" for item in said):
        said.append({"role": "assistant", "content": answer.text})
    return said


def _ids(answer: Answer) -> list[str]:
    return [call.id or f"call_{number}" for number, call in enumerate(answer.tool_calls)]
