"""Going on with a request that was suspended, here or in another engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.completion import Attempt, Completion, Fault, Usage
from ..core.confidence import ConfidenceOptions
from ..core.errors import (
    NumericsMismatchError,
    PageformError,
    ParameterError,
    SchemaMismatchError,
    SnapshotDamagedError,
)
from ..core.params import LogitsProcessor, RepetitionDetection, SamplingParams
from ..core.reasoning import Reasoning
from ..core.request import Request
from ..core.snapshot import (
    AttemptSnapshot,
    NumericsId,
    RequestSnapshot,
    SampleSnapshot,
    ToolsSnapshot,
    TypedSnapshot,
    decode,
)
from ..forms.kept import KeptText
from ..forms.rewind import RewindOptions
from ..structured.errors import EarlierRejection
from ..structured.loop import Earlier
from ..text.tool_formats import ToolFormat
from .child import Child
from .feed import Change
from .growing import TypedStream
from .options import StreamOptions, ToolOptions, TypedOptions
from .replay import replay
from .sink import OnDelta, OutputSink
from .suspend import schema_text
from .ticket import Ticket
from .tools import ToolsCall, ToolSet, ToolStream
from .typed import TypedCall

if TYPE_CHECKING:
    from ..forms.grammar import Grammar
    from .base import BaseEngine


@dataclass(frozen=True, slots=True)
class Given:
    """What a suspended request could not carry along: code, and what it was made for."""

    response_model: Any = None
    context: Any = None
    hooks: Any = None
    max_retries: Any = None
    logits_processors: Sequence[LogitsProcessor] = ()
    request_id: str | None = None
    tools: Any = None
    asynchronous: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """A request that is ready to go on: submit the ticket. `call` takes it if the answer is a typed one; `stream`,
    where it is to be shown, knows what there was of it already."""

    call: TypedCall[Any] | None
    ticket: Ticket
    stream: TypedStream | ToolStream | None = None


def load(
    engine: BaseEngine,
    data: bytes,
    given: Given,
    on_delta: OnDelta | None = None,
    put: Callable[[Change], None] | None = None,
) -> Resumed:
    """Checks a suspended request against an engine and takes it to where it stood, before any work starts.

    `on_delta` will hear of new text, `put` of what becomes of a typed answer.

    Raises SnapshotError, whose kinds tell damage, another format, other numerics and another schema apart; and
    ParameterError or SchemaError for what does not fit the engine or was not given again.
    """
    snapshot = decode(data)
    _check_numerics(snapshot.numerics, engine.parts.numerics())
    if len(given.logits_processors) != snapshot.num_processors:
        raise ParameterError(
            "logits_processors",
            given.logits_processors,
            f"must be the {snapshot.num_processors} functions of the suspended request",
            "Code is not saved with a request: give the same functions again.",
        )
    params = _params(snapshot.params, snapshot, given)
    request_id = given.request_id if given.request_id is not None else snapshot.request_id
    typed = snapshot.typed
    if given.response_model is not None and (typed is None or typed.tools is not None):
        raise SchemaMismatchError("the suspended request has no response model. Leave it out")
    if given.tools is not None and (typed is None or typed.tools is None):
        raise SchemaMismatchError("the suspended request has no tools. Leave them out")
    if snapshot.typed is None:
        ticket = _ticket(engine, snapshot, params, None, request_id)
        _sink(ticket).listen(on_delta, put)
        return Resumed(None, ticket)
    further = _params(snapshot.typed.params, snapshot, given)
    if snapshot.typed.tools is not None:
        asked = _tools_call(engine, snapshot.typed, snapshot.typed.tools, further, given, request_id)
        ticket = _ticket(engine, snapshot, params, asked.grammar, request_id, **asked.guarding())
        ticket.typed = asked.snapshot
        _sink(ticket).listen(on_delta, put)
        shows = put is not None and on_delta is not None
        return Resumed(asked, ticket, ToolStream.resumed(asked, ticket, put, on_delta) if shows else None)  # type: ignore[arg-type]
    call = _call(engine, snapshot.typed, snapshot, further, given, request_id)
    told: list[Change] = []
    stream = None if put is None else TypedStream(call, StreamOptions(), told.append)
    feed = None if stream is None else stream.feed
    ticket = _ticket(engine, snapshot, params, call.grammar, request_id, feed=feed, **call.guarding())
    ticket.typed = call.snapshot
    if stream is not None and put is not None:
        for change in told:
            stream.see(change)  # it was shown before
        stream.feed.put = put
        _sink(ticket).listen(None, put)
    return Resumed(call, ticket, stream)


def _sink(ticket: Ticket) -> OutputSink:
    sink = ticket.requests[0].sink
    assert isinstance(sink, OutputSink)
    return sink


def _check_numerics(there: NumericsId, here: NumericsId) -> None:
    pairs = {name: (getattr(there, name), getattr(here, name)) for name in NumericsId.__struct_fields__}
    differences = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if differences:
        raise NumericsMismatchError(differences)


def _params(saved: dict[str, Any], snapshot: RequestSnapshot, given: Given) -> SamplingParams:
    plain = dict(saved)
    if isinstance(plain.get("reasoning"), dict):
        plain["reasoning"] = msgspec.convert(plain["reasoning"], Reasoning)
    try:
        if "repetition_detection" in plain:
            plain["repetition_detection"] = RepetitionDetection(**plain["repetition_detection"])
        if isinstance(plain.get("confidence"), dict):
            plain["confidence"] = ConfidenceOptions(**plain["confidence"])
        params = SamplingParams(**plain)
    except (TypeError, PageformError) as error:
        raise SnapshotDamagedError(f"its parameters are not valid: {error}") from error
    return params.with_(drafts=snapshot.drafts, logits_processors=tuple(given.logits_processors))


def _ticket(
    engine: BaseEngine,
    snapshot: RequestSnapshot,
    params: SamplingParams,
    grammar: Grammar | None,
    request_id: str | None,
    **guarding: Any,
) -> Ticket:
    """A ticket as the first one was, with every sample where it stood."""
    arrival = engine.parts.core.clock() - snapshot.elapsed
    resolved = params.with_(max_tokens=snapshot.max_tokens, seed=snapshot.seed)
    preparer = engine.parts.preparer
    ticket = preparer.ticket(snapshot.prompt_ids, resolved, grammar, None, request_id, arrival, **guarding)
    if len(ticket.requests) != len(snapshot.samples):
        raise SnapshotDamagedError(f"{len(snapshot.samples)} samples where n is {params.n}")
    for request, sample in zip(ticket.requests, snapshot.samples, strict=True):
        _restore(request, sample)
    # Who waits for the prompt to be computed has no log; the first of these may have ended meanwhile.
    waiting = [one for one in ticket.requests if not one.log.entries]
    ticket.requests[0].siblings = []
    if waiting:
        waiting[0].siblings = waiting[1:]
    return ticket


def _restore(request: Request, sample: SampleSnapshot) -> None:
    assert isinstance(request.sink, OutputSink)

    def when(seconds: float | None) -> float | None:
        return None if seconds is None else request.arrival + seconds

    request.num_cached, request.num_preemptions = sample.num_cached, sample.num_preemptions
    request.first_scheduled_time = when(sample.scheduled)
    request.first_token_time = when(sample.first_token)
    if sample.prompt_logprobs is not None:
        request.sink.restore_prompt_logprobs(sample.prompt_logprobs)
        request.num_scored = len(sample.prompt_logprobs)
    if sample.first_token is not None:
        request.num_scored = request.num_prompt_tokens  # what it has no scores of is another sample's
    if sample.log:
        replay(request, sample.log, request.arrival + (sample.finished or 0.0))


# --- typed answers ----------------------------------------------------------------------------------------------------


def _call(
    engine: BaseEngine,
    typed: TypedSnapshot,
    snapshot: RequestSnapshot,
    params: SamplingParams,
    given: Given,
    request_id: str | None,
) -> TypedCall[Any]:
    form = engine.form(_response_model(typed, given))
    schema = schema_text(form.spec.json_schema)
    if schema != typed.schema:
        place = _first_difference(json.loads(typed.schema), json.loads(schema))
        raise SchemaMismatchError(
            f"the response model {form.spec.name} has another JSON schema than {typed.name} had when the request was "
            f"suspended: they differ at {place or 'the order of keys'}. Give the same response model"
        )
    payload: Any = typed.payload
    if typed.is_child:
        kept = None
        if typed.kept is not None:
            pieces, holes = typed.kept
            kept = KeptText(form.check, tuple(pieces), tuple(map(tuple, holes)))
        payload = Child(snapshot.prompt_ids, typed.payload, kept)
    options, earlier = _judging(typed, given)
    return TypedCall(engine, form, payload, params, options, request_id, earlier=earlier)


def _tools_call(
    engine: BaseEngine,
    typed: TypedSnapshot,
    offered: ToolsSnapshot,
    params: SamplingParams,
    given: Given,
    request_id: str | None,
) -> ToolsCall:
    names = list(json.loads(typed.schema))
    if given.tools is None:
        raise SchemaMismatchError(f"the suspended request has the tools {names}, whose code is not saved with it")
    choice = offered.callable[0] if offered.choice == "named" else offered.choice
    tools = ToolSet(engine, ToolOptions(given.tools, choice, offered.parallel, ToolFormat(**offered.format)))
    if tools.schema_text != typed.schema:
        place = _first_difference(json.loads(typed.schema), json.loads(tools.schema_text))
        raise SchemaMismatchError(f"the tools differ from those of the suspended request at {place or 'their order'}")
    options, earlier = _judging(typed, given)
    return ToolsCall(engine, tools, typed.payload, params, options, request_id, earlier)


def _judging(typed: TypedSnapshot, given: Given) -> tuple[TypedOptions, Earlier[Any]]:
    """How answers are judged, and what there was of attempts."""
    if typed.has_context and given.context is None:
        raise ParameterError(
            "context", None, "was given to the suspended request", "It is not saved: give the same context again."
        )
    max_retries = given.max_retries if given.max_retries is not None else typed.max_retries
    if max_retries is None:
        raise ParameterError(
            "max_retries", None, "was a policy of the caller's own", "Code is not saved: give it again, or a number."
        )
    options = TypedOptions(
        max_retries=max_retries,
        context=given.context,
        strict=typed.strict,
        hooks=given.hooks,
        on_invalid=typed.on_invalid,  # type: ignore[arg-type]
        rewind=None if typed.rewind is None else RewindOptions(*typed.rewind),
        asynchronous=given.asynchronous,
    )
    return options, Earlier(typed.original, [_attempt(one) for one in typed.attempts])


def _response_model(typed: TypedSnapshot, given: Given) -> Any:
    if given.response_model is not None:
        return given.response_model
    if typed.plain is not None:
        return json.loads(typed.plain)
    raise SchemaMismatchError(
        f"the suspended request is for a {typed.name}, whose code is not saved with it. Give the same response_model"
    )


def _attempt(saved: AttemptSnapshot) -> Attempt:
    faults = tuple(Fault(**{**fault, "loc": tuple(fault["loc"])}) for fault in json.loads(saved.faults))
    usage = Usage(*saved.usage)
    assert saved.finish_reason is not None
    response = Completion(saved.text, saved.token_ids, saved.finish_reason, usage)
    return Attempt(
        saved.number, saved.text, EarlierRejection(saved.error), usage, saved.finish_reason, response, faults
    )


def _first_difference(one: Any, other: Any, place: str = "") -> str | None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            here = f"{place}.{key}".removeprefix(".")
            if key not in one or key not in other:
                return here
            if (found := _first_difference(one[key], other[key], here)) is not None:
                return found
        return None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found_at = (_first_difference(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
        return next((found for found in found_at if found is not None), None)
    return None if one == other else place or "the root"
