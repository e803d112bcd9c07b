"""Tools that a model may call: classes, functions, or JSON schemas."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ..core.errors import ParameterError, SchemaError
from .describe import read_docstring
from .spec import Spec

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_REMEDY = "Give a Pydantic model, a function, or {'name': …, 'description': …, 'parameters': <JSON schema>}."

Choice = Literal["auto", "required", "none", "named"]
"""Whether tools may be called, at least one must be, none may be, or one is to be called once."""


@dataclass(frozen=True)
class Tool:
    """A tool: its name, what it is for, and the type of its arguments, which is always an object.

    `source` is what the caller gave. Of a function the arguments are a dict of keyword arguments, in which parameters
    with a default may be missing.
    """

    name: str
    description: str | None
    spec: Spec[Any]
    source: Any = None

    @classmethod
    def of(cls, source: Any, place: str = "tools") -> Tool:
        """The tool that a class, a function or a mapping (OpenAI's or Anthropic's form) stands for.

        Raises ParameterError or SchemaError naming `place`.
        """
        if isinstance(source, Tool):
            return source
        if isinstance(source, Mapping):
            return _from_mapping(source, place)
        if inspect.isroutine(source) or (callable(source) and not isinstance(source, type) and _is_instance(source)):
            return _from_function(source, place)
        spec = source if isinstance(source, Spec) else Spec.of(source)
        return cls(_checked_name(spec.tool_name, source, place), spec.description, _object(spec, source, place), source)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments. Treat it as read-only."""
        return self.spec.object_schema

    @property
    def promotes(self) -> bool | None:
        """Whether optional arguments must be given (see `forms.plan`): None leaves it to the type. A function knows its
        own defaults, and the model doesn't."""
        return None if isinstance(self.source, (type, Spec)) else False


def tools_of(sources: Any) -> dict[str, Tool]:
    """The tools by name. Raises ParameterError if there are none, or two of one name."""
    if isinstance(sources, (str, bytes, Mapping)) or not isinstance(sources, Iterable):
        raise ParameterError("tools", sources, "is not a list of tools", _REMEDY)
    tools: dict[str, Tool] = {}
    for i, source in enumerate(sources):
        tool = Tool.of(source, f"tools[{i}]")
        if tool.name in tools:
            raise ParameterError(f"tools[{i}]", tool.name, "is the name of an earlier tool too", "Rename one of them.")
        tools[tool.name] = tool
    if not tools:
        raise ParameterError("tools", sources, "holds no tool", "Give at least one, or leave it out.")
    return tools


def chosen(choice: Any, tools: Mapping[str, Tool]) -> tuple[Choice, Sequence[str]]:
    """What `tool_choice` says, and which tools may be called.

    Takes OpenAI's and Anthropic's forms, a tool's name, or the class or function itself. Raises ParameterError.
    """
    every = tuple(tools)
    if choice is None or choice == "auto":
        return "auto", every
    if choice in ("none", "required"):
        return choice, every
    if choice == "any":
        return "required", every
    name = choice
    if isinstance(choice, Mapping):
        if choice.get("type") in ("auto", "any", "none", "required"):
            return chosen(choice["type"], tools)
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, Mapping) else None
    elif not isinstance(choice, str):
        name = next((tool.name for tool in tools.values() if tool.source is choice), None)
    if not isinstance(name, str) or name not in tools:
        remedy = f'Use "auto", "required", "none", or one of {", ".join(map(repr, every))}.'
        raise ParameterError("tool_choice", choice, "is no choice, and none of the tools", remedy)
    return "named", (name,)


def _from_mapping(source: Mapping[str, Any], place: str) -> Tool:
    if source.get("type", "function") not in ("function", "custom", None):
        raise ParameterError(f"{place}.type", source["type"], "is no function", _REMEDY)
    function = source.get("function", source)
    if not isinstance(function, Mapping):
        raise ParameterError(f"{place}.function", function, "is no mapping", _REMEDY)
    name = _checked_name(function.get("name"), source, place)
    schema: Any = next((function[key] for key in ("parameters", "input_schema") if function.get(key) is not None), {})
    if not isinstance(schema, Mapping):
        raise ParameterError(f"{place}.parameters", schema, "is no JSON schema", _REMEDY)
    description = function.get("description")
    spec = Spec.of({"type": "object", "properties": {}, **schema, "title": name})
    return Tool(name, description if isinstance(description, str) else None, _object(spec, source, place), source)


def _from_function(function: Callable[..., Any], place: str) -> Tool:
    """The keyword arguments of a function as a TypedDict, whose fields its docstring describes."""
    from typing import Annotated, NotRequired, get_type_hints

    from pydantic import Field
    from typing_extensions import TypedDict

    name = _checked_name(getattr(function, "__name__", type(function).__name__), function, place)
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        signature = inspect.signature(function)
        hints = get_type_hints(target, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ParameterError(place, function, f"its signature can't be read ({error})", "Annotate it.") from error
    purpose, notes = read_docstring(target)
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            remedy = "Give a function whose parameters can all be given by name."
            raise ParameterError(f"{place}.{parameter.name}", function, f"{parameter} can't be given by name", remedy)
        hint = hints.get(parameter.name, Any)
        if parameter.name in notes:
            hint = Annotated[hint, Field(description=notes[parameter.name])]
        fields[parameter.name] = hint if parameter.default is parameter.empty else NotRequired[hint]
    spec = Spec.of(TypedDict(name, fields))  # type: ignore[operator]
    return Tool(name, purpose, spec, function)


def _is_instance(source: Any) -> bool:
    """Whether something callable is an object with `__call__`, not an annotation such as `list[int]`."""
    return "__call__" in type(source).__dict__ and type(source).__module__ not in ("typing", "types", "builtins")


def _checked_name(name: Any, source: Any, place: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        reason = f"its name {name!r} is none: letters, digits, '_', '-' and '.', at most 64"
        raise ParameterError(place, source, reason, "Name it so.")
    return name


def _object(spec: Spec[Any], source: Any, place: str) -> Spec[Any]:
    if spec.envelope is not None:
        raise SchemaError(place, source, "the arguments of a tool are an object, and this is none", _REMEDY)
    return spec
