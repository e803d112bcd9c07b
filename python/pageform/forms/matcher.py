"""Following a grammar token by token."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..core.stopwatch import Stopwatch

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher
    from numpy.typing import NDArray

Mask: TypeAlias = "NDArray[np.uint32]"
"""One bit a token, `[ceil(vocab_size / 32)]` or a batch of such rows; token t is bit t % 32 of word t // 32."""


class Matcher(Protocol):
    """Where one sequence stands in its grammar. Used by one thread at a time."""

    def fill_mask(self, row: Mask) -> None:
        """Write the tokens that may come next. Once the text is complete the end-of-sequence tokens are among them."""

    def accept(self, token_id: int) -> bool:
        """Go on by one token; False, and no change, if the grammar doesn't allow it."""

    def advance(self, tokens: Sequence[int]) -> int:
        """Go on by as many of the tokens as the grammar allows, but not to its end: how many that is."""

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""

    def forced(self) -> list[int]:
        """The tokens that must come next whatever the model says, in their canonical form; often none."""

    def forced_bytes(self) -> bytes:
        """What the text must go on with, whatever the model says and however that is cut into tokens; often nothing."""

    def is_accepting(self) -> bool:
        """Whether the text so far is complete (it may yet be allowed to go on)."""

    def is_stopped(self) -> bool:
        """Whether nothing but an end-of-sequence token may follow."""

    def fork(self, watch: Stopwatch | None = None) -> Matcher:
        """An independent copy that stands at the same place, and counts its time on `watch`."""


class LlgMatcher:
    """`Matcher` over llguidance's.

    The end of the text is kept here: llguidance takes an end-of-sequence token in some complete states and not in
    others. `watch` counts the time of all methods that follow the text, but not of masks.
    """

    def __init__(
        self, inner: LLMatcher, eos_ids: frozenset[int], ended: bool = False, watch: Stopwatch | None = None
    ) -> None:
        self.inner = inner
        self.watch = watch or Stopwatch()
        self.ended = ended
        """Whether an end-of-sequence token was accepted."""
        self.eos_ids = eos_ids

    def fill_mask(self, row: Mask) -> None:
        if row.dtype != "uint32" or row.ndim != 1 or not row.flags.c_contiguous:
            raise ValueError("a mask row must be contiguous uint32")
        if not self.ended:
            self.inner.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
            return
        row[:] = 0
        for token in self.eos_ids:
            row[token // 32] |= 1 << token % 32

    def accept(self, token_id: int) -> bool:
        if self.ended:
            return False
        if token_id in self.eos_ids and self.inner.is_accepting():
            self.ended = True
            return True
        with self.watch:
            return self.inner.try_consume_tokens([token_id]) == 1

    def advance(self, tokens: Sequence[int]) -> int:
        if self.ended:
            return 0
        inside = list(itertools.takewhile(lambda token: token not in self.eos_ids, tokens))
        with self.watch:
            count = self.inner.try_consume_tokens(inside) if inside else 0
            stopped = count > 0 and self.inner.is_stopped()
        if stopped:
            self.rollback(1)
        return count - stopped

    def rollback(self, count: int) -> None:
        inside = count - 1 if self.ended and count else count
        with self.watch:
            if inside and not self.inner.rollback(inside):
                raise ValueError(f"can't take back {count} tokens: {one_line(self.inner.get_error())}")
        self.ended = self.ended and not count

    def forced(self) -> list[int]:
        if self.ended:
            return []
        with self.watch:
            return self.inner.compute_ff_tokens()

    def forced_bytes(self) -> bytes:
        if self.ended:
            return b""
        with self.watch:
            return bytes(self.inner.compute_ff_bytes())

    def is_accepting(self) -> bool:
        return self.inner.is_accepting()

    def is_stopped(self) -> bool:
        return self.ended or self.inner.is_stopped()

    def fork(self, watch: Stopwatch | None = None) -> LlgMatcher:
        return LlgMatcher(self.inner.deep_copy(), self.eos_ids, self.ended, watch)

    def mask(self, vocab_size: int) -> Mask:
        """A new row with the tokens that may come next."""
        import numpy as np

        row: Mask = np.zeros((vocab_size + 31) // 32, np.uint32)
        self.fill_mask(row)
        return row

    def fault(self) -> str | None:
        """What is wrong with the grammar, None if nothing is."""
        if not self.inner.is_error():
            return None
        return one_line(self.inner.get_error()) or "llguidance gives no reason"


def one_line(text: str) -> str:
    """llguidance's message without its dump of state."""
    return " ".join(text.split("<state>")[0].split())[:400]
