"""The batch services of OpenAI and Anthropic, scripted; see `batch_server`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from batch_server import BatchServer, Job, Model, Refused
from openai.types import Batch, FileObject
from strict_types import check_model
from wire_anthropic import AnthropicWire
from wire_openai_chat import OpenAIChatWire


class OpenAIBatchServer(BatchServer):
    """Files and batches. `base_url` of the SDK is `url + "/v1"`."""

    def __init__(self, answer: Model, polls: int = 2, seconds: float = 0.0) -> None:
        super().__init__(answer, polls, seconds)
        self.files: dict[str, tuple[str, bytes]] = {}
        self.wire = OpenAIChatWire()

    def route(self, method: str, path: str, query: dict[str, list[str]], body: bytes, kind: str) -> tuple[str, Any]:
        parts = path.removeprefix("/v1/").split("/")
        if parts[0] == "files":
            return self._files(method, parts[1:], query, body, kind)
        if parts == ["batches"] and method == "POST":
            self.may("batches.create")
            return "batches.create", self._create(json.loads(body))
        if parts == ["batches"]:
            jobs = sorted(self.jobs.values(), key=lambda job: -job.created)
            return "batches.list", self._page(query, [self._batch(job) for job in jobs])
        job = self.job_of(parts[1])
        if parts[2:] == ["cancel"]:
            if self.over(job):
                raise Refused(409, "the batch is over")
            job.cancelled, job.polls = True, self.polls
            return "batches.cancel", self._batch(job)
        self.may("batches.retrieve")
        job.polls += 1
        return "batches.retrieve", self._batch(job)

    def _files(self, method: str, parts: list[str], query: Any, body: bytes, kind: str) -> tuple[str, Any]:
        if method == "POST":
            form = message_from_bytes(f"content-type: {kind}\r\n\r\n".encode() + body)
            fields: dict[str, Any] = {}
            for part in form.get_payload():  # type: ignore[union-attr]
                name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
                fields[str(name)] = part  # type: ignore[index]
            assert fields["purpose"].get_payload() == "batch"
            file_id = f"file-{self.new_id()}"
            self.files[file_id] = (fields["file"].get_filename(), fields["file"].get_payload(decode=True))
            return "files.create", self._file(file_id)
        if not parts:
            return "files.list", self._page(query, [self._file(one) for one in reversed(self.files)])
        if parts[0] not in self.files and not parts[0].startswith(("out-", "err-")):
            raise Refused(404, "no such file")
        if method == "DELETE":
            self.files.pop(parts[0], None)
            return "files.delete", {"id": parts[0], "object": "file", "deleted": True}
        which, _, job_id = parts[0].partition("-")
        return "files.content", self._content(self.jobs[job_id], which == "out")

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert set(asked) == {"input_file_id", "endpoint", "completion_window", "metadata"}
        _, content = self.files[asked["input_file_id"]]
        requests = []
        for line in content.splitlines():
            one = json.loads(line)
            assert set(one) == {"custom_id", "method", "url", "body"}
            assert (one["method"], one["url"]) == ("POST", asked["endpoint"])
            self.wire.check(one["body"])
            requests.append((one["custom_id"], one["body"]))
        job = Job(f"batch_{self.new_id()}", requests, time.time(), asked["metadata"], asked["input_file_id"])
        bad = [number for number, (_, body) in enumerate(requests, 1) if self.answer(body) == 0]
        if bad:
            job.failure = [{"code": "invalid", "line": one, "message": "bad line", "param": None} for one in bad]
        return self._batch(self.add(job))

    def _batch(self, job: Job) -> dict[str, Any]:
        over, total = self.over(job), len(job.requests)
        end = "failed" if job.failure else "cancelled" if job.cancelled else "expired" if job.expired else "completed"
        made = {
            "id": job.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": int(job.created),
            "input_file_id": job.file,
            "metadata": job.metadata,
            "status": end if over else "in_progress",
            "errors": {"object": "list", "data": job.failure} if job.failure and over else None,
            "output_file_id": f"out-{job.id}" if over and not job.failure else None,
            "error_file_id": f"err-{job.id}" if over and not job.failure else None,
            "request_counts": {"total": total, "completed": total if over else total // 2, "failed": 0},
        }
        check_model(Batch, made)
        return made

    def _content(self, job: Job, good: bool) -> Iterator[bytes]:
        for number, (custom_id, body) in enumerate(self.lines(job)):
            lost = (job.cancelled or job.expired) and number >= len(job.requests) // 2
            said = 500 if lost else self.answer(body)
            if good is isinstance(said, int):
                continue
            line: dict[str, Any] = {"id": f"batch_req_{number}", "custom_id": custom_id, "error": None}
            if lost:
                code = "batch_cancelled" if job.cancelled else "batch_expired"
                line |= {"response": None, "error": {"code": code, "message": "not reached"}}
            elif isinstance(said, int):
                fault = {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}
                line |= {"response": {"status_code": said, "request_id": "r", "body": fault}}
            else:
                reply = self.wire.reply(said).parts[0]
                assert isinstance(reply, bytes)
                line |= {"response": {"status_code": 200, "request_id": "r", "body": json.loads(reply)}}
            yield json.dumps(line).encode() + b"\n"

    def _file(self, file_id: str) -> dict[str, Any]:
        name, content = self.files[file_id]
        made = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": 1,
            "filename": name,
            "purpose": "batch",
            "status": "processed",
        }
        check_model(FileObject, made)
        return made

    def _page(self, query: dict[str, list[str]], items: list[dict[str, Any]]) -> dict[str, Any]:
        """Two a page, so that clients have to turn pages."""
        after = query.get("after", [""])[0]
        start = next((i + 1 for i, item in enumerate(items) if item["id"] == after), 0)
        page = items[start : start + 2]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"object": "list", "data": page, "has_more": start + 2 < len(items), **ends}

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


class AnthropicBatchServer(BatchServer):
    """Message batches. `base_url` of the SDK is `url`."""

    def __init__(self, answer: Model, polls: int = 2, seconds: float = 0.0) -> None:
        super().__init__(answer, polls, seconds)
        self.wire = AnthropicWire()

    def route(self, method: str, path: str, query: dict[str, list[str]], body: bytes, kind: str) -> tuple[str, Any]:
        parts = path.removeprefix("/v1/messages/batches").strip("/").split("/")
        if parts == [""] and method == "POST":
            self.may("batches.create")
            return "batches.create", self._create(json.loads(body))
        if parts == [""]:
            for job in self.jobs.values():
                job.polls += 1
            jobs = sorted(self.jobs.values(), key=lambda job: -job.created)
            return "batches.list", self._page(query, [self._batch(job) for job in jobs])
        job = self.job_of(parts[0])
        if method == "DELETE":
            if not self.over(job):
                raise Refused(400, "not ended")
            del self.jobs[job.id]
            return "batches.delete", {"id": job.id, "type": "message_batch_deleted"}
        if parts[1:] == ["cancel"]:
            if self.over(job):
                raise Refused(400, "the batch is over")
            job.cancelled, job.polls = True, self.polls
            return "batches.cancel", self._batch(job)
        if parts[1:] == ["results"]:
            return "batches.results", self._results(job)
        self.may("batches.retrieve")
        job.polls += 1
        return "batches.retrieve", self._batch(job)

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert set(asked) == {"requests"}
        for one in asked["requests"]:
            assert set(one) == {"custom_id", "params"}
            self.wire.check(one["params"])
        requests = [(one["custom_id"], one["params"]) for one in asked["requests"]]
        return self._batch(self.add(Job(f"msgbatch_{self.new_id()}", requests, time.time())))

    def _batch(self, job: Job) -> dict[str, Any]:
        over, total = self.over(job), len(job.requests)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(job.created))
        counts = {"processing": 0 if over else total, "succeeded": total if over else 0}
        made = {
            "id": job.id,
            "type": "message_batch",
            "created_at": stamp,
            "expires_at": stamp,
            "ended_at": stamp if over else None,
            "archived_at": None,
            "cancel_initiated_at": stamp if job.cancelled else None,
            "processing_status": "ended" if over else "in_progress",
            "request_counts": {"errored": 0, "canceled": 0, "expired": 0, **counts},
            "results_url": f"{self.url}/v1/messages/batches/{job.id}/results" if over else None,
        }
        # Times are texts on the wire, which the SDK makes into datetimes.
        MessageBatch.model_validate_json(json.dumps(made), strict=True)
        return made

    def _results(self, job: Job) -> Iterator[bytes]:
        for number, (custom_id, params) in enumerate(self.lines(job)):
            said = self.answer(params)
            result: dict[str, Any]
            if (job.cancelled or job.expired) and number >= len(job.requests) // 2:
                result = {"type": "canceled" if job.cancelled else "expired"}
            elif isinstance(said, int):
                result = {"type": "errored", "error": json.loads(self.wire.error(said).parts[0])}  # type: ignore[arg-type]
            else:
                result = {"type": "succeeded", "message": json.loads(self.wire.reply(said).parts[0])}  # type: ignore[arg-type]
            line = {"custom_id": custom_id, "result": result}
            MessageBatchIndividualResponse.model_validate_json(json.dumps(line))
            yield json.dumps(line).encode() + b"\n"

    def _page(self, query: dict[str, list[str]], items: list[dict[str, Any]]) -> dict[str, Any]:
        after = query.get("after_id", [""])[0]
        start = next((i + 1 for i, item in enumerate(items) if item["id"] == after), 0)
        page = items[start : start + 2]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"data": page, "has_more": start + 2 < len(items), **ends}

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "r"}
