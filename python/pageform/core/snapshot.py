"""Suspended requests as bytes: what a request's outcome is a function of, and nothing else.

    b"pageform" · version (2 bytes, big-endian) · BLAKE2b-128 of version and content · content (MessagePack)

No code is in it: validators, hooks and logits processors are given again by whoever resumes.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from .completion import FinishReason, TokenLogprob
from .errors import SnapshotDamagedError, SnapshotVersionError
from .log import LogEntry

VERSION = 1
_MAGIC = b"pageform"
_HEAD = len(_MAGIC) + 2
_DIGEST = 16


class NumericsId(msgspec.Struct, frozen=True):
    """What the bits of logits, and with them tokens, depend on beside the request itself. Digests are hexadecimal."""

    backend: str
    """Device and instruction set."""
    kernels: str
    """Digest of the backend's library."""
    weights: str
    """Digest of names, shapes, formats and samples of all tensors, and of the rotary frequencies."""
    dtype: str
    kv_dtype: str
    tokenizer: str
    """Digest of the tokenizer and the end-of-sequence tokens."""
    grammar: str
    """Version of the library that runs grammars."""


class SampleSnapshot(msgspec.Struct):
    """One sample of a prompt. Times are seconds from its arrival."""

    log: list[LogEntry]
    prompt_logprobs: list[TokenLogprob | None] | None = None
    scheduled: float | None = None
    first_token: float | None = None
    finished: float | None = None
    num_cached: int = 0
    num_preemptions: int = 0


class AttemptSnapshot(msgspec.Struct):
    """An attempt at a typed answer that was rejected before. `faults` is JSON."""

    number: int
    text: str
    error: str
    usage: tuple[int, int, int]
    finish_reason: FinishReason | None
    faults: str
    token_ids: list[int] = []


class ToolsSnapshot(msgspec.Struct):
    """How tools are offered: the `choice`, which of them may be called, and the fields of the `ToolFormat`."""

    choice: str
    callable: list[str]
    parallel: bool
    format: dict[str, Any]


class TypedSnapshot(msgspec.Struct):
    """What a typed answer is judged by. `schema` is its JSON schema as text, `plain` the type itself if it is a schema;
    `params` are those of further attempts.

    `original` is the first attempt's prompt and `payload` this one's. That of a child is as people see it, and of the
    answer before it the text is `kept`: (pieces, holes).
    """

    name: str
    schema: str
    plain: str | None
    params: dict[str, Any]
    original: Any
    payload: Any
    is_child: bool
    kept: tuple[list[bytes], list[list[int | str]]] | None
    attempts: list[AttemptSnapshot]
    max_retries: int | None
    strict: bool | None
    on_invalid: str
    rewind: tuple[int, int, float | None] | None
    has_context: bool
    tools: ToolsSnapshot | None = None
    """With tools, `schema` is that of their arguments, by name."""


class RequestSnapshot(msgspec.Struct):
    """A suspended request. `elapsed` is how many seconds it has been in the engine, for its deadlines.

    `params` are the fields of its SamplingParams that differ from the defaults, `max_tokens`, `seed` and `drafts` what
    was made of them, `num_processors` how many logits processors it had.
    """

    numerics: NumericsId
    request_id: str | None
    prompt_ids: list[int]
    params: dict[str, Any]
    max_tokens: int
    seed: int
    drafts: str
    num_processors: int
    elapsed: float
    samples: list[SampleSnapshot]
    typed: TypedSnapshot | None = None


def encode(snapshot: RequestSnapshot) -> bytes:
    """The snapshot as bytes. Raises TypeError for content that is no plain data."""
    content = msgspec.msgpack.encode(snapshot)
    head = _MAGIC + VERSION.to_bytes(2, "big")
    return head + _digest(head, content) + content


def decode(data: bytes | bytearray | memoryview) -> RequestSnapshot:
    """The snapshot that `encode` made bytes of. Raises SnapshotDamagedError or SnapshotVersionError."""
    data = bytes(data)
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEAD + _DIGEST:
        raise SnapshotDamagedError(f"{len(data)} bytes that don't begin like a suspended request")
    version = int.from_bytes(data[len(_MAGIC) : _HEAD], "big")
    if version != VERSION:
        raise SnapshotVersionError(version, VERSION)
    content = data[_HEAD + _DIGEST :]
    if _digest(data[:_HEAD], content) != data[_HEAD : _HEAD + _DIGEST]:
        raise SnapshotDamagedError("the content does not have the digest that it was written with")
    try:
        return msgspec.msgpack.decode(content, type=RequestSnapshot)
    except msgspec.MsgspecError as error:
        raise SnapshotDamagedError(str(error)) from error


def _digest(head: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(head + content, digest_size=_DIGEST).digest()
