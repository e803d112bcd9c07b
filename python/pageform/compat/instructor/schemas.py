"""Instructor's schemas as tools of single providers, and classes that read completions by themselves."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from pydantic import BaseModel

from ...clients.table import provider
from ...structured.judge import Judge
from ...structured.spec import Spec
from .modes import Mode

M = TypeVar("M", bound=type[BaseModel])


def generate_openai_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The `function` of a tool as OpenAI has it."""
    spec = Spec.of(model)
    schema = {key: value for key, value in spec.object_schema.items() if key not in ("title", "description")}
    schema.setdefault("required", [])
    return {"name": spec.name, "description": _described(spec), "parameters": schema}


def generate_anthropic_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A tool as Anthropic has it."""
    function = generate_openai_schema(model)
    return {
        "name": function["name"],
        "description": function["description"],
        "input_schema": Spec.of(model).object_schema,
    }


def generate_gemini_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A function declaration as Gemini has it."""
    return generate_openai_schema(model)


def _described(spec: Spec[Any]) -> str:
    return spec.description or f"Correctly extracted `{spec.name}` with all the required parameters"


class _Schema(property):
    """A property of a class."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        assert self.fget is not None
        return self.fget(owner)


class ResponseSchema(BaseModel):
    """A model that knows itself as a tool."""

    openai_schema = _Schema(lambda cls: generate_openai_schema(cls))
    anthropic_schema = _Schema(lambda cls: generate_anthropic_schema(cls))
    gemini_schema = _Schema(lambda cls: generate_gemini_schema(cls))

    @classmethod
    def from_response(
        cls, completion: Any, validation_context: Any = None, strict: bool | None = None, mode: Mode = Mode.TOOLS
    ) -> Self:
        """The value of an OpenAI chat completion."""
        answer = provider("openai_chat").read(completion)
        plain = mode.plain
        judge: Judge[Any] = Judge(Spec.of(cls), plain, validation_context, strict)
        made: Self = judge(answer).value
        return made

    model_config = {"ignored_types": (_Schema,)}


OpenAISchema = ResponseSchema


def response_schema(cls: M) -> M:
    """A class of the same name and fields that is a `ResponseSchema` as well."""
    made: Any = type(cls.__name__, (ResponseSchema, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__})
    return made  # type: ignore[no-any-return]


openai_schema = response_schema
