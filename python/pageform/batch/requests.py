"""Single requests of a provider's batch: its pure functions, between JSON that is stored and the SDK's own types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..clients.base import Call, Kwargs, Prepared, Provider
from ..core.errors import ParameterError
from ..structured.answer import Answer, Mode
from ..structured.errors import ClientError
from ..structured.loop import Rejection
from ..structured.spec import Spec

_OF_THE_CLIENT = ("extra_headers", "extra_query", "timeout", "stream", "stream_options")
"""Arguments of an SDK's method that are no part of the request's JSON."""


class Requests:
    """What `RemoteBackend` wants of a provider for one request. `response_type` gives the SDK's type of a response.

    By itself it is enough to read the results of a batch, and to prepare what is sent later.
    """

    def __init__(self, name: str, provider: Any, response_type: Callable[[], Any]) -> None:
        self.name = self.provider = name
        self._provider: Provider = provider
        self._response_type = response_type

    def modes(self) -> tuple[Mode, ...]:
        """See `RemoteBackend.modes`."""
        return self._provider.MODES

    def prepare(self, spec: Spec[Any], mode: Mode, kwargs: Mapping[str, Any], strict: bool | None) -> Prepared:
        """See `RemoteBackend.prepare`."""
        given = dict(kwargs)
        for name in _OF_THE_CLIENT:
            if given.get(name):
                remedy = "Leave it out; what concerns the connection can be given to the client."
                raise ParameterError(name, given[name], "can't be said of a line of a batch", remedy)
            given.pop(name, None)
        given |= given.pop("extra_body", None) or {}
        if not isinstance(given.get("model"), str) or not given["model"]:
            raise ParameterError("model", given.get("model"), "is missing", 'Give model="…" for all lines, or in each.')
        return self._provider.prepare(Call(spec, mode, given, strict=strict))

    def read(self, response: Mapping[str, Any]) -> Answer:
        """See `RemoteBackend.read`."""
        return self._provider.read(self._response_type().construct(**response))

    def reask(self, kwargs: Kwargs, answer: Answer, rejection: Rejection) -> Kwargs:
        """See `RemoteBackend.reask`."""
        return self._provider.reask(kwargs, answer, rejection)


def checked_client(client: Any, path: tuple[str, ...], example: str) -> Any:
    """A sync SDK client that has a method at that path. Raises ClientError."""
    found = client
    for name in path:
        found = getattr(found, name, None)
    if not callable(found):
        remedy = f"Give one such as {example}."
        raise ClientError("client", type(client).__name__, f"has no {'.'.join(path)}", remedy)
    if inspect.iscoroutinefunction(inspect.unwrap(found)):
        raise ClientError("client", type(client).__name__, "is an async client", f"Give a sync one: {example}.")
    return client


def refused(error: Exception) -> bool:
    """Whether an SDK's error says that the provider did nothing: then nothing of the request exists there."""
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in (408, 409)


def passing(status: int) -> bool:
    """Whether a request that got this HTTP status may get another answer next time."""
    return status in (408, 409, 425, 429) or status >= 500
