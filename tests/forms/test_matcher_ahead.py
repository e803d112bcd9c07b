"""A matcher that looks ahead: masks after drafts, and text that is forced."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from test_walks import TYPES

from benchmarks.walks import allowed, walk
from pageform.forms.form import Form
from pageform.forms.grammar import GrammarCompiler, fill_masks


@pytest.mark.parametrize("number", range(len(TYPES)))
def test_masks_ahead_are_those_of_a_matcher_that_goes_there(compiler: GrammarCompiler, number: int) -> None:
    grammar = Form.of(TYPES[number], compiler).grammar
    rng = random.Random(number)
    ids = compiler.tokenizer.tokenize_str(walk(grammar, compiler, rng))[:80]
    words = (compiler.vocab_size + 31) // 32
    masks = np.zeros((len(ids) + 1, words), np.uint32)
    matcher = grammar.matcher()
    for index, token in enumerate(ids):
        matcher.fill_mask(masks[index])
        assert matcher.accept(token)
    last = len(ids)
    matcher.fill_mask(masks[last])

    follower, other = grammar.matcher(), Form.of(bool, compiler).grammar.matcher()
    for index, token in enumerate(ids):
        drafts = ids[index : index + rng.randint(0, 6)]
        count = follower.advance(drafts)
        follower.rollback(count)
        assert count in (len(drafts), len(drafts) - 1), "a valid text is cut before its end only"
        drafts = drafts[:count]
        ahead = np.full((len(drafts) + 2, words), 7, np.uint32)
        fill_masks([(other, 0, []), (follower, 1, drafts)], ahead)
        assert (ahead[1:] == masks[index : index + len(drafts) + 1]).all()
        again = np.zeros((1, words), np.uint32)
        fill_masks([(follower, 0, [])], again)
        assert (again[0] == masks[index]).all(), "it stands where it stood"
        assert follower.accept(token)
    assert follower.is_accepting() == matcher.is_accepting()


@pytest.mark.parametrize("number", range(len(TYPES)))
def test_the_mask_before_forced_text_has_its_token_alone(compiler: GrammarCompiler, number: int) -> None:
    """So that drafts of forced text are always right, and accepting them without asking the model changes nothing."""
    grammar = Form.of(TYPES[number], compiler).grammar
    ids = compiler.tokenizer.tokenize_str(walk(grammar, compiler, random.Random(number)))[:80]
    matcher = grammar.matcher()
    row = np.zeros((compiler.vocab_size + 31) // 32, np.uint32)
    for token in ids:
        expected: list[int] = matcher.forced()
        for forced in expected:
            matcher.fill_mask(row)
            assert allowed(row).tolist() == [forced]
            assert matcher.accept(forced)
        matcher.rollback(len(expected))
        if not matcher.accept(token):  # the walk's text may be spelled otherwise than the canonical tokens
            return


def test_a_matcher_does_not_advance_to_the_end(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile_choice(["alpha beta", "alpha gamma"]).matcher()
    ids = compiler.tokenizer.tokenize_str("alpha beta")
    assert matcher.advance([*ids, compiler.eos_ids[0]]) == len(ids) - 1
    assert not matcher.is_stopped()
    assert matcher.accept(ids[-1])
    assert matcher.is_stopped()
    assert matcher.advance(ids) == 0
    assert matcher.accept(compiler.eos_ids[0])
    assert matcher.advance(ids) == 0


def test_what_lies_outside_the_masks_is_refused(compiler: GrammarCompiler) -> None:
    matcher: Any = compiler.compile_regex("ab*").matcher()
    masks = np.zeros((2, (compiler.vocab_size + 31) // 32), np.uint32)
    with pytest.raises(IndexError, match="rows 1 to 2"):
        fill_masks([(matcher, 1, compiler.tokenizer.tokenize_str("a"))], masks)
