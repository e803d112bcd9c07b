"""An engine without a thread: whoever holds it makes its steps, so that a test can stop between any two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pageform import Engine
from pageform.engine.build import build
from pageform.engine.config import EngineConfig
from pageform.engine.core import EngineCore
from pageform.engine.loop import EngineLoop
from pageform.engine.ticket import Ticket
from pageform.engine.typed import TypedCall


class InlineLoop(EngineLoop):
    """Carries out each command where it is given."""

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._tickets: set[Ticket] = set()

    def call(self, function: Callable[[], Any]) -> Any:
        return function()

    def close(self) -> None:
        self._core.close()

    def _command(self, command: Callable[[], None]) -> None:
        command()


class SteppedEngine(Engine):
    """`step` runs one step, `finish` as many as a ticket needs."""

    def __init__(self, model: str | Path, clock: Callable[[], float] = time.monotonic, **parameters: Any) -> None:
        self.config = EngineConfig.make(model, **{"check_invariants": True, **parameters})
        self._parts = build(self.config)
        self._parts.core.clock = clock
        self._loop = InlineLoop(self._parts.core)
        self._parts.preparer.submit = self._loop.submit

    def step(self) -> bool:
        return self._parts.core.step()

    def finish(self, ticket: Ticket) -> None:
        while not ticket.future.done():
            assert self.step() or ticket.future.done(), "the request waits, and nothing can be computed"

    def answer(self, call: TypedCall[Any], ticket: Ticket, limit: int | None = None) -> Ticket | None:
        """Runs a typed call to its end, or for at most `limit` steps: then its unfinished ticket is returned."""
        while True:
            while not ticket.future.done():
                if limit is not None:
                    if limit == 0:
                        return ticket
                    limit -= 1
                assert self.step()
            if call.settle(ticket):
                return None
            ticket = call.next_ticket()
            self.submit(ticket)
