"""What a call offers a model to answer with, in a provider's dialect of JSON Schema: tools, or one schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..core.errors import ParameterError, SchemaError
from ..structured.dialects import Adapted
from ..structured.dialects.nodes import words
from ..structured.errors import EmptyAnswer, NoToolCall
from ..structured.loop import Rejection
from ..structured.prompt import call_complaint, complaint
from ..structured.refusals import FIELD
from ..structured.spec import Spec
from .base import Call, Kwargs, thawed

Adapt = Callable[[Mapping[str, Any]], Adapted]

STRICT = "strict_schema"
"""How errors name the caller's parameter that is `Call.strict`."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool whose arguments are the answer. `strict` says that the schema is one that the provider enforces."""

    name: str
    description: str | None
    schema: dict[str, Any]
    strict: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of a call, and what is not as its type says."""

    tools: tuple[Tool, ...]
    notes: tuple[str, ...]
    beside: bool = False
    """Whether the caller offers tools of their own too."""

    @property
    def adapted(self) -> bool:
        """Whether any schema is one of the dialect."""
        return any(tool.strict for tool in self.tools)

    @property
    def strict(self) -> bool:
        """Whether all are."""
        return all(tool.strict for tool in self.tools)


def offer(call: Call, adapt: Adapt, enforced: bool = True, given: Any = None) -> Offer:
    """A tool for each class of a parallel type, one for every other type. `given` are the caller's own tools.

    `enforced` says whether the model has strict tools at all. Schemas that the dialect can't say are offered as they
    are, with a note. Raises `ParameterError` or `SchemaError` where the caller demands what can't be.
    """
    if call.strict and not enforced:
        reason = f"the model {call.kwargs.get('model')} has no strict tools"
        raise ParameterError(STRICT, True, reason, "Leave it out to have validation alone enforce the type.")
    tools: list[Tool] = []
    notes: list[str] = []
    for name, spec in (call.spec.members or {call.spec.tool_name: call.spec}).items():
        strict = enforced and call.strict is not False
        schema = spec.object_schema
        if strict:
            adapted = adapted_to(spec, adapt, demanded=bool(call.strict))
            notes += adapted.notes if adapted.sendable else adapted.obstacles
            strict, schema = adapted.sendable, adapted.schema if adapted.sendable else schema
        tools.append(Tool(name, spec.description, thawed(schema), strict))
    if call.spec.members:  # each item is a call
        counts = {key: call.spec.json_schema[key] for key in ("minItems", "maxItems") if key in call.spec.json_schema}
        notes += [f"not enforced by the provider: {words(key, count)} of calls" for key, count in counts.items()]
    _refuse_clashes(given, {tool.name for tool in tools})
    return Offer(tuple(tools), tuple(notes), bool(given))


def adapted_to(spec: Spec[Any], adapt: Adapt, demanded: bool = False) -> Adapted:
    """The spec's schema in a dialect. Raises `SchemaError` if that is demanded and can't be."""
    adapted = _adapted(spec, adapt)
    if demanded and not adapted.sendable:
        remedy = f"Change the type, or leave out {STRICT} to have validation alone enforce it."
        raise SchemaError(FIELD, spec.response_type, "; ".join(adapted.obstacles), remedy)
    return adapted


@lru_cache(maxsize=256)
def _adapted(spec: Spec[Any], adapt: Adapt) -> Adapted:
    return adapt(spec.object_schema)


def fell_back(adapted: Adapted, mode: str) -> tuple[str, ...]:
    """Notes that say why a weaker mode was taken."""
    return tuple(f"{obstacle}; mode {mode} is used instead" for obstacle in adapted.obstacles)


def required(kwargs: Mapping[str, Any], name: str, remedy: str) -> Any:
    """An argument that the provider can't do without."""
    if kwargs.get(name) is None:
        raise ParameterError(name, None, "is missing", remedy)
    return kwargs[name]


def refuse_format(kwargs: Mapping[str, Any], *names: str) -> None:
    """Turn away arguments that say how to answer: the response type does."""
    for name in names:
        if kwargs.get(name) is not None:
            reason = f"can't be given together with {FIELD}, which decides what the answer looks like"
            raise ParameterError(name, kwargs[name], reason, f"Leave out {name}, or {FIELD}.")


def with_turns(kwargs: Kwargs, *turns: Any, field: str = "messages") -> Kwargs:
    """New kwargs with further turns of the conversation."""
    return {**kwargs, field: [*kwargs[field], *turns]}


def user_complaint(rejection: Rejection) -> str:
    """What the user says of an answer that calls no tool."""
    if isinstance(rejection.error, EmptyAnswer):
        return "Your answer is empty. Answer as you were asked to."
    speak = call_complaint if isinstance(rejection.error, NoToolCall) else complaint
    return speak(rejection.text)


def _refuse_clashes(given: Any, names: set[str]) -> None:
    for tool in given or ():
        declared = _get(tool, "function_declarations") or _get(tool, "functionDeclarations") or [tool]
        for name in {_get(_get(one, "function") or one, "name") for one in declared} & names:
            reason = "is also the name of the tool that the response type makes"
            raise ParameterError("tools", name, reason, "Give your tool another name.")


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
