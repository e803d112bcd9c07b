"""Conversations with tools in them, as chat templates want them.

A template that knows tools gets them, and the calls and results of earlier turns, in the form that transformers
documents. For one that does not, all of it becomes text: tools are described in the system message, earlier calls stand
in the assistant's turns as the model would write them, and results are turns of the user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import ParameterError
from .tool_formats import ToolFormat, tool_format

Message = Mapping[str, Any]


def definition(name: str, description: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as OpenAI's API and chat templates describe it."""
    return {
        "type": "function",
        "function": {"name": name, "description": description or "", "parameters": dict(parameters)},
    }


def readable(messages: Sequence[Message], template: str | None) -> Sequence[Message]:
    """The messages as a template can read them: calls and results of earlier turns in its own form, or as text.

    Raises ParameterError.
    """
    if not any(isinstance(one, Mapping) and (one.get("tool_calls") or one.get("role") == "tool") for one in messages):
        return messages
    form, is_native = tool_format(None, template)
    return for_template(messages) if is_native else as_text(messages, [], form, must_call=False)


def for_template(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with the arguments of earlier calls as objects instead of JSON text. Raises ParameterError."""
    return [
        _with_calls(dict(message), i) if "tool_calls" in message else dict(message) for i, message in _each(messages)
    ]


def as_text(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], form: ToolFormat, must_call: bool
) -> list[dict[str, Any]]:
    """The messages for a template that knows no tools. Raises ParameterError."""
    turns: list[dict[str, Any]] = []
    for i, message in _each(messages):
        role = message.get("role")
        if role == "tool":
            result = f"<tool_response>\n{_as_json(message.get('content'))}\n</tool_response>"
            if turns and turns[-1].get("role") == "user" and i and messages[i - 1].get("role") == "tool":
                turns[-1]["content"] += "\n" + result
            else:
                turns.append({"role": "user", "content": result})
        elif message.get("tool_calls"):
            calls = _with_calls(dict(message), i)["tool_calls"]
            written = form.calls(
                [(call["function"]["name"], _as_json(call["function"]["arguments"])) for call in calls]
            )
            said = message.get("content")
            turns.append({"role": "assistant", "content": f"{said}\n{written}" if said else written})
        else:
            turns.append(dict(message))
    if not tools:
        return turns
    from ..structured.prompt import add_to_system

    return add_to_system(turns, describe(tools, form, must_call))


def describe(tools: Sequence[Mapping[str, Any]], form: ToolFormat, must_call: bool) -> str:
    """What a system message says of tools, where the template says nothing."""
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    when = "Call at least one function." if must_call else "Call a function where it helps; else answer in plain words."
    example = form.calls([("name_of_function", '{"argument": "value"}')])
    return "\n".join(
        [
            "You can call these functions, each given with the JSON schema of its arguments:",
            *lines,
            f"{when} A call is written so:",
            example,
        ]
    )


def _each(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    remedy = 'Pass a list such as [{"role": "user", "content": "Hello"}].'
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise ParameterError("messages", messages, "is not a list of messages", remedy)
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ParameterError(f"messages[{i}]", message, "is not a mapping", remedy)
    return list(enumerate(messages))


def _with_calls(message: dict[str, Any], index: int) -> dict[str, Any]:
    calls = message["tool_calls"] or []
    message["tool_calls"] = [_call(call, f"messages[{index}].tool_calls[{i}]") for i, call in enumerate(calls)]
    return message


def _call(call: Any, place: str) -> dict[str, Any]:
    """A call of an earlier turn: OpenAI's mapping or object, or a `ToolCall` of ours."""
    function = _get(call, "function") or call
    name, arguments = _get(function, "name"), _get(function, "text") or _get(function, "arguments")
    remedy = 'Give {"id": …, "type": "function", "function": {"name": …, "arguments": …}}, or a ToolCall.'
    if not isinstance(name, str) or not name:
        raise ParameterError(place, call, "has no name", remedy)
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise ParameterError(f"{place}.arguments", arguments, f"is not JSON ({error})", remedy) from error
    if not isinstance(arguments, Mapping):
        raise ParameterError(f"{place}.arguments", arguments, "is no object", remedy)
    given = {"id": _get(call, "id")} if _get(call, "id") else {}
    return {**given, "type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
