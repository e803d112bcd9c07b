"""The engine's thread: takes requests from callers, runs steps while there is work, sleeps when there is none."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..core.errors import EngineClosedError, ParameterError, RequestSuspended
from ..core.states import RequestState
from .control import EngineControl
from .core import EngineCore
from .sink import OutputSink
from .ticket import Ticket


class EngineLoop:
    """Runs an `EngineCore` in one thread. Everything else talks to the core through `submit`, `abort` and `call`.

    Commands are carried out between steps in the order they were given, so an abort frees its blocks before the next
    step is planned.
    """

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._tickets: set[Ticket] = set()  # unfinished ones, so that none is left waiting
        self._thread = threading.Thread(target=self._main, name="pageform-engine", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Queues a ticket's requests. A refusal (CapacityError) arrives in its future. Raises EngineClosedError."""

        control = EngineControl(self._core.scheduler, self._core.clock, self._post)

        def add() -> None:
            self._tickets.add(ticket)
            ticket.future.add_done_callback(lambda _: self._tickets.discard(ticket))
            for request in ticket.requests:
                if isinstance(request.sink, OutputSink):
                    request.sink.start(request, control)
            scheduler, open_ = self._core.scheduler, [one for one in ticket.requests if not one.is_finished]
            if not open_:  # it had ended, and what was still to be found out about it is under way
                return
            try:
                if open_[0].state is RequestState.PREEMPTED:  # it ran in another engine
                    scheduler.readmit(open_)
                else:
                    scheduler.add(open_[0], self._core.clock())
            except Exception as error:
                ticket.fail(error)

        self._command(add)

    def abort(self, request_id: str) -> None:
        """Ends a request with reason `abort`, with what it had decoded. Unknown or finished ids do nothing."""

        def end() -> None:
            self._core.scheduler.abort(request_id, self._core.clock())

        self._command(end)

    def suspend(self, request_id: str, save: Callable[[Ticket], bytes]) -> bytes:
        """Stops a request where it stands; its caller gets RequestSuspended with what `save` made of its ticket.

        Raises ParameterError for an unknown or finished id, and what `save` raises; then the request goes on.
        """

        def stop() -> bytes:
            ticket = next((one for one in self._tickets if one.request_id == request_id), None)
            if ticket is None or ticket.future.done():
                raise ParameterError("request_id", request_id, "is not running", "Name a request that is.")
            data = save(ticket)
            ticket.fail(RequestSuspended(request_id, data))  # first, so that nobody hears of the rest
            self._core.scheduler.abort(request_id, self._core.clock(), detail="suspended")
            return data

        data: bytes = self.call(stop)
        return data

    @property
    def request_ids(self) -> list[str]:
        """The ids of unfinished requests; only the engine's thread knows them for certain."""
        return [ticket.request_id for ticket in list(self._tickets)]

    def call(self, function: Callable[[], Any]) -> Any:
        """Runs `function` between steps in the engine's thread and returns its result."""
        done = threading.Event()
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((True, function()))
            except Exception as error:
                outcome.append((False, error))
            done.set()

        self._command(run)
        while not done.wait(1.0):
            if not self._thread.is_alive():
                raise EngineClosedError("the engine was closed meanwhile")
        succeeded, value = outcome[0]
        if not succeeded:
            raise value
        return value

    def close(self) -> None:
        """Aborts what is running, ends the thread and closes the core. Idempotent."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _post(self, command: Callable[[], None]) -> None:
        with contextlib.suppress(EngineClosedError):
            self._command(command)

    def _command(self, command: Callable[[], None]) -> None:
        with self._wake:
            if self._closing:
                raise EngineClosedError("the engine is closed; make a new one")
            self._commands.append(command)
            self._wake.notify_all()

    def _main(self) -> None:
        error: BaseException = EngineClosedError("the engine was closed before the request finished")
        try:
            busy = False
            while True:
                with self._wake:
                    if not busy and not self._commands and not self._closing:
                        self._wake.wait(self._idle_seconds())
                    if self._closing:
                        break
                    commands, self._commands = self._commands, deque()
                for command in commands:
                    command()
                busy = self._core.step()
        except BaseException as fault:  # a defect: nobody may be left waiting for ever
            error = fault
            raise
        finally:
            with self._wake:
                self._closing = True
            for command in self._commands:
                command()
            for ticket in list(self._tickets):
                ticket.fail(error)
            self._core.close()

    def _idle_seconds(self) -> float | None:
        """How long to sleep with nothing to run: for ever, or until the next deadline of a waiting request."""
        deadline = self._core.scheduler.next_deadline
        return None if deadline is None else max(0.0, deadline - self._core.clock())
