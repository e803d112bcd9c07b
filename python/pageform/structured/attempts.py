"""Programs that make the attempts of the retry loop over a transport: whole answers, and answers as they grow.

Each drives one `loop.retry` generator to its end and returns its `Outcome`. What the transport raises is thrown into
the loop, which tells the hooks, and comes out unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from .answer import Answer, Assembler, Delta
from .drive import END, Do, Effect, Program, Pull, Show, Wait
from .errors import IncompleteOutput
from .loop import Ask, Outcome

T = TypeVar("T")
P = TypeVar("P")
Loop = Generator[Ask[P], Answer, Outcome[T]]


@dataclass(frozen=True, slots=True)
class Transport(Generic[P]):
    """How a payload is sent and what comes back is read. In async, `send`, `open`, `close` and `settle` may give
    awaitables.

    `open` gives the events of a stream, an iterator (async: an async one), and `close` ends them early. `was_cut` tells
    whether an exception means that the connection broke off, rather than that the provider refused; `told` gives the
    one to raise for it. `settle` is called after each step of the loop.
    """

    send: Callable[[P], Any]
    open: Callable[[P], Any]
    close: Callable[[Any], Any]
    read: Callable[[Any], Answer]
    read_deltas: Callable[[Any], Sequence[Delta]]
    was_cut: Callable[[Exception], bool]
    told: Callable[[Exception], Exception]
    settle: Callable[[], Any] | None = None


class Watcher(Protocol):
    """Sees one attempt's stream grow."""

    def take(self, delta: Delta, call: int | None) -> Iterable[Any]:
        """What there is to show after the next delta, which belongs to that tool call."""

    @property
    def gave_up(self) -> bool:
        """Whether no further delta is wanted, since the answer is known to be wrong."""


def whole(loop: Loop[P, T], transport: Transport[P]) -> Program[Outcome[T]]:
    """Answers that come as a whole."""
    with closing(loop):
        return (yield from _attempts(loop, transport, partial(_sent, loop, transport)))


def growing(
    loop: Loop[P, T],
    transport: Transport[P],
    watch: Callable[[int], Watcher],
    rest: Callable[[T], Iterable[Any]],
    patient: bool = False,
) -> Program[Outcome[T]]:
    """Answers that stream, with whatever the watchers show of each attempt. `watch` makes the watcher of the attempt of
    that number; `rest` gives what remains to be shown of the validated value. `patient`: streams are read to their end
    also when a watcher gave up, since their usage comes last."""

    def streamed(ask: Ask[P]) -> Generator[Effect, Any, Answer]:
        return _streamed(loop, transport, ask, watch(ask.number), patient, cuts)

    cuts: list[Exception] = []
    with closing(loop):
        try:
            outcome = yield from _attempts(loop, transport, streamed)
        except IncompleteOutput as error:
            raise error from (cuts[-1] if cuts else error.__cause__)
        for value in rest(outcome.value):
            yield Show(value)
        return outcome


def _attempts(
    loop: Loop[P, T], transport: Transport[P], answer: Callable[[Ask[P]], Generator[Effect, Any, Answer]]
) -> Program[Outcome[T]]:
    """Drives the loop with the answers that `answer` gets."""
    ask = next(loop)
    try:
        while True:
            yield from _settled(transport)
            if ask.delay > 0:
                yield Wait(ask.delay)
            ask = loop.send((yield from answer(ask)))
    except StopIteration as stop:
        yield from _settled(transport)
        outcome: Outcome[T] = stop.value
        return outcome
    except Exception:
        yield from _settled(transport)
        raise


def _sent(loop: Loop[P, T], transport: Transport[P], ask: Ask[P]) -> Generator[Effect, Any, Answer]:
    """The answer of one attempt, as a whole."""
    try:
        response = yield Do(partial(transport.send, ask.payload))
        return transport.read(response)
    except Exception as error:
        _fail(loop, transport, error)


def _streamed(
    loop: Loop[P, T], transport: Transport[P], ask: Ask[P], watcher: Watcher, patient: bool, cuts: list[Exception]
) -> Generator[Effect, Any, Answer]:
    """The answer of one attempt; while it grows, what the watcher shows is shown. `cuts` gets what broke it off."""
    assembler, begun = Assembler(), False
    try:
        events = yield Do(partial(transport.open, ask.payload))
    except Exception as error:
        _fail(loop, transport, error)
    try:
        while patient or not watcher.gave_up:
            try:
                event = yield Pull(events)
                deltas = () if event is END else transport.read_deltas(event)
            except Exception as error:
                if begun and transport.was_cut(error):
                    cuts.append(error)
                    break
                _fail(loop, transport, error)
            if event is END:
                break
            for delta in deltas:
                begun = True
                for value in watcher.take(delta, assembler.add(delta)):
                    yield Show(value)
    finally:
        yield Do(partial(transport.close, events))
    return assembler.answer()


def _fail(loop: Loop[P, T], transport: Transport[P], error: Exception) -> NoReturn:
    """Ends the loop because no answer came."""
    told = transport.told(error)
    if told is not error:
        told.__cause__ = error
    loop.throw(told)
    raise told


def _settled(transport: Transport[P]) -> Generator[Effect, Any, None]:
    if transport.settle is not None:
        yield Do(transport.settle)
