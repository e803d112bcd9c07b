"""What is saved of a request that is stopped where it stands; `resume` goes on from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING, Any

from ..core.completion import Attempt, Completion
from ..core.confidence import ConfidenceOptions
from ..core.errors import SnapshotError
from ..core.params import SamplingParams
from ..core.reasoning import Reasoning
from ..core.request import Request
from ..core.snapshot import (
    AttemptSnapshot,
    NumericsId,
    RequestSnapshot,
    SampleSnapshot,
    ToolsSnapshot,
    TypedSnapshot,
    encode,
)
from .child import Child
from .sink import OutputSink
from .ticket import Ticket

if TYPE_CHECKING:
    from ..forms.form import Form
    from .options import TypedOptions
    from .tools import ToolSet


def save(ticket: Ticket, numerics: NumericsId, drafts: str, now: float) -> bytes:
    """The ticket's request as bytes; `drafts` is the engine's mode. Raises SnapshotError for what can't be saved.

    Called between steps, in the engine's thread.
    """
    first = ticket.requests[0]
    params = first.params
    sink = first.sink
    assert isinstance(sink, OutputSink)
    if ticket.typed is None and (sink.guard is not None or (sink.matcher is not None and not _has_grammar(params))):
        reason = "a driver gave it a grammar of its own"
        raise SnapshotError(f"request {ticket.request_id} can't be saved: {reason}. Let it finish")
    snapshot = RequestSnapshot(
        numerics=numerics,
        # A number of this engine's own says nothing elsewhere.
        request_id=None if ticket.request_id == f"req-{first.index}" else ticket.request_id,
        prompt_ids=list(first.prompt_ids),
        params=plain_params(params),
        max_tokens=first.max_tokens,
        seed=first.sampling.seed,
        drafts=params.drafts if params.drafts is not None else drafts,
        num_processors=len(params.logits_processors),
        elapsed=max(0.0, now - first.arrival),
        samples=[_sample(request) for request in ticket.requests],
        typed=None if ticket.typed is None else ticket.typed(),
    )
    try:
        return encode(snapshot)
    except (TypeError, OverflowError, ValueError) as error:
        raise SnapshotError(f"request {ticket.request_id} holds what is no plain data: {error}") from error


def plain_params(params: SamplingParams) -> dict[str, Any]:
    """The fields that differ from the defaults, without code; a JSON schema as its text."""
    plain: dict[str, Any] = {}
    for field in fields(params):
        value = getattr(params, field.name)
        if field.name == "logits_processors" or (field.default is not MISSING and value == field.default):
            continue
        if field.name == "json_schema" and not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False)
        elif field.name == "repetition_detection" or isinstance(value, ConfidenceOptions):
            value = asdict(value)
        elif field.name == "logit_bias":
            value = dict(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = list(value)
        elif isinstance(value, Reasoning):
            value = asdict(value)
        plain[field.name] = value
    return plain


def typed_snapshot(
    form: Form[Any],
    params: SamplingParams,
    original: Any,
    payload: Any,
    attempts: Sequence[Attempt],
    options: TypedOptions,
) -> TypedSnapshot:
    """What is kept of a call for a typed answer while it waits for `payload` to be answered."""
    spec = form.spec
    kept = payload.kept if isinstance(payload, Child) else None
    return TypedSnapshot(
        name=spec.name,
        schema=schema_text(spec.json_schema),
        plain=schema_text(spec.response_type) if isinstance(spec.response_type, dict) else None,
        params=plain_params(params),
        original=original,
        payload=payload.shown if isinstance(payload, Child) else payload,
        is_child=isinstance(payload, Child),
        kept=None if kept is None else (list(kept.pieces), [list(hole) for hole in kept.holes]),
        **_judging(attempts, options),
    )


def calls_snapshot(
    tools: ToolSet,
    params: SamplingParams,
    original: Any,
    payload: Any,
    attempts: Sequence[Attempt],
    options: TypedOptions,
) -> TypedSnapshot:
    """What is kept of a call with tools."""
    offered = ToolsSnapshot(tools.choice, list(tools.callable), tools.parallel, asdict(tools.format))
    return TypedSnapshot(
        name="tool_calls",
        schema=tools.schema_text,
        plain=None,
        params=plain_params(params),
        original=original,
        payload=payload,
        is_child=False,
        kept=None,
        **_judging(attempts, options),
        tools=offered,
    )


def _judging(attempts: Sequence[Attempt], options: TypedOptions) -> dict[str, Any]:
    rewind = options.rewind
    return {
        "attempts": [attempt_snapshot(one) for one in attempts],
        "max_retries": options.max_retries if isinstance(options.max_retries, int) else None,
        "strict": options.strict,
        "on_invalid": options.on_invalid,
        "rewind": None if rewind is None else (rewind.tries, rewind.max_rewound_tokens, rewind.temperature),
        "has_context": options.context is not None,
    }


def schema_text(schema: Any) -> str:
    """A JSON schema as text; the order of properties is part of it, since answers follow it."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def attempt_snapshot(attempt: Attempt) -> AttemptSnapshot:
    """What is kept of an earlier attempt."""
    usage, response = attempt.usage, attempt.response
    return AttemptSnapshot(
        attempt.number,
        attempt.text,
        f"{type(attempt.error).__name__}: {attempt.error}",
        (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
        attempt.finish_reason,
        json.dumps([fault.as_dict() for fault in attempt.faults], default=str),
        list(response.token_ids) if isinstance(response, Completion) else [],
    )


def _has_grammar(params: SamplingParams) -> bool:
    return any(getattr(params, name) is not None for name in ("json_schema", "regex", "choice", "grammar"))


def _sample(request: Request) -> SampleSnapshot:
    assert isinstance(request.sink, OutputSink)

    def since(when: float | None) -> float | None:
        return None if when is None else when - request.arrival

    return SampleSnapshot(
        log=list(request.log.entries if request.sink.guard is None else request.sink.guard.settled_log()),
        prompt_logprobs=request.sink.prompt_logprobs,
        scheduled=since(request.first_scheduled_time),
        first_token=since(request.first_token_time),
        finished=since(request.finish_time),
        num_cached=request.num_cached,
        num_preemptions=request.num_preemptions,
    )
