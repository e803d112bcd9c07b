"""Instructor's building blocks for response types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, create_model, model_validator

from ...structured.markers import Partial
from ...structured.maybe import Maybe
from ...structured.quotes import find_quote
from ...structured.spec import Spec

__all__ = ["CitationMixin", "IterableModel", "ListResponse", "Maybe", "Partial"]


class CitationMixin(BaseModel):
    """Quotations that back an answer. Those that do not stand in `context["context"]` are left out of it."""

    substring_quotes: list[str] = Field(description="Words that stand in the text exactly so, as evidence.")

    @model_validator(mode="after")
    def validate_sources(self, info: ValidationInfo) -> CitationMixin:
        """Replaces each quotation by the words that stand in the text."""
        text = info.context.get("context") if info.context else None
        if text is not None:
            spans = [find_quote(quote, text) for quote in self.substring_quotes]
            self.substring_quotes = [text[span[0] : span[1]] for span in spans if span is not None]
        return self


class ListResponse(list[Any]):
    """A list that came from a model, with the provider's response."""

    def __init__(self, items: Iterable[Any], _raw_response: Any = None) -> None:
        super().__init__(items)
        self._raw_response = _raw_response

    def get_raw_response(self) -> Any:
        """The provider's response."""
        return self._raw_response


def IterableModel(subtask_class: Any, name: str | None = None, description: str | None = None) -> type[BaseModel]:
    """A model with the items of a list under `tasks`."""
    title = name or Spec.of(subtask_class).name
    doc = description or f"A list of {title}."
    return create_model(f"Iterable{title}", __doc__=doc, tasks=(list[subtask_class], ...))
