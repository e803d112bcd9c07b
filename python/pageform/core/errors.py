"""Every error a user of pageform can meet. Each names what was wrong, the value, and what to do about it."""

from __future__ import annotations

from typing import Any

FIELD = "response_model"
"""How errors name the parameter that a response type is given as."""


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


class RequestSuspended(PageformError):
    """The request was suspended: `data` is what `resume` goes on from, here or in another engine."""

    def __init__(self, request_id: str, data: bytes) -> None:
        self.request_id, self.data = request_id, data
        super().__init__(request_id, data)

    def __str__(self) -> str:
        return f"request {self.request_id} was suspended; pass this error's `data` to the resume() of an engine"


class SnapshotError(PageformError):
    """A suspended request can't be resumed with what was given. The kinds of it say why."""


class SnapshotDamagedError(SnapshotError):
    """The data is no suspended request, or is damaged."""

    def __str__(self) -> str:
        return f"this is no suspended request, or it is damaged: {self.args[0]}. Get an undamaged copy of the data"


class SnapshotVersionError(SnapshotError):
    """The data was written in a format that this version of pageform does not read."""

    def __init__(self, version: int, known: int) -> None:
        self.version, self.known = version, known
        super().__init__(version, known)

    def __str__(self) -> str:
        return (
            f"the request was suspended in format {self.version}, but this version of pageform reads format "
            f"{self.known}. Resume it with the version of pageform that suspended it"
        )


class NumericsMismatchError(SnapshotError):
    """The engine computes other bits than the one that suspended the request, so its tokens could differ.

    `differences` maps what differs to a pair: there, here.
    """

    def __init__(self, differences: dict[str, tuple[str, str]]) -> None:
        self.differences = differences
        super().__init__(differences)

    def __str__(self) -> str:
        listed = "; ".join(f"{name} was {there}, here it is {here}" for name, (there, here) in self.differences.items())
        return f"{listed}. Resume the request in an engine with the same model, formats and kind of processor"


class SchemaMismatchError(SnapshotError):
    """The response model has another JSON schema than that of the suspended request, or is missing."""


class ReplayError(SnapshotError):
    """The recorded log does not follow from itself: entry `position` came out otherwise when it was replayed."""

    def __init__(self, position: int, reason: str) -> None:
        self.position, self.reason = position, reason
        super().__init__(position, reason)

    def __str__(self) -> str:
        return (
            f"entry {self.position} of the log: {self.reason}. The response model is built otherwise than it was, or a "
            "library has changed"
        )
