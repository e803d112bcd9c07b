"""Structured logging: one line an event on the logger "pageform", with the numbers as extra fields.

    logging.getLogger("pageform").setLevel(logging.DEBUG)
    handler.setFormatter(JsonFormatter())          # one JSON object a line; or any formatter that knows `extra`

Attempts are told at DEBUG, rejected answers at INFO, calls that failed at WARNING. Neither prompts nor answers are ever
logged; of a fault its place, type and message are, and the message may quote a word of the answer.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from .bounded import bounded, cut
from .errors import StructuredError
from .events import CallAbandoned, Event, EventName
from .redact import redact, redact_text

logger = logging.getLogger("pageform")
logger.addHandler(logging.NullHandler())

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FAULTS = 10
"""Faults that a line names."""


def wants(name: EventName, error: Exception | None = None) -> bool:
    """Whether an event of that name will be logged."""
    return logger.isEnabledFor(_level(name, error))


def log_event(event: Event) -> None:
    """Log one event."""
    logger.log(_level(event.name, event.error), "%s", _sentence(event), extra=fields(event))


def fields(event: Event) -> dict[str, Any]:
    """What a log line says of an event: plain data without prompts, answers and secrets."""
    told: dict[str, Any] = {
        "event": str(event.name),
        "call_id": event.call_id,
        "trace_id": event.trace_id,
        "span_id": event.span_id,
        "provider": event.provider,
        "model": event.model,
        "attempt": event.attempt,
        "max_attempts": event.max_attempts,
        "elapsed": round(event.elapsed, 6),
        "attempt_elapsed": round(event.attempt_elapsed, 6),
        "prompt_tokens": event.total_usage.prompt_tokens,
        "completion_tokens": event.total_usage.completion_tokens,
    }
    if event.cached:
        told["cached"] = True
    if event.request_id:
        told["request_id"] = event.request_id
    if event.finish_reason is not None:
        told["finish_reason"] = event.finish_reason
    if event.error is not None:
        told["error_type"] = type(event.error).__qualname__
        told["faults"] = [
            {"path": fault.path, "type": fault.type, "msg": redact_text(fault.msg)} for fault in event.faults[:_FAULTS]
        ]
    return told


class JsonFormatter(logging.Formatter):
    """Log records as one JSON object a line: time (ISO 8601, UTC), level, logger, message and all extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact_text(record.getMessage()),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= {name: bounded(value) for name, value in redact(extra).items()}
        if record.exc_info:
            line["exception"] = redact_text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def _level(name: EventName, error: Exception | None) -> int:
    if name is EventName.PARSE_ERROR:
        return logging.INFO
    failed = error is not None and not isinstance(error, CallAbandoned)
    return logging.WARNING if name is EventName.END and failed else logging.DEBUG


def _sentence(event: Event) -> str:
    number = f"{event.attempt} of {event.max_attempts}" if event.max_attempts is not None else str(event.attempt)
    who = " ".join(part for part in (event.provider, event.model) if part) or "the model"
    if event.name is EventName.PARSE_ERROR:
        return f"answer {number} of {who} was rejected: {len(event.faults)} faults"
    if event.name is EventName.END and event.error is not None:
        own = isinstance(event.error, StructuredError)  # such a message quotes the answer
        reason = "" if own else ": " + redact_text(cut(str(event.error).partition("\n")[0]))
        return f"no answer of {who} after attempt {number}: {type(event.error).__name__}{reason}"
    if event.cached:
        return f"{event.name} of a call of {who} that a cache answered"
    if event.name is EventName.END:
        return f"{who} answered in {event.elapsed:.3f} s and {event.attempt} attempt(s)"
    return f"{event.name} of attempt {number} with {who}"
