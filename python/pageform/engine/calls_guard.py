"""Guards the arguments of tool calls: each call's values are judged as they close, as those of a form are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.completion import Rewind
from ..forms.rewind import FieldJudge, Rewinder, RewindOptions
from .guard import Cutter, FieldGuard, Verdict

if TYPE_CHECKING:
    from ..core.request import Request
    from ..forms.bans import TokenPrefixes
    from ..forms.checks import Check
    from ..forms.matcher import Matcher
    from .sink import OutputSink
    from .verdicts import Verdicts

Spell = Callable[[bytes], list[int]]


@dataclass(frozen=True, slots=True)
class CallsGuardOptions:
    """What is guarded: the arguments of the tools of these names; see `GuardOptions`."""

    checks: Mapping[str, Check]
    rewind: RewindOptions
    context: Any = None
    strict: bool | None = None

    def guard(
        self, matcher: Matcher, prefixes: Callable[[], TokenPrefixes], vocab_size: int, spell: Spell
    ) -> CallsGuard:
        """A guard for one request, whose grammar `matcher` follows."""
        from .verdicts import Verdicts

        verdicts = Verdicts(FieldJudge("arguments", self.context, self.strict))

        def rewinder(name: str) -> Rewinder:
            return Rewinder(self.checks[name], verdicts, matcher, prefixes, vocab_size, self.rewind)

        return CallsGuard(rewinder, verdicts, spell)


class CallsGuard:
    """Has the interface of `FieldGuard`: one of those for each call, of which the last is at work."""

    def __init__(self, rewinder: Callable[[str], Rewinder], verdicts: Verdicts, spell: Spell) -> None:
        self.verdicts = verdicts
        self._rewinder, self._spell = rewinder, spell
        self._guards: list[FieldGuard] = []
        self._request: Request
        self._cut: Cutter

    def bind(self, request: Request, cut: Cutter) -> None:
        """See `FieldGuard.bind`."""
        self._request, self._cut = request, cut
        self.verdicts.bind(request.log)
        for guard in self._guards:
            guard.bind(request, cut)

    @property
    def error(self) -> Exception | None:
        """What was wrong with the last value when no rewind helped any more."""
        return self._guards[-1].error if self._guards else None

    @property
    def rewinds(self) -> list[Rewind]:
        """The values that were decoded again."""
        return [one for guard in self._guards for one in guard.rewinds]

    @property
    def num_rewound(self) -> int:
        """Tokens that were decoded and thrown away."""
        return sum(guard.num_rewound for guard in self._guards)

    def take_again(self) -> list[int]:
        """See `FieldGuard.take_again`."""
        return self._guards[-1].take_again() if self._guards else []

    def token(self, sink: OutputSink, is_kept: bool = False) -> Verdict:
        """See `FieldGuard.token`."""
        assert sink.segmenter is not None
        if len(sink.segmenter.calls) > len(self._guards):
            rewinder = self._rewinder(sink.segmenter.calls[-1].name)
            rewinder.skip(len(sink.segmenter) - 1)
            self._guards.append(FieldGuard(rewinder, self.verdicts, self._spell))
            self._guards[-1].bind(self._request, self._cut)
        return self._guards[-1].token(sink, is_kept) if self._guards else Verdict.FINE
