"""Answers that quote their source: each quotation must stand in the text that the answer is drawn from."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from .quotes import Span, find_quote

CONTEXT = "context"
"""Under this key the validation context holds the text."""


class CitationMixin(BaseModel):
    """A base for models that back what they say with quotations.

        class Fact(CitationMixin):
            statement: str

        fact = client.create(response_model=Fact, context={"context": text}, …)

    Each quotation is looked up in the text and replaced by the words that stand there (see `quotes.find_quote` for how
    much may differ). One that does not stand there makes the answer invalid, so that it is asked for again. Without a
    text under "context" in the validation context nothing is checked.
    """

    substring_quotes: list[str] = Field(
        description="Short, verbatim quotations from the given text that show that the statement is true."
    )

    @field_validator("substring_quotes")
    @classmethod
    def _quotes_stand_in_the_text(cls, quotes: list[str], info: ValidationInfo) -> list[str]:
        text = info.context.get(CONTEXT) if isinstance(info.context, Mapping) else None
        if text is None:
            return quotes
        if not isinstance(text, str):
            raise TypeError(f"context[{CONTEXT!r}] must be the text that is quoted, not {type(text).__name__}")
        spans = [find_quote(quote, text) for quote in quotes]
        missing = [quote for quote, span in zip(quotes, spans, strict=True) if span is None]
        if missing:
            raise ValueError(f"not in the text: {', '.join(map(repr, missing))}; quote it word for word")
        return [text[span[0] : span[1]] for span in spans if span is not None]

    def get_spans(self, context: str) -> list[Span]:
        """Start and end in `context` of each quotation that stands there."""
        spans = [find_quote(quote, context) for quote in self.substring_quotes]
        return [span for span in spans if span is not None]
