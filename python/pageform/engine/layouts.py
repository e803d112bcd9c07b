"""Answers of more than one part, on an engine: where thoughts begin, under which grammar, and who takes them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.completion import ToolCall
from ..core.errors import ParameterError
from ..core.params import SamplingParams
from ..core.reasoning import Reasoning
from ..forms.layout import Layout, Mode
from ..forms.segmenter import Segmenter, WrittenCall
from ..text.tool_formats import detect_reasoning

if TYPE_CHECKING:
    from ..forms.grammar import Grammar, GrammarCompiler
    from ..forms.matcher import LlgMatcher
    from ..forms.thinking import ThinkingLimit
    from ..text.tokenizer import Tokenizer

_LOOK_BACK = 32
"""Tokens at the end of a prompt among which an opening tag is looked for."""


def tags_of(params: SamplingParams, tokenizer: Tokenizer | None) -> Reasoning | None:
    """The tags of a request's thoughts, None if it has none. Raises ParameterError without a tokenizer."""
    if not params.reasoning:
        return None
    if tokenizer is None:
        raise ParameterError("reasoning", params.reasoning, "needs a tokenizer", "Make the engine with one.")
    return params.reasoning if isinstance(params.reasoning, Reasoning) else detect_reasoning(tokenizer.chat_template)


def opened(prompt_ids: list[int], tags: Reasoning | None, tokenizer: Tokenizer | None) -> list[int]:
    """The prompt, with the tag that begins the thoughts at its end; some chat templates have put it there."""
    if tags is None or tokenizer is None:
        return prompt_ids
    end = tokenizer.decode(prompt_ids[-_LOOK_BACK:], skip_special_tokens=False)
    if end.rstrip().endswith(tags.start):
        return prompt_ids
    return [*prompt_ids, *tokenizer.encode(tags.start + "\n", add_special_tokens=False)]


def layout_of(grammar: Grammar | None, tags: Reasoning | None) -> Layout | None:
    """The parts of an answer under a grammar, None if it is of one piece."""
    if grammar is not None:
        from ..forms.laid_out import LaidOutGrammar

        if isinstance(grammar, LaidOutGrammar):
            return grammar.answer.layout
    return None if tags is None else Layout(tags.end.encode())


def after_thoughts(grammar: Grammar | None, layout: Layout | None, compiler: GrammarCompiler | None) -> Grammar | None:
    """The grammar with thoughts before it, where the layout has them and it hasn't."""
    if grammar is None or layout is None:
        return grammar
    from ..forms.laid_out import Answer, LaidOutGrammar, compile_answer

    if isinstance(grammar, LaidOutGrammar):
        return grammar
    assert compiler is not None
    return compile_answer(compiler, Answer(layout, form=grammar))


def segmenter_of(layout: Layout, tokenizer: Tokenizer, skip_special_tokens: bool) -> Segmenter:
    """Who takes an answer apart. Control tokens in its tags are seen, others are no part of it."""
    tags = {layout.end} if layout.end else set()
    if layout.calls is not None:
        form = layout.calls
        tags |= {one.encode() for one in (form.begin + form.before_name, form.after_name, form.tail, form.trigger)}
    hidden = {
        token
        for token in (tokenizer.special_ids if skip_special_tokens else ())
        if not any(tokenizer.token_bytes(token) in tag for tag in tags)
    }
    strips = tokenizer.strips_leading_space and layout.start.mode is not Mode.THOUGHTS
    return Segmenter(layout, lambda token: b"" if token in hidden else tokenizer.token_bytes(token), strips)


def limit_of(
    budget: int | None,
    segmenter: Segmenter,
    grammar: Grammar | None,
    matcher: LlgMatcher | None,
    compiler: GrammarCompiler | None,
    tokenizer: Tokenizer,
) -> ThinkingLimit | None:
    """Who ends the thoughts when they have used up their tokens."""
    from ..forms.closing import after_character
    from ..forms.laid_out import LaidOutGrammar
    from ..forms.thinking import ThinkingLimit

    if budget is None:
        return None

    def complete(closing: Sequence[int]) -> Sequence[int]:
        if matcher is None or compiler is None:
            return closing
        found = after_character(matcher, closing, compiler.vocabulary)
        return closing if found is None else found

    def spell(tag: bytes) -> Sequence[int]:
        if isinstance(grammar, LaidOutGrammar) and compiler is not None:
            return grammar.spell(tag, compiler.vocabulary)
        return tokenizer.encode(tag.decode(), add_special_tokens=False)

    return ThinkingLimit(budget, segmenter, spell, complete)


def tool_call(request_id: str, written: WrittenCall) -> ToolCall:
    """A complete call with its arguments as plain data."""
    return ToolCall(call_id(request_id, written.number), written.name, json.loads(written.text), written.text)


def call_id(request_id: str, number: int) -> str:
    """An id for one call of a request: nine letters and digits, as Mistral's templates want it."""
    import hashlib

    return hashlib.sha256(f"{request_id}:{number}".encode()).hexdigest()[:9]
