"""Streamed text equals text decoded at once, for any token ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as HfTokenizer

from pageform.core.errors import IllegalTransition, ParameterError
from pageform.text import IncrementalDetokenizer, Tokenizer
from pageform.text.token_bytes import byte_alphabet
from pageform.text.tokenizer import TokenizerSettings

PIECES = ["▁", "▁a", "b", "▁▁", "é", "🙂", "\n"]


def with_special(hf: HfTokenizer) -> Tokenizer:
    hf.add_special_tokens([AddedToken("<s>", special=True), AddedToken("é<e>", special=True)])
    hf.add_tokens([AddedToken(" x ", normalized=False)])
    return Tokenizer.of(hf, TokenizerSettings())


def byte_level() -> Tokenizer:
    """Every byte, some multi-byte tokens that cut characters apart, and added tokens."""
    alphabet = byte_alphabet()
    pieces = [
        "".join(alphabet[byte] for byte in data)
        for data in (b"ab", "é".encode(), b"\xf0\x9f", b"\x99\x82 ", b"\x82\xac")
    ]
    hf = HfTokenizer(models.BPE({token: i for i, token in enumerate([*alphabet.values(), *pieces])}, []))
    hf.decoder = decoders.ByteLevel()
    return with_special(hf)


def sentencepiece(strips: bool) -> Tokenizer:
    tokens = [f"<0x{byte:02X}>" for byte in range(256)] + PIECES
    hf = HfTokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], byte_fallback=True))
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    hf.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strips else steps)
    return with_special(hf)


def metaspace() -> Tokenizer:
    hf = HfTokenizer(models.BPE({token: i for i, token in enumerate(PIECES)}, []))
    hf.decoder = decoders.Metaspace(prepend_scheme="first")
    return with_special(hf)


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "sentencepiece": lambda: sentencepiece(True),
    "sentencepiece without prefix": lambda: sentencepiece(False),
    "metaspace": metaspace,
}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return MAKERS[request.param]()


IDS = st.lists(st.integers(0, 270) | st.integers(0x80, 0xFF), max_size=25)


@settings(max_examples=500, deadline=None)
@given(ids=IDS, skip=st.booleans())
def test_deltas_join_to_the_decoded_text(tokenizer: Tokenizer, ids: list[int], skip: bool) -> None:
    detokenizer = IncrementalDetokenizer(tokenizer, skip_special_tokens=skip)
    deltas = [detokenizer.push(i) for i in ids]
    assert "".join(deltas) == detokenizer.text
    assert len(detokenizer) == len(ids)
    text = "".join(deltas) + detokenizer.flush()
    assert text == detokenizer.text == tokenizer.decode(ids, skip)
    data = b"".join(tokenizer.token_bytes(i) for i in ids if not (skip and i in tokenizer.special_ids))
    if tokenizer.strips_leading_space and data[:1] == b" ":
        data = data[1:]
    assert text == data.decode("utf-8", "replace")


@settings(max_examples=300, deadline=None)
@given(ids=IDS, cut=st.integers(0, 25), more=IDS)
def test_truncation_forgets(tokenizer: Tokenizer, ids: list[int], cut: int, more: list[int]) -> None:
    cut = min(cut, len(ids))
    detokenizer = IncrementalDetokenizer(tokenizer)
    for i in ids:
        detokenizer.push(i)
    detokenizer.flush()
    detokenizer.truncate(cut)
    assert len(detokenizer) == cut
    fresh = IncrementalDetokenizer(tokenizer)
    for i in ids[:cut]:
        fresh.push(i)
    assert detokenizer.text == fresh.text
    assert [detokenizer.push(i) for i in more] == [fresh.push(i) for i in more]
    assert detokenizer.flush() == fresh.flush()


def test_characters_are_held_back_until_complete() -> None:
    detokenizer = IncrementalDetokenizer(byte_level())
    ids = {value: i for i, value in enumerate(byte_alphabet())}  # byte → id
    deltas = [detokenizer.push(ids[byte]) for byte in "a🙂é".encode() + b"\xf0\x9fx\xe2\x82"]
    assert deltas == ["a", "", "", "", "🙂", "", "é", "", "", "\ufffdx", "", ""]
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""
    with pytest.raises(IllegalTransition):
        detokenizer.push(0)


def test_a_continuation_keeps_its_first_space() -> None:
    tokenizer = sentencepiece(True)
    a = tokenizer.hf.token_to_id("▁a")
    bos = tokenizer.hf.token_to_id("<s>")
    assert [IncrementalDetokenizer(tokenizer).push(a), tokenizer.decode([bos, a, a])] == ["a", "a a"]
    assert IncrementalDetokenizer(tokenizer, start_of_text=False).push(a) == " a"
    # Only the first space of the text is an artefact, not one after a special token that is shown.
    assert tokenizer.decode([bos, a], skip_special_tokens=False) == "<s> a"


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=30))
def test_decoding_equals_the_library_on_valid_text(text: str) -> None:
    tokenizer = sentencepiece(True)
    ids = [*(" " + text).encode()]
    assert tokenizer.decode(ids) == tokenizer.hf.decode(ids) == text


def test_a_tokenizer_without_exact_bytes_is_refused() -> None:
    hf = HfTokenizer(models.WordPiece({"a": 0, "[UNK]": 1}))
    hf.decoder = decoders.WordPiece()
    with pytest.raises(ParameterError, match=r"WordPiece.*no exact bytes"):
        Tokenizer.of(hf, TokenizerSettings())
    with pytest.raises(ParameterError, match="no exact bytes"):
        Tokenizer.of(HfTokenizer(models.BPE({"a": 0}, [])), TokenizerSettings())
