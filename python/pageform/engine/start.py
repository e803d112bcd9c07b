"""The first requests of a call, whatever it asks for; what plain text does not need is imported with what does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import ParameterError

if TYPE_CHECKING:
    from .base import BaseEngine, Sampling
    from .options import ToolOptions, TypedOptions
    from .ticket import Ticket
    from .typed import TypedCall


def start_answers(
    engine: BaseEngine,
    items: Sequence[Any],
    sampling: Sampling,
    response_model: Any,
    options: TypedOptions,
    request_id: str | None,
    tools: ToolOptions | None = None,
) -> list[tuple[TypedCall[Any] | None, Ticket]]:
    """The call (None for plain text) and first ticket of each item, all checked and none submitted."""
    if tools is not None:
        from .tools import start_tools

        return start_tools(engine, items, sampling, options, request_id, tools)
    params = engine.sampling_list(sampling, len(items), response_model is not None, options.confidence)
    if request_id is not None and len(items) != 1:
        raise ParameterError("request_id", request_id, "names one request, not a list", "Leave it out for lists.")
    if response_model is None:
        for one in params:
            engine.parts.preparer.promise(one, options.guarantee)
        return [(None, engine.ticket(i, p, request_id=request_id)) for i, p in zip(items, params, strict=True)]
    from .typed import TypedCall

    form = engine.form(response_model, options.guarantee)
    calls: list[TypedCall[Any]] = [
        TypedCall(engine, form, i, p, options, request_id) for i, p in zip(items, params, strict=True)
    ]
    return [(call, call.next_ticket()) for call in calls]
