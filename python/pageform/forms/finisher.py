"""Ending a text in time: near `max_tokens` the shortest end is forced, so that no answer is cut off.

Before each token a way to the end is known that fits into what is left of `max_tokens`. A sampled token stands if there
is such a way after it, too; otherwise the known way is taken. All of this is a function of the tokens so far.

Looking for a way takes a search (`closing`), so it is done only when the text may have come close: its `Course` counts
how many bytes its structure has come to lack since a way was last found, and by so many tokens at most it got longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .closing import after_character, ends, shortest_end
from .matcher import LlgMatcher

if TYPE_CHECKING:
    from .course import Course
    from .grammar import Grammar, GrammarCompiler

_MARGIN = 4
"""Tokens to spare: the beginning of an end may have to be spelled otherwise after a token than before it."""
_AMPLE = 3
"""With so many times as many tokens as the shortest text has bytes, its shortest end is looked for only if needed."""
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
        self._grammar = grammar
        self._matcher = matcher
        self._compiler = compiler
        self._max_tokens = max_tokens
        self._text = bytearray()
        self._sizes: list[int] = []  # bytes of the text after each token
        self._course: Course
        self._lacks = 0.0
        self._most = 0.0
        """Tokens of the shortest end at most."""
        self._way: Sequence[int] | None = None
        """The end that is known for the text as it is, if one was looked for."""
        self._hopeless = self._never = self._ending = self._followed = False
        self._go_to(0)
        if not self._course.is_bounded or max_tokens < _AMPLE * self._lacks + _MARGIN:
            self._way = grammar.shortest(compiler.vocabulary)
            self._hopeless = self._never = self._way is None or len(self._way) > max_tokens
            self._most, self._lacks = self._bound(self._way or ()), self._course.lacks()

    def has_room(self, num_tokens: int) -> bool:
        """Whether so many tokens may be appended without `choose`: the text can be ended after them, too."""
        return self._hopeless or self._max_tokens - len(self._sizes) - num_tokens > self._most + _MARGIN

    def choose(self, token: int) -> int:
        """The token to append where `token` was sampled: that, or the first one of an end that has to come now."""
        if self._hopeless or self._matcher.ended or token in self._matcher.eos_ids:
            return token
        known, size = self._way, len(self._text)
        if known is None and self._course.way() is not None:
            known = self._search(size)
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
        is_last = len(self._sizes) == self._max_tokens and not self._course.is_endless
        return not self.rest and (self._ending or is_last) and self._matcher.is_accepting()

    def _follow(self, token: int) -> None:
        """Notes how much more the text lacks with a token more."""
        is_end = token in self._matcher.eos_ids
        data = b"" if is_end else bytes(self._compiler.tokenizer.decode_bytes([token]))
        self._text += data
        self._followed, self._way = True, None
        with self._matcher.watch:
            self._course.feed(data)
            lacks = self._course.lacks()
        self._most += max(0.0, lacks - self._lacks)
        self._lacks = lacks

    def _go_to(self, size: int) -> None:
        """Follows the first bytes of the text anew."""
        del self._text[size:]
        self._course = self._grammar.course()
        self._course.feed(bytes(self._text))
        self._lacks = self._most = self._course.lacks()
        self._followed = False

    def _bound(self, way: Sequence[int]) -> float:
        """How many tokens the shortest end has at most, until the text is known to lack more."""
        return len(way) + self._course.doubt()

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
        course = self._course
        if size < len(self._text):
            course = self._grammar.course()
            course.feed(bytes(self._text[:size]))
        with self._matcher.watch:
            known = course.way()
            if known is not None:
                return after_character(self._matcher, known, self._compiler.vocabulary)
            vocabulary = self._grammar.vocabulary(self._compiler.vocabulary)
            return shortest_end(self._matcher, course.state(), vocabulary, _STATES, self._grammar.hints)
