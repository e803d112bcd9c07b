"""The tokenizer: text to ids through the `tokenizers` library, ids back to text through exact token bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.errors import ParameterError
from .token_bytes import SPACE_MARK, Spelling, byte_level_bytes, sentencepiece_bytes

if TYPE_CHECKING:
    import tokenizers


_SPACES = ("\u0120", SPACE_MARK)
"""How byte-level and SentencePiece vocabularies spell a space."""


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """What a model's files say about its tokenizer besides the vocabulary.

    `special_tokens` maps names that chat templates use (`bos_token`, `eos_token`, …) to token text.
    """

    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    chat_template: str | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Token ids and what they stand for: all that is needed of a tokenizer to decode.

    `token` gives the spelling of an id, `id` the other way round, each None for what the vocabulary lacks; `added` are
    the tokens that are plain text whatever the `spelling` of the others, with whether they are control tokens.
    """

    token: Callable[[int], str | None]
    id: Callable[[str], int | None]
    size: int
    added: Mapping[int, tuple[str, bool]]
    spelling: Spelling
    strips_leading_space: bool

    @staticmethod
    def of(hf: tokenizers.Tokenizer) -> Vocabulary:
        """That of a tokenizer that exists."""
        added = {i: (token.content, token.special) for i, token in hf.get_added_tokens_decoder().items()}
        return Vocabulary(
            hf.id_to_token, hf.token_to_id, hf.get_vocab_size(with_added_tokens=True), added, *_decoding_rules(hf)
        )


class Tokenizer:
    """Text ↔ token ids of one model. Immutable and thread-safe.

    Decoding goes through bytes: the bytes of all tokens are joined, then read as UTF-8 with U+FFFD for what is invalid.
    It equals the detokenizer's streamed output for any ids at all. `make_hf` is called when a text is encoded for the
    first time: token ids need the `vocabulary` alone.
    """

    def __init__(
        self, make_hf: Callable[[], tokenizers.Tokenizer], settings: TokenizerSettings, vocabulary: Vocabulary
    ) -> None:
        self._make_hf = make_hf
        self._hf_lock = threading.Lock()
        self._hf: tokenizers.Tokenizer | None = None
        self._settings = settings
        self._vocabulary = vocabulary
        self._special_ids = frozenset(i for i, (_, is_special) in vocabulary.added.items() if is_special)
        self._bytes: dict[int, bytes] = {i: text.encode() for i, (text, _) in vocabulary.added.items()}
        self._bare: dict[int, int] = {}

    @staticmethod
    def of(hf: tokenizers.Tokenizer, settings: TokenizerSettings) -> Tokenizer:
        """Around a tokenizer that exists."""
        return Tokenizer(lambda: hf, settings, Vocabulary.of(hf))

    @property
    def hf(self) -> tokenizers.Tokenizer:
        """The underlying `tokenizers.Tokenizer`. Don't change it."""
        with self._hf_lock:
            if self._hf is None:
                self._hf = self._make_hf()
            return self._hf

    @property
    def vocab_size(self) -> int:
        """Number of tokens that the tokenizer knows; a model's embedding may have more rows."""
        return self._vocabulary.size

    @property
    def bos_id(self) -> int | None:
        return self._settings.bos_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        return self._settings.eos_ids

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of control tokens, which `skip_special_tokens` leaves out of text."""
        return self._special_ids

    @property
    def chat_template(self) -> str | None:
        """Jinja source of the model's chat template, or None."""
        return self._settings.chat_template

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """Text of the named special tokens (`bos_token`, …): the variables of a chat template."""
        return self._settings.special_tokens

    @property
    def strips_leading_space(self) -> bool:
        """Whether a text's first space is an artefact of the vocabulary (SentencePiece) and is dropped in decoding."""
        return self._vocabulary.strips_leading_space

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text. `add_special_tokens` adds BOS or EOS where the model's files ask for it.

        Special tokens spelled out in the text become their ids. Raises ParameterError for text that is no valid
        Unicode.
        """
        try:
            ids: list[int] = self.hf.encode(text, add_special_tokens=add_special_tokens).ids
        except (TypeError, UnicodeEncodeError) as error:
            reason = "is not text, or has a lone surrogate and so is no valid Unicode"
            raise ParameterError("text", text, reason, "Pass a str that can be encoded as UTF-8.") from error
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of some tokens. Bytes that are no valid UTF-8 become U+FFFD; unknown ids stand for nothing."""
        skipped = self._special_ids if skip_special_tokens else frozenset()
        data = b"".join([self.token_bytes(i) for i in ids if i not in skipped])
        if self._vocabulary.strips_leading_space and data.startswith(b" "):
            data = data[1:]
        return data.decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes of a token; empty for ids that stand for nothing (padding of the vocabulary)."""
        known = self._bytes.get(token_id)
        if known is None:
            token = self._vocabulary.token(token_id) if 0 <= token_id < 2**32 else None
            known = b"" if token is None else self._vocabulary.spelling(token)
            self._bytes[token_id] = known
        return known

    def bare(self, token_id: int) -> int:
        """The token for the same text without a space before it, if there is one; else the token itself."""
        known = self._bare.get(token_id)
        if known is None:
            token = self._vocabulary.token(token_id) if 0 <= token_id < 2**32 else None
            other = None
            if token is not None and len(token) > 1 and token[0] in _SPACES and token_id not in self._special_ids:
                other = self._vocabulary.id(token[1:])
            known = self._bare[token_id] = token_id if other is None else other
        return known

    def to_json(self) -> str:
        """The tokenizer in the format of tokenizer.json."""
        return str(self.hf.to_str())


def _decoding_rules(hf: tokenizers.Tokenizer) -> tuple[Spelling, bool]:
    """(spelling of the vocabulary, whether decoding strips a leading space), from the library's decoder."""
    import json

    decoder: Any = hf.decoder
    state = json.loads(decoder.__getstate__()) if decoder is not None else {}
    steps: list[dict[str, Any]] = state.get("decoders", [state]) if state else []
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return byte_level_bytes, False
    strips = any(step["type"] == "Strip" and step.get("content") == " " and step.get("start") for step in steps)
    strips = strips or any(step["type"] == "Metaspace" and step.get("prepend_scheme") != "never" for step in steps)
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return sentencepiece_bytes, strips
    raise ParameterError(
        "tokenizer",
        sorted(kinds) or None,
        "uses a decoder whose tokens have no exact bytes",
        "Use a model with a byte-level BPE or SentencePiece tokenizer.",
    )
