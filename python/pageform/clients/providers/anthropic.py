"""Anthropic's Messages API, as the anthropic SDK speaks it with Anthropic, Bedrock, Vertex and Foundry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...core.completion import FinishReason
from ...core.errors import ParameterError
from ...structured.answer import Answer, Delta, Mode, ToolCall
from ...structured.dialects import anthropic_strict
from ...structured.errors import ProviderError
from ...structured.loop import Rejection
from ...structured.prompt import instructions
from ..base import Call, Kwargs, Prepared, thawed
from ..offer import Offer, adapted_to, fell_back, offer, refuse_format, required, user_complaint, with_turns
from ..usage import read_usage

MODES = (Mode.TOOLS, Mode.SCHEMA, Mode.TEXT)

# Parts of the names of models, which are spelled a little differently by each cloud. Anthropic's guides ("Structured
# outputs", "Thinking", "What's new" of each model) say which can do what; a model that is not listed can.
_WITHOUT_STRICT = (
    "claude-instant",
    "claude-2",
    "claude-3",
    "claude-4-",
    "claude-opus-4-0",
    "claude-opus-4-2025",
    "claude-opus-4@",
    "claude-sonnet-4-0",
    "claude-sonnet-4-2025",
    "claude-sonnet-4@",
)
"""Models without structured outputs and strict tools."""
_THINKING_ALWAYS = ("claude-fable", "claude-mythos", "claude-opus-5-5", "claude-sonnet-5-5")
"""Models that always think and refuse to be told which tool to call."""
_ANCHORS = frozenset({"thinking", "redacted_thinking"})
"""Blocks that hold only behind the messages that they followed."""
_THINKING = frozenset({"enabled", "adaptive", "between_tools"})

_STOPPED = {
    "end_turn": FinishReason.STOP,
    "tool_use": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
    "pause_turn": FinishReason.ABORT,
}


def prepare(call: Call) -> Prepared:
    """See `Provider.prepare`. System messages at the start become `system`; `max_tokens` is required, as by the API."""
    required(
        call.kwargs, "max_tokens", "Anthropic requires it: give the largest number of tokens of an answer, like 4096."
    )
    kwargs = _with_system_param(thawed(call.kwargs))
    refuse_format(kwargs.get("output_config") or {}, "format")
    if call.stream:
        kwargs["stream"] = True
    if call.mode is Mode.TOOLS:
        return _with_tools(call, kwargs)
    if call.mode is Mode.SCHEMA:
        return _with_schema(call, kwargs)
    return Prepared(_with_instructions(kwargs, instructions(call.spec)))


def plain(kwargs: Kwargs) -> Kwargs:
    """See `Provider`: system messages may stand at the start."""
    return _with_system_param(kwargs) if kwargs.get("messages") else kwargs


def read(response: Any) -> Answer:
    """See `Provider.read`. Thinking is no part of the text."""
    content = getattr(response, "content", None)
    if not isinstance(content, list):
        raise ProviderError("anthropic", "the response is no message", response)
    blocks = [_written(block) for block in content]
    calls = [
        ToolCall(str(block["name"]), json.dumps(block["input"], ensure_ascii=False), str(block["id"]))
        for block in blocks
        if block["type"] == "tool_use"
    ]
    return Answer(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        finish_reason=_finish(response.stop_reason) or FinishReason.STOP,
        usage=read_usage(response.usage),
        response=response,
        tool_calls=tuple(calls),
        refusal=_refusal(response),
        turn=tuple(enumerate(blocks)),
        anchored=any(block["type"] in _ANCHORS for block in blocks),
    )


def read_deltas(event: Any) -> Sequence[Delta]:
    """See `Provider.read_deltas`. A piece of the turn is the number of its block and what is added to that."""
    if event.type == "message_start":
        return [Delta(usage=read_usage(event.message.usage))]
    if event.type == "content_block_start":
        block = _written(event.content_block)
        if block["type"] == "tool_use":
            whole = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
            return [
                Delta(
                    call=event.index,
                    call_id=block["id"],
                    name=block["name"],
                    arguments=whole,
                    turn=(event.index, block),
                )
            ]
        text = block["text"] if block["type"] == "text" else ""
        return [Delta(text, turn=(event.index, block), anchored=block["type"] in _ANCHORS)]
    if event.type == "content_block_delta":
        return _of_block(event.index, event.delta)
    if event.type == "message_delta":
        reason = event.delta.stop_reason
        return [
            Delta(finish_reason=_finish(reason), usage=read_usage(event.usage), refusal=_refusal(event.delta) or "")
        ]
    return []


def reask(kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
    """See `Provider.reask`. Blocks are echoed as they came, signatures of thinking too."""
    blocks = _blocks(answer.turn)
    results = {call.id: result for call, result in zip(answer.tool_calls, rejection.results(answer), strict=True)}
    content: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": results[block["id"]], "is_error": True}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    if len(content) < max(1, len(answer.tool_calls)):  # no calls, or one that is no JSON
        content.append({"type": "text", "text": user_complaint(rejection)})
    assistant = [{"role": "assistant", "content": blocks}] if blocks else []
    return with_turns(kwargs, *assistant, {"role": "user", "content": content})


# --- requests --------------------------------------------------------------------------------------------------------


def _with_tools(call: Call, kwargs: Kwargs) -> Prepared:
    offered = offer(call, anthropic_strict, not _is_one_of(kwargs, _WITHOUT_STRICT), kwargs.get("tools"))
    kwargs["tools"] = [*(kwargs.get("tools") or ()), *_definitions(offered)]
    notes = offered.notes
    given = kwargs.get("tool_choice")
    if given is not None:
        _check_choice(kwargs, given)
    elif _thinks(kwargs):
        kwargs["tool_choice"] = {"type": "auto", **_one_call(call)}
        names = " or ".join(tool.name for tool in offered.tools)
        kwargs = _with_instructions(kwargs, f"Give your answer by calling the tool {names}, and write no other text.")
        notes = (*notes, "a model that thinks can't be forced to call a tool: it is asked to")
    elif call.spec.members:
        kwargs["tool_choice"] = {"type": "any"}
    else:
        kwargs["tool_choice"] = {"type": "tool", "name": call.spec.tool_name, **_one_call(call)}
    return Prepared(kwargs, notes, strict=offered.adapted, tools_beside=offered.beside)


def _with_schema(call: Call, kwargs: Kwargs) -> Prepared:
    if _is_one_of(kwargs, _WITHOUT_STRICT):
        raise ParameterError(
            "mode", str(call.mode), f"the model {kwargs.get('model')} has no structured outputs", "Use mode tools."
        )
    adapted = adapted_to(call.spec, anthropic_strict, demanded=bool(call.strict))
    if not adapted.sendable:
        prepared = _with_tools(call, kwargs)
        return replace(prepared, notes=fell_back(adapted, Mode.TOOLS), mode=Mode.TOOLS)
    form = {"type": "json_schema", "schema": thawed(adapted.schema)}
    kwargs["output_config"] = {**(kwargs.get("output_config") or {}), "format": form}
    return Prepared(kwargs, adapted.notes, strict=True)


def _definitions(offered: Offer) -> Iterable[dict[str, Any]]:
    for tool in offered.tools:
        described = {"description": tool.description} if tool.description else {}
        strict = {"strict": True} if tool.strict else {}
        yield {"name": tool.name, **described, "input_schema": tool.schema, **strict}


def _one_call(call: Call) -> dict[str, Any]:
    """Without it, models may call the same tool several times."""
    return {} if call.spec.members else {"disable_parallel_tool_use": True}


def _check_choice(kwargs: Kwargs, given: Any) -> None:
    kind = given.get("type") if isinstance(given, Mapping) else given
    if kind == "none":
        remedy = "Leave it out, or use mode schema or text."
        raise ParameterError("tool_choice", given, "forbids the tool that is to carry the answer", remedy)
    if kind in ("any", "tool") and _thinks(kwargs):
        remedy = 'Leave it out, use {"type": "auto"}, or use mode schema.'
        raise ParameterError(
            "tool_choice", given, "forces a tool, which Anthropic refuses while the model thinks", remedy
        )


def _thinks(kwargs: Kwargs) -> bool:
    """Whether the model thinks, so that it can't be forced to call a tool."""
    thinking = kwargs.get("thinking")
    asked = isinstance(thinking, Mapping) and thinking.get("type") in _THINKING
    return asked or _is_one_of(kwargs, _THINKING_ALWAYS)


