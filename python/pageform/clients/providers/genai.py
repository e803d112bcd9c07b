"""Google's GenerateContent, as the google-genai SDK speaks it with the Gemini API and with Vertex."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.completion import FinishReason
from ...core.errors import ParameterError
from ...structured.answer import Answer, Delta, Mode, ToolCall
from ...structured.dialects import gemini
from ...structured.errors import ProviderError
from ...structured.loop import Rejection
from ...structured.prompt import instructions
from ..base import Call, Kwargs, Prepared, thawed
from ..offer import Offer, adapted_to, fell_back, offer, refuse_format, required, user_complaint, with_turns
from ..usage import read_usage

MODES = (Mode.TOOLS, Mode.SCHEMA, Mode.TEXT)

_OPTIONS = {
    "max_tokens": "max_output_tokens",
    "n": "candidate_count",
    "stop": "stop_sequences",
    "system": "system_instruction",
    **{
        name: name
        for name in (
            "cached_content",
            "frequency_penalty",
            "presence_penalty",
            "safety_settings",
            "seed",
            "temperature",
            "thinking_config",
            "top_k",
            "top_p",
        )
    },
}
"""Arguments that may stand beside `config`, by the names of other providers or its own, and its field for each."""
_ROLES = {"user": "user", "assistant": "model", "model": "model"}
_TOOLS_OR_SCHEMA = ("gemini-1", "gemini-2")
"""Models that can't combine functions with a schema of the answer (Google's guide to structured output)."""

_STOPPED = {
    "STOP": FinishReason.STOP,
    "FINISH_REASON_UNSPECIFIED": FinishReason.STOP,
    # What the model called is told to be wrong, not shown: it may do better when asked again.
    "MALFORMED_FUNCTION_CALL": FinishReason.STOP,
    "UNEXPECTED_TOOL_CALL": FinishReason.STOP,
    "MALFORMED_RESPONSE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "CONTINUATION": FinishReason.LENGTH,
    "OTHER": FinishReason.ERROR,
    "TOO_MANY_TOOL_CALLS": FinishReason.ERROR,
    "MISSING_THOUGHT_SIGNATURE": FinishReason.ERROR,
}
_BLOCKED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
        "MODEL_ARMOR",
    }
)


def prepare(call: Call) -> Prepared:
    """See `Provider.prepare`. `messages` in OpenAI's form become `contents`, other options fields of `config`."""
    kwargs, config = _with_contents(*_config_of(thawed(call.kwargs)))
    refuse_format(config, "response_schema", "response_json_schema")
    if config.get("cached_content") is not None and config.get("system_instruction") is not None:
        reason = "can't be combined with cached content, which has its own"
        raise ParameterError("system_instruction", config["system_instruction"], reason, "Put it into the cache.")
    if (config.get("candidate_count") or 1) != 1:
        reason = "asks for several answers, of which one would be taken"
        raise ParameterError("candidate_count", config["candidate_count"], reason, "Leave it out.")
    if call.mode is Mode.TOOLS:
        return _with_tools(call, kwargs, config)
    if call.mode is Mode.SCHEMA:
        return _with_schema(call, kwargs, config)
    return _with_text(call, kwargs, config)


def plain(kwargs: Kwargs) -> Kwargs:
    """See `Provider`: the conversation may be `messages`, and options stand beside `config`."""
    if not {"messages", "generation_config", *_OPTIONS} & kwargs.keys():
        return kwargs
    made, config = _with_contents(*_config_of(kwargs))
    return {**made, "config": config} if config else made


def read(response: Any) -> Answer:
    """See `Provider.read`. Thoughts are no part of the text."""
    if not hasattr(response, "candidates"):
        raise ProviderError("genai", "the response is no content", response)
    candidate = response.candidates[0] if response.candidates else None
    parts = _parts(candidate)
    refusal = _refusal(response, candidate)
    finish = FinishReason.CONTENT_FILTER if refusal else _finish(_reason(candidate))
    return Answer(
        text="".join(map(_text, parts)),
        finish_reason=finish or FinishReason.STOP,
        usage=read_usage(response.usage_metadata),
        response=response,
        tool_calls=tuple(_call(part.function_call) for part in parts if part.function_call is not None),
        refusal=refusal,
        turn=tuple(parts),
    )


def read_deltas(event: Any) -> Sequence[Delta]:
    """See `Provider.read_deltas`. A piece of the turn is a part of a content. Calls of functions come as a whole."""
    candidate = event.candidates[0] if event.candidates else None
    deltas = []
    for part in _parts(candidate):
        if part.function_call is None:
            deltas.append(Delta(_text(part), turn=part))
        else:
            call = _call(part.function_call)
            deltas.append(Delta(call_id=call.id, name=call.name, arguments=call.arguments, turn=part))
    refusal = _refusal(event, candidate)
    finish = FinishReason.CONTENT_FILTER if refusal else _finish(_reason(candidate))
    if finish is not None or event.usage_metadata is not None:
        usage = read_usage(event.usage_metadata)
        deltas.append(Delta(finish_reason=finish, usage=usage, refusal=refusal or ""))
    return deltas


