"""Chat messages to the text of a prompt, by the model's own template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import ParameterError
from ..templating.sandbox import render

Message = Mapping[str, Any]
"""`role`, `content` (text, a list of text parts, or None), and whatever else a template reads (`tool_calls`, …)."""


def render_chat(
    messages: Sequence[Message],
    template: str | None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The prompt that `template` makes of a conversation.

    The template sees `messages`, `tools` (JSON schemas), `add_generation_prompt` and `variables`, usually the
    tokenizer's `special_tokens`. It writes special tokens such as BOS itself: encode the result without adding any.

    Raises ParameterError naming `messages`, `tools` or `chat_template`: for malformed messages, for what the template
    itself rejects, and for a template that is broken, touches what it may not, or takes too long.
    """
    if template is None:
        raise ParameterError(
            "chat_template", None, "the model has no chat template", "Use generate() with a plain prompt, or pass one."
        )
    return render(
        template,
        {
            **variables,
            "messages": _checked_messages(messages),
            "tools": _checked_tools(tools),
            "add_generation_prompt": add_generation_prompt,
        },
    )


def _checked_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    remedy = 'Pass a list such as [{"role": "user", "content": "Hello"}].'
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise ParameterError("messages", messages, "is not a list of messages", remedy)
    if not messages:
        raise ParameterError("messages", messages, "is empty", remedy)
    checked: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ParameterError(f"messages[{i}]", message, "is not a mapping", remedy)
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise ParameterError(f"messages[{i}].role", role, "is not text", 'Give "system", "user" or "assistant".')
        copy = dict(message)
        if "content" not in copy and "tool_calls" not in copy:
            raise ParameterError(f"messages[{i}]", message, "has no content", remedy)
        copy["content"] = _text_of(copy.get("content"), f"messages[{i}].content")
        checked.append(copy)
    return checked


def _text_of(content: Any, field: str) -> str | None:
    """Text stays, parts of type text are joined by newlines (as vLLM does); a missing content is None."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise ParameterError(field, content, "is neither text nor a list of parts", "Give text.")
    texts: list[str] = []
    for i, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        if not isinstance(text, str):
            reason = "is not a part of type text, the only kind that this model reads"
            raise ParameterError(f"{field}[{i}]", part, reason, 'Give {"type": "text", "text": …}.')
        texts.append(text)
    return "\n".join(texts)


def _checked_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]] | None:
    if tools is None:
        return None
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        raise ParameterError("tools", tools, "is not a list of JSON schemas", "Pass a list of mappings.")
    for i, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise ParameterError(f"tools[{i}]", tool, "is not a JSON schema", "Pass a mapping.")
    return list(tools)