def _is_one_of(kwargs: Kwargs, parts: Iterable[str]) -> bool:
    return any(part in str(kwargs.get("model")) for part in parts)


def _with_system_param(kwargs: Kwargs) -> Kwargs:
    """Kwargs whose leading system messages are joined to `system`. Those amid a conversation stay where they are."""
    messages = list(required(kwargs, "messages", "Give the conversation as a list of messages."))
    leading = 0
    while (
        leading < len(messages) and isinstance(messages[leading], Mapping) and messages[leading].get("role") == "system"
    ):
        leading += 1
    made = {**kwargs, "messages": messages[leading:]}
    for message in messages[:leading]:
        made["system"] = _joined(made.get("system"), message.get("content") or "")
    return made


def _with_instructions(kwargs: Kwargs, text: str) -> Kwargs:
    return {**kwargs, "system": _joined(kwargs.get("system"), text)}


def _joined(first: Any, second: Any) -> Any:
    """Two system prompts as one: texts as a text, blocks (which may be cached) as blocks."""
    if not first:
        return second
    if isinstance(first, str) and isinstance(second, str):
        return f"{first.rstrip()}\n\n{second}"
    return [*_as_blocks(first), *_as_blocks(second)]


def _as_blocks(system: Any) -> list[Any]:
    return [{"type": "text", "text": system}] if isinstance(system, str) else list(system)


