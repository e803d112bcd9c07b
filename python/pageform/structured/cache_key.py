"""The key of a request in a cache: equal for equal requests, and for no others.

Everything that goes to the provider is hashed, each value with its type and length, so that no two requests can look
alike; and with it the type of the answer, the client and the tenant. Secrets are only hashed, never kept.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import inspect
import struct
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, TypeAdapter

from ..core.errors import ParameterError
from .answer import Mode
from .spec import Spec

_OF_TRANSPORT = ("timeout", "stream", "stream_options")
"""Arguments that change how and when an answer comes, not what it is."""
_PLACEHOLDERS = ("NotGiven", "Omit", "Unset")
"""Classes by which SDKs say that an argument was not given."""


def cache_key(request: Mapping[str, Any], *, spec: Spec[Any], mode: Mode, provider: str, scope: str) -> str:
    """64 hexadecimal digits. `request`: the prepared kwargs of the first attempt. `scope`: whose answers these are, as
    `clients.identity.cache_scope` gives it.

    Raises ParameterError for a request that holds something without a stable content, such as a function.
    """
    digest = hashlib.sha256()
    sent = {
        name: value
        for name, value in request.items()
        if name not in _OF_TRANSPORT and type(value).__name__ not in _PLACEHOLDERS
    }
    parts = {
        "version": 1,
        "request": sent,
        "name": spec.name,
        "schema": spec.json_schema,
        "mode": str(mode),
        "provider": provider,
        "scope": scope,
    }
    _feed(digest, parts, "request")
    return digest.hexdigest()


def content_hash(value: Any, field: str) -> str:
    """64 hexadecimal digits for a value of plain data. Raises ParameterError naming `field` for anything else."""
    digest = hashlib.sha256()
    _feed(digest, value, field)
    return digest.hexdigest()


def _feed(digest: Any, value: Any, path: str) -> None:
    """Type, length, content: no value's bytes are the beginning of another's."""
    if value is None or isinstance(value, bool):
        digest.update(b"N" if value is None else b"T" if value else b"F")
    elif isinstance(value, enum.Enum):
        _tag(digest, b"E", type(value).__qualname__.encode())
        _feed(digest, value.value, path)
    elif isinstance(value, int):
        _tag(digest, b"i", str(value).encode())
    elif isinstance(value, float):
        digest.update(b"f" + struct.pack(">d", value))
    elif isinstance(value, str):
        _tag(digest, b"s", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, (bytes, bytearray)):
        _tag(digest, b"b", bytes(value))
    elif isinstance(value, Mapping):
        digest.update(b"m" + struct.pack(">q", len(value)))
        for key in sorted(value, key=lambda key: (type(key).__name__, str(key))):
            _feed(digest, key, path)
            _feed(digest, value[key], f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        digest.update(b"l" + struct.pack(">q", len(value)))
        for number, item in enumerate(value):
            _feed(digest, item, f"{path}[{number}]")
    else:
        _feed_object(digest, value, path)


def _feed_object(digest: Any, value: Any, path: str) -> None:
    if isinstance(value, (set, frozenset)):
        _tag(digest, b"S", b"".join(sorted(bytes.fromhex(content_hash(item, path)) for item in value)))
    elif isinstance(value, PurePath):
        _tag(digest, b"p", str(value).encode("utf-8", "surrogatepass"))
    elif isinstance(value, BaseModel):
        _tag(digest, b"o", type(value).__qualname__.encode())
        # By attribute, not as dumped: fields that are left out of a dump may still be sent.
        _feed(digest, {**dict(value), **(value.model_extra or {})}, path)
    elif inspect.isclass(value):
        _tag(digest, b"c", value.__qualname__.encode())
        _feed(digest, _schema_of(value, path), path)
    elif dataclasses.is_dataclass(value):
        _tag(digest, b"o", type(value).__qualname__.encode())
        _feed(digest, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, path)
    else:
        raise _unstable(value, path)


def _schema_of(cls: type, path: str) -> Any:
    try:
        return TypeAdapter(cls).json_schema()
    except Exception as error:  # Pydantic, and hooks of the type, may raise anything
        raise _unstable(cls, path) from error


def _tag(digest: Any, tag: bytes, content: bytes) -> None:
    digest.update(tag + struct.pack(">q", len(content)))
    digest.update(content)


def _unstable(value: Any, path: str) -> ParameterError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    reason = f"the request can't be cached: {path} is a {kind}, which has no content to compare"
    return ParameterError("cache", kind, reason, "Give plain data there, or leave the cache out for this call.")
