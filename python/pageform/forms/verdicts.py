"""Slow validators beside decoding: which of them run, and what they found.

Validation of a value never waits. It asks a `Board` what a slow validator says of a value; where nobody knows yet, the
validator is started, and the value counts as valid until it has answered.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, cast

from pydantic import ValidationInfo

from ..structured.slow import SlowValidator, answered_by

AT_ONCE = 8
"""Slow validators of one answer that run at the same time. Each answer has threads of its own, so that one whose
validators hang holds up nobody else's."""


class Job:
    """One call of a slow validator. `error` is what it raised."""

    __slots__ = ("error", "is_done", "result")

    def __init__(self) -> None:
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def outcome(self) -> Any:
        """The result, once it is done. Raises what the validator raised."""
        if self.error is not None:
            raise self.error
        return self.result


class Board:
    """The slow validators of one typed call, whose attempts share what is known.

    `loop` gives the event loop that coroutines run in. `wake` is called, in any thread, whenever a job is done.
    Only the engine's thread asks; any thread may look up.
    """

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._loop = loop
        self._jobs: dict[Any, Job] = {}
        self._running: dict[Job, Future[Any]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._turn: asyncio.Semaphore | None = None

    @contextmanager
    def asking(self) -> Iterator[list[Job]]:
        """Validation inside starts what is not known; the list gets the jobs that it has to be repeated after."""
        waiting: list[Job] = []

        def answer(validator: SlowValidator, value: Any, info: ValidationInfo[Any] | None) -> Any:
            key = _key(validator, value, info)
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = Job()
                self._start(job, validator, value, info)
            if job.is_done:
                return job.outcome()
            waiting.append(job)
            return None

        with answered_by(answer):
            yield waiting

    @contextmanager
    def answering(self, run: bool = True) -> Iterator[None]:
        """Validation inside uses what is known. What isn't known is called and waited for, or not called at all."""

        def answer(validator: SlowValidator, value: Any, info: ValidationInfo[Any] | None) -> Any:
            job = self._jobs.get(_key(validator, value, info))
            if job is not None and job.is_done:
                return job.outcome()
            return validator.run(value, info) if run else None

        with answered_by(answer):
            yield

    def cancel(self) -> None:
        """Forgets what is not done. Coroutines are cancelled; a function that runs already ends by itself, unheard."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        running, self._running = self._running, {}
        for future in running.values():
            future.cancel()
        self._jobs = {key: job for key, job in self._jobs.items() if job.is_done}

    def _start(self, job: Job, validator: SlowValidator, value: Any, info: ValidationInfo[Any] | None) -> None:
        try:
            if inspect.iscoroutinefunction(validator.function):
                future = asyncio.run_coroutine_threadsafe(self._awaited(validator.call(value, info)), self._loop())
            else:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pageform-validator")
                future = self._threads.submit(validator.run, value, info)
        except Exception as error:  # no thread, or a loop that is closed
            job.error, job.is_done = error, True
            return
        self._running[job] = future
        future.add_done_callback(lambda done: self._done(job, done))

    async def _awaited(self, coroutine: Any) -> Any:
        if self._turn is None:
            self._turn = asyncio.Semaphore(AT_ONCE)
        async with self._turn:
            return await coroutine

    def _done(self, job: Job, future: Future[Any]) -> None:
        self._running.pop(job, None)
        if future.cancelled():
            return
        job.error = future.exception()
        if job.error is None:
            job.result = future.result()
        job.is_done = True
        with suppress(Exception):
            self.wake()


def _key(validator: SlowValidator, value: Any, info: ValidationInfo[Any] | None) -> Any:
    """Equal for equal questions."""
    data = repr(info.data) if info is not None else None
    known: Any = value
    if type(value).__hash__ is None:
        known = repr(value)
    elif cast(Any, type(value)).__hash__ is object.__hash__:  # no two are equal: by what they hold
        known = pickle.dumps(value)
    else:
        try:
            hash(value)
        except TypeError:  # a tuple of lists
            known = repr(value)
    return id(validator.function), type(value), known, data
