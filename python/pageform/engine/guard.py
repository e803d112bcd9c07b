"""Carries out what a `Rewinder` decides about a request: output, cache, grammar and noise go back together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.completion import Rewind
from ..forms.rewind import Cut, FieldJudge, GivenUp, Rewinder, RewindOptions

if TYPE_CHECKING:
    from ..core.drafts import Drafter
    from ..core.plan import RowSampling
    from ..core.request import Request
    from ..forms.bans import TokenPrefixes
    from ..forms.form import Form
    from ..forms.matcher import Matcher
    from .sink import OutputSink
    from .verdicts import Verdicts


class Verdict(Enum):
    """What became of the values that a token closed."""

    FINE = "fine"
    REWOUND = "rewound"
    GIVEN_UP = "given up"


Cutter = Callable[..., None]
"""`Scheduler.rewind`."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What is guarded: the values of `form`, validated under `context` and `strict`; see `RewindOptions`."""

    form: Form[Any]
    rewind: RewindOptions
    context: Any = None
    strict: bool | None = None

    def guard(
        self,
        matcher: Matcher,
        prefixes: Callable[[], TokenPrefixes],
        vocab_size: int,
        spell: Callable[[bytes], list[int]],
    ) -> FieldGuard:
        """A guard for one request, whose grammar `matcher` follows."""
        from .verdicts import Verdicts

        verdicts = Verdicts(FieldJudge(self.form.spec.name, self.context, self.strict))
        rewinder = Rewinder(self.form.check, verdicts, matcher, prefixes, vocab_size, self.rewind)
        return FieldGuard(rewinder, verdicts, spell)


class FieldGuard:
    """Stands between the tokens of one request and its finish. Belongs to its sink; used by the engine's thread.

    `bind` must be called before the first token.
    """

    def __init__(self, rewinder: Rewinder, verdicts: Verdicts, spell: Callable[[bytes], list[int]]) -> None:
        self.error: Exception | None = None
        """What was wrong with the last value when no rewind helped any more."""
        self.verdicts = verdicts
        self._rewinder = rewinder
        self._spell = spell
        self._again: list[int] = []
        self._pending = 0  # tokens of text put back that are still to come
        self._request: Request | None = None
        self._cut: Cutter
        self._drafter: Drafter | None = None
        self._sampling: RowSampling

    def bind(self, request: Request, cut: Cutter) -> None:
        """Names the request that is guarded, and what cuts it back; that may be named anew."""
        self._cut = cut
        if self._request is None:
            self._request = request
            self._drafter, self._sampling = request.drafter, request.sampling
            self.verdicts.bind(request.log)

    @property
    def rewinds(self) -> list[Rewind]:
        """The values that were decoded again."""
        return self._rewinder.rewinds

    @property
    def num_rewound(self) -> int:
        """Tokens that were decoded and thrown away."""
        return self._rewinder.num_rewound

    def take_again(self) -> list[int]:
        """The tokens to put back after a rewind, once."""
        again, self._again = self._again, []
        return again

    def token(self, sink: OutputSink, is_kept: bool = False) -> Verdict:
        """Judges what the last token closed, unless it `is_kept` text; a value that is not valid is gone afterwards."""
        self._pending = max(0, self._pending - 1)
        try:
            cut = self._rewinder.feed(sink.last_text.encode(), is_kept)
            if cut is None and not self._pending:
                cut = self._look_ahead(sink)
            if cut is None:
                self._tune(sink)
                return Verdict.FINE
            while cut is not None:
                self._carry_out(cut, sink)
                cut = None if self._pending else self._look_ahead(sink)
        except GivenUp as given_up:
            self.error = given_up.error
            return Verdict.GIVEN_UP
        except Exception as error:  # validators are the caller's code: it ends this answer, as it would at the end
            self.error = error
            return Verdict.GIVEN_UP
        self._tune(sink)
        return Verdict.REWOUND

    def _look_ahead(self, sink: OutputSink) -> Cut | None:
        """Forbids the tokens that lead where the value was before; a further cut if none is left."""
        sink.rows.forbidden = self._rewinder.forbidden()
        return self._rewinder.dead_end(sink.rows.forbidden)

    def _carry_out(self, cut: Cut, sink: OutputSink) -> None:
        sink.cut(cut.num_tokens)
        self._rewinder.cut(cut.num_tokens)
        request = self._request
        assert request is not None
        self._cut(request, cut.num_tokens, path=cut.path, banned=cut.value, attempt=self._rewinder.attempt)
        self._again = self._spell(cut.again)
        self._pending = len(self._again)

    def _tune(self, sink: OutputSink) -> None:
        """A value that is decoded again gets noise of its own, its own temperature, and no drafts."""
        request, retrying = self._request, self._rewinder.is_retrying
        assert request is not None
        request.attempt = self._rewinder.attempt
        request.drafter = None if retrying else self._drafter
        heat = self._rewinder.options.temperature
        if heat is not None and retrying:
            request.sampling = msgspec.structs.replace(self._sampling, temperature=float(heat))
        else:
            request.sampling = self._sampling
        if not retrying:
            sink.rows.forbidden = frozenset()
