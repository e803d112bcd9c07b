"""OpenAI's Batch API: a file of requests goes up, a file of answers comes down.

The key of a round is the name of its file and stands in the batch's metadata, so both are found again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import IO, Any

from ..clients.providers import openai_chat
from .base import NotSent, Outgoing, RemoteJob, RemoteResult, RoundState, RoundStatus
from .requests import Requests, checked_client, passing, refused

_KEY = "pageform_round"
_ENDPOINT = "/v1/chat/completions"
_STATES = {
    "failed": RoundState.FAILED,
    "completed": RoundState.ENDED,
    "expired": RoundState.EXPIRED,
    "cancelled": RoundState.CANCELLED,
}
_SLACK = 3600
"""Seconds by which the provider's clock may be behind ours."""


class OpenAIBatches(Requests):
    """A `RemoteBackend` over a sync client of the openai SDK: OpenAI, Azure, and services with the same batch API."""

    max_lines = 50_000
    max_bytes = 190_000_000

    def __init__(self, client: Any, completion_window: str = "24h") -> None:
        super().__init__("openai", openai_chat, _response_type)
        # A request that is sent twice by the SDK would be two batches; whether to send again is decided here.
        self._client = checked_client(client, ("batches", "create"), "OpenAI()")
        self._once = client.with_options(max_retries=0)
        self._window = completion_window

    def send(self, outgoing: Outgoing) -> str:
        """See `RemoteBackend.send`."""
        file_id = None
        try:
            file_id = (self._uploaded(outgoing.key) if outgoing.again else None) or self._upload(outgoing)
            batch = self._once.batches.create(
                input_file_id=file_id,
                endpoint=_ENDPOINT,
                completion_window=self._window,
                metadata={_KEY: outgoing.key},
            )
        except Exception as error:
            if not refused(error):
                raise
            if file_id is not None:
                with suppress(Exception):  # that it could not be tidied up is not what went wrong
                    self._client.files.delete(file_id)
            raise NotSent from error
        return str(batch.id)

    def find(self, outgoing: Outgoing, known: Collection[str]) -> str | None:
        """See `RemoteBackend.find`."""
        for job in self.jobs():
            if job.created < outgoing.since - _SLACK:
                break
            if job.key == outgoing.key:
                return job.id
        return None

    def status(self, remote: str) -> RoundStatus:
        """See `RemoteBackend.status`."""
        batch = self._client.batches.retrieve(remote)
        counts = batch.request_counts
        errors = (batch.errors.data or []) if batch.errors is not None else []
        return RoundStatus(
            _STATES.get(batch.status, RoundState.RUNNING),
            counts.total if counts else 0,
            counts.completed if counts else 0,
            counts.failed if counts else 0,
            "; ".join(str(error.message) for error in errors[:5]) or (str(batch.status)),
            {error.line - 1: str(error.message) for error in errors if error.line is not None},
        )

    def results(self, remote: str) -> Iterator[RemoteResult]:
        """See `RemoteBackend.results`."""
        batch = self._client.batches.retrieve(remote)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is None:
                continue
            with self._client.files.with_streaming_response.content(file_id) as content:
                for line in content.iter_lines():
                    if line.strip():
                        yield _result(json.loads(line))

    def cancel(self, remote: str) -> None:
        """See `RemoteBackend.cancel`."""
        with suppress(*_over(self._client)):
            self._client.batches.cancel(remote)

    def delete(self, remote: str) -> None:
        """Deletes the files; the entry of a batch itself can't be deleted there."""
        batch = self._client.batches.retrieve(remote)
        for file_id in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                with suppress(*_over(self._client)):
                    self._client.files.delete(file_id)

    def jobs(self) -> Iterator[RemoteJob]:
        """See `RemoteBackend.jobs`."""
        for batch in self._client.batches.list(limit=100):
            state = _STATES.get(batch.status, RoundState.RUNNING)
            total = batch.request_counts.total if batch.request_counts else 0
            key = (batch.metadata or {}).get(_KEY, "")
            yield RemoteJob(batch.id, state, float(batch.created_at), total, key)

    def _uploaded(self, key: str) -> str | None:
        for file in self._client.files.list(purpose="batch", order="desc"):
            if file.filename == f"{key}.jsonl":
                return str(file.id)
        return None

    def _upload(self, outgoing: Outgoing) -> str:
        with tempfile.TemporaryFile() as file:
            _write(file, outgoing)
            name = f"{outgoing.key}.jsonl"
            return str(self._once.files.create(file=(name, file, "application/jsonl"), purpose="batch").id)


def reader() -> Requests:
    """Enough to read results: needs the SDK's types and no client."""
    return Requests("openai", openai_chat, _response_type)


def _response_type() -> Any:
    from openai.types.chat import ChatCompletion

    return ChatCompletion


def _write(file: IO[bytes], outgoing: Outgoing) -> None:
    for custom_id, body in outgoing.requests:
        line = {"custom_id": custom_id, "method": "POST", "url": _ENDPOINT, "body": body}
        file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    file.seek(0)


def _result(line: dict[str, Any]) -> RemoteResult:
    """A line of an output or error file."""
    custom_id = str(line.get("custom_id"))
    response, error = line.get("response") or {}, line.get("error") or {}
    body, status = response.get("body"), response.get("status_code")
    if status == 200 and isinstance(body, dict):
        return RemoteResult(custom_id, body)
    told = (body.get("error") if isinstance(body, dict) else None) or error
    message = told.get("message") if isinstance(told, dict) else str(told)
    lost = passing(status) if isinstance(status, int) else error.get("code") in ("batch_expired", "batch_cancelled")
    shown = f" (status {status})" if status is not None else f" ({error.get('code')})" if error.get("code") else ""
    return RemoteResult(custom_id, error=f"{message or 'no reason was given'}{shown}", lost=lost)


def _over(client: Any) -> tuple[type[Exception], ...]:
    """What the SDK raises for things that are over, or not there any more."""
    import openai

    return (openai.NotFoundError, openai.ConflictError, openai.BadRequestError)