# --- answers ---------------------------------------------------------------------------------------------------------


def _finish(reason: str | None) -> FinishReason | None:
    """A reason that is not known here is taken for an error: the answer may not be whole."""
    return None if reason is None else _STOPPED.get(reason, FinishReason.ERROR)


def _refusal(source: Any) -> str | None:
    """What a message, or the end of its stream, says of a refusal."""
    if source.stop_reason != "refusal":
        return None
    details = getattr(source, "stop_details", None)
    said = getattr(details, "explanation", None) or getattr(details, "category", None)
    return said or "no explanation was given"


def _written(block: Any) -> dict[str, Any]:
    """A block as the API wrote it, but for empty fields, some of which it refuses to take back."""
    dumped = block.model_dump(mode="json", exclude={"input", "parsed_output"}, exclude_unset=True, warnings=False)
    kept = {name: value for name, value in dumped.items() if value is not None}
    if getattr(block, "input", None) is not None:  # as it came: Pydantic's serializer gives up on deep ones
        kept["input"] = block.input
    return {**kept, "citations": [*map(_citation, kept["citations"])]} if "citations" in kept else kept


def _citation(citation: Mapping[str, Any]) -> dict[str, Any]:
    """A citation as it may be sent back: the API tells the id of a file, but has no place for it in requests."""
    return {name: value for name, value in citation.items() if name != "file_id"}


def _of_block(index: int, delta: Any) -> list[Delta]:
    """What one event adds to a block of the message."""
    if delta.type == "text_delta":
        return [Delta(delta.text, turn=(index, {"text": delta.text}))]
    if delta.type == "input_json_delta":
        return [Delta(call=index, arguments=delta.partial_json, turn=(index, {"input": delta.partial_json}))]
    if delta.type == "thinking_delta":
        return [Delta(turn=(index, {"thinking": delta.thinking}))]
    if delta.type == "signature_delta":
        return [Delta(turn=(index, {"signature": delta.signature}))]
    if delta.type == "citations_delta":
        cited = _citation(delta.citation.model_dump(mode="json", exclude_unset=True))
        return [Delta(turn=(index, {"citations": [cited]}))]
    return []


def _blocks(turn: Iterable[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The blocks to echo, from their pieces. Blocks without text, which the API refuses, are left out."""
    pieces: dict[int, dict[str, list[Any]]] = {}
    for index, piece in turn:
        fields = pieces.setdefault(index, {})
        for name, value in piece.items():
            fields.setdefault(name, []).append(value)
    blocks = (_block({name: _sum(values) for name, values in fields.items()}) for fields in pieces.values())
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def _sum(values: list[Any]) -> Any:
    """Pieces of a field as one: texts and lists grow, anything else is replaced."""
    kept = [value for value in values if value]
    if kept and all(isinstance(value, str) for value in kept):
        return "".join(kept)
    if kept and all(isinstance(value, list) for value in kept):
        return [item for value in kept for item in value]
    return kept[-1] if kept else values[-1]


def _block(block: dict[str, Any]) -> dict[str, Any]:
    """A block whose input, which streams as text, is an object; as a text, if what the model wrote is none."""
    written = block.get("input")
    if not isinstance(written, str):
        return block
    try:
        parsed = json.loads(written)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return {**block, "input": parsed}
    return {"type": "text", "text": f"{block.get('name')}({written})"}
