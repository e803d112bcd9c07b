"""Callbacks around a request: who is told of which event, and with which arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import ParameterError
from .events import EVENT_OF, Event, EventName, HookName

Handler = Callable[..., Any]

EVERY = "*"
"""Stands for every event."""


@dataclass(frozen=True, slots=True)
class _Registered:
    """A handler and how it is called: with the event, or as Instructor calls hooks of that name."""

    handler: Handler
    plain: bool

    def __call__(self, event: Event) -> Any:
        if self.plain:
            return self.handler(event)
        args, details = _instructor_arguments(event)
        return self.handler(*args, **_taken(self.handler, args, details))


class Hooks:
    """A set of handlers by event. A handler that raises causes a warning and nothing else.

        hooks = Hooks()
        hooks.on("parse_error", lambda event: print(event.attempt, event.error))
        hooks.on("*", tell_my_dashboard)

    Names are those of `EventName`, or "*" for all; such handlers are called with the `Event`. Under Instructor's names
    (`HookName`) they are called with Instructor's arguments (`completion:kwargs(**kwargs)`, `completion:response(r)`,
    `completion:usage(total, attempt_number)`, `completion:error(e, attempt_number, max_attempts, is_last_attempt)`,
    `completion:last_attempt` and `parse:error` alike), each with those of the keywords that it takes; a handler whose
    first parameter is called `event` or annotated as `Event` gets that instead. Coroutine functions are awaited by
    async clients, one after another, and refused by others before anything is sent.
    """

    def __init__(self, handlers: Mapping[str, Handler | Iterable[Handler]] | None = None) -> None:
        self._handlers: dict[EventName, list[_Registered]] = {name: [] for name in EventName}
        for name, given in (handlers or {}).items():
            for handler in [given] if callable(given) else given:
                self.on(name, handler)

    @classmethod
    def of(cls, hooks: Any) -> Hooks:
        """`None`, a `Hooks` or a mapping from event to handler(s), as a `Hooks`."""
        if isinstance(hooks, Hooks):
            return hooks
        if hooks is None or isinstance(hooks, Mapping):
            return cls(hooks)
        raise ParameterError("hooks", hooks, "is neither Hooks nor a mapping", "Pass Hooks() or {event: function}.")

    @classmethod
    def combine(cls, *hooks: Hooks) -> Hooks:
        """The handlers of all, in that order, as a new set."""
        joined = cls()
        for given in hooks:
            for name in EventName:
                joined._handlers[name].extend(given._handlers[name])
        return joined

    def __add__(self, other: Hooks) -> Hooks:
        return Hooks.combine(self, other)

    def __bool__(self) -> bool:
        return any(self._handlers.values())

    def copy(self) -> Hooks:
        """A set of its own with the same handlers."""
        return Hooks.combine(self)

    def on(self, name: str, handler: Handler) -> Handler:
        """Call `handler` at each event of that name. Returns it."""
        if not callable(handler):
            raise ParameterError("hooks", handler, "is not callable", "Register a function.")
        for event, plain in _events(name):
            self._handlers[event].append(_Registered(handler, plain or _wants_event(handler)))
        return handler

    def off(self, name: str, handler: Handler) -> None:
        """Forget one handler; nothing happens if it was not registered."""
        for event, _ in _events(name):
            found = next((one for one in self._handlers[event] if one.handler == handler), None)
            if found is not None:
                self._handlers[event].remove(found)

    def clear(self, name: str | None = None) -> None:
        """Forget all handlers of an event, or of all events."""
        for event, _ in _events(EVERY if name is None else name):
            self._handlers[event].clear()

    def handlers(self, name: EventName) -> Iterator[Callable[[Event], Any]]:
        """What to call with an event of that name, in the order of registration."""
        return iter(tuple(self._handlers[name]))

    def has(self, name: EventName) -> bool:
        """Whether anybody wants events of that name."""
        return bool(self._handlers[name])

    def coroutines(self) -> list[Handler]:
        """The handlers that only an async driver can call."""
        return [one.handler for group in self._handlers.values() for one in group if is_coroutine(one.handler)]


def is_coroutine(handler: Handler) -> bool:
    """Whether calling the handler gives something to await."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _events(name: Any) -> list[tuple[EventName, bool]]:
    """The events that a name stands for, and whether it is one of ours."""
    if name == EVERY:
        return [(event, True) for event in EventName]
    text = getattr(name, "value", name)  # Instructor's own enum is accepted too
    if text in EventName.__members__.values():
        return [(EventName(text), True)]
    if text in HookName.__members__.values():
        return [(EVENT_OF[HookName(text)], False)]
    known = ", ".join([*EventName, EVERY, *HookName])
    raise ParameterError("hooks", name, "is not an event", f"Use one of {known}.")


def _wants_event(handler: Handler) -> bool:
    first = next((p for p in _parameters(handler) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)), None)
    return first is not None and (first.name == "event" or first.annotation in (Event, "Event"))


def _instructor_arguments(event: Event) -> tuple[tuple[Any, ...], dict[str, Any]]:
    details = {
        "attempt_number": event.attempt,
        "max_attempts": event.max_attempts,
        "is_last_attempt": event.is_last_attempt,
    }
    if event.name is EventName.KWARGS:
        return (), dict(event.kwargs)
    if event.name is EventName.RESPONSE:
        return (event.response,), {}
    if event.name is EventName.USAGE:
        return (event.total_usage,), {"attempt_number": event.attempt}
    error = event.error
    if event.name is EventName.LAST_ATTEMPT and error is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__  # Instructor tells what rejected the last answer, not what the caller will catch
    return (error,), details


def _taken(handler: Handler, args: tuple[Any, ...], details: dict[str, Any]) -> dict[str, Any]:
    """Those of `details` that the handler has parameters for (all of them if it has `**kwargs`)."""
    parameters = _parameters(handler)
    if not parameters:  # it takes nothing, or is a built-in without a signature
        return {} if args else details
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return details
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {name: details[name] for name in named[len(args) :] if name in details}


def _parameters(handler: Handler) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        return []
