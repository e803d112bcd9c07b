"""How far from plain JSON an answer may be: three layers of named rules, each of which can be switched off.

    FIND     where the answer's JSON lies in the text
    REPAIR   how text that is nearly JSON is read as JSON
    ALIGN    how JSON that nearly fits the response type is made to fit

Each rule has a cost: how far it departs from what was written. Costs decide between readings, never whether a reading
is valid: that is Pydantic's to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from ..core.errors import ParameterError

Layer = Literal["find", "repair", "align"]


class Rule(NamedTuple):
    """One thing that is forgiven. `careful` rules belong to "default"; the others only to "lenient"."""

    layer: Layer
    cost: float
    careful: bool
    text: str


RULES: dict[str, Rule] = {
    # --- FIND --------------------------------------------------------------------------------------------------------
    "byte_order_mark": Rule("find", 0, True, "a byte order mark before the answer"),
    "prose": Rule("find", 0, True, "text around the JSON"),
    "fence": Rule("find", 0, True, "a code fence around the JSON"),
    "tag": Rule("find", 0, True, "an XML tag such as <answer> around the JSON"),
    "thinking": Rule("find", 0, True, "reasoning in <think> tags, which is no part of the answer"),
    "choice": Rule("find", 0, True, "several JSON values, of which one fits best"),
    "lines": Rule("find", 1, True, "values one after the other instead of a list (JSON lines)"),
    "collect": Rule("find", 3, False, "values scattered over the text instead of a list"),
    "bare": Rule("find", 0.5, True, "a plain value without JSON's quotes"),
    "label": Rule("find", 1, True, "a label such as `Answer:` before a plain value"),
    "mention": Rule("find", 4, False, "a sentence that mentions exactly one possible value"),
    "members": Rule("find", 3, False, "lines of `key: value` instead of an object"),
    "opener": Rule("find", 2, True, "members without the opening brace"),
    "unescape": Rule("find", 2, True, "JSON that is escaped as if it stood in a string or in HTML"),
    # --- REPAIR ------------------------------------------------------------------------------------------------------
    "comment": Rule("repair", 0.5, True, "comments"),
    "trailing_comma": Rule("repair", 0.5, True, "a comma before a closing bracket"),
    "extra_comma": Rule("repair", 1, True, "several commas between members"),
    "missing_comma": Rule("repair", 1, True, "no comma between members"),
    "separator": Rule("repair", 0.5, True, "`;` or `，` for a comma, `=`, `=>` or `：` for a colon"),
    "quotes": Rule("repair", 0.5, True, "single, typographic, triple or back quotes"),
    "unquoted_key": Rule("repair", 0.5, True, "keys without quotes"),
    "unquoted_value": Rule("repair", 1, True, "text without quotes"),
    "literal": Rule("repair", 0.5, True, "True, None, undefined, NULL …"),
    "number_spelling": Rule("repair", 0.5, True, "numbers such as +5, .5, 5. or 0x1F"),
    "not_a_number": Rule("repair", 0.5, True, "NaN and Infinity"),
    "control_character": Rule(
        "repair", 0.5, True, "line breaks and other control characters inside text; they are kept"
    ),
    "escape": Rule("repair", 0.5, True, "escapes that JSON doesn't know"),
    "surrogate": Rule("repair", 1, True, "half of a surrogate pair; it becomes U+FFFD"),
    "inner_quote": Rule("repair", 1, True, "quotes inside text that are not escaped"),
    "concatenation": Rule("repair", 1, True, "text in several pieces joined by +"),
    "tuple": Rule("repair", 1, True, "Python's tuples and sets"),
    "call": Rule("repair", 1, True, "what Python shows: Decimal('1.5'), date(2024, 1, 5), User(name='Ann', age=31)"),
    "doubled_braces": Rule("repair", 1, True, "{{ and }} for { and }"),
    "missing_closer": Rule("repair", 1, True, "missing closing brackets"),
    "extra_closer": Rule("repair", 1, True, "surplus closing brackets"),
    "duplicate_key": Rule("repair", 2, True, "a key that occurs twice; the last one counts, as in JSON"),
    "ellipsis": Rule("repair", 4, False, "`...` where values were left out"),
    "missing_value": Rule("repair", 3, False, "a key without a value; it is left out"),
    "cut": Rule("repair", 6, False, "an answer that breaks off; its last text or number is kept as far as it goes"),
    "guess": Rule("repair", 6, False, "anything else json-repair can read without losing or inventing a word"),
    # --- ALIGN -------------------------------------------------------------------------------------------------------
    "key_style": Rule("align", 0.5, True, "keys in another style: firstName, first-name, First Name"),
    "alias": Rule("align", 0.5, True, "a field's name for its alias, or the other way round"),
    "key_typo": Rule("align", 2, False, "a misspelt key"),
    "extra": Rule("align", 3, True, "a key that the type does not have; Pydantic ignores it"),
    "wrapper": Rule("align", 1, True, 'an envelope: {"answer": …}, {"Invoice": …}, {"name": …, "arguments": …}'),
    "double_encoding": Rule("align", 1, True, "JSON inside a string"),
    "single_value": Rule("align", 2, True, "one value for a list"),
    "single_item": Rule("align", 1.5, True, "a list of one for a value"),
    "sole_field": Rule("align", 1.5, True, "a list for an object whose only field is a list"),
    "split": Rule("align", 2, True, "a list written as text, such as `1; 2; 3`"),
    "pairs": Rule("align", 2, False, "a list of pairs for a map"),
    "indexed": Rule("align", 2, False, 'a list written as {"0": …, "1": …}'),
    "enum_case": Rule("align", 0.5, True, "an option in other letter case, spacing or punctuation"),
    "enum_name": Rule("align", 0.5, True, "an enum member's name for its value"),
    "enum_typo": Rule("align", 2, True, "an option misspelt by a letter, if no other is close"),
    "number": Rule("align", 0.5, True, "a number as text"),
    "thousands": Rule("align", 0.5, True, "separators in numbers: 1,234.56 or 1.234,56"),
    "currency": Rule("align", 1, True, "a currency beside a number"),
    "unit": Rule("align", 1, True, "a unit beside a number"),
    "magnitude": Rule("align", 1, True, "2.5 million, 3k"),
    "percent": Rule("align", 1, True, "a percent sign, where the field says whether 15% is 15 or 0.15"),
    "approximate": Rule("align", 2, False, "about 5, ~5"),
    "boolean": Rule("align", 0.5, True, "yes and no"),
    "null": Rule("align", 1, True, "N/A and the like for null"),
    "vague_null": Rule("align", 2, False, "`unknown`, `not provided` and the like for null"),
    "null_default": Rule("align", 2, False, "null for a field that has a default instead"),
    "date": Rule("align", 0.5, True, "dates in other spellings that have only one reading"),
    "time": Rule("align", 0.5, True, "times in other spellings"),
    "duration": Rule("align", 0.5, True, "durations such as `1h 30min`"),
    "date_part": Rule("align", 2, False, "a date with a time of day for a date; the time is left out"),
    "to_text": Rule("align", 1, True, "a number where text belongs; its digits are kept as written"),
    "literal_text": Rule("align", 2, False, "true or false where text belongs"),
}
"""Every rule, by name. Names are part of the public interface."""

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 64


def rules(layer: Layer, careful: bool = False) -> frozenset[str]:
    """The names of a layer's rules: all, or only those of "default"."""
    return frozenset(name for name, rule in RULES.items() if rule.layer == layer and (rule.careful or not careful))


