"""Programs that make the attempts of the retry loop over a provider's wire: whole answers, and answers as they grow.

Each drives one `loop.retry` generator to its end and returns its `Outcome`. What the wire raises is thrown into the loop,
which tells the hooks, and comes out unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from ..core.completion import FinishReason
from .answer import Answer, Assembler, Delta
from .drive import END, Do, Effect, Program, Pull, Show, Wait
from .errors import IncompleteOutput
from .loop import Ask, Outcome

T = TypeVar("T")
P = TypeVar("P")
Loop = Generator[Ask[P], Answer, Outcome[T]]


@dataclass(frozen=True, slots=True)
class Wire(Generic[P]):
    """How a payload is sent and what comes back is read. In async, `send`, `open` and `close` may give awaitables.

    `open` gives the events of a stream, an iterator (async: an async one), and `close` ends them early. `was_cut` tells
    whether an exception means that the connection broke off, rather than that the provider refused.
    """

    send: Callable[[P], Any]
    open: Callable[[P], Any]
    close: Callable[[Any], Any]
    read: Callable[[Any], Answer]
    read_deltas: Callable[[Any], Sequence[Delta]]
    was_cut: Callable[[Exception], bool]


class Watcher(Protocol):
    """Sees one attempt's stream grow."""

    def take(self, delta: Delta, call: int | None) -> Iterable[Any]:
        """What there is to show after the next delta, which belongs to that tool call."""

    @property
    def gave_up(self) -> bool:
        """Whether no further delta is wanted, since the answer is known to be wrong."""


def whole(loop: Loop[P, T], wire: Wire[P]) -> Program[Outcome[T]]:
    """Answers that come as a whole."""
    ask = next(loop)
    while True:
        yield from _pause(ask)
        try:
            response = yield Do(lambda payload=ask.payload: wire.send(payload))  # type: ignore[misc]
            answer = wire.read(response)
        except Exception as error:
            loop.throw(error)
            raise
        try:
            ask = loop.send(answer)
        except StopIteration as stop:
            return _outcome(stop)


def growing(
    loop: Loop[P, T], wire: Wire[P], watch: Callable[[int], Watcher], last: Callable[[T], Iterable[Any]]
) -> Program[Outcome[T]]:
    """Answers that stream, with whatever the watchers show of each attempt. `watch` makes the watcher of the attempt of
    that number; `last` gives what remains to be shown of the validated value."""
    ask = next(loop)
    while True:
        yield from _pause(ask)
        cut: list[Exception] = []
        answer = yield from _stream(loop, wire, ask, watch(ask.number), cut)
        try:
            ask = loop.send(answer)
        except StopIteration as stop:
            outcome: Outcome[T] = _outcome(stop)
            for value in last(outcome.value):
                yield Show(value)
            return outcome
        except IncompleteOutput as error:
            raise error from (cut[0] if cut else error.__cause__)


def _stream(
    loop: Loop[P, T], wire: Wire[P], ask: Ask[P], watcher: Watcher, cut: list[Exception]
) -> Generator[Effect, Any, Answer]:
    """The answer of one attempt; while it grows, what the watcher shows is shown. `cut` gets what broke it off."""
    assembler, begun = Assembler(), False
    try:
        events = yield Do(lambda: wire.open(ask.payload))
    except Exception as error:
        loop.throw(error)
        raise
    try:
        while not watcher.gave_up:
            try:
                event = yield Pull(events)
                deltas = () if event is END else wire.read_deltas(event)
            except Exception as error:
                if not begun or not wire.was_cut(error):
                    loop.throw(error)
                    raise
                cut.append(error)
                break
            if event is END:
                break
            for delta in deltas:
                begun = True
                for value in watcher.take(delta, assembler.add(delta)):
                    yield Show(value)
    finally:
        yield Do(lambda: wire.close(events))
    answer = assembler.answer()
    if watcher.gave_up and not assembler.finished:  # broken off by us, to be judged all the same
        return replace(answer, finish_reason=FinishReason.STOP)
    return answer


def _pause(ask: Ask[P]) -> Generator[Effect, Any, None]:
    if ask.delay > 0:
        yield Wait(ask.delay)


def _outcome(stop: StopIteration) -> Outcome[T]:
    outcome: Outcome[T] = stop.value
    return outcome
