"""Validators that take their time: a call over the network, another model, a database.

    async def exists(isbn: str) -> None:
        if not await catalogue.has(isbn):
            raise ValueError("no such book")

    class Book(BaseModel):
        isbn: Annotated[str, SlowValidator(exists)]

An engine runs them beside decoding and takes their verdicts as they come. Anywhere else they are `AfterValidator`s that
may be coroutine functions.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from ..core.errors import ParameterError

Answerer = Callable[["SlowValidator", Any, ValidationInfo[Any] | None], Any]
"""What validation gets instead of calling a slow validator: its result, or what it raises."""

_answerer: ContextVar[Answerer | None] = ContextVar("pageform_slow_answers", default=None)


@dataclass(frozen=True, slots=True)
class SlowValidator:
    """Marks a type with a validator that is slow: `Annotated[str, SlowValidator(function)]`.

    `function(value)` or `function(value, info)`, plain or async, gets the value that the type itself made. It raises
    `ValueError` or `AssertionError` for one that is not valid, and returns nothing, or what the value becomes. It is
    called once for equal values of one answer, several at a time, and has to be thread-safe where it is plain.
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ParameterError("SlowValidator", self.function, "is not callable", "Give a function of the value.")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if self.takes_info:
            return core_schema.with_info_after_validator_function(self.validate, handler(source))
        return core_schema.no_info_after_validator_function(self.validate, handler(source))

    @property
    def takes_info(self) -> bool:
        """Whether the function wants Pydantic's `ValidationInfo`."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):  # a builtin
            return False
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return sum(one.kind in kinds and one.default is one.empty for one in parameters) > 1

    def call(self, value: Any, info: ValidationInfo[Any] | None) -> Any:
        """Calls the function; the result may have to be awaited."""
        return self.function(value) if info is None else self.function(value, info)

    def validate(self, value: Any, info: ValidationInfo[Any] | None = None) -> Any:
        """The validator that Pydantic calls."""
        answer = _answerer.get()
        result = self.run(value, info) if answer is None else answer(self, value, info)
        return value if result is None else result

    def run(self, value: Any, info: ValidationInfo[Any] | None) -> Any:
        """Calls the function and waits for it."""
        result = self.call(value, info)
        return _awaited(result) if inspect.isawaitable(result) else result


@contextmanager
def answered_by(answerer: Answerer) -> Iterator[None]:
    """Inside, slow validators are not called: validation asks `answerer`."""
    token = _answerer.set(answerer)
    try:
        yield
    finally:
        _answerer.reset(token)


def slow_validator_of(function: Any) -> SlowValidator | None:
    """The slow validator that a function in a core schema belongs to."""
    owner = getattr(function, "__self__", None)
    return owner if isinstance(owner, SlowValidator) else None


def _awaited(awaitable: Any) -> Any:
    """Waits in a thread of its own: a loop may be running in this one."""

    async def wait() -> Any:
        return await awaitable

    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, asyncio.run(wait())))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, name="pageform-validator")
    thread.start()
    thread.join()
    succeeded, result = outcome[0]
    if not succeeded:
        raise result
    return result
