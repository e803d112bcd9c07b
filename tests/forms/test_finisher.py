"""Texts that are ended in time: from every state, for every type, whatever the sampler does."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_walks import TYPES

from benchmarks.walks import allowed, walk
from pageform.forms.closing import TextState, Vocabulary, ends, shortest_end
from pageform.forms.finisher import Finisher
from pageform.forms.form import Form
from pageform.forms.grammar import Grammar, GrammarCompiler
from pageform.forms.matcher import LlgMatcher
from pageform.forms.open_path import OpenPath

NUMBERS = [pytest.param(i, marks=() if i % 4 == 0 else pytest.mark.slow) for i in range(len(TYPES))]


def decode(
    grammar: Grammar, compiler: GrammarCompiler, max_tokens: int, rng: random.Random, rewinds: float = 0.0
) -> tuple[str, bool]:
    """A text as the engine decodes one, with any allowed token for a sample: (text, whether it is complete).

    `rewinds` is the probability that tokens are taken back; it halves each time.
    """
    matcher = grammar.matcher()
    assert isinstance(matcher, LlgMatcher)
    finisher = Finisher(grammar, matcher, compiler, max_tokens)
    row = np.zeros((compiler.vocab_size + 31) // 32, np.uint32)
    tokens: list[int] = []

    def append(token: int) -> None:
        assert matcher.accept(token), "the grammar allows what is appended"
        tokens.append(token)
        finisher.take(token)

    while len(tokens) < max_tokens and not matcher.is_stopped() and not finisher.is_over:
        matcher.fill_mask(row)
        append(finisher.choose(int(rng.choice(allowed(row)))))
        while finisher.rest and len(tokens) < max_tokens:
            append(finisher.rest[0])
        if rng.random() < rewinds and tokens:
            kept = rng.randint(0, len(tokens))
            matcher.rollback(len(tokens) - kept)
            finisher.cut(kept)
            del tokens[kept:]
            rewinds /= 2
    text = [token for token in tokens if token not in compiler.eos_ids]
    return compiler.tokenizer.decode_str(text), matcher.is_accepting()


def lengths(form: Form[Any], rng: random.Random) -> list[int]:
    """Values of max_tokens from the least that suffices on."""
    least = form.min_tokens
    return sorted({least, least + 1, least + 2, least + 5, *(least + rng.randint(3, 60) for _ in range(3))})


@pytest.mark.parametrize("number", NUMBERS)
def test_from_min_tokens_on_every_text_is_complete_and_valid(compiler: GrammarCompiler, number: int) -> None:
    form = Form.of(TYPES[number], compiler)
    rng = random.Random(number)
    for max_tokens in lengths(form, rng):
        for rewinds in (0.0, 0.3):
            text, complete = decode(form.grammar, compiler, max_tokens, rng, rewinds)
            assert complete, f"{text!r} is cut off at {max_tokens}"
            if not form.plan.unenforced:
                form.spec.validate(text)
    below = form.min_tokens - 1
    if below > 0:
        _, complete = decode(form.grammar, compiler, below, rng)
        assert not complete or form.min_tokens > 3, "the shortest text has as few tokens as it says"


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "(ab){2,9}c?"),
        ("regex", "[a-z]+@[a-z]+\\.(com|org)"),
        ("regex", "x[^y]*yz"),
        ("choice", ["one", "one and two", "three"]),
        ("lark", 'start: item ("," item)*\nitem: /[0-9]{3}/ | "(" start ")"'),
    ],
)
def test_other_grammars_are_ended_in_time(compiler: GrammarCompiler, kind: str, source: Any) -> None:
    grammar: Grammar = getattr(compiler, f"compile_{kind}")(source)
    shortest = grammar.shortest(compiler.vocabulary)
    assert shortest is not None
    rng = random.Random(1)
    for max_tokens in range(len(shortest), len(shortest) + 40, 3):
        text, complete = decode(grammar, compiler, max_tokens, rng)
        assert complete, f"{text!r} is cut off at {max_tokens}"


@pytest.mark.parametrize("number", NUMBERS)
def test_the_bound_on_what_a_text_lacks_is_never_too_low(compiler: GrammarCompiler, number: int) -> None:
    """At each place of a random text the shortest end has no more bytes than the path says."""
    form = Form.of(TYPES[number], compiler)
    grammar, vocabulary = form.grammar, compiler.vocabulary
    assert grammar.texts is not None
    text = walk(grammar, compiler, random.Random(number)).encode()[:300]
    matcher, path, state = grammar.matcher(), OpenPath(grammar.texts), TextState()
    assert isinstance(matcher, LlgMatcher)
    for place in range(len(text)):
        if place % 3 == 0 or place < 20:
            end = shortest_end(matcher, state, vocabulary, 2000, grammar.texts.examples)
            assert end is not None, f"no end of {text[:place]!r}"
            assert ends(matcher, end)
            assert len(vocabulary.text(end)) <= path.lacks(), f"{text[:place]!r} {vocabulary.text(end)!r}"
        one = text[place : place + 1]
        if one[0] not in vocabulary.token_of_byte or not matcher.accept(vocabulary.token_of_byte[one[0]]):
            return  # a byte that no token stands for
        path.feed(one)
        state = state.after(one)
    assert path.depth == 0


def test_feeding_pieces_is_feeding_bytes(compiler: GrammarCompiler) -> None:
    form = Form.of(TYPES[0], compiler)
    assert form.grammar.texts is not None
    text = walk(form.grammar, compiler, random.Random(5)).encode()
    rng = random.Random(2)
    single, pieces = OpenPath(form.grammar.texts), OpenPath(form.grammar.texts)
    while text:
        size = rng.randint(1, 9)
        piece, text = text[:size], text[size:]
        pieces.feed(piece)
        for byte in piece:
            single.feed(bytes((byte,)))
        assert (single.place, single.lacks(), single.doubt()) == (pieces.place, pieces.lacks(), pieces.doubt())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text(max_size=40))
def test_texts_are_spelled_with_the_fewest_tokens(vocabulary: Vocabulary, text: str) -> None:
    data = text.encode()
    tokens = vocabulary.spell(data)
    if tokens is None:
        assert any(byte not in vocabulary.token_of_byte for byte in data)
        return
    assert vocabulary.text(tokens) == data


@pytest.fixture(scope="module")
def vocabulary(compiler: GrammarCompiler) -> Vocabulary:
    return compiler.vocabulary


def test_a_text_that_cannot_end_in_time_is_left_alone(compiler: GrammarCompiler) -> None:
    form = Form.of(TYPES[0], compiler)
    for max_tokens in range(1, form.min_tokens):
        text, complete = decode(form.grammar, compiler, max_tokens, random.Random(max_tokens))
        assert not complete
        assert text


def test_a_union_is_ended_by_the_option_that_was_begun(compiler: GrammarCompiler) -> None:
    """Whatever discriminator is sampled, the end fits: what that option still lacks was counted."""
    schema = {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, **{f"field_{i}": {"type": "string"} for i in range(size)}},
                "required": ["kind", *(f"field_{i}" for i in range(size))],
            }
            for kind, size in (("a", 0), ("bb", 9), ("ccc", 3))
        ]
    }
    grammar = compiler.compile_json_schema(schema)
    shortest = grammar.shortest(compiler.vocabulary)
    assert shortest is not None
    assert compiler.vocabulary.text(shortest) == b'{"kind": "a"}'
    rng = random.Random(0)
    kinds = set()
    for max_tokens in range(len(shortest), len(shortest) + 70):
        text, complete = decode(grammar, compiler, max_tokens, rng)
        assert complete
        kinds.add(text[:12])
    assert len(kinds) == 3
