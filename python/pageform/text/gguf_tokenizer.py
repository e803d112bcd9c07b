"""Tokenizers from the metadata of a GGUF file, for files that come without a tokenizer.json.

A GGUF names a tokenizer model ("gpt2": byte-level BPE, "llama": SentencePiece BPE) and, for byte-level BPE, the rule
that splits text before merging. The rules are facts about the models' own tokenizers; each comment names one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelFileError
from .token_bytes import SPACE_MARK, byte_level_bytes, sentencepiece_bytes
from .tokenizer import Tokenizer, TokenizerSettings, Vocabulary

if TYPE_CHECKING:
    import tokenizers
    from tokenizers.pre_tokenizers import PreTokenizer

    from .._native import StringTable

_PREFIX = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5
"""Kinds of tokens in `token_type`."""
_ADDED = (_CONTROL, _UNKNOWN, _USER_DEFINED)

# Contractions, letters with one leading symbol, up to three digits, symbols, blank lines, spaces.
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
# Mistral NeMo's tekken: words are split where lower case turns to upper case.
_TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {
    "llama3": _LLAMA3_SPLIT,
    "llama-v3": _LLAMA3_SPLIT,
    "llama-bpe": _LLAMA3_SPLIT,
    "qwen2": _QWEN2_SPLIT,
    "deepseek-r1-qwen": _QWEN2_SPLIT,
    "tekken": _TEKKEN_SPLIT,
}
_WHOLE_WORDS = ("llama3", "llama-v3", "llama-bpe", "tekken")
"""Rules whose models take a piece that is itself in the vocabulary without merging, and start texts with BOS."""

_SUPPORTED_RULES = ("default", "gpt-2", "smollm", *_SPLITS)


def tokenizer_from_gguf(path: str, metadata: Mapping[str, Any], eos_ids: tuple[int, ...]) -> Tokenizer:
    """The tokenizer that GGUF `metadata` describes. Raises ModelFileError; so may encoding, for its merges."""
    source = _Source(path, metadata)
    model = source.value("model", str)
    if model not in _MODELS:
        raise source.error("model", model, 'is not supported ("gpt2" and "llama" are)')
    make_model, spelling = _MODELS[model]
    has_prefix = model == "llama" and source.has_space_prefix

    def make() -> tokenizers.Tokenizer:
        hf = make_model(source)
        _add_special_tokens(hf, source)
        _add_bos_eos(hf, source)
        return hf

    template = metadata.get("tokenizer.chat_template")
    settings = TokenizerSettings(
        bos_id=source.token_id("bos_token_id"),
        eos_ids=eos_ids,
        chat_template=template if isinstance(template, str) else None,
        special_tokens=source.special_tokens(),
    )
    added = {i: (source.tokens[i], source.kind(i) != _USER_DEFINED) for i in source.of_kind(*_ADDED)}
    vocabulary = Vocabulary(source.token, source.id, source.vocab_size, added, spelling, has_prefix)
    return Tokenizer(make, settings, vocabulary)


class _Source:
    """The tokenizer part of the metadata, checked.

    Tokens stay where they are in a GGUF file and only the kinds that are not normal are kept: as Python's objects, they
    would take as long as reading a small model.
    """

    def __init__(self, path: str, metadata: Mapping[str, Any]) -> None:
        self._path = path
        self._metadata = metadata
        self.tokens = self._tokens()
        if self.tokens.repeated is not None:
            raise self.error("tokens", f"{len(self.tokens)} tokens", "holds a token twice")
        count, self._kinds = self._unusual_kinds()
        if count not in (0, len(self.tokens)):
            raise self.error("token_type", f"{count} kinds", f"does not fit {len(self.tokens)} tokens")
        self._unused = frozenset(self.of_kind(_UNUSED))
        """Padding of the vocabulary, which the model never learned."""

    @property
    def has_space_prefix(self) -> bool:
        """Whether each run of text between special tokens starts with a space, which decoding takes away again."""
        return bool(self.value("add_space_prefix", bool, True))

    def token(self, token_id: int) -> str | None:
        """The spelling of an id, None for those that stand for nothing."""
        is_one = token_id < len(self.tokens) and token_id not in self._unused
        return self.tokens[token_id] if is_one else None

    def id(self, token: str) -> int | None:
        """The id of a spelling, the other way round."""
        found = self.tokens.find(token)
        return None if found in self._unused else found

    @property
    def vocab_size(self) -> int:
        return len(self.tokens) - len(self._unused)

    @cached_property
    def vocab(self) -> dict[str, int]:
        """All spellings and their ids."""
        return {self.tokens[i]: i for i in range(len(self.tokens)) if i not in self._unused}

    def kind(self, token_id: int) -> int:
        return self._kinds.get(token_id, _NORMAL)

    def _tokens(self) -> StringTable:
        from .._native import StringTable

        read = getattr(self._metadata, "strings", None)  # of a file's; a plain mapping has lists
        found: StringTable | None = None if read is None else read(_PREFIX + "tokens")
        return found or StringTable(self.strings("tokens"))

    def _unusual_kinds(self) -> tuple[int, dict[int, int]]:
        """How many kinds are told, and those of the tokens that are not normal."""
        read = getattr(self._metadata, "unlike", None)
        found: tuple[int, dict[int, int]] | None = None if read is None else read(_PREFIX + "token_type", _NORMAL)
        if found is not None:
            return found
        kinds = self._metadata.get(_PREFIX + "token_type") or []
        return len(kinds), {i: kind for i, kind in enumerate(kinds) if kind != _NORMAL}

    def value(self, key: str, kind: type, default: Any = None) -> Any:
        value = self._metadata.get(_PREFIX + key, default)
        if not isinstance(value, kind):
            raise self.error(key, value, f"is missing or no {kind.__name__}")
        return value

    def strings(self, key: str) -> list[str]:
        values: list[str] = self.value(key, list)
        if not values or not isinstance(values[0], str):  # a GGUF array has elements of one type
            raise self.error(key, f"{len(values)} values", "is not a list of strings")
        return values

    def token_id(self, key: str) -> int | None:
        value = self._metadata.get(_PREFIX + key)
        if value is not None and not (isinstance(value, int) and 0 <= value < len(self.tokens)):
            raise self.error(key, value, f"is not a token id below {len(self.tokens)}")
        return value

    def of_kind(self, *kinds: int) -> list[int]:
        """Ids of the tokens of some kinds, in order."""
        ids = range(len(self.tokens)) if _NORMAL in kinds else self._kinds
        return [i for i in ids if self.kind(i) in kinds]

    def special_tokens(self) -> dict[str, str]:
        keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        ids = {name: self.token_id(f"{key}_token_id") for name, key in keys.items()}
        return {name: self.tokens[i] for name, i in ids.items() if i is not None}

    def error(self, key: str, value: object, reason: str) -> ModelFileError:
        return ModelFileError(
            self._path, f"{_PREFIX}{key}={value!r} {reason}", "Pass tokenizer=<folder with a tokenizer.json> instead."
        )


def _byte_level(source: _Source) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers

    rule = source.value("pre", str, "default")
    if rule not in _SUPPORTED_RULES:
        raise source.error("pre", rule, f"is not a supported rule of splitting text ({', '.join(_SUPPORTED_RULES)})")
    merges = [tuple(merge.split(" ", 1)) for merge in source.strings("merges")]
    hf = Tokenizer(_bpe(source, models.BPE, merges, ignore_merges=rule in _WHOLE_WORDS))
    if _SPLITS.get(rule) is _QWEN2_SPLIT:
        hf.normalizer = normalizers.NFC()
    hf.pre_tokenizer = _splitter(rule)
    hf.decoder = decoders.ByteLevel()
    return hf


def _splitter(rule: str) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    if rule == "smollm":  # single digits first, then GPT-2's rule on what lies between
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    if rule in _SPLITS:
        split = pre_tokenizers.Split(Regex(_SPLITS[rule]), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _sentencepiece(source: _Source) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers

    unknown = source.of_kind(_UNKNOWN)
    hf = Tokenizer(
        _bpe(
            source,
            models.BPE,
            _merges_by_score(source),
            byte_fallback=True,
            fuse_unk=True,
            unk_token=source.tokens[unknown[0]] if unknown else None,
        )
    )
    has_prefix = source.has_space_prefix
    mark_spaces = normalizers.Replace(" ", SPACE_MARK)
    hf.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE_MARK), mark_spaces]) if has_prefix else mark_spaces
    steps = [decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    hf.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if has_prefix else steps)
    return hf


_MODELS = {"gpt2": (_byte_level, byte_level_bytes), "llama": (_sentencepiece, sentencepiece_bytes)}
"""What makes a tokenizer of each kind, and how its tokens are spelled."""


def _merges_by_score(source: _Source) -> list[tuple[str, str]]:
    """Merge rules of a SentencePiece vocabulary: every split of a token into two tokens, best-scored token first.

    SentencePiece merges the adjacent pair whose union scores highest; ranking pairs by that does the same.
    """
    scores: list[float] = source.value("scores", list)
    if len(scores) != len(source.tokens):
        raise source.error("scores", f"{len(scores)} scores", f"does not fit {len(source.tokens)} tokens")
    ranked: list[tuple[float, int, int, tuple[str, str]]] = []
    vocab = source.vocab
    for i in source.of_kind(_NORMAL, _USER_DEFINED):
        token, score = source.tokens[i], -scores[i]
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocab and right in vocab:
                ranked.append((score, vocab[left], vocab[right], (left, right)))
    ranked.sort()
    return [pair for *_, pair in ranked]


def _bpe(source: _Source, bpe: Any, merges: Sequence[Sequence[str]], **options: Any) -> Any:
    """A BPE model; the library's complaints (a merge of unknown tokens) become ModelFileError."""
    try:
        return bpe(source.vocab, merges, **options)
    except Exception as error:  # the library raises bare Exception
        raise source.error("merges", f"{len(merges)} merges", f"does not fit the vocabulary: {error}") from error