def reask(kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
    """See `Provider.reask`. Parts are echoed as they came, signatures of thoughts too."""
    parts = [part for part in answer.turn if not _is_empty(part)]
    model = [{"role": "model", "parts": parts}] if parts else []
    replies: list[dict[str, Any]] = []
    for call, result in zip(answer.tool_calls, rejection.results(answer), strict=True):
        numbered = {"id": call.id} if call.id else {}
        replies.append({"function_response": {**numbered, "name": call.name, "response": {"error": result}}})
    if not replies:
        replies.append({"text": user_complaint(rejection)})
    return with_turns(kwargs, *model, {"role": "user", "parts": replies}, field="contents")


# --- requests --------------------------------------------------------------------------------------------------------


def _with_tools(call: Call, kwargs: Kwargs, config: dict[str, Any]) -> Prepared:
    if config.get("cached_content") is not None:
        reason = "can't be combined with mode tools: Gemini takes no functions beside cached content"
        raise ParameterError("cached_content", config["cached_content"], reason, "Use mode schema.")
    if config.get("response_mime_type") is not None:
        refuse_format(config, "response_mime_type")
    adapted = [adapted_to(spec, gemini, bool(call.strict)) for spec in call.spec.members.values() or (call.spec,)]
    for one in adapted:
        if not one.sendable:
            return Prepared(_with_text(call, kwargs, config).kwargs, fell_back(one, Mode.TEXT), Mode.TEXT)
    offered = offer(call, gemini, given=config.get("tools"))
    config["tools"] = [*(config.get("tools") or ()), {"function_declarations": [*_declarations(offered)]}]
    config["tool_config"] = _tool_config(config.get("tool_config"), [tool.name for tool in offered.tools])
    config.setdefault("automatic_function_calling", {"disable": True})
    made = {**kwargs, "config": config}
    return Prepared(made, offered.notes, strict=offered.adapted, tools_beside=offered.beside)


def _with_schema(call: Call, kwargs: Kwargs, config: dict[str, Any]) -> Prepared:
    if config.get("tools") and str(kwargs.get("model")).rpartition("/")[2].startswith(_TOOLS_OR_SCHEMA):
        reason = f"can't be combined with mode schema: {kwargs['model']} refuses a schema beside tools"
        raise ParameterError("tools", config["tools"], reason, "Use mode tools or text.")
    if config.get("response_mime_type") not in (None, "application/json"):
        refuse_format(config, "response_mime_type")
    adapted = adapted_to(call.spec, gemini, bool(call.strict))
    if not adapted.sendable:
        return Prepared(_with_text(call, kwargs, config).kwargs, fell_back(adapted, Mode.TEXT), Mode.TEXT)
    config |= {"response_mime_type": "application/json", "response_json_schema": thawed(adapted.schema)}
    return Prepared({**kwargs, "config": config}, adapted.notes, strict=True)


def _with_text(call: Call, kwargs: Kwargs, config: dict[str, Any]) -> Prepared:
    text = instructions(call.spec)
    if config.get("cached_content") is not None:  # whose system instruction can't be added to
        kwargs["contents"].insert(0, {"role": "user", "parts": [{"text": text}]})
    else:
        config["system_instruction"] = _joined(config.get("system_instruction"), text)
    return Prepared({**kwargs, "config": config} if config else kwargs)


def _declarations(offered: Offer) -> Iterable[dict[str, Any]]:
    for tool in offered.tools:
        described = {"description": tool.description} if tool.description else {}
        yield {"name": tool.name, **described, "parameters_json_schema": tool.schema}


def _tool_config(given: Any, names: list[str]) -> dict[str, Any]:
    """The caller's way of calling functions, or else that one of ours must be called."""
    config = _fields(given)
    calling = _fields(config.get("function_calling_config"))
    if calling.get("stream_function_call_arguments"):
        reason = "sends arguments as pieces of values, which are not put together here"
        raise ParameterError("stream_function_call_arguments", True, reason, "Use mode schema to stream.")
    mode = calling.get("mode")
    if str(getattr(mode, "value", mode)).upper() == "NONE" and mode is not None:
        reason = "forbids the function that is to carry the answer"
        raise ParameterError("function_calling_config", calling, reason, "Leave it out, or use mode schema or text.")
    if mode is None:
        calling = {**calling, "mode": "ANY", "allowed_function_names": names}
    return {**config, "function_calling_config": calling}


def _config_of(kwargs: Kwargs) -> tuple[Kwargs, dict[str, Any]]:
    """Arguments for the model, and all options as one dict of the fields of `GenerateContentConfig`."""
    kept = {name: value for name, value in kwargs.items() if name not in (*_OPTIONS, "config", "generation_config")}
    config = _fields(kwargs.get("config"))
    for source in (
        _fields(kwargs.get("generation_config")),
        {name: kwargs[name] for name in kwargs if name in _OPTIONS},
    ):
        for name, value in source.items():
            if value is not None:
                config[_OPTIONS.get(name, name)] = value
    if isinstance(config.get("stop_sequences"), str):
        config["stop_sequences"] = [config["stop_sequences"]]
    return kept, config


def _fields(given: Any) -> dict[str, Any]:
    """The fields of an object of the SDK, or of a dict that may write them in its JSON's way (`maxOutputTokens`)."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): value for name, value in given.items()}
    return {name: getattr(given, name) for name in given.model_fields_set}


def _with_contents(kwargs: Kwargs, config: dict[str, Any]) -> tuple[Kwargs, dict[str, Any]]:
    """Kwargs whose conversation is a list of contents; system messages go to the config."""
    messages, contents = kwargs.pop("messages", None), kwargs.pop("contents", None)
    if messages is not None and contents is not None:
        reason = "can't be given together with contents"
        raise ParameterError("messages", messages, reason, "Give the conversation as one of both.")
    if messages is None:
        required({"contents": contents}, "contents", "Give the conversation as contents, or as messages.")
        return {**kwargs, "contents": list(contents) if isinstance(contents, (list, tuple)) else [contents]}, config
    turns = []
    for number, message in enumerate(messages):
        if isinstance(message, Mapping) and message.get("role") == "system":
            for text in _system_texts(message.get("content")):
                config["system_instruction"] = _joined(config.get("system_instruction"), text)
        else:
            turns.append(_content(message, number))
    return {**kwargs, "contents": turns}, config


def _content(message: Any, number: int) -> Any:
    """A message as a content; what has parts already, or is no message, is left to the SDK."""
    if not isinstance(message, Mapping) or "parts" in message:
        return message
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES or message.get("tool_calls"):
        reason = "is no message of system, user or assistant"
        raise ParameterError(f"messages[{number}]", message, reason, "Give calls and results of functions as contents.")
    parts = content if isinstance(content, (list, tuple)) else [content]
    return {"role": _ROLES[role], "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def _system_texts(content: Any) -> Iterable[str]:
    for part in content if isinstance(content, (list, tuple)) else [content]:
        yield part if isinstance(part, str) else str(part.get("text") or "")


def _joined(given: Any, text: str) -> Any:
    """A system instruction, in whatever form, and a further text."""
    if given is None:
        return text
    if isinstance(given, str):
        return f"{given.rstrip()}\n\n{text}"
    parts = given.get("parts") if isinstance(given, Mapping) else getattr(given, "parts", None)
    return [*(parts if parts is not None else given if isinstance(given, list) else [given]), {"text": text}]


# --- answers ---------------------------------------------------------------------------------------------------------


def _parts(candidate: Any) -> list[Any]:
    content = getattr(candidate, "content", None)
    return list(getattr(content, "parts", None) or ())


def _text(part: Any) -> str:
    return "" if part.thought else part.text or ""


def _call(call: Any) -> ToolCall:
    return ToolCall(call.name or "", json.dumps(call.args or {}, ensure_ascii=False), call.id or "")


def _is_empty(part: Any) -> bool:
    """Whether a part says nothing, as streams end with."""
    return not any(getattr(part, name) not in (None, "", False) for name in part.model_fields_set)


def _reason(candidate: Any) -> str | None:
    reason = getattr(candidate, "finish_reason", None)
    return None if reason is None else str(getattr(reason, "value", reason))


def _finish(reason: str | None) -> FinishReason | None:
    """A reason that is not known here is taken for an error: the answer may not be whole."""
    if reason is None:
        return None
    return FinishReason.CONTENT_FILTER if reason in _BLOCKED else _STOPPED.get(reason, FinishReason.ERROR)


def _refusal(response: Any, candidate: Any) -> str | None:
    """Why the prompt, or the answer, was blocked."""
    feedback = response.prompt_feedback
    blocked = getattr(feedback, "block_reason", None)
    if blocked is not None:
        said = getattr(feedback, "block_reason_message", None)
        return f"the prompt was blocked: {said or getattr(blocked, 'value', blocked)}"
    reason = _reason(candidate)
    if reason not in _BLOCKED:
        return None
    return f"the answer was blocked: {getattr(candidate, 'finish_message', None) or reason}"
