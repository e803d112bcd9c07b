"""Tokenizers built from GGUF metadata: vocabularies are trained here, and compared with what they were made from."""

from __future__ import annotations

import io
import unicodedata
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from pageform.core.errors import ModelFileError
from pageform.text.gguf_tokenizer import tokenizer_from_gguf
from pageform.text.tokenizer import Tokenizer as OurTokenizer
from pageform.text.tokenizer import TokenizerSettings

CORPUS = [
    "The quick brown fox jumps over the lazy dog, isn't it? HelloWorld and camelCaseWords in McDonald's.",
    "In 1984 there were 12345 people, 67 of them paid $3,456.78 -- and THEY'LL come again!",
    "Der schöne Fluß fließt über München; naïve café, Ελλάδα, Россия, 日本語のテキスト 中文。",
    "def main(argv):\n    for i in range(10):\n\t\tprint(i ** 2)  \n\n\nmain()\n",
] * 20

# The rules as the models' own tokenizer.json files state them (restated here, so that a slip in ours shows).
RULES: dict[str, Any] = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "default": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama-bpe": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
                ),
                "isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "qwen2": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
                ),
                "isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}

TEXTS = st.text(
    st.sampled_from("  \n\t'sStTabcxyzABC0123456789.,;:!?-äßéΩЖ日本🙂") | st.characters(codec="utf-8"), max_size=50
)


def trained(rule: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=rule == "llama-bpe"))
    tokenizer.pre_tokenizer = RULES[rule]
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def metadata_of(tokenizer: Tokenizer, rule: str, **more: Any) -> dict[str, Any]:
    """As a converter writes it, with three tokens appended: control, user-defined and unused."""
    import json

    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    tokens = [token for token, _ in vocab]
    values = {
        "model": "gpt2",
        "pre": rule,
        "tokens": [*tokens, "<|end|>", "<think>", "[PAD9]"],
        "token_type": [1] * len(tokens) + [3, 4, 5],
        "merges": [" ".join(pair) for pair in merges],
        "eos_token_id": len(tokens),
        "bos_token_id": len(tokens),
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (values | more).items() if value is not None}


@pytest.fixture(scope="module", params=sorted(RULES))
def pair(request: pytest.FixtureRequest) -> tuple[str, Tokenizer, Any]:
    """(rule, the trained tokenizer, ours from its metadata)."""
    theirs = trained(request.param)
    ours = tokenizer_from_gguf("m.gguf", metadata_of(theirs, request.param), (7,))
    return request.param, theirs, ours


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_byte_level_ids_equal_the_original(pair: tuple[str, Tokenizer, Any], text: str) -> None:
    rule, theirs, ours = pair
    if rule == "qwen2":
        text = unicodedata.normalize("NFC", text)
    assert ours.encode(text, add_special_tokens=False) == theirs.encode(text).ids
    assert ours.decode(ours.encode(text, add_special_tokens=False)) == text


def test_special_user_defined_and_unused_tokens(pair: tuple[str, Tokenizer, Any]) -> None:
    _, theirs, ours = pair
    n = theirs.get_vocab_size()
    assert ours.encode("a<|end|>b<think>", add_special_tokens=False)[1::2] == [n, n + 1]
    assert ours.special_ids == {n}
    assert ours.decode([n, n + 1]) == "<think>"
    assert ours.decode([n, n + 1], skip_special_tokens=False) == "<|end|><think>"
    assert ours.token_bytes(n + 2) == b""
    assert ours.encode("[PAD9]", add_special_tokens=False) == theirs.encode("[PAD9]").ids
    assert ours.vocab_size == n + 2
    assert ours.eos_ids == (7,)


def test_bos_and_eos_follow_the_file(pair: tuple[str, Tokenizer, Any]) -> None:
    rule, theirs, _ = pair
    n = theirs.get_vocab_size()

    def ids(**more: Any) -> list[int]:
        return tokenizer_from_gguf("m.gguf", metadata_of(theirs, rule, **more), ()).encode("a")

    a = theirs.encode("a").ids
    assert ids() == ([n, *a] if rule == "llama-bpe" else a)
    assert ids(add_bos_token=True) == [n, *a]
    assert ids(add_bos_token=False) == a
    assert ids(add_bos_token=False, add_eos_token=True) == [*a, n]
    assert ids(add_bos_token=True, add_eos_token=True, eos_token_id=n + 1) == [n, *a, n + 1]
    assert ids(add_bos_token=True, bos_token_id=None) == a


def test_qwen2_composes_characters() -> None:
    ours = tokenizer_from_gguf("m.gguf", metadata_of(trained("qwen2"), "qwen2"), ())
    assert ours.encode("e\u0301") == ours.encode("é")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pre": "made-up"}, "'made-up' is not a supported rule.*smollm.*qwen2"),
        ({"model": "bert"}, "model='bert' is not supported"),
        ({"model": None}, "model=None is missing"),
        ({"model": 3}, "model=3 is missing or no str"),
        ({"tokens": None}, "tokens=None is missing"),
        ({"tokens": []}, "is not a list of strings"),
        ({"tokens": [1, 2]}, "is not a list of strings"),
        ({"tokens": ["a", "b", "a"], "token_type": None}, "holds a token twice"),
        ({"token_type": [1, 1]}, "does not fit"),
        ({"merges": None}, "merges=None is missing"),
        ({"merges": ["nowhere tobefound"]}, "does not fit the vocabulary"),
        ({"merges": ["single"]}, "does not fit the vocabulary"),
        ({"bos_token_id": 10**6}, "is not a token id below"),
        ({"eos_token_id": "x"}, "is not a token id below"),
        ({"add_bos_token": 1}, "add_bos_token=1 is missing or no bool"),
    ],
)
def test_bad_metadata_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        _ = tokenizer_from_gguf("m.gguf", metadata_of(trained("gpt-2"), "gpt-2", **more), ()).hf


