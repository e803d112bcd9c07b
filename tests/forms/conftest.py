"""The embedded model's tokenizer, as grammars see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pageform.forms.grammar import GrammarCompiler, GrammarLimits
from pageform.text import load_tokenizer
from pageform.weights import open_checkpoint

SURPLUS = 96
"""Rows of logits beyond the tokenizer's vocabulary, as many models have them."""


@pytest.fixture(scope="session")
def make_compiler(smollm2_path: Path) -> Callable[[GrammarLimits | None], GrammarCompiler]:
    tokenizer = load_tokenizer(open_checkpoint(str(smollm2_path)))
    assert tokenizer is not None
    text, size, eos_ids = tokenizer.to_json(), tokenizer.vocab_size + SURPLUS, sorted(tokenizer.eos_ids)
    return lambda limits: GrammarCompiler(lambda: text, size, eos_ids, limits)


@pytest.fixture(scope="session")
def compiler(make_compiler: Callable[[GrammarLimits | None], GrammarCompiler]) -> GrammarCompiler:
    return make_compiler(None)
