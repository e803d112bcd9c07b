"""Reading typed values out of untrusted metadata: every failure is a ModelFileError that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import ModelFileError


class Fields:
    """A view of a mapping (a config.json object, GGUF metadata) whose getters check type and range.

    A default makes a field optional; without one its absence is an error. A null counts as absent, as in config.json.
    """

    def __init__(self, path: str, values: Mapping[str, Any], prefix: str = "") -> None:
        self.path = path
        self._values = values
        self._prefix = prefix

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def has_key(self, key: str) -> bool:
        """Whether the key is there, even if null."""
        return self._prefix + key in self._values

    def get(self, key: str) -> Any:
        """The raw value, or None."""
        return self._values.get(self._prefix + key)

    def integer(self, key: str, default: int | None = None, low: int = 1, high: int = 2**31 - 1) -> int:
        value = self._require(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"is not an integer from {low} to {high}")
        return value

    def number(self, key: str, default: float | None = None, low: float = 0.0, high: float = 1e15) -> float:
        """A number above `low`, up to `high`."""
        value = self._require(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value <= high:
            raise self.error(key, f"is not a number above {low:g} and up to {high:g}")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if key in self else None

    def boolean(self, key: str, default: bool) -> bool:
        value = self._require(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "is not true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._require(key, default)
        if not isinstance(value, str):
            raise self.error(key, "is not text")
        return value

    def numbers(self, key: str, count: int, low: float = 0.0) -> tuple[float, ...]:
        """`count` numbers above `low`."""
        value = self._require(key, None)
        if not isinstance(value, list) or len(value) != count:
            raise self.error(key, f"is not a list of {count} numbers")
        items = Fields(self.path, {f"{key}[{i}]": item for i, item in enumerate(value)})
        return tuple(items.number(f"{key}[{i}]", low=low) for i in range(count))

    def token_ids(self, key: str, vocab_size: int) -> tuple[int, ...]:
        """Token ids given as one integer, a list, or not at all. Ids outside the vocabulary are an error."""
        value = self.get(key)
        if value is None:
            return ()
        ids = value if isinstance(value, list) else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < vocab_size for i in ids):
            raise self.error(key, f"does not hold token ids below {vocab_size}")
        return tuple(dict.fromkeys(ids))

    def error(self, key: str, reason: str, remedy: str = "Get an undamaged copy of the model.") -> ModelFileError:
        """The error about `key` and its value, to be raised."""
        shown = repr(self.get(key))
        shown = shown if len(shown) <= 80 else f"{shown[:70]}…"
        return ModelFileError(self.path, f"{self._prefix}{key}={shown} {reason}", remedy)

    def _require(self, key: str, default: Any) -> Any:
        value = self.get(key)
        if value is None:
            if default is None:
                raise self.error(key, "is missing")
            return default
        return value
