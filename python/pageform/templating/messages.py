"""Messages with variables in them: `{"role": "user", "content": "Greet {{ name }}."}` and `context={"name": "Ann"}`.

Only a context makes templates of messages. Templates are then all texts of the conversation: contents, and the text
parts of contents that are lists; but not what tools answered, nor `Text`, nor anything without a `{{`, `{%` or `{#`.
Values are put in as they are and never read as templates. A variable that the context doesn't have is an error.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import ParameterError
from .budget import Budget
from .sandbox import Broken, Kind, UnknownVariable, run

CONVERSATION = ("messages", "input", "contents")
"""What SDKs call the argument that holds the conversation: OpenAI and most others, OpenAI's Responses, Google GenAI."""
_NOT_TEMPLATES = ("tool", "function")
"""Roles whose words come from programs."""
_TEXT_TYPES = ("text", "input_text", "output_text")


class Text(str):
    """Text that is no template, whatever it holds: `{"role": "user", "content": Text(words_of_a_stranger)}`."""

    __slots__ = ()


class MessageTemplateError(ParameterError):
    """A message can't be rendered. `field` says which, `reason` why."""


def render_kwargs(kwargs: Mapping[str, Any], context: Any, *, strict: bool = True) -> dict[str, Any]:
    """An SDK's kwargs with the templates of their conversation rendered; new messages where something changed.

    A context that is no mapping, or an empty one, renders nothing: it serves validation only. `strict` of False renders
    unknown variables as nothing. All templates of a call share one budget of time and size.
    Raises MessageTemplateError.
    """
    rendered = dict(kwargs)
    if not isinstance(context, Mapping) or not context:
        return rendered
    renderer = _Renderer(context, "text" if strict else "lenient text")
    for name in CONVERSATION:
        if kwargs.get(name) is not None:
            rendered[name] = renderer.conversation(kwargs[name], name)
    return rendered


def render_messages(messages: Sequence[Any], context: Any, *, strict: bool = True) -> list[Any]:
    """The same for messages alone."""
    return list(render_kwargs({"messages": list(messages)}, context, strict=strict)["messages"])


class _Renderer:
    def __init__(self, context: Mapping[str, Any], kind: Kind) -> None:
        self.context, self.kind, self.budget = context, kind, Budget()

    def conversation(self, value: Any, field: str) -> Any:
        if isinstance(value, (list, tuple)):
            return [self.message(message, f"{field}[{number}]") for number, message in enumerate(value)]
        return self.message(value, field)

    def message(self, message: Any, field: str) -> Any:
        """A message, or (GenAI) a bare part in its place."""
        if isinstance(message, str):
            return self.text(message, field)
        if _get(message, "role") in _NOT_TEMPLATES:
            return message
        changed: dict[str, Any] = {}
        for key in ("content", "parts"):
            content = _get(message, key)
            if isinstance(content, str):
                changed[key] = self.text(content, f"{field}.{key}")
            elif isinstance(content, (list, tuple)):
                changed[key] = [self.part(part, f"{field}.{key}[{i}]") for i, part in enumerate(content)]
        if isinstance(_get(message, "text"), str):
            return self.part(message, field)
        return _changed(message, changed)

    def part(self, part: Any, field: str) -> Any:
        if isinstance(part, str):
            return self.text(part, field)
        text = _get(part, "text")
        if not isinstance(text, str) or (isinstance(part, Mapping) and part.get("type", "text") not in _TEXT_TYPES):
            return part
        return _changed(part, {"text": self.text(text, f"{field}.text")})

    def text(self, source: str, field: str) -> str:
        if isinstance(source, Text) or not any(mark in source for mark in ("{{", "{%", "{#")):
            return source
        try:
            # Indentation is that of the program the template stands in; the values' own is kept.
            return run(textwrap.dedent(source), self.context, self.kind, self.budget)
        except UnknownVariable as error:
            names = ", ".join(sorted(map(str, self.context)))
            remedy = f"The context has {names}. Use {{{{ x | default('') }}}} for what may be missing."
            raise MessageTemplateError(field, source, str(error), remedy) from error.__cause__
        except Broken as error:
            remedy = "Mend the template, or wrap text that is none in pageform.templating.Text."
            raise MessageTemplateError(field, source, str(error), remedy) from error.__cause__


def _get(value: Any, key: str) -> Any:
    """A field of a dict, or of an SDK's own object (a Pydantic model)."""
    if isinstance(value, Mapping):
        return value.get(key)
    return getattr(value, key, None) if hasattr(value, "model_copy") else None


def _changed(value: Any, fields: Mapping[str, Any]) -> Any:
    """The same with some fields changed; the very same object if they are as they were."""
    fields = {key: field for key, field in fields.items() if field != _get(value, key)}
    if not fields:
        return value
    return {**value, **fields} if isinstance(value, Mapping) else value.model_copy(update=fields)
