"""Walks a value and a schema together and chooses, at each place, the cheapest way to make the value fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..json_tree import CutText, Number, Repair, dump, repair
from ..leniency import Leniency
from ..repair import Meter, read_value
from ..tolerant_cursor import Unreadable
from .dates import FORMATS, fit_moment
from .fit import Fit, Mismatch, TooManySteps, changed, misfit
from .numbers import fit_number
from .objects import contents, match_keys
from .outline import DECIMAL, Node, Outline
from .units import Hint, hint_of
from .words import bullets, fit_boolean, fit_option, nothing, squeezed

_UNSET = 0.5
"""What an optional property costs that is not there, so that of two objects the fuller one fits better."""
_NATIVE = 1.0
"""What a value of another JSON type costs that Pydantic may take as it is: 1 for true, seconds for a date."""
_NO_HINT = Hint()
_SPLIT_AT = (";", "|", "\n", ", ", ",")


class Aligner:
    """Aligns values with one schema. Not to be shared between threads; make one for each text."""

    def __init__(self, outline: Outline, leniency: Leniency, steps: int) -> None:
        self.outline = outline
        self._leniency = leniency
        self._rules = leniency.names
        self._steps = steps
        self._titles = frozenset(map(squeezed, outline.titles()))
        self._known: dict[tuple[int, int, Hint], Fit] = {}
        self._alive: list[Any] = []

    def fit(self, value: Any, node: Node | None = None, hint: Hint = _NO_HINT) -> Fit:
        """The value as a node of the schema wants it (the root if none is given). Raises `TooManySteps`."""
        node = self.outline.resolve(self.outline.root if node is None else node)
        key = (id(value), id(node), hint)
        if key not in self._known:
            self._steps -= 1
            if self._steps < 0:
                raise TooManySteps
            self._known[key] = misfit(value, "the type has no end")  # what a type finds that contains only itself
            self._alive.append((value, node))  # ids are unique only among living objects
            self._known[key] = self._fit(value, node, hint)
        return self._known[key]

    def _fit(self, value: Any, node: Node, hint: Hint) -> Fit:
        options = node.get("anyOf") or node.get("oneOf")
        if options:
            return self._union(value, node, options, hint)
        if "enum" in node or "const" in node:
            return self._unwrapped(value, node, hint) or self._option(value, node)
        named = node.get("type")
        if isinstance(named, list):
            return self._union(value, node, [{**node, "type": one} for one in named], hint)
        fitter = self._FITTERS.get(named) if isinstance(named, str) else None
        return fitter(self, value, node, hint) if fitter else Fit(value)

    # --- containers ---------------------------------------------------------------------------------------------------

    def _object(self, value: Any, node: Node, hint: Hint) -> Fit:
        if isinstance(value, str):
            return self._decoded(value, node, hint)
        if isinstance(value, list):
            return self._list_for_object(value, node, hint)
        if not isinstance(value, dict):
            return misfit(value, "an object was expected")
        direct = self._members(value, node)
        known = node.get("properties", {})
        if (direct.fits and (not known or any(key in direct.value for key in known))) or not value:
            return direct
        wrapped = self._best(self._contents(value, node, hint))
        if wrapped is not None and wrapped.fits and (not direct.fits or wrapped.cost < direct.cost):
            return wrapped
        if wrapped is not None and not direct.fits:
            unclear = tuple(fault for fault in wrapped.faults if fault.ambiguous)
            return replace(direct, faults=direct.faults + unclear)
        return direct

    def _members(self, value: dict[str, Any], node: Node) -> Fit:
        keys = match_keys(value, node, self._rules)
        log = list(keys.log)
        faults: list[Mismatch] = []
        made: dict[str, Any] = {}
        properties: Mapping[str, Any] = node.get("properties", {})
        required = node.get("required", ())
        if keys.clash:
            faults.append(Mismatch((), keys.clash, None, ambiguous=True))
        members = self._named(value, node, log)
        cost = sum(entry.cost for entry in log)
        for key, inner in members.items():
            name = keys.properties.get(key)
            if name is not None:
                fit = self._property(inner, properties[name], name, name in required)
            else:
                fit = self._other(key, inner, node, key in keys.others)
            if fit is not None:
                made[name or key] = fit.value
                fit = fit.under(name or key)
                cost += fit.cost
                log += fit.log
                faults += fit.faults
            elif name is not None:
                log.append(repair("null_default", (name,), None, "the default"))
                cost += log[-1].cost
        missing = [name for name in properties if name not in made]
        faults += [Mismatch((name,), "a required value is missing", None) for name in missing if name in required]
        cost += _UNSET * sum(name not in required for name in missing)
        return Fit(made, cost, tuple(log), tuple(faults))

    def _named(self, value: dict[str, Any], node: Node, log: list[Repair]) -> dict[str, Any]:
        """A map whose keys are options, under the options that its keys mean; as it is if two mean the same."""
        names = self.outline.resolve(node.get("propertyNames", {}))
        if "enum" not in names and "const" not in names:
            return value
        meant = {key: fit_option(key, names, self._rules) for key in value}
        if len({fit.value for fit in meant.values()}) < len(value):
            return value
        for fit in meant.values():
            log += [entry._replace(path=(fit.value,)) for entry in fit.log]
        return {fit.value: value[key] for key, fit in meant.items()}

    def _property(self, value: Any, node: Node, name: str, required: bool) -> Fit | None:
        """The value of a property; None if its default is better."""
        fit = self.fit(value, node, hint_of(name, node.get("title"), node.get("description")))
        if value is None and not fit.fits and not required and "null_default" in self._rules:
            return None
        return fit

    def _other(self, key: str, value: Any, node: Node, unknown: bool) -> Fit:
        """The value of a key that is no property."""
        patterns = list(node.get("patternProperties", {}).values())
        rest = patterns[0] if len(patterns) == 1 else node.get("additionalProperties")
        if isinstance(rest, Mapping):
            return self.fit(value, rest, hint_of(key))
        if not unknown or rest is True or "properties" not in node:
            return Fit(value)
        if rest is False:
            return Fit(value, 0, (), (Mismatch((), "no such key is allowed", value),))
        entry = repair("extra", (), value, None)
        if entry.rule not in self._rules:
            return Fit(value, 0, (), (Mismatch((), "no such key is known", value),))
        return Fit(value, entry.cost, (entry,))

    def _list_for_object(self, value: list[Any], node: Node, hint: Hint) -> Fit:
        if len(value) == 1 and "single_item" in self._rules:
            fit = self.fit(value[0], node, hint)
            if fit.fits:
                return fit.after([repair("single_item", (), [fit.value], fit.value)])
        known = node.get("properties", {})
        if len(known) == 1 and "sole_field" in self._rules:
            name, inner = next(iter(known.items()))
            if self.outline.kinds(inner) <= {"array", "null"}:
                fit = self.fit(value, inner, hint_of(name)).under(name)
                return replace(fit, value={name: fit.value}).after([repair("sole_field", (), "", name)])
        if not known and "pairs" in self._rules and value:
            pairs = [_pair(item) for item in value]
            keys = [pair[0] for pair in pairs if pair is not None]
            if len(keys) == len(value) == len(set(keys)):
                fit = self._members(dict(pair for pair in pairs if pair is not None), node)
                return fit.after([repair("pairs", (), value, fit.value)])
        return misfit(value, "an object was expected")

    def _array(self, value: Any, node: Node, hint: Hint) -> Fit:
        if isinstance(value, list):
            return self._items(value, node, hint)
        if value is None or (isinstance(value, str) and nothing(value, self._rules) is not None):
            return misfit(value, "a list was expected")
        options: list[Fit] = []
        if isinstance(value, str):
            decoded = self._decoded(value, node, hint)
            if decoded.fits:
                return decoded
            options += self._split(value, node, hint)
        elif isinstance(value, dict):
            options += [fit for fit in self._contents(value, node, hint) if fit.fits]
            if "indexed" in self._rules and _is_numbered(list(value)):
                fit = self._items(list(value.values()), node, hint)
                options.append(fit.after([repair("indexed", (), value, fit.value)]))
        several = isinstance(value, str) and any(mark in value for mark in (",", ";", "|", "\n"))
        if "single_value" in self._rules and not several:
            fit = self._items([value], node, hint)
            options.append(fit.after([repair("single_value", (), value, fit.value)]))
        best = self._best(option for option in options if option.fits)
        return best or misfit(value, "a list was expected; the text may be one item or several", ambiguous=several)

    def _items(self, value: list[Any], node: Node, hint: Hint) -> Fit:
        first = node.get("prefixItems", ())
        rest = node.get("items", {})
        fits = [
            self.fit(item, first[index] if index < len(first) else rest, hint).under(index)
            for index, item in enumerate(value)
        ]
        return Fit(
            [fit.value for fit in fits],
            sum(fit.cost for fit in fits),
            tuple(entry for fit in fits for entry in fit.log),
            tuple(fault for fit in fits for fault in fit.faults),
        )

    def _split(self, value: str, node: Node, hint: Hint) -> Iterator[Fit]:
        """A text as a list of its parts. Items that are plain text may contain any separator, but bullets tell."""
        if "split" in self._rules and not isinstance(value, CutText):
            listed = bullets(value)
            if listed:
                fit = self._items(listed, node, hint)
                if fit.fits:
                    yield fit.after([repair("split", (), value, fit.value)])
                return
        kinds = self.outline.kinds(node.get("items", {}))
        plain = "string" in kinds and not self._is_closed(node.get("items", {}))
        if "split" not in self._rules or isinstance(value, CutText) or plain or "any" in kinds:
            return
        for mark in _SPLIT_AT:
            if mark in value and (mark != "," or not kinds & {"number", "integer"}):
                parts = [part.strip().removeprefix("- ").strip() for part in value.split(mark)]
                fit = self._items(parts, node, hint)
                if fit.fits:
                    yield fit.after([repair("split", (), value, fit.value)])
                return

    def _is_closed(self, node: Node) -> bool:
        """Whether a schema of text names its values or its format."""
        node = self.outline.resolve(node)
        return "enum" in node or "const" in node or "format" in node

    # --- unions -------------------------------------------------------------------------------------------------------

    def _union(self, value: Any, node: Node, options: list[Node], hint: Hint) -> Fit:
        hint = hint_of(hint.name, hint.words, node.get("title"), node.get("description"))
        tagged = self._tagged(value, node)
        if tagged is not None:
            return self.fit(value, tagged, hint)
        fits = [self.fit(value, option, hint) for option in options]
        good = [fit for fit in fits if fit.fits]
        if not good:
            concrete = [option for option in options if self.outline.kinds(option) != {"null"}]
            empty = nothing(value, self._rules) if isinstance(value, str) and len(concrete) < len(options) else None
            if empty is not None:
                return empty
            if len(concrete) == 1:
                return self.fit(value, concrete[0], hint)
            faults = tuple(fault for fit in fits for fault in fit.faults if fault.ambiguous)
            return Fit(value, 0, (), faults or (Mismatch((), "no member of the union fits", value),))
        least = min(fit.cost for fit in good)
        best = [fit for fit in good if fit.cost == least]
        if len({dump(fit.value) for fit in best}) > 1:
            shown = " or ".join(sorted({dump(fit.value)[:80] for fit in best}))
            return misfit(value, f"the value can mean {shown}", ambiguous=True)
        return best[0]

    def _tagged(self, value: Any, node: Node) -> Node | None:
        """The member of a discriminated union that the value names exactly."""
        discriminator = node.get("discriminator")
        if not isinstance(discriminator, Mapping) or not isinstance(value, dict):
            return None
        tag = value.get(discriminator.get("propertyName", ""))
        target = discriminator.get("mapping", {}).get(tag) if isinstance(tag, str) else None
        return {"$ref": target} if isinstance(target, str) else None

    def _best(self, fits: Any) -> Fit | None:
        """The cheapest of several ways; if two are equally cheap and differ, it is a fault."""
        ordered = sorted(fits, key=lambda fit: (not fit.fits, fit.cost))
        if not ordered:
            return None
        first = ordered[0]
        rivals = [
            fit for fit in ordered[1:] if fit.fits and fit.cost == first.cost and dump(fit.value) != dump(first.value)
        ]
        return misfit(first.value, "there are several ways to read the value", ambiguous=True) if rivals else first

    # --- scalars ------------------------------------------------------------------------------------------------------

    def _number(self, value: Any, node: Node, hint: Hint) -> Fit:
        if isinstance(value, Number):
            whole = node["type"] != "integer" or _is_whole(value)
            return Fit(value) if whole else misfit(value, "a whole number was expected")
        if isinstance(value, str):
            if node.get(DECIMAL) and _is_plain_number(value):
                return Fit(value)
            fit = fit_number(value, node, hint, self._rules)
            return Fit(value, _NATIVE) if not fit.fits and _is_plain_number(value) and node["type"] == "number" else fit
        if isinstance(value, bool):
            return Fit(value, _NATIVE + 1)
        return self._unwrapped(value, node, hint) or misfit(value, "a number was expected")

    def _boolean(self, value: Any, node: Node, hint: Hint) -> Fit:
        if isinstance(value, bool):
            return Fit(value)
        if isinstance(value, str):
            return fit_boolean(value, self._rules)
        if isinstance(value, Number) and value.text in ("0", "1", "0.0", "1.0"):
            return Fit(value, _NATIVE)
        return self._unwrapped(value, node, hint) or misfit(value, "true or false was expected")

    def _null(self, value: Any, node: Node, hint: Hint) -> Fit:
        return Fit(value) if value is None else misfit(value, "null was expected")

    def _text(self, value: Any, node: Node, hint: Hint) -> Fit:
        kind = node.get("format")
        if isinstance(value, str):
            return fit_moment(value, kind, self._rules) if kind in FORMATS else Fit(value)
        if isinstance(value, Number):
            if kind in FORMATS:
                return Fit(value, _NATIVE)
            return changed("to_text", value, value.text) if "to_text" in self._rules else misfit(value, "not text")
        if isinstance(value, bool) and "literal_text" in self._rules:
            return changed("literal_text", value, "true" if value else "false")
        return self._unwrapped(value, node, hint) or misfit(value, "text was expected")

    def _option(self, value: Any, node: Node) -> Fit:
        return fit_option(value, node, self._rules)

    # --- envelopes ----------------------------------------------------------------------------------------------------

    def _unwrapped(self, value: Any, node: Node, hint: Hint) -> Fit | None:
        """A scalar out of a list of one or an envelope."""
        if isinstance(value, list) and len(value) == 1 and "single_item" in self._rules:
            fit = self.fit(value[0], node, hint)
            return fit.after([repair("single_item", (), [fit.value], fit.value)]) if fit.fits else None
        if isinstance(value, dict):
            return self._best(fit for fit in self._contents(value, node, hint) if fit.fits)
        return None

    def _contents(self, value: dict[str, Any], node: Node, hint: Hint) -> Iterator[Fit]:
        if "wrapper" in self._rules:
            for _, content, log, cost in contents(value, str(node.get("title", "")), self._titles):
                if "extra" in self._rules or len(log) == 1:
                    yield self.fit(content, node, hint).after(log, cost)

    def _decoded(self, value: str, node: Node, hint: Hint) -> Fit:
        """A list or object that is written as JSON in a string."""
        text = value.strip()
        if text[:1] in ("{", "[", '"') and "double_encoding" in self._rules and not isinstance(value, CutText):
            try:
                read = read_value(text, 0, len(text), self._leniency, Meter(len(text)))
            except Unreadable:
                return misfit(value, "the JSON in the text can't be read")
            if not text[read.end :].strip() and not read.cut and not isinstance(read.value, str):
                fit = self.fit(read.value, node, hint)
                return fit.after((repair("double_encoding", (), value, fit.value), *read.log))
        return misfit(value, "a list or an object was expected")

    _FITTERS: Mapping[str, Callable[[Aligner, Any, Node, Hint], Fit]] = {
        "object": _object,
        "array": _array,
        "string": _text,
        "number": _number,
        "integer": _number,
        "boolean": _boolean,
        "null": _null,
    }


def _pair(item: Any) -> tuple[str, Any] | None:
    """A pair of key and value in one of its usual forms."""
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str):
        return item[0], item[1]
    if isinstance(item, dict) and len(item) == 2 and "value" in item:
        key = next((item[name] for name in ("key", "name") if name in item), None)
        return (key, item["value"]) if isinstance(key, str) else None
    return None


def _is_numbered(keys: list[str]) -> bool:
    """Whether keys count from 0 or 1."""
    return any(keys == [str(index) for index in range(first, first + len(keys))] for first in (0, 1)) and bool(keys)


def _is_plain_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 400


def _is_whole(number: Number) -> bool:
    digits, _, exponent = number.text.lower().partition("e")
    return not digits.partition(".")[2].strip("0") or (exponent.isdigit() and int(exponent) > 0)
