"""The vocabulary of a GGUF file, which is read in place, against the same as Python's objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageform._native import StringTable
from pageform.core.errors import ModelFileError
from pageform.text.gguf_tokenizer import tokenizer_from_gguf
from pageform.weights import open_checkpoint

TEXTS = st.lists(st.text(max_size=4), max_size=40)


@given(TEXTS, st.text(max_size=4))
def test_a_string_table_is_a_list_with_an_index(texts: list[str], other: str) -> None:
    table = StringTable(texts)
    assert [table[i] for i in range(len(table))] == texts
    for text in [*texts, other]:
        assert table.find(text) == (texts.index(text) if text in texts else None)
    repeated = [i for i, text in enumerate(texts) if text in texts[:i]]
    assert table.repeated == (repeated[0] if repeated else None)


@pytest.mark.parametrize("index", [-1, 2, 1 << 40])
def test_indices_beyond_a_string_table_are_refused(index: int) -> None:
    with pytest.raises(IndexError):
        StringTable(["a", "b"])[index]


def test_a_file_and_a_mapping_of_its_values_give_one_tokenizer() -> None:
    checkpoint = open_checkpoint("smollm2")
    copied = {key: checkpoint.metadata[key] for key in checkpoint.metadata}
    ours = tokenizer_from_gguf("file", checkpoint.metadata, (2,))
    theirs = tokenizer_from_gguf("values", copied, (2,))
    ids = range(theirs.vocab_size + 2)
    assert ours.vocab_size == theirs.vocab_size
    assert ours.special_ids == theirs.special_ids
    assert [ours.token_bytes(i) for i in ids] == [theirs.token_bytes(i) for i in ids]
    assert [ours.bare(i) for i in ids] == [theirs.bare(i) for i in ids]
    assert ours.to_json() == theirs.to_json()


def test_unused_tokens_stand_for_nothing() -> None:
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["a", "\u0120a", "[PAD1]"],
        "tokenizer.ggml.token_type": [1, 1, 5],
        "tokenizer.ggml.merges": ["x y"],
    }
    tokenizer = tokenizer_from_gguf("file", metadata, ())
    assert tokenizer.vocab_size == 2
    assert [tokenizer.token_bytes(i) for i in range(4)] == [b"a", b" a", b"", b""]
    assert tokenizer.bare(1) == 0
    with pytest.raises(ModelFileError, match="'3 kinds' does not fit 2 tokens"):
        tokenizer_from_gguf("file", metadata | {"tokenizer.ggml.tokens": ["a", "b"]}, ())
