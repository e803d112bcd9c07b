"""The embedded model's tokenizer, as grammars see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pageform.forms.grammar import GrammarCompiler
from pageform.text import load_tokenizer
from pageform.weights import open_checkpoint

SURPLUS = 96
"""Rows of logits beyond the tokenizer's vocabulary, as many models have them."""


@pytest.fixture(scope="session")
def compiler(smollm2_path: Path) -> GrammarCompiler:
    tokenizer = load_tokenizer(open_checkpoint(str(smollm2_path)))
    assert tokenizer is not None
    return GrammarCompiler(tokenizer.to_json(), tokenizer.vocab_size + SURPLUS, sorted(tokenizer.eos_ids))
