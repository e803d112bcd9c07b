"""Text: lengths, patterns and formats, and the keys of maps."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import ranges
from .formats import PATTERNS, UNCONSTRAINED

_ASCII_COMPLEMENT = re.compile(r"\\[WD]")
"""llguidance reads `\\w` and `\\d` as ASCII. That narrows them, but it widens their complements."""


@dataclass
class PlannedText:
    """A planned string node; `missed` keywords are not enforced, `empty` says why nothing satisfies it."""

    schema: dict[str, Any]
    missed: dict[str, Any] = field(default_factory=dict)
    added: int | None = None
    empty: str | None = None


def plan_text(schema: Mapping[str, Any], low: int, high: int | None, limit: int) -> PlannedText:
    """Plan a string node of `low` to `high` characters; without an end of its own it gets `limit`."""
    missed: dict[str, Any] = {}
    patterns: list[str] = []
    name = schema.get("format")
    if name in PATTERNS:
        patterns.append(PATTERNS[name])
    elif name is not None and name not in UNCONSTRAINED and name != "any":
        missed["format"] = name
    own = schema.get("pattern")
    if own is not None:
        fault = refusal(json.dumps({"type": "string", "pattern": own}))
        if fault is None:
            patterns.append(own)
        if fault is not None or _ASCII_COMPLEMENT.search(own):
            missed["pattern"] = own
    added = None
    if high is None and name not in PATTERNS:
        added = max(limit, low)

    made = _string(patterns, low, added if high is None else high)
    fault = refusal(json.dumps(made)) if patterns else None
    if fault is not None and added is not None:
        # The type's own pattern may need more room than the bound that was added.
        added, made = None, _string(patterns, low, high)
        fault = refusal(json.dumps(made))
    if fault is not None and "nsatisfiable" in fault:
        return PlannedText(made, empty="no text satisfies pattern and lengths together")
    if fault is not None:
        missed.update({key: schema[key] for key in ("minLength", "maxLength") if key in schema})
        made = _string(patterns, 0, None)
    return PlannedText(made, missed, added)


def _string(patterns: list[str], low: int, high: int | None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "string"}
    if low:
        made["minLength"] = low
    if high is not None:
        made["maxLength"] = high
    if patterns:
        made["pattern"] = patterns[0]
    more = [{"type": "string", "pattern": pattern} for pattern in patterns[1:]]
    return {"allOf": [made, *more]} if more else made


def key_pattern(keys: Any, resolve: Callable[[str], Any], limit: int) -> tuple[str, Any]:
    """A pattern for the keys of a map whose keys have this schema, and what it can't hold of it (None if nothing)."""
    pattern, missed = _key_body(keys, resolve, limit)
    return f"^(?:{pattern})$", missed


def _key_body(keys: Any, resolve: Callable[[str], Any], limit: int) -> tuple[str, Any]:
    if isinstance(keys, Mapping) and "$ref" in keys:
        keys = resolve(keys["$ref"])
    any_text = rf"[^\x00-\x1f\x7f]{{1,{limit}}}"
    if not isinstance(keys, Mapping):
        return any_text, None
    if "const" in keys or "enum" in keys:
        values = [keys["const"]] if "const" in keys else keys["enum"]
        texts = [value for value in values if isinstance(value, str)]
        if texts:
            return "|".join(re.escape(text) for text in texts), None
        return any_text, values
    if "anyOf" in keys:
        bodies = [_key_body(option, resolve, limit) for option in keys["anyOf"]]
        return "|".join(body for body, _ in bodies), next((missed for _, missed in bodies if missed), None)
    kind = keys.get("type", "string")
    if kind in _KEY_KINDS:
        bounds = {key: keys[key] for key in keys if key.startswith(("min", "max", "excl", "multiple", "x-digits"))}
        if kind == "integer" and bounds and bounds.keys() <= _ENDS.keys() and all(map(_is_small, bounds.values())):
            ends = {key: bound + _ENDS[key] for key, bound in bounds.items()}
            low = max(ends.get("minimum", -_MAX_KEY), ends.get("exclusiveMinimum", -_MAX_KEY))
            high = min(ends.get("maximum", _MAX_KEY), ends.get("exclusiveMaximum", _MAX_KEY))
            if low <= high:
                return ranges.whole(low, high), keys.get("x-unenforced")
        return _KEY_KINDS[kind], bounds or keys.get("x-unenforced")
    if kind != "string":
        return any_text, dict(keys)
    lengths = {key: keys[key] for key in ("minLength", "maxLength") if key in keys}
    marks = keys.get("x-unenforced")
    if "pattern" in keys or keys.get("format") in PATTERNS:
        body = str(PATTERNS.get(keys.get("format", ""), keys.get("pattern")))
        anchored = body.startswith("^") and body.endswith("$")
        both = keys["pattern"] if "pattern" in keys and keys.get("format") in PATTERNS else None
        return (body[1:-1] if anchored else f"[\\s\\S]*(?:{body})[\\s\\S]*"), lengths or both or marks
    low, high = lengths.get("minLength", 1), lengths.get("maxLength", max(limit, lengths.get("minLength", 0)))
    return rf"[^\x00-\x1f\x7f]{{{low},{high}}}", marks or (keys.get("allOf") and "whitespace") or None


_ENDS = {"minimum": 0, "maximum": 0, "exclusiveMinimum": 1, "exclusiveMaximum": -1}
_MAX_KEY = 10**15 - 1


def _is_small(bound: Any) -> bool:
    return isinstance(bound, int) and abs(bound) < _MAX_KEY


_KEY_KINDS = {
    "integer": r"0|-?[1-9][0-9]{0,14}",
    "number": r"-?(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?",
    "boolean": "true|false",
    "null": "null",
}


@functools.lru_cache(maxsize=4096)
def refusal(schema: str) -> str | None:
    """Why llguidance refuses a schema, None if it takes it."""
    from llguidance import LLMatcher

    return LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema)) or None
