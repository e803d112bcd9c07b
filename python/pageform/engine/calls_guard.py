"""Follows the arguments of tool calls: each call's values are judged as they close, as those of a form are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.completion import Rewind
from ..forms.rewind import FieldJudge, Rewinder, RewindOptions
from ..forms.tracker import FieldTracker
from .guard import FieldGuard
from .verdicts import Verdicts

if TYPE_CHECKING:
    from ..core.request import Request
    from ..forms.checks import Check
    from ..forms.matcher import Matcher
    from ..forms.segmenter import Segmenter
    from ..forms.verdicts import Board
    from .control import RequestControl
    from .prepare import Preparer
    from .sink import OutputSink


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What is followed: the arguments of the tools of these names; see `GuardOptions`."""

    checks: Mapping[str, Check]
    rewind: RewindOptions
    board: Board
    context: Any = None
    strict: bool | None = None

    def follower(self, matcher: Matcher | None, preparer: Preparer) -> CallFollower:
        """A follower for one request, whose grammar `matcher` follows."""
        assert matcher is not None
        return CallFollower(self, matcher, preparer)


class CallFollower:
    """Gives each call of an answer a tracker and a guard of its own. Belongs to its sink."""

    def __init__(self, options: CallOptions, matcher: Matcher, preparer: Preparer) -> None:
        self.verdicts = Verdicts(FieldJudge("arguments", options.board, options.context, options.strict))
        self._options, self._matcher, self._preparer = options, matcher, preparer
        self._tracker: FieldTracker | None = None
        self._guards: list[FieldGuard] = []
        self._bound: tuple[Request, OutputSink, RequestControl]

    def bind(self, request: Request, sink: OutputSink, control: RequestControl) -> None:
        """See `FieldGuard.bind`."""
        self._bound = request, sink, control
        for guard in self._guards[-1:]:
            guard.bind(*self._bound)

    @property
    def rewinds(self) -> list[Rewind]:
        """The values that were decoded again."""
        return [one for guard in self._guards for one in guard.rewinds]

    def follow(self, segmenter: Segmenter) -> tuple[FieldTracker | None, FieldGuard | None]:
        """A token has come: who follows the call that it belongs to."""
        if len(segmenter.calls) > len(self._guards):
            options, preparer = self._options, self._preparer
            self._tracker = FieldTracker(options.checks[segmenter.calls[-1].name])
            self._tracker.skip(len(segmenter) - 1)
            vocab_size = preparer.limits.vocab_size
            rewinder = Rewinder(
                self.verdicts, self._tracker, self._matcher, preparer.prefixes, vocab_size, options.rewind, True
            )
            self._guards.append(FieldGuard(rewinder, self.verdicts, preparer.spell))
            self._guards[-1].bind(*self._bound)
        return self._tracker, self._guards[-1] if self._guards else None
