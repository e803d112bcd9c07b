"""Every error a user of pageform can meet. Each names what was wrong, the value, and what to do about it."""

from __future__ import annotations

from typing import Any


class PageformError(Exception):
    """Base of all errors raised by pageform."""


class ParameterError(PageformError, ValueError):
    """A parameter is invalid. Raised before any work starts.

    `field` is the parameter's name, `value` what was given, `reason` what is wrong, `remedy` what to do.
    """

    def __init__(self, field: str, value: Any, reason: str, remedy: str) -> None:
        self.field, self.value, self.reason, self.remedy = field, value, reason, remedy
        super().__init__(field, value, reason, remedy)

    def __str__(self) -> str:
        shown = repr(self.value)
        if len(shown) > 200:
            shown = f"{shown[:180]}… ({len(shown)} characters)"
        return f"{self.field}={shown}: {self.reason}. {self.remedy}"


class SchemaError(ParameterError):
    """A response type, schema or grammar can't be used: unsupported, malformed, or satisfied by nothing."""


class ModelNotFoundError(ParameterError):
    """No model of that name is installed, on disk or reachable."""


class ModelFileError(PageformError):
    """A model file or folder is damaged, truncated or of an unsupported kind. `path` says which."""

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        self.path, self.reason, self.remedy = path, reason, remedy
        super().__init__(path, reason, remedy)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}. {self.remedy}"


class CapacityError(PageformError):
    """There is no room: the queue is full, or memory can't hold even one request of this size."""

    def __init__(self, field: str, value: Any, reason: str, remedy: str) -> None:
        self.field, self.value, self.reason, self.remedy = field, value, reason, remedy
        super().__init__(field, value, reason, remedy)

    def __str__(self) -> str:
        return f"{self.field}={self.value!r}: {self.reason}. {self.remedy}"


class EngineClosedError(PageformError):
    """The engine was closed; make a new one."""


class BackendError(PageformError):
    """A backend is missing, refuses a program, or failed while running a step."""


class NoEngineError(BackendError, ImportError):
    """This installation holds no engine: it was built without native parts, for the clients of other providers."""


class IllegalTransition(PageformError):
    """A request was asked to enter a state that it can't reach from its own (a defect of pageform)."""


class RequestError(PageformError):
    """One request failed while running; `completion` holds what it had produced. `__cause__` is the fault."""

    def __init__(self, message: str, completion: Any = None) -> None:
        self.completion = completion
        super().__init__(message)