@pytest.fixture(scope="module")
def spm() -> sentencepiece.SentencePieceProcessor:
    """A Llama-like SentencePiece model: BPE, byte fallback, dummy prefix, no normalization."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in CORPUS for line in text.split("\n") if line),
        model_writer=model,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def spm_metadata(spm: sentencepiece.SentencePieceProcessor, **more: Any) -> dict[str, Any]:
    n = spm.vocab_size()
    kinds = [2 if spm.is_unknown(i) else 3 if spm.is_control(i) else 6 if spm.is_byte(i) else 1 for i in range(n)]
    values = {
        "model": "llama",
        "pre": "default",
        "tokens": [spm.id_to_piece(i) for i in range(n)],
        "scores": [spm.get_score(i) for i in range(n)],
        "token_type": kinds,
        "bos_token_id": spm.bos_id(),
        "eos_token_id": spm.eos_id(),
        "unknown_token_id": spm.unk_id(),
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (values | more).items()}


@pytest.fixture(scope="module")
def spm_tokenizer(spm: sentencepiece.SentencePieceProcessor) -> Any:
    return tokenizer_from_gguf("m.gguf", spm_metadata(spm), (spm.eos_id(),))


SPM_TEXTS = st.text(
    st.sampled_from(" abcdefghij THEQUICK.,'!0123456789äßéΩЖ日本中🙂\u00a0"), min_size=1, max_size=40
).filter(lambda text: "\u2581" not in text)


@settings(max_examples=400, deadline=None)
@given(text=SPM_TEXTS)
def test_sentencepiece_ids_equal_the_original(
    spm: sentencepiece.SentencePieceProcessor, spm_tokenizer: Any, text: str
) -> None:
    ids = spm_tokenizer.encode(text)
    assert ids == [spm.bos_id(), *spm.encode(text)]
    assert spm_tokenizer.decode(ids) == text


def test_sentencepiece_bytes(spm: sentencepiece.SentencePieceProcessor, spm_tokenizer: Any) -> None:
    for i in range(spm.vocab_size()):
        piece = spm.id_to_piece(i)
        if spm.is_byte(i):
            assert spm_tokenizer.token_bytes(i) == bytes([int(piece[3:5], 16)])
        else:
            assert spm_tokenizer.token_bytes(i) == piece.replace("\u2581", " ").encode()
    assert spm_tokenizer.special_ids == {spm.unk_id(), spm.bos_id(), spm.eos_id()}
    assert spm_tokenizer.strips_leading_space


def test_sentencepiece_without_prefix_space(spm: sentencepiece.SentencePieceProcessor) -> None:
    ours = tokenizer_from_gguf("m.gguf", spm_metadata(spm, add_space_prefix=False), ())
    assert not ours.strips_leading_space
    for text in ("the fox", " the fox"):
        ids = ours.encode(text, add_special_tokens=False)
        assert ours.decode(ids) == text
    assert ours.encode(" the fox", False) == spm.encode("the fox")


def test_sentencepiece_scores_must_fit(spm: sentencepiece.SentencePieceProcessor) -> None:
    with pytest.raises(ModelFileError, match=r"1 scores.* does not fit"):
        _ = tokenizer_from_gguf("m.gguf", spm_metadata(spm, scores=[0.0]), ()).hf


@pytest.mark.parametrize("rule", ["gpt-2", "llama-bpe", "qwen2"])
def test_ids_are_decoded_by_the_metadata_alone(rule: str) -> None:
    """What decoding takes of the vocabulary is what the library's tokenizer would have told."""
    hf = trained(rule)
    told = tokenizer_from_gguf("m.gguf", metadata_of(hf, rule), ())
    made = OurTokenizer.of(told.hf, TokenizerSettings())
    ids = range(hf.get_vocab_size() + 5)
    assert told.vocab_size == made.vocab_size
    assert told.special_ids == made.special_ids != frozenset()
    assert [told.token_bytes(i) for i in ids] == [made.token_bytes(i) for i in ids]
    assert [told.bare(i) for i in ids] == [made.bare(i) for i in ids]
    assert told.strips_leading_space == made.strips_leading_space


def test_sentencepiece_ids_are_decoded_by_the_metadata_alone(spm: sentencepiece.SentencePieceProcessor) -> None:
    for more in ({}, {"add_space_prefix": False}):
        told = tokenizer_from_gguf("m.gguf", spm_metadata(spm, **more), ())
        made = OurTokenizer.of(told.hf, TokenizerSettings())
        ids = range(spm.vocab_size() + 2)
        assert [told.token_bytes(i) for i in ids] == [made.token_bytes(i) for i in ids]
        assert [told.bare(i) for i in ids] == [made.bare(i) for i in ids]
        assert told.special_ids == made.special_ids
        assert told.strips_leading_space == made.strips_leading_space
