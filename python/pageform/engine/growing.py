"""What a typed stream yields: partial objects or field events, over all attempts of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..forms.events import FieldRetracted
from ..structured.revocable import RevocablePartial
from .feed import Change, FeedOptions, Piece, Retraction
from .options import StreamOptions

if TYPE_CHECKING:
    from .ticket import Ticket
    from .typed import TypedCall


class TypedStream:
    """Makes what a driver yields of the changes that its tickets tell. `put` takes these, in the engine's thread.

    stream = TypedStream(call, options, put)
    while True:
        ticket = stream.next_ticket()
        …                                   # run it, and yield what `see` makes of each change, unless it is None
        if call.settle(ticket): …           # yield call.value, and end
        …                                   # yield what `restart` gives

    Slow validators are not called to build partials: the call's board knows what they said.
    """

    def __init__(self, call: TypedCall[Any], options: StreamOptions, put: Callable[[Change], None]) -> None:
        whole = options.partials == "fields"
        self.feed = FeedOptions(call.form, put, options.events, options.stable, whole)
        self._call, self._put = call, put
        self._prefix = b""
        self._builder: RevocablePartial | None = None

    def next_ticket(self) -> Ticket:
        """The request of the current attempt; it begins with what has been told and will not be taken back."""
        return self._call.next_ticket(self.feed, self._prefix, self._put)

    def see(self, change: Change) -> Any | None:
        """The partial value, if there is something new to see; or the field event, or some more of the thoughts."""
        if not isinstance(change, (Piece, Retraction)):
            return change
        if self._builder is None:
            self._builder = RevocablePartial(self._call.spec, context=self._call.context, strict=self._call.strict)
        if isinstance(change, Retraction):
            return self._builder.retract(*change)
        with self._call.board.answering(run=False):
            partial = self._builder.take(change.data, change.events)
        return partial if change.closes or not self.feed.whole else None

    def restart(self, ticket: Ticket) -> list[Any]:
        """An attempt was not valid, another begins. What there is to say about it."""
        told = self.feed.told
        if self.feed.stable:
            self._prefix = ticket.future.result().text.encode()[:told]
            return []
        self.feed.told, self._builder = 0, None
        return [FieldRetracted((), (0, told))] if self.feed.events and told else []
