"""Carries out what a `Rewinder` decides about a request: output, cache, grammar and noise go back together.

Verdicts of slow validators come between steps. A request that goes on decoding hears of a late failure with its next
token; one whose tokens are decoded, or may not be followed by others yet, is VALIDATING until they have come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.completion import FinishReason, Rewind
from ..core.log import AwaitEntry, LogEntry, TokenEntry, TokenOrigin
from ..core.states import RequestState
from ..forms.rewind import Cut, FieldJudge, GivenUp, Rewinder, RewindOptions
from ..structured.diagnose import path as written
from .control import Verdict

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
    from .verdicts import Verdicts


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

    def guard(
        self,
        tracker: FieldTracker,
        matcher: Matcher,
        prefixes: Callable[[], TokenPrefixes],
        vocab_size: int,
        spell: Callable[[bytes], list[int]],
    ) -> FieldGuard:
        """A guard for one request, whose answer `tracker` and whose grammar `matcher` follows."""
        from .verdicts import Verdicts

        verdicts = Verdicts(FieldJudge(self.form.spec.name, self.board, self.context, self.strict))
        rewinder = Rewinder(verdicts, tracker, matcher, prefixes, vocab_size, self.rewind, self.mends)
        return FieldGuard(rewinder, verdicts, spell)


class FieldGuard:
    """Stands between the tokens of one request and its finish. Belongs to its sink; used by the engine's thread.

    `bind` must be called before the first token.
    """

    def __init__(self, rewinder: Rewinder, verdicts: Verdicts, spell: Callable[[bytes], list[int]]) -> None:
        self.error: Exception | None = None
        """What was wrong with the last value when no rewind helped any more."""
        self.rewinder, self.verdicts = rewinder, verdicts
        self._spell = spell
        self._again: list[int] = []
        self._pending = 0  # tokens of text put back that are still to come
        self._ends = False  # the answer is complete and awaits verdicts
        self._request: Request | None = None
        self._sink: OutputSink
        self._control: RequestControl
        self._drafter: Drafter | None = None
        self._sampling: RowSampling

    def bind(self, request: Request, sink: OutputSink, control: RequestControl) -> None:
        """Names the request that is guarded, its sink, and what may be done with it; that may be named anew."""
        self._control = control
        self.verdicts.judge.board.wake = lambda: control.post(self._wake)
        if self._request is not None:  # it was replayed
            self.rewinder.restart()
        else:
            self._request, self._sink = request, sink
            self._drafter, self._sampling = request.drafter, request.sampling
            self.verdicts.bind(request.log)
            self.rewinder.num_rewound = lambda: request.num_rewound

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
        self._ends = ends
        try:
            self.rewinder.settle()
            cut = self.rewinder.late_cut() or self.rewinder.see(closed, is_kept or is_again)
            if cut is None and not self._pending and not ends:
                cut = self._look_ahead()
            if cut is None and ends:
                self.rewinder.end()
            if cut is None and self._waits and self.verdicts.recorded is not None:
                cut = self._go_on()  # what was waited for follows in the record
            if cut is not None:
                self._carry_out(cut)
                return Verdict.REWOUND
        except Exception as error:
            return self._give_up(error)
        self._tune()
        if self._waits:
            assert self._request is not None
            self._control.hold(self._request)
            return Verdict.WAITING
        return Verdict.FINE

    def settled_log(self) -> Sequence[LogEntry]:
        """The log up to the token that closed the first value whose verdict has not come. What follows comes about
        again, so that nothing is saved that is held. Values before it may await verdicts there that have come since."""
        assert self._request is not None
        entries: Sequence[LogEntry] = self._request.log.entries
        awaited = self.rewinder.awaited
        if awaited is None or self._request.is_finished:
            return entries
        at = len(entries) - 1
        while entries[at] != AwaitEntry(written(awaited.path)):
            at -= 1
        while not isinstance(one := entries[at], TokenEntry) or (one.row is None and one.origin is TokenOrigin.FORCED):
            at -= 1
        return entries[:at]

    def release(self) -> None:
        """The request has ended: nobody waits for verdicts any more."""
        self.verdicts.judge.board.wake = lambda: None
        self.verdicts.judge.board.cancel()

    @property
    def _waits(self) -> bool:
        """Whether what is to be done depends on verdicts that have not come."""
        return self.rewinder.must_wait or (self._ends and self.rewinder.awaited is not None)

    def _go_on(self) -> Cut | None:
        """Some verdicts have come. A `Cut`, if that is what they mean."""
        self.rewinder.settle()
        cut = self.rewinder.late_cut()
        return cut if cut is not None or self._waits or self._ends else self._look_ahead()

    def _wake(self) -> None:
        """A slow validator is done. Called between steps. A request that is not held hears of it at its next token."""
        request = self._request
        if request is None or request.state is not RequestState.VALIDATING:
            return
        reason = FinishReason.STOP if self._ends else None
        try:
            cut = self._go_on()
            if cut is not None:
                self._carry_out(cut)
                reason = None
            elif self._waits:
                self._sink.tell()
                return
        except Exception as error:
            self._give_up(error)
            reason = FinishReason.VALIDATION
        self._sink.tell()
        self._control.resume(request, reason)

    def _give_up(self, error: Exception) -> Verdict:
        """No rewind helps, or a validator raised what is no verdict: it ends this answer, as it would at the end."""
        self.error = error.error if isinstance(error, GivenUp) else error
        return Verdict.GIVEN_UP

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
        again = self._sink.lead(cut.num_tokens) + cut.again
        self._sink.cut(cut.num_tokens, cut.size)
        request, attempt = self._request, self.rewinder.attempt
        assert request is not None
        self._control.rewind(request, cut.num_tokens, path=cut.path, banned=cut.value, attempt=attempt)
        self._again = self._spell(again)
        self._pending = len(self._again)

    def _tune(self) -> None:
        """A value that is decoded again gets noise of its own, its own temperature, and no drafts."""
        request, retrying = self._request, self.rewinder.is_retrying
        assert request is not None
        request.attempt = self.rewinder.attempt
        request.drafter = None if retrying else self._drafter
        heat = self.rewinder.options.temperature
        if heat is not None and retrying:
            request.sampling = msgspec.structs.replace(self._sampling, temperature=float(heat))
        else:
            request.sampling = self._sampling
        if not retrying:
            self._sink.rows.forbidden = frozenset()
