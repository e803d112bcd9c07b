"""Anthropic's Message Batches: requests go up in one call, answers come down as lines.

A batch there has no name. Which one is ours is told by the ids of its requests, and those are only seen in its results:
so after a crash at the wrong moment, a batch of the right size and time is waited for before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from ..clients.providers import anthropic as messages
from .base import NotSent, Outgoing, RemoteJob, RemoteResult, RoundState, RoundStatus, Undecided
from .requests import Requests, checked_client, refused

_SLACK = 300
"""Seconds by which the provider's clock may be behind ours."""
_OWN_FAULT = frozenset({"invalid_request_error", "not_found_error", "request_too_large", "permission_error"})
"""Errors that the same request will meet again."""


class AnthropicBatches(Requests):
    """A `RemoteBackend` over a sync client of the anthropic SDK."""

    max_lines = 100_000
    max_bytes = 200_000_000

    def __init__(self, client: Any) -> None:
        super().__init__("anthropic", messages, _response_type)
        self._client = checked_client(client, ("messages", "batches", "create"), "Anthropic()")
        # A request that is sent twice by the SDK would be two batches; whether to send again is decided here.
        self._once = client.with_options(max_retries=0)

    def send(self, outgoing: Outgoing) -> str:
        """See `RemoteBackend.send`."""
        requests = [{"custom_id": custom_id, "params": params} for custom_id, params in outgoing.requests]
        try:
            return str(self._once.messages.batches.create(requests=requests).id)
        except Exception as error:
            if refused(error):
                raise NotSent from error
            raise

    def find(self, outgoing: Outgoing, known: Collection[str]) -> str | None:
        """See `RemoteBackend.find`."""
        undecided = False
        for batch in self._client.messages.batches.list(limit=100):
            if batch.created_at.timestamp() < outgoing.since - _SLACK:
                break
            if batch.id in known or _total(batch) != len(outgoing.requests):
                continue
            if batch.processing_status != "ended" or batch.results_url is None:
                undecided = True
            elif any(one.custom_id.startswith(f"{outgoing.key}-") for one in self._first(batch.id)):
                return str(batch.id)
        if undecided:
            raise Undecided
        return None

    def status(self, remote: str) -> RoundStatus:
        """See `RemoteBackend.status`."""
        batch = self._client.messages.batches.retrieve(remote)
        counts = batch.request_counts
        failed = counts.errored + counts.canceled + counts.expired
        return RoundStatus(_state(batch), _total(batch), counts.succeeded, failed, batch.processing_status)

    def results(self, remote: str) -> Iterator[RemoteResult]:
        """See `RemoteBackend.results`."""
        for line in self._client.messages.batches.results(remote):
            yield _result(line)

    def cancel(self, remote: str) -> None:
        """See `RemoteBackend.cancel`."""
        with suppress(*_over()):
            self._client.messages.batches.cancel(remote)

    def delete(self, remote: str) -> None:
        """See `RemoteBackend.delete`."""
        with suppress(*_over()):
            self._client.messages.batches.delete(remote)

    def jobs(self) -> Iterator[RemoteJob]:
        """See `RemoteBackend.jobs`."""
        for batch in self._client.messages.batches.list(limit=100):
            yield RemoteJob(batch.id, _state(batch), batch.created_at.timestamp(), _total(batch))

    def _first(self, remote: str) -> list[Any]:
        """The first of a batch's results."""
        results = self._client.messages.batches.results(remote)
        try:
            return [next(iter(results))]
        except StopIteration:
            return []
        finally:
            results.close()


def reader() -> Requests:
    """Enough to read results: needs the SDK's types and no client."""
    return Requests("anthropic", messages, _response_type)


def _response_type() -> Any:
    from anthropic.types import Message

    return Message


def _state(batch: Any) -> RoundState:
    if batch.processing_status != "ended":
        return RoundState.RUNNING
    return RoundState.ENDED if batch.cancel_initiated_at is None else RoundState.CANCELLED


def _total(batch: Any) -> int:
    counts = batch.request_counts
    return int(counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired)


def _result(line: Any) -> RemoteResult:
    result = line.result
    if result.type == "succeeded":
        return RemoteResult(line.custom_id, result.message.to_dict(mode="json"))
    if result.type == "errored":
        error = result.error.error
        lost = error.type not in _OWN_FAULT
        return RemoteResult(line.custom_id, error=f"{error.message} ({error.type})", lost=lost)
    return RemoteResult(line.custom_id, error=f"the request was {result.type}", lost=True)


def _over() -> tuple[type[Exception], ...]:
    """What the SDK raises for things that are over, or not there any more."""
    import anthropic

    return (anthropic.NotFoundError, anthropic.ConflictError, anthropic.BadRequestError)
