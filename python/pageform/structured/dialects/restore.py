"""Undoing what a dialect did to values: nulls that stand for properties which were not given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..schema_walk import follow
from .nodes import admits_null, kind_of, kinds_of

Schema = Mapping[str, Any]


def restore(value: Any, schema: Schema) -> Any:
    """The value without those nulls that the original `schema` does not admit, of properties that need not be there.

    They are what a dialect in which every property is required allowed for "not given". Where the schema leaves a
    choice, the option is taken under which the restored value is valid. What was given is not changed.
    """
    try:
        return _Restorer(schema).restored(value, schema) if _holds_null(value) else value
    except RecursionError:  # far deeper than any answer: validation will say so
        return value


def restore_text(text: str, schema: Schema) -> str:
    """`restore` on JSON text. Numbers keep their spelling; text that is not JSON is returned as it is."""
    if "null" not in text:
        return text
    try:
        value = json.loads(text, parse_float=_Spelled)
        restored = restore(value, schema)
        return text if restored is value else "".join(_written(restored))
    except (ValueError, RecursionError):
        return text


class _Restorer:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._validators: dict[int, Any] = {}

    def restored(self, value: Any, schema: Any) -> Any:
        """The very same object where nothing is to be removed."""
        if not isinstance(value, (dict, list)) or not isinstance(schema, Mapping):
            return value
        if "$ref" in schema:
            value = self.restored(value, follow(schema["$ref"], self._root))
        for part in schema.get("allOf", ()):
            value = self.restored(value, part)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                value = self._chosen(value, schema[keyword])
        return self._members(value, schema) if isinstance(value, dict) else self._items(value, schema)

    def _members(self, value: dict[str, Any], schema: Schema) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        others = schema.get("additionalProperties")
        required = schema.get("required", ())
        made = {}
        for key, member in value.items():
            part = properties.get(key, others)
            added = key in properties and key not in required and not admits_null(part, self._root)
            if member is not None or not added:
                made[key] = self.restored(member, part)
        same = len(made) == len(value) and all(made[key] is value[key] for key in made)
        return value if same else made

    def _items(self, value: list[Any], schema: Schema) -> list[Any]:
        firsts: Sequence[Any] = schema.get("prefixItems", ())
        rest = schema.get("items")
        made = [self.restored(item, firsts[index] if index < len(firsts) else rest) for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(made, value, strict=True)) else made

    def _chosen(self, value: Any, options: Sequence[Any]) -> Any:
        results: list[tuple[Any, Any]] = []
        for option in options:
            if self._may_hold(option, value):
                restored = self.restored(value, option)
                if all(restored != known for known, _ in results):
                    results.append((restored, option))
        if len(results) > 1:
            results = [one for one in results if self._valid(*one)] or results
        return results[0][0] if results else value

    def _may_hold(self, option: Any, value: Any) -> bool:
        """Whether type, fixed values and required properties allow it, looking no deeper than at direct members."""
        while isinstance(option, Mapping) and set(option) >= {"$ref"}:
            option = follow(option["$ref"], self._root)
        if not isinstance(option, Mapping):
            return option is not False
        kinds = kinds_of(option)
        if kinds and kind_of(value) not in kinds:
            return False
        if not isinstance(value, dict):
            return True
        for key, part in option.get("properties", {}).items():
            if isinstance(part, Mapping) and key in value and not _may_equal(value[key], part):
                return False
        return all(key in value for key in option.get("required", ()))

    def _valid(self, value: Any, option: Any) -> bool:
        if id(option) not in self._validators:
            import jsonschema  # 100 ms: only for unions that leave it open

            definitions = {key: self._root[key] for key in ("$defs", "definitions") if key in self._root}
            rooted = {**option, **definitions} if isinstance(option, Mapping) else option
            self._validators[id(option)] = jsonschema.Draft202012Validator(rooted)
        return bool(self._validators[id(option)].is_valid(value))


def _may_equal(value: Any, part: Schema) -> bool:
    """Whether a `const` or `enum` lets the value pass; null may stand for a property that was not given."""
    if value is None:
        return True
    if "const" in part:
        return bool(part["const"] == value)
    return "enum" not in part or value in part["enum"]


def _holds_null(value: Any) -> bool:
    todo = [value]
    while todo:
        one = todo.pop()
        if one is None:
            return True
        if isinstance(one, dict):
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
    return False


class _Spelled(float):
    """A number that remembers how it was written: 1.10 is not 1.1 for a Decimal."""

    text: str

    def __new__(cls, text: str) -> _Spelled:
        made = super().__new__(cls, text)
        made.text = text
        return made


def _written(value: Any) -> Iterator[str]:
    """Compact JSON in pieces."""
    if isinstance(value, dict):
        before = "{"
        for key, member in value.items():
            yield f"{before}{json.dumps(key)}:"
            yield from _written(member)
            before = ","
        yield "}" if value else "{}"
    elif isinstance(value, list):
        before = "["
        for item in value:
            yield before
            yield from _written(item)
            before = ","
        yield "]" if value else "[]"
    else:
        yield value.text if isinstance(value, _Spelled) else json.dumps(value)
