"""Grammars of answers with thoughts or calls: random walks give what was asked for, within every budget."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field

from benchmarks.walks import allowed
from pageform.core.params import SamplingParams
from pageform.forms.closing import after_character
from pageform.forms.finisher import Finisher
from pageform.forms.form import Form
from pageform.forms.grammar import Grammar, GrammarCompiler
from pageform.forms.laid_out import MAX_CALLS, Answer, LaidOutGrammar, compile_answer
from pageform.forms.layout import Layout
from pageform.forms.matcher import LlgMatcher
from pageform.forms.plan import plan
from pageform.forms.segmenter import Segmenter
from pageform.forms.thinking import ThinkingLimit
from pageform.structured.tools import Tool, tools_of
from pageform.text.tool_formats import FORMATS, ToolFormat


class Weather(BaseModel):
    city: str = Field(min_length=2, max_length=8)
    unit: Literal["celsius", "fahrenheit"]


class Route(BaseModel):
    stops: list[str] = Field(min_length=1, max_length=3)
    by: Literal["car", "foot"] | None = None


def add(a: int, b: float = 1.0) -> float:
    """Adds two numbers."""
    return a + b


TOOLS = tools_of([Weather, Route, add])


def answer(
    tools: dict[str, Tool] | None,
    form: Grammar | None = None,
    style: str = "hermes",
    thinks: bool = False,
    **options: Any,
) -> Answer:
    layout = Layout(b"</think>" if thinks else None, FORMATS[style] if tools else None)
    plans = {name: plan(tool.spec, promote=tool.promotes) for name, tool in (tools or {}).items()}
    return Answer(layout, form, plans or None, **options)


class Walk:
    """An answer decoded as the engine does it, with any allowed token for a sample; `favour` lists tokens that are
    taken half of the times when they may come."""

    def __init__(self, grammar: LaidOutGrammar, compiler: GrammarCompiler, max_tokens: int, budget: int | None) -> None:
        self.compiler, self.max_tokens = compiler, max_tokens
        matcher = grammar.matcher()
        assert isinstance(matcher, LlgMatcher)
        self.matcher = matcher
        self.segmenter = Segmenter(grammar.answer.layout, lambda t: bytes(compiler.tokenizer.decode_bytes([t])))
        self.finisher = Finisher(grammar, matcher, compiler, max_tokens)
        self.tokens: list[int] = []

        def complete(tokens: Sequence[int]) -> Sequence[int]:
            found = after_character(matcher, tokens, compiler.vocabulary)
            assert found is not None, "the end tag may come at any time"
            return found

        spell = lambda tag: grammar.spell(tag, compiler.vocabulary)  # noqa: E731
        self.limit = None if budget is None else ThinkingLimit(budget, self.segmenter, spell, complete)

    def append(self, token: int) -> None:
        assert self.matcher.accept(token), "the grammar allows what is appended"
        self.tokens.append(token)
        if self.limit is not None:
            self.limit.take(token)
        self.finisher.take(token)
        if token not in self.compiler.eos_ids:
            self.segmenter.push(token)

    def run(self, rng: random.Random, favour: Sequence[int] = ()) -> Walk:
        row = np.zeros((self.compiler.vocab_size + 31) // 32, np.uint32)
        while len(self.tokens) < self.max_tokens and not self.matcher.is_stopped() and not self.finisher.is_over:
            self.matcher.fill_mask(row)
            ids = allowed(row)
            liked = [token for token in favour if token in ids]
            token = int(rng.choice(liked if liked and rng.random() < 0.5 else ids))
            token = token if self.limit is None else self.limit.choose(token)
            token = self.finisher.choose(token)
            if self.limit is not None and self.finisher.rest:
                self.limit.drop()
            self.append(token)
            while rest := (self.limit.rest if self.limit is not None and self.limit.rest else self.finisher.rest):
                if len(self.tokens) == self.max_tokens:
                    break
                self.append(rest[0])
        self.text = self.segmenter.text + self.segmenter.flush()
        return self

    @property
    def is_complete(self) -> bool:
        return self.matcher.is_accepting()


def tokens_of(compiler: GrammarCompiler, *texts: str) -> list[int]:
    return [token for text in texts for token in compiler.tokenizer.tokenize_str(text)]


def check_calls(walk: Walk, tools: dict[str, Tool]) -> None:
    for call in walk.segmenter.calls:
        if call.is_complete:
            tools[call.name].spec.validate(call.text)
    assert not walk.is_complete or all(call.is_complete for call in walk.segmenter.calls)


@pytest.mark.parametrize("style", ["hermes", "mistral", "args", "llama3"])
@pytest.mark.parametrize("thinks", [False, True])
def test_required_calls_are_complete_and_valid_from_the_least_on(
    compiler: GrammarCompiler, style: str, thinks: bool
) -> None:
    grammar = compile_answer(compiler, answer(TOOLS, style=style, thinks=thinks, must_call=True))
    shortest = grammar.shortest(compiler.vocabulary)
    assert shortest is not None
    favour = tokens_of(compiler, "</think>", '"', '"}', "}", "]}", '"]}')
    for number in range(10):
        rng = random.Random(number)
        max_tokens = len(shortest) + (number if number < 6 else rng.randint(6, 90))
        walk = Walk(grammar, compiler, max_tokens, rng.choice([None, 0, 3]) if thinks else None).run(rng, favour)
        assert walk.is_complete, f"{compiler.tokenizer.decode_str(walk.tokens)!r} is cut off at {max_tokens}"
        assert 1 <= len(walk.segmenter.calls) <= MAX_CALLS
        assert walk.text == ""
        check_calls(walk, TOOLS)
    below = Walk(grammar, compiler, len(shortest) - 1, None).run(random.Random(0), favour)
    assert not below.is_complete
    check_calls(below, TOOLS)


@pytest.mark.parametrize("style", ["hermes", "mistral", "args", "llama3"])
def test_text_or_calls(compiler: GrammarCompiler, style: str) -> None:
    """Under "auto" both come about; what may not be finished is not begun."""
    grammar = compile_answer(compiler, answer(TOOLS, style=style))
    assert grammar.shortest(compiler.vocabulary) == []
    trigger = tokens_of(compiler, FORMATS[style].trigger)
    seen = {True: 0, False: 0}
    for number in range(24):
        rng = random.Random(number)
        walk = Walk(grammar, compiler, rng.choice([1, 2, 5, 20, 40, 80, 150]), None)
        start = trigger if style != "llama3" else trigger[:1]
        for token in start if number % 2 and walk.max_tokens > 4 else ():
            token = walk.finisher.choose(token)
            walk.append(token)
            if token in compiler.eos_ids:
                break
        walk.run(rng, tokens_of(compiler, '"', '"}', "}", "]}", '"]}'))
        assert walk.is_complete, compiler.tokenizer.decode_str(walk.tokens)
        check_calls(walk, TOOLS)
        seen[bool(walk.segmenter.calls)] += 1
    assert min(seen.values()) > 3


def test_one_call_where_they_are_not_parallel(compiler: GrammarCompiler) -> None:
    grammar = compile_answer(compiler, answer(TOOLS, must_call=True, parallel=False))
    for number in range(10):
        walk = Walk(grammar, compiler, 200, None).run(random.Random(number), tokens_of(compiler, '"', '"}', "}", "]}"))
        assert len(walk.segmenter.calls) == 1


def test_a_named_tool_alone(compiler: GrammarCompiler) -> None:
    grammar = compile_answer(compiler, answer({"add": TOOLS["add"]}, must_call=True, parallel=False))
    walk = Walk(grammar, compiler, 80, None).run(random.Random(1), tokens_of(compiler, "}", ","))
    assert [call.name for call in walk.segmenter.calls] == ["add"]
    assert isinstance(json.loads(walk.segmenter.calls[0].text)["a"], int)


BODIES = [
    lambda compiler: Form.of(Weather, compiler).grammar,
    lambda compiler: Form.of(list[int], compiler).grammar,
    lambda compiler: compiler.compile_params(SamplingParams(regex=r"[a-f]{4,9}\n\n?")),
    lambda compiler: compiler.compile_params(SamplingParams(choice=["yes", "no, never", "</think>"])),
    lambda compiler: compiler.compile_params(SamplingParams(grammar='start: "a" tail\ntail: /b+/ | "(" tail ")"')),
]


@pytest.mark.parametrize("body", range(len(BODIES)))
def test_thoughts_keep_to_their_budget_and_the_form_is_complete(compiler: GrammarCompiler, body: int) -> None:
    form = BODIES[body](compiler)
    assert form is not None
    grammar = compile_answer(compiler, answer(None, form, thinks=True))
    shortest = grammar.shortest(compiler.vocabulary)
    assert shortest is not None
    partial = tokens_of(compiler, "<", "</", "think", ">", "</think>", "☃", "é")
    cut = 0
    for number in range(20):
        rng = random.Random(number)
        budget = rng.choice([None, 0, 1, 2, 3, 7, 20])
        max_tokens = len(shortest) + rng.choice([0, 1, 2, 3, 5, 10, 30, 60])
        walk = Walk(grammar, compiler, max_tokens, budget).run(rng, partial if number % 2 else ())
        said = compiler.tokenizer.decode_str(walk.tokens)
        assert walk.is_complete, f"{said!r} is cut off at {max_tokens}"
        assert budget is None or walk.segmenter.num_thought_tokens <= budget, said
        assert "\ufffd" not in walk.segmenter.thoughts
        assert not walk.segmenter.is_thinking
        assert "</think>" not in walk.segmenter.thoughts
        follower = form.matcher()
        assert all(follower.accept(t) for t in tokens_of(compiler, walk.text)) or body == 2, walk.text
        cut += walk.segmenter.is_closing
    assert cut > 3


def test_an_end_tag_that_is_a_control_token(compiler: GrammarCompiler) -> None:
    """Tags may be control tokens, which no text can spell."""
    form = Form.of(Weather, compiler).grammar
    grammar = compile_answer(compiler, Answer(Layout(b"<empty_output>"), form))
    style = ToolFormat("own", "<jupyter_code>", "<jupyter_output>", "", trigger="<jupyter_code>")
    calls = compile_answer(compiler, answer_with(style))
    for number in range(8):
        walk = Walk(grammar, compiler, 60, 5).run(random.Random(number))
        assert walk.is_complete
        assert walk.segmenter.num_thought_tokens <= 5
        Weather.model_validate_json(walk.text)
        walk = Walk(calls, compiler, 90, None).run(random.Random(number), tokens_of(compiler, '"', '"}', "}", "]}"))
        assert walk.is_complete
        assert walk.segmenter.calls
        check_calls(walk, TOOLS)


def answer_with(style: ToolFormat) -> Answer:
    plans = {name: plan(tool.spec, promote=tool.promotes) for name, tool in TOOLS.items()}
    return Answer(Layout(None, style), None, plans, must_call=True)
