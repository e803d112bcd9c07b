"""Text to a validated value: FIND the JSON, REPAIR its syntax, ALIGN it with the type, then Pydantic decides.

    parse('Sure! {name: "Ann", "age": "31 years",}', User)          # User(name='Ann', age=31)
    parse_report(text, User, "lenient").repairs                      # what was changed, and at which cost

Text that is valid as it is is never touched: all presets then give what `TypeAdapter.validate_json` gives. Otherwise
the value is what `validate_json` gives for `Report.json`. What can mean several things is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from .bounded import shorten
from .codecs import Codecs
from .json_tree import Path, Repair
from .leniency import Leniency
from .parse_errors import EmptyText, Invalid, NotFound, NotText, TooLarge
from .spec import Spec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report(Generic[T]):
    """A value and how it was read.

    `json` is the text that Pydantic validated: the answer itself, or what the layers made of it. `repairs` are in the
    order find, repair, align. `truncated` tells that the answer broke off and `value` is what had arrived ("lenient").
    """

    value: T
    json: str
    repairs: tuple[Repair, ...] = ()
    truncated: bool = False
    spec: Spec[T] | None = field(default=None, repr=False, compare=False)

    @property
    def ignored(self) -> tuple[Path, ...]:
        """Where `json` has keys that the type does not have and Pydantic passed over, also in an answer that was valid.

        Found when asked for; nothing is said of answers nested deeper than `MAX_DEPTH`.
        """
        if self.spec is None:
            return ()
        from .align import ignored_keys

        return ignored_keys(self.json, self.spec)

    @property
    def cost(self) -> float:
        """How far the answer was from what it should have been; 0 if it was valid as it came."""
        return sum(entry.cost for entry in self.repairs)


def parse(
    text: str | bytes,
    response_type: Any,
    leniency: str | Leniency = "default",
    context: Any = None,
    *,
    strict: bool | None = None,
    codecs: Codecs | None = None,
) -> Any:
    """The value of `response_type` that a text stands for.

    `leniency` is "strict" (exactly `TypeAdapter.validate_json`), "default" (what has one reading only), "lenient" (also
    what takes a guess, which the report then tells) or a `Leniency`. `context` and `strict` go to Pydantic. Raises a
    `ParseError`, and whatever a validator raises besides `ValueError` and `AssertionError`.
    """
    return parse_report(text, response_type, leniency, context, strict=strict, codecs=codecs).value


def parse_report(
    text: str | bytes,
    response_type: Any,
    leniency: str | Leniency = "default",
    context: Any = None,
    *,
    strict: bool | None = None,
    codecs: Codecs | None = None,
) -> Report[Any]:
    """As `parse`, with the log of everything that was changed."""
    spec = codecs.spec(response_type) if codecs is not None else Spec.of(response_type)
    return read(text, spec, leniency, context, strict)


def read(
    text: str | bytes,
    spec: Spec[T],
    leniency: str | Leniency = "default",
    context: Any = None,
    strict: bool | None = None,
    envelope: bool = False,
) -> Report[T]:
    """The value of a spec that a text stands for, with the log of what was changed. Raises as `parse` does.

    `envelope` as in `Spec.validate`: the text may be that of an object after `spec.object_schema`, and needs no repair
    for that.
    """
    layers = Leniency.of(leniency)
    try:
        value = spec.validate(text, context=context, strict=strict, envelope=envelope)
        return Report(value, _shown(text), spec=spec)
    except ValidationError as error:
        refused = error
    if not layers.names:
        raise Invalid.by(refused, spec, _shown(text)) from refused
    from .choose import choose  # 25 ms: only for text that is not valid as it is

    plain = _plain(text, layers)
    try:
        choice = choose(plain, spec, layers)
    except NotFound:
        if refused.errors(include_url=False)[0]["type"] == "json_invalid":
            raise
        raise Invalid.by(refused, spec, plain) from refused  # it is JSON: a number or null for an object
    asked_for = (spec.envelope,) if envelope and spec.envelope is not None else ()
    repairs = tuple(entry for entry in choice.repairs if entry.rule != "wrapper" or entry.before not in asked_for)
    unwrapped = len(repairs) < len(choice.repairs)
    if not repairs and unwrapped == bool(asked_for):  # the text itself, which was refused already: validators ran once
        raise choice.refusal(refused, spec, plain) from refused
    try:
        value = spec.validate(choice.json, context=context, strict=strict)
    except ValidationError as error:
        raise choice.refusal(error, spec, plain) from error
    return Report(value, choice.json, repairs, choice.truncated, spec)


def _shown(text: str | bytes) -> str:
    return text if isinstance(text, str) else bytes(text).decode("utf-8", "replace")


def _plain(text: str | bytes, layers: Leniency) -> str:
    """The text as a string that the layers may look at."""
    if len(text) > 4 * layers.max_characters:
        raise _too_large(len(text), "bytes" if isinstance(text, bytes) else "characters", layers)
    try:
        plain = text if isinstance(text, str) else bytes(text).decode("utf-8")
        plain.encode("utf-8")  # halves of surrogate pairs are no text
    except UnicodeError as error:
        shown = _shown(text).encode("utf-8", "replace").decode()
        raise NotText(f"the answer is not UTF-8 text: {error}", shown) from None
    if len(plain) > layers.max_characters:
        raise _too_large(len(plain), "characters", layers)
    if not plain.strip("\ufeff \t\r\n"):
        raise EmptyText(f"the answer is empty: {shorten(plain)}", plain)
    return plain


def _too_large(size: int, unit: str, layers: Leniency) -> TooLarge:
    return TooLarge(
        f"the answer is no valid JSON of the type and, at {size} {unit}, too long to be mended "
        f"(at most {layers.max_characters} characters; see Leniency.max_characters)"
    )