def _add_special_tokens(hf: tokenizers.Tokenizer, source: _Source) -> None:
    """Control tokens are matched whole and left out of text; user-defined ones (`<think>`) are matched whole only."""
    from tokenizers import AddedToken

    def added(*kinds: int, special: bool) -> list[AddedToken]:
        return [AddedToken(source.tokens[i], normalized=False, special=special) for i in source.of_kind(*kinds)]

    hf.add_special_tokens(added(_CONTROL, _UNKNOWN, special=True))
    hf.add_tokens(added(_USER_DEFINED, special=False))


def _add_bos_eos(hf: tokenizers.Tokenizer, source: _Source) -> None:
    """The template that frames a text, from `add_bos_token` and `add_eos_token` or the defaults of their absence."""
    from tokenizers import processors

    is_sentencepiece = source.value("model", str) == "llama"
    bos_default = is_sentencepiece or source.value("pre", str, "default") in _WHOLE_WORDS
    has_bos = source.value("add_bos_token", bool, bos_default)
    has_eos = source.value("add_eos_token", bool, False)
    bos = source.token_id("bos_token_id") if has_bos else None
    eos = source.token_id("eos_token_id") if has_eos else None
    if bos is None and eos is None:
        return
    frame = [source.tokens[i] if i is not None else None for i in (bos, eos)]
    hf.post_processor = processors.TemplateProcessing(
        single=[part for part in (frame[0], "$A", frame[1]) if part is not None],
        special_tokens=[(source.tokens[i], i) for i in {bos, eos} if i is not None],
    )
