"""Batches on an engine in this process: many lines at once, so that the engine's own batching fills each step."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, fields
from typing import Any

from ..clients.base import Kwargs, Prepared
from ..core.completion import Attempt, FinishReason, Usage
from ..core.errors import ParameterError, RequestError
from ..core.params import SamplingParams
from ..structured.answer import Answer, Mode
from ..structured.errors import StructuredError
from ..structured.loop import Rejection
from ..structured.prompt import reask_messages
from ..structured.spec import Spec
from .base import Finished, RunOptions, Task

_SAMPLING = frozenset(field.name for field in fields(SamplingParams))
_MODEL_NOTE = "model: the lines name one, but the engine serves its own"


class EngineRequests:
    """What `LocalBackend` wants for one request. By itself it is enough to read the results of a batch."""

    name = "engine"
    provider = "pageform"

    def modes(self) -> tuple[Mode, ...]:
        """The engine's grammar is its one way."""
        return (Mode.SCHEMA,)

    def prepare(self, spec: Spec[Any], mode: Mode, kwargs: Mapping[str, Any], strict: bool | None) -> Prepared:
        """Checks the sampling parameters. Raises ParameterError."""
        kept = {name: value for name, value in kwargs.items() if name != "model"}
        for name in kept.keys() - _SAMPLING - {"messages"}:
            remedy = "Use those of SamplingParams."
            raise ParameterError(name, kept[name], "is no parameter of an engine's request", remedy)
        _sampling(kept)
        return Prepared(kept, notes=(_MODEL_NOTE,) if "model" in kwargs else ())

    def read(self, response: Mapping[str, Any]) -> Answer:
        """What a stored answer says."""
        return Answer(response["text"], FinishReason(response["finish_reason"]), Usage(**response["usage"]))

    def reask(self, kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
        """The conversation with the answer and what is wrong with it."""
        return {**kwargs, "messages": reask_messages(kwargs["messages"], answer, rejection.text)}


class EngineBatches(EngineRequests):
    """A `LocalBackend` over an `Engine`, or whatever has its `generate_with_completion`.

    `concurrency` lines are asked at once. Arguments of a line besides `messages` are those of `SamplingParams`; without
    a `temperature` answers are greedy.
    """

    def __init__(self, engine: Any, concurrency: int = 64) -> None:
        if not hasattr(engine, "generate_with_completion"):
            remedy = 'Give an Engine, such as Engine("smollm2").'
            raise ParameterError("engine", type(engine).__name__, "has no generate_with_completion", remedy)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ParameterError("concurrency", concurrency, "must be an integer of at least 1", "Give 64.")
        self._engine, self._concurrency = engine, concurrency
        self.model = str(engine.config.model) if hasattr(engine, "config") else None

    def run(self, tasks: Iterator[Task], options: RunOptions) -> Generator[list[Finished], None, None]:
        """See `LocalBackend.run`. Raises what the engine raises when it can't go on, such as EngineClosedError."""
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="pageform-batch")
        waiting: dict[Future[Finished], str] = {}
        try:
            while True:
                while len(waiting) < self._concurrency and (task := next(tasks, None)) is not None:
                    request_id = f"batch-{id(tasks):x}-{task.number}"
                    waiting[pool.submit(self._answer, task, options, request_id)] = request_id
                if not waiting:
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    del waiting[future]
                yield [future.result() for future in done]
        finally:
            abort = getattr(self._engine, "abort", None)
            for future, request_id in waiting.items():
                if not future.cancel() and abort is not None:
                    abort(request_id)
            pool.shutdown()

    def _answer(self, task: Task, options: RunOptions, request_id: str) -> Finished:
        try:
            _, completion = self._engine.generate_with_completion(
                task.kwargs["messages"],
                options.spec.response_type,
                _sampling(task.kwargs),
                max_retries=task.retries,
                context=options.context,
                strict=options.strict,
                hooks=options.hooks,
                request_id=request_id,
            )
        except StructuredError as error:
            return Finished(task.number, error.attempts, _stored(error.attempts), error)
        except (RequestError, ParameterError) as error:  # this line's own fault
            return Finished(task.number, (), None, error)
        return Finished(task.number, completion.attempts, _stored(completion.attempts))


def _sampling(kwargs: Mapping[str, Any]) -> SamplingParams:
    given = {name: value for name, value in kwargs.items() if name != "messages"}
    return SamplingParams(**{"temperature": 0.0, **given})


def _stored(attempts: list[Attempt]) -> dict[str, Any] | None:
    """The last answer as JSON."""
    if not attempts:
        return None
    last = attempts[-1]
    reason = last.finish_reason or FinishReason.STOP
    return {"text": last.text, "finish_reason": str(reason), "usage": asdict(last.usage)}
