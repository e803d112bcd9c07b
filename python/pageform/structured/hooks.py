"""Callbacks around a request, under Instructor's names."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..core.errors import ParameterError

Handler = Callable[..., Any]

NAMES = ("completion:kwargs", "completion:response", "completion:error", "parse:error", "completion:last_attempt")
"""`completion:kwargs(**kwargs)` before each attempt and `completion:response(response)` after it; the others get the
error, and `attempt_number`, `max_attempts`, `is_last_attempt` where the handler takes them."""


class Hooks:
    """A set of handlers by event. A handler that raises causes a warning and nothing else."""

    def __init__(self, handlers: Mapping[str, Handler | Iterable[Handler]] | None = None) -> None:
        self._handlers: dict[str, list[Handler]] = {name: [] for name in NAMES}
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

    def on(self, name: str, handler: Handler) -> None:
        """Call `handler` at each event of that name."""
        if not callable(handler):
            raise ParameterError("hooks", handler, "is not callable", "Register a function.")
        self._of(name).append(handler)

    def off(self, name: str, handler: Handler) -> None:
        """Forget one handler; nothing happens if it was not registered."""
        handlers = self._of(name)
        if handler in handlers:
            handlers.remove(handler)

    def clear(self, name: str | None = None) -> None:
        """Forget all handlers of an event, or of all events."""
        for event in NAMES if name is None else (name,):
            self._of(event).clear()

    def __add__(self, other: Hooks) -> Hooks:
        return Hooks({name: [*self._handlers[name], *other._handlers[name]] for name in NAMES})

    def emit(self, name: str, *args: Any, **details: Any) -> None:
        """Call the handlers of an event in the order of registration, each with the details that it takes."""
        for handler in self._of(name):
            try:
                handler(*args, **_taken(handler, args, details))
            except Exception as error:  # a handler's fault must not become the request's
                warnings.warn(f"a {name} hook raised {error!r}", RuntimeWarning, stacklevel=2)

    def _of(self, name: str) -> list[Handler]:
        if name not in self._handlers:
            raise ParameterError("hooks", name, "is not an event", f"Use one of {', '.join(NAMES)}.")
        return self._handlers[name]


def _taken(handler: Handler, args: tuple[Any, ...], details: dict[str, Any]) -> dict[str, Any]:
    """Those of `details` that the handler has parameters for (all of them if it has `**kwargs`)."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # built-ins have no signature
        return {} if args else details
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return details
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {name: details[name] for name in named[len(args) :] if name in details}
