"""Token ids to text, one token at a time, equal byte for byte to decoding them all at once."""

from __future__ import annotations

import codecs

from ..core.errors import IllegalTransition
from .tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Streams the text of one output sequence.

    Bytes of an incomplete UTF-8 character are held back until it completes or turns out invalid (then U+FFFD). After
    any pushes, the deltas joined, with `flush()` last, equal `tokenizer.decode(ids, skip_special_tokens)`.

    `start_of_text` tells whether the sequence starts a text, so that a SentencePiece vocabulary's artificial first
    space is dropped, as `decode` does; pass False to keep it for an output that continues a prompt word for word.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True, start_of_text: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._strips = start_of_text and tokenizer.strips_leading_space
        # Per token: the text it completed, the bytes held back after it, and whether any byte came until then.
        self._deltas: list[str] = []
        self._held: list[bytes] = []
        self._started: list[bool] = []
        self._tail: str | None = None

    def __len__(self) -> int:
        """Number of tokens pushed."""
        return len(self._deltas)

    @property
    def text(self) -> str:
        """All text so far, without what is held back."""
        return "".join(self._deltas) + (self._tail or "")

    def push(self, token_id: int) -> str:
        """Takes the next token and returns the text that it completes. Raises IllegalTransition after `flush`."""
        if self._tail is not None:
            raise IllegalTransition("a token was pushed into a flushed detokenizer")
        data = b"" if token_id in self._skipped else self._tokenizer.token_bytes(token_id)
        started = bool(self._started) and self._started[-1]
        if data and not started:
            started = True
            if self._strips and data.startswith(b" "):
                data = data[1:]
        data = self._held[-1] + data if self._held else data
        delta, used = codecs.utf_8_decode(data, "replace", False)
        self._deltas.append(delta)
        self._held.append(data[used:])
        self._started.append(started)
        return delta

    def flush(self) -> str:
        """Ends the text: returns what is held back, an incomplete character as U+FFFD. Repeated calls return ""."""
        if self._tail is not None:
            return ""
        self._tail = self._held[-1].decode("utf-8", "replace") if self._held else ""
        return self._tail

    def truncate(self, n_tokens: int) -> None:
        """Forgets all but the first `n_tokens` tokens; the state is as if the others had never come."""
        del self._deltas[n_tokens:], self._held[n_tokens:], self._started[n_tokens:]
        self._tail = None
