"""Carries out what a `Rewinder` decides about a request: output, cache, grammar and noise go back together.

Verdicts of slow validators come between steps. A request that goes on decoding hears of a late failure with its next
token; one whose tokens are decoded, or may not be followed by others yet, is VALIDATING until they have come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.completion import FinishReason, Rewind
from ..core.log import VerdictEntry
from ..core.states import RequestState
from ..forms.rewind import Cut, FieldJudge, GivenUp, Rewinder, RewindOptions

if TYPE_CHECKING:
    from ..core.drafts import Drafter
    from ..core.plan import RowSampling
    from ..core.request import Request
    from ..forms.bans import TokenPrefixes
    from ..forms.form import Form
    from ..forms.matcher import Matcher
    from ..forms.tracker import Closed, FieldTracker
    from ..forms.verdicts import Board
    from .control import RequestControl
    from .sink import OutputSink


class Verdict(Enum):
    """What became of the values that a token closed."""

    FINE = "fine"
    REWOUND = "rewound"
    WAITING = "waiting"
    """The request is held until verdicts have come."""
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What is guarded: the values of `form`, validated under `context` and `strict`; see `RewindOptions`. Slow
    validators run on `board`. With `mends=False` they are all that is done."""

    form: Form[Any]
    rewind: RewindOptions
    board: Board
    context: Any = None
    strict: bool | None = None
    mends: bool = True

    def rewinder(
        self, tracker: FieldTracker, matcher: Matcher, prefixes: Callable[[], TokenPrefixes], vocab_size: int
    ) -> Rewinder:
        """A rewinder for one request, whose answer `tracker` and whose grammar `matcher` follows."""
        judge = FieldJudge(self.form.check, self.form.spec.name, self.board, self.context, self.strict)
        return Rewinder(judge, tracker, matcher, prefixes, vocab_size, self.rewind, self.mends)


class FieldGuard:
    """Stands between the tokens of one request and its finish. Belongs to its sink; used by the engine's thread.

    `bind` must be called before the first token.
    """

    def __init__(self, rewinder: Rewinder, spell: Callable[[bytes], list[int]]) -> None:
        self.error: Exception | None = None
        """What was wrong with the last value when no rewind helped any more."""
        self.rewinder = rewinder
        self._spell = spell
        self._again: list[int] = []
        self._pending = 0  # tokens of text put back that are still to come
        self._ends = False  # the answer is complete and awaits verdicts
        self._request: Request
        self._sink: OutputSink
        self._control: RequestControl
        self._drafter: Drafter | None = None
        self._sampling: RowSampling

    def bind(self, request: Request, sink: OutputSink, control: RequestControl) -> None:
        """Names the request that is guarded, its sink, and what may be done with it."""
        self._request, self._sink, self._control = request, sink, control
        self._drafter, self._sampling = request.drafter, request.sampling
        self.rewinder.num_rewound = lambda: request.num_rewound
        self.rewinder.board.wake = lambda: control.post(self._wake)

    @property
    def rewinds(self) -> list[Rewind]:
        """The values that were decoded again."""
        return self.rewinder.rewinds

    def take_again(self) -> list[int]:
        """The tokens to put back after a rewind, once."""
        again, self._again = self._again, []
        return again

    def token(self, closed: Sequence[Closed], is_kept: bool, ends: bool) -> Verdict:
        """Judges what the last token `closed`, unless it `is_kept` text; a value that is not valid is gone afterwards.

        `ends`: the answer is complete with it.
        """
        is_again = self._pending > 0
        self._pending = max(0, self._pending - 1)
        try:
            self._settle()
            cut = self.rewinder.late_cut() or self.rewinder.see(closed, is_kept or is_again)
            if cut is None and not self._pending and not ends:
                cut = self._look_ahead()
            if cut is not None:
                self._carry_out(cut)
                return Verdict.REWOUND
            if ends:
                self.rewinder.end()
        except Exception as error:
            return self._give_up(error)
        self._tune()
        if self.rewinder.must_wait or (ends and self.rewinder.awaited is not None):
            self._ends = ends
            self._control.hold(self._request)
            return Verdict.WAITING
        return Verdict.FINE

    def release(self) -> None:
        """The request has ended: nobody waits for verdicts any more."""
        self.rewinder.board.wake = lambda: None
        self.rewinder.board.cancel()

    def _wake(self) -> None:
        """A slow validator is done. Called between steps."""
        request = self._request
        if request.is_finished:
            return
        reason = FinishReason.STOP if self._ends else None
        try:
            self._settle()
            if request.state is not RequestState.VALIDATING:
                self._sink.tell()
                return  # a late failure is dealt with at the next token, which may be under way
            cut = self.rewinder.late_cut()
            if cut is None and self.rewinder.awaited is not None and (self._ends or self.rewinder.must_wait):
                self._sink.tell()
                return
            if cut is None and not self._ends:
                cut = self._look_ahead()
            if cut is not None:
                self._carry_out(cut)
                reason = None
        except Exception as error:
            self._give_up(error)
            reason = FinishReason.VALIDATION
        self._ends = False
        self._sink.tell()
        self._control.resume(request, reason)

    def _give_up(self, error: Exception) -> Verdict:
        """No rewind helps, or a validator raised what is no verdict: it ends this answer, as it would at the end."""
        self.error = error.error if isinstance(error, GivenUp) else error
        return Verdict.GIVEN_UP

    def _settle(self) -> None:
        for path in self.rewinder.settle():
            self._request.log.append(VerdictEntry(path, True))

    def _look_ahead(self) -> Cut | None:
        """Forbids the tokens that lead where the value was before; a further cut if none is left."""
        self._sink.rows.forbidden = self.rewinder.forbidden()
        return self.rewinder.dead_end(self._sink.rows.forbidden)

    def _carry_out(self, cut: Cut) -> None:
        """Cuts back, and further where nothing is left that may follow."""
        following: Cut | None = cut
        while following is not None:
            self._cut_back(following)
            following = None if self._pending else self._look_ahead()
        self._tune()

    def _cut_back(self, cut: Cut) -> None:
        self._sink.cut(cut.num_tokens, cut.size)
        request = self._request
        if cut.failed is not None:
            request.log.append(VerdictEntry(cut.failed, False))
        attempt = self.rewinder.attempt
        self._control.rewind(request, cut.num_tokens, path=cut.path, banned=cut.value, attempt=attempt)
        self._again = self._spell(cut.again)
        self._pending = len(self._again)

    def _tune(self) -> None:
        """A value that is decoded again gets noise of its own, its own temperature, and no drafts."""
        request, retrying = self._request, self.rewinder.is_retrying
        request.attempt = self.rewinder.attempt
        request.drafter = None if retrying else self._drafter
        heat = self.rewinder.options.temperature
        if heat is not None and retrying:
            request.sampling = msgspec.structs.replace(self._sampling, temperature=float(heat))
        else:
            request.sampling = self._sampling
        if not retrying:
            self._sink.rows.forbidden = frozenset()
