"""What a caller may ask of an answer besides how it is sampled: validation, tools, what a stream shows.

Plain data, checked as it is made, and light: the engine's doors need no more of typed answers until there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..core.errors import ParameterError
from ..forms.plan import Guarantee

if TYPE_CHECKING:
    from ..core.confidence import ConfidenceOptions
    from ..forms.rewind import RewindOptions
    from ..text.tool_formats import ToolFormat

OnInvalid = Literal["rewind", "reask", "raise"]
"""What becomes of a value that is not valid. "rewind": it alone is decoded again, the moment it closes, and the answer
is asked for again only when that doesn't help; "reask": the answer is asked for again, with what was wrong with it;
"raise": neither. An answer that is asked for again keeps its valid values."""


@dataclass(frozen=True, slots=True)
class TypedOptions:
    """How answers are validated and asked for again; see `Engine.generate`."""

    max_retries: int = 3
    context: Any = None
    strict: bool | None = None
    hooks: Any = None
    on_invalid: OnInvalid = "rewind"
    rewind: RewindOptions | None = None
    guarantee: Guarantee | None = None
    confidence: bool | ConfidenceOptions = False
    asynchronous: bool = False

    def __post_init__(self) -> None:
        if self.on_invalid not in get_args(OnInvalid):
            names = ", ".join(map(repr, get_args(OnInvalid)))
            raise ParameterError("on_invalid", self.on_invalid, "is unknown", f"Use one of {names}.")
        if self.guarantee is not None and self.guarantee not in get_args(Guarantee):
            raise ParameterError("guarantee", self.guarantee, "is unknown", 'Use "full", or None.')

    def refuse_unseen_confidence(self, response_model: Any) -> None:
        """Raises ParameterError where a call gives back the value alone, and nobody would see the confidence in it."""
        if self.confidence is not False and response_model is not None and self.hooks is None:
            remedy = "Call generate_with_completion: its Completion has `fields`."
            raise ParameterError("confidence", self.confidence, "would be lost: only the value is returned", remedy)


Partials = Literal["text", "fields"]
"""When a partial object is given. "text": also while a string grows; "fields": once for each value that is complete."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a stream shows; see `Engine.stream`."""

    events: bool = False
    stable: bool = False
    partials: Partials = "text"

    def __post_init__(self) -> None:
        if self.partials not in get_args(Partials):
            names = ", ".join(map(repr, get_args(Partials)))
            raise ParameterError("partials", self.partials, "is unknown", f"Use one of {names}.")


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """The tools of a call, and whether they must be called; see `Engine.chat`."""

    tools: Any
    tool_choice: Any = "auto"
    parallel_tool_calls: bool = True
    tool_format: str | ToolFormat = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.parallel_tool_calls, bool):
            raise ParameterError(
                "parallel_tool_calls", self.parallel_tool_calls, "must be True or False", "Give a bool."
            )


def tool_options(
    tools: Any, tool_choice: Any, parallel: bool, form: str | ToolFormat, response_model: Any = None
) -> ToolOptions | None:
    """What a caller says of tools, None if there are none. Raises ParameterError for what makes no sense then."""
    if tools is None:
        if tool_choice not in ("auto", "none"):
            raise ParameterError("tool_choice", tool_choice, "there are no tools", "Give tools, or leave it out.")
        return None
    if response_model is not None:
        remedy = "Give one of them; Iterable[A | B] as response_model is a list of calls."
        raise ParameterError("tools", tools, "can't be combined with response_model", remedy)
    return ToolOptions(tools, tool_choice, parallel, form)
