"""Ending a text in time: near `max_tokens` the shortest end is forced, so that no answer is cut off.

Before each token a way to the end is known that fits into what is left of `max_tokens`. A sampled token stands if there
is such a way after it, too; otherwise the known way is taken. All of this is a function of the tokens so far.

Looking for a way takes a search (`closing`), so it is done only when the text may have come close: `OpenPath` counts
how many bytes its structure has come to lack since a way was last found, and by so many tokens at most it got longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .closing import TextState, ends, shortest_end
from .matcher import LlgMatcher
from .open_path import OpenPath

if TYPE_CHECKING:
    from .grammar import Grammar, GrammarCompiler

_MARGIN = 4
"""Tokens to spare: the beginning of an end may have to be spelled otherwise after a token than before it."""
_AMPLE = 3
"""With so many times as many tokens as the shortest text has bytes, its shortest end is looked for only if needed."""
_PLAIN_WINDOW = 128
"""How much longer the end of a text without a schema, of which nothing is known beforehand, is taken to get."""
_STATES = 400
"""Places that one search may look at: a few milliseconds."""


class Finisher:
    """Watches over one text of a grammar. `matcher` is the text's own; it is moved, and moved back, within calls.

    The caller asks `choose` what to append for each sampled token, tells each appended one to `take`, and appends what
    `rest` holds before it samples again.
    """

    def __init__(self, grammar: Grammar, matcher: LlgMatcher, compiler: GrammarCompiler, max_tokens: int) -> None:
        self.rest: Sequence[int] = ()
        """Tokens that end the text, once that has been decided."""
        self._texts = grammar.texts
        self._hints = grammar.texts.examples if grammar.texts is not None else ()
        self._matcher = matcher
        self._compiler = compiler
        self._max_tokens = max_tokens
        self._text = bytearray()
        self._sizes: list[int] = []  # bytes of the text after each token
        self._path: OpenPath | None = None
        self._lacks = 0.0
        self._most = 0.0
        """Tokens of the shortest end at most."""
        self._way: Sequence[int] | None = None
        """The end that is known for the text as it is, if one was looked for."""
        self._state, self._stated = TextState(), 0  # where the text stands after so many bytes of it
        self._hopeless = self._never = self._ending = self._followed = False
        self._go_to(0)
        if self._path is None or max_tokens < _AMPLE * self._lacks + _MARGIN:
            self._way = grammar.shortest(compiler.vocabulary)
            self._hopeless = self._never = self._way is None or len(self._way) > max_tokens
            self._most = self._bound(self._way or ())

    @property
    def is_near(self) -> bool:
        """Whether the text may have to be ended now, so that nothing should be appended without `choose`."""
        return not self._hopeless and self._max_tokens - len(self._sizes) <= self._most + _MARGIN

    def choose(self, token: int) -> int:
        """The token to append where `token` was sampled: that, or the first one of an end that has to come now."""
        if self._hopeless or self._matcher.ended or token in self._matcher.eos_ids:
            return token
        known, size = self._way, len(self._text)
        self._follow(token)
        left = self._max_tokens - len(self._sizes) - 1
        if left >= self._most + _MARGIN:
            return token
        way = self._way_after(token, known, left)
        if way is not None and len(way) <= left:
            self._way, self._most = way, self._bound(way)
            return token
        if known is None:
            known = self._search(size)
        if known is None or len(known) > left + 1:
            self._hopeless = True
            return token
        self._ending = True
        self._go_to(size)
        if not known:
            return min(self._matcher.eos_ids)
        self.rest = known
        return known[0]

    def take(self, token: int) -> None:
        """A token was appended."""
        if not self._followed:
            self._follow(token)
        self._followed = False
        self._sizes.append(len(self._text))
        self.rest = self.rest[1:]

    def cut(self, num_tokens: int) -> None:
        """All but the first tokens were taken back."""
        size = self._sizes[num_tokens - 1] if num_tokens else 0
        del self._sizes[num_tokens:]
        self.rest, self._way = (), None
        self._hopeless, self._ending = self._never, False
        self._go_to(size)

    @property
    def is_over(self) -> bool:
        """Whether the text is complete and may not go on: its end was forced, or no token is left."""
        return not self.rest and (self._ending or len(self._sizes) == self._max_tokens) and self._matcher.is_accepting()

    def _follow(self, token: int) -> None:
        """Notes how much more the text lacks with a token more."""
        is_end = token in self._matcher.eos_ids
        data = b"" if is_end else bytes(self._compiler.tokenizer.decode_bytes([token]))
        self._text += data
        self._followed, self._way = True, None
        if self._path is None:
            return
        self._path.feed(data)
        lacks = self._path.lacks()
        self._most += max(0.0, lacks - self._lacks)
        self._lacks = lacks

    def _go_to(self, size: int) -> None:
        """Follows the first bytes of the text anew."""
        del self._text[size:]
        self._state, self._stated = self._start(), 0
        self._path, self._lacks = None, float(_PLAIN_WINDOW)
        if self._texts is not None:
            self._path = OpenPath(self._texts)
            self._path.feed(bytes(self._text))
            self._lacks = self._path.lacks()
        self._most = self._lacks
        self._followed = False

    def _bound(self, way: Sequence[int]) -> float:
        """How many tokens the shortest end has at most, until the text is known to lack more."""
        return len(way) + (self._path.doubt() if self._path is not None else _PLAIN_WINDOW)

    def _way_after(self, token: int, known: Sequence[int] | None, left: int) -> Sequence[int] | None:
        """An end of the text with `token` at its end; `known` is one without it, and as good if not above `left`."""
        if known and known[0] == token:
            return known[1:]
        if not self._matcher.accept(token):
            return None
        try:
            if known is not None and len(known) <= left and self._is_complete_after(known):
                return known
            return self._search(len(self._text))
        finally:
            self._matcher.rollback(1)

    def _is_complete_after(self, tokens: Sequence[int]) -> bool:
        with self._matcher.watch:
            return ends(self._matcher, tokens)

    def _search(self, size: int) -> list[int] | None:
        """The shortest end after the first `size` bytes, which is where the matcher stands."""
        with self._matcher.watch:
            if size < self._stated:
                self._state, self._stated = self._start(), 0
            self._state = self._state.after(bytes(self._text[self._stated : size]))
            self._stated = size
            return shortest_end(self._matcher, self._state, self._compiler.vocabulary, _STATES, self._hints)

    def _start(self) -> TextState:
        return TextState("" if self._texts is not None else "plain")
