"""Keeping secrets out of what hooks and logs see: keys, tokens and passwords, by name and by look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"

_NAMES = re.compile(
    r"(?i)(.*[-_])?(api[-_]?keys?|apikey|authorization|password|passwd|secret([-_]?(access[-_]?)?key)?|credentials?"
    r"|(access|auth|bearer|refresh|session|security|id)[-_]?token|token|cookie|set-cookie|private[-_]?key)"
)
_LOOKS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|pplx|hf|csk|r8)[-_][A-Za-z0-9_-]{12,}|\bAIza[A-Za-z0-9_-]{20,}|\bAKIA[A-Z0-9]{12,}"
    r"|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{12,}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
)
_DEPTH = 32
"""Levels that are copied; deeper ones, which no provider takes, are hidden whole."""


def redact(value: Any, depth: int = _DEPTH) -> Any:
    """A copy of mappings and lists in which values with a secret's name are hidden. Everything else is shared."""
    if isinstance(value, Mapping):
        if depth == 0:
            return HIDDEN
        return {key: HIDDEN if _secret(key, item) else redact(item, depth - 1) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(redact(item, depth - 1) for item in value) if depth else HIDDEN
    return value


def redact_text(text: str) -> str:
    """The text without what looks like a key or a bearer token."""
    return _LOOKS.sub(HIDDEN, text)


def _secret(name: Any, value: Any) -> bool:
    """Whether the value is one and not, say, the schema of a field of that name, or a number of tokens."""
    if not isinstance(name, str) or value is None or isinstance(value, (bool, int, float, Mapping, list, tuple)):
        return False
    return _NAMES.fullmatch(name) is not None