@dataclass(frozen=True, slots=True)
class Leniency:
    """Which rules apply. Each layer is True (all its rules), False (none) or the names of those that apply.

        Leniency()                                     # as "default"
        Leniency(repair=False)                         # as "default", but the JSON must be correct
        Leniency.of("lenient").without("guess")

    Text that is valid as it is skips all layers. Other text may have up to `max_characters`, and its values may be
    nested `max_depth` deep.
    """

    find: bool | Iterable[str] = field(default_factory=lambda: rules("find", careful=True))
    repair: bool | Iterable[str] = field(default_factory=lambda: rules("repair", careful=True))
    align: bool | Iterable[str] = field(default_factory=lambda: rules("align", careful=True))
    max_characters: int = MAX_CHARACTERS
    max_depth: int = MAX_DEPTH
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    """All rules that apply."""

    def __post_init__(self) -> None:
        layers: tuple[Layer, ...] = ("find", "repair", "align")
        for layer in layers:
            object.__setattr__(self, layer, _names(layer, getattr(self, layer)))
        for name in ("max_characters", "max_depth"):
            _positive(name, getattr(self, name))
        object.__setattr__(self, "names", self._layer("find") | self._layer("repair") | self._layer("align"))

    @classmethod
    def of(cls, leniency: Any) -> Leniency:
        """A preset by its name ("strict", "default", "lenient"), or a `Leniency` as it is."""
        if isinstance(leniency, Leniency):
            return leniency
        if leniency in ("strict", "default", "lenient"):
            return _preset(leniency)
        raise ParameterError(
            "leniency", leniency, "is no preset", 'Give "strict", "default", "lenient" or a Leniency of your own.'
        )

    def without(self, *names: str) -> Leniency:
        """The same without some rules."""
        return self._with({layer: self._layer(layer) - _known(layer, names) for layer in ("find", "repair", "align")})

    def plus(self, *names: str) -> Leniency:
        """The same with some rules more."""
        return self._with({layer: self._layer(layer) | _known(layer, names) for layer in ("find", "repair", "align")})

    def _layer(self, layer: str) -> frozenset[str]:
        chosen: frozenset[str] = getattr(self, layer)
        return chosen

    def _with(self, layers: dict[str, frozenset[str]]) -> Leniency:
        return replace(self, **layers)  # type: ignore[arg-type]


@lru_cache
def _preset(name: str) -> Leniency:
    if name == "default":
        return Leniency()
    every = name == "lenient"
    return Leniency(every, every, every)


def _names(layer: Layer, chosen: Any) -> frozenset[str]:
    if chosen is True:
        return rules(layer)
    if chosen is False:
        return frozenset()
    names = frozenset([chosen] if isinstance(chosen, str) else chosen)
    unknown = sorted(map(str, names - rules(layer)))
    if unknown:
        raise ParameterError(
            layer, unknown, f"no such rule in the {layer} layer", f"Known are {', '.join(sorted(rules(layer)))}."
        )
    return names


def _known(layer: str, names: Iterable[str]) -> frozenset[str]:
    unknown = sorted(set(names) - RULES.keys())
    if unknown:
        raise ParameterError("rules", unknown, "no such rule", f"Known are {', '.join(sorted(RULES))}.")
    return frozenset(name for name in names if RULES[name].layer == layer)


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ParameterError(name, value, "must be an integer of at least 1", "Leave it out for the usual limit.")
