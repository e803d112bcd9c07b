"""The planner: walks a JSON schema once and rewrites each node for decoding. See `plan.plan` for what is promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from . import finite, numeric
from .decode_schema import UNENFORCED
from .nodes import (
    ANNOTATIONS,
    BY_KIND,
    UNSUPPORTED,
    admits,
    are_disjoint,
    kinds_of,
    merge_objects,
    writable,
)
from .plan import Added, Plan, PlanLimits, Unenforced, refuse
from .text_rules import key_pattern, plan_text

Schema = Mapping[str, Any]


class Nothing(Exception):
    """The node at `path` is satisfied by nothing."""

    def __init__(self, path: str, value: Any, reason: str, remedy: str) -> None:
        self.path, self.value, self.reason, self.remedy = path, value, reason, remedy
        super().__init__(reason)


class Planner:
    """Plans one schema. `field` names the caller's parameter in errors."""

    def __init__(self, root: Any, field: str, limits: PlanLimits, promote: bool) -> None:
        self._root = root
        self._field = field
        self._limits = limits
        self._promote = promote
        self._definitions: dict[str, dict[str, Any]] = {}
        self._names: dict[str, str] = {}
        self._impossible: dict[str, Nothing] = {}
        self._optional: dict[int, list[str]] = {}
        self._unenforced: list[Unenforced] = []
        self._added: list[Added] = []
        self._depth = 0

    def plan(self, source: Any) -> Plan:
        """The plan; `source` is kept in it."""
        try:
            root = self._node(self._root, "")
        except Nothing as nothing:
            raise refuse(self._field, nothing.path, nothing.value, nothing.reason, nothing.remedy) from None
        self._give_way(root)
        schema = {**root, "$defs": self._definitions} if self._definitions else root
        unenforced = tuple({(one.path, one.keyword, repr(one.value)): one for one in self._unenforced}.values())
        return Plan(schema, unenforced, tuple(dict.fromkeys(self._added)), self._field, source)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _node(self, schema: Any, path: str, close: bool = True) -> dict[str, Any]:
        """The planned node. With `close`, objects admit no properties beyond their own. Raises `Nothing`."""
        with self._deeper(path):
            if schema is True:
                return self._anything(path)
            if schema is False:
                raise Nothing(path, False, "the schema `false` admits no value", "Remove it or allow some value.")
            if not isinstance(schema, Mapping):
                raise refuse(self._field, path, schema, "a schema must be an object or a bool", "Correct the schema.")
            return self._mapping(schema, path, close)

    def _mapping(self, schema: Schema, path: str, close: bool) -> dict[str, Any]:
        rest = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
        for keyword, value in rest.pop(UNENFORCED, ()):
            self._miss(path, keyword, value)
        for keyword in UNSUPPORTED & rest.keys():
            self._miss(path, keyword, rest.pop(keyword))
        if "allOf" in rest or ("$ref" in rest and "properties" in rest):
            merged = merge_objects(rest, self._resolve)
            if merged is not None:
                return self._mapping(merged, path, close)
        joined = [key for key in ("$ref", "anyOf", "oneOf", "allOf") if key in rest]
        own = {key: value for key, value in rest.items() if key not in joined}
        alone = len(joined) + bool(own) + (len(rest.get("allOf", ())) > 1) <= 1
        parts: list[dict[str, Any]] = []
        if own or not joined:
            parts.append(self._typed(own, path, close and alone))
        for keyword in joined:
            parts.extend(self._joined(keyword, rest[keyword], path, close and alone))
        return parts[0] if len(parts) == 1 else {"allOf": parts}

    def _joined(self, keyword: str, value: Any, path: str, close: bool) -> list[dict[str, Any]]:
        if keyword == "$ref":
            return [self._reference(value, path)]
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise refuse(self._field, path, value, f"{keyword} must be a non-empty list of schemas", "Correct it.")
        if keyword == "allOf":
            return [self._node(part, path, close) for part in value]
        if keyword == "oneOf" and not are_disjoint(value, self._resolve):
            self._miss(path, "oneOf", f"{len(value)} options that may overlap")
        return [self._options(value, path, lambda option: self._node(option, path, close))]

    def _options(self, options: Sequence[Any], path: str, plan_one: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """The options that can be satisfied, as one node."""
        planned: list[dict[str, Any]] = []
        refused: Nothing | None = None
        for option in options:
            try:
                one = plan_one(option)
            except Nothing as nothing:
                refused = refused or nothing
                continue
            planned.extend(piece for piece in one.get("anyOf", [one]) if piece not in planned)
        if not planned:
            assert refused is not None
            raise Nothing(path, list(options), f"no option can be satisfied: {refused.reason}", refused.remedy)
        return planned[0] if len(planned) == 1 else {"anyOf": planned}

    def _reference(self, pointer: Any, path: str) -> dict[str, Any]:
        """Plan the definition at the first reference to it, under the path of that reference."""
        target = self._resolve(pointer, path)
        if pointer in self._impossible:
            raise self._impossible[pointer]
        if pointer not in self._names:
            tail = str(pointer).rsplit("/", 1)[-1]
            name = tail if tail.isidentifier() and tail not in self._definitions else f"schema{len(self._names)}"
            self._names[pointer] = name
            self._definitions[name] = {}
            try:
                self._definitions[name] = self._node(target, path)
            except Nothing as nothing:
                self._impossible[pointer] = nothing
                del self._definitions[name]
                raise
        return {"$ref": f"#/$defs/{self._names[pointer]}"}

    def _resolve(self, pointer: Any, path: str = "") -> Any:
        if not isinstance(pointer, str) or (pointer != "#" and not pointer.startswith("#/")):
            raise refuse(
                self._field, path, pointer, "only references inside the schema (#/…) are supported", "Inline the target."
            )
        target = self._root
        for step in unquote(pointer).removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise refuse(self._field, path, pointer, "the reference points nowhere", "Define its target.") from None
        return target

    def _typed(self, schema: Schema, path: str, close: bool) -> dict[str, Any]:
        """A node without references and combinations: one option for each type that it allows."""
        if "const" in schema or "enum" in schema:
            return self._values(schema, path)
        kinds = kinds_of(schema)
        if kinds is None:
            raise refuse(self._field, path, schema["type"], "is not a JSON type", "Use string, integer, number, …")
        if not kinds:
            return self._anything(path)
        methods: dict[str, Callable[[Schema, str, bool], dict[str, Any]]] = {
            "object": self._object,
            "array": self._array,
            "string": self._text,
            "integer": self._number,
            "number": self._number,
        }

        def plan_kind(kind: str) -> dict[str, Any]:
            if kind not in methods:
                return {"type": kind}
            return methods[kind]({**schema, "type": kind}, path, close)

        return self._options(kinds, path, plan_kind) if len(kinds) > 1 else plan_kind(kinds[0])

    def _values(self, schema: Schema, path: str) -> dict[str, Any]:
        given = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(given, list):
            raise refuse(self._field, path, given, "enum must be a list", "Give a list of values.")
        if "const" in schema and "enum" in schema:
            given = [value for value in given if value in schema["enum"]]
        values = [value for value in given if admits(schema, value)]
        if not values:
            reason = "no value of the enum satisfies the other keywords" if given else "the enum is empty"
            raise Nothing(path, given, reason, "Allow at least one value.")
        decodable = [value for value in values if writable(value)]
        if not decodable:
            raise Nothing(path, values, "the values hold control characters, which can't be decoded", "Remove them.")
        if len(decodable) < len(values):
            self._add(path, "enum without control characters", len(decodable))
        return {"const": decodable[0]} if len(decodable) == 1 else {"enum": decodable}

    def _anything(self, path: str) -> dict[str, Any]:
        """Any JSON value of limited depth."""
        depth = self._limits.any_depth
        self._add(path, "depth", depth)
        if f"any{depth}" not in self._definitions:
            node: dict[str, Any] = {}
            for level in range(depth + 1):
                options: list[Any] = [{"type": "null"}, {"type": "boolean"}, {"type": "number"}, {"type": "string"}]
                if level:
                    inner = f"#/$defs/any{level - 1}"
                    options += [self._list_of({"$ref": inner}), self._map_of({"$ref": inner})]
                node = self._options(
                    options, path, lambda option: self._typed(option, path, True) if len(option) == 1 else option
                )
                self._definitions[f"any{level}"] = node
        return {"$ref": f"#/$defs/any{depth}"}

    # --- kinds -------------------------------------------------------------------------------------------------------

    def _number(self, schema: Schema, path: str, close: bool) -> dict[str, Any]:
        for keyword in BY_KIND["number"] & schema.keys():
            value = schema[keyword]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or (keyword == "multipleOf" and value <= 0):
                raise refuse(self._field, path, value, f"{keyword} must be a number", "Correct the keyword.")
        try:
            if schema["type"] == "integer":
                planned = numeric.plan_integer(schema)
            else:
                digits = schema.get("x-digits")
                planned = numeric.plan_number(schema, None if digits is None else (digits[0], digits[1]))
        except numeric.Empty as empty:
            raise Nothing(path, _keywords(schema, "number"), str(empty), "Widen the bounds.") from None
        for keyword, value in planned.missed.items():
            self._miss(path, keyword, value)
        self._add(path, "significant digits", numeric.DIGITS)
        return planned.schema

    def _text(self, schema: Schema, path: str, close: bool) -> dict[str, Any]:
        low, high = self._counts(schema, path, "minLength", "maxLength")
        planned = plan_text(schema, low, high, self._limits.string_length)
        if planned.empty:
            raise Nothing(path, _keywords(schema, "string"), planned.empty, "Widen the pattern or the lengths.")
        for keyword, value in planned.missed.items():
            self._miss(path, keyword, value)
        if planned.added is not None:
            self._add(path, "maxLength", planned.added)
        return planned.schema

    def _array(self, schema: Schema, path: str, close: bool) -> dict[str, Any]:
        low, high = self._counts(schema, path, "minItems", "maxItems")
        prefix, items = schema.get("prefixItems", []), schema.get("items", True)
        if isinstance(items, list):  # how drafts before 2020-12 wrote tuples
            prefix, items = items, schema.get("additionalItems", True)
        planned: list[dict[str, Any]] = []
        for index, item in enumerate(prefix if high is None else prefix[:high]):
            try:
                planned.append(self._node(item, f"{path}[{index}]"))
            except Nothing:
                if index < low:
                    raise
                items = False
                break
        if prefix and "items" not in schema and close and low <= len(planned):
            items = False
        rest: dict[str, Any] | None = None
        if items is not False and (high is None or high > len(planned)):
            try:
                rest = self._node(items, f"{path}[]")
            except Nothing:
                if low > len(planned):
                    raise
        if rest is None:
            high = len(planned) if high is None else min(high, len(planned))
        elif high is None:
            high = max(self._limits.array_items, low, len(planned))
            self._add(path, "maxItems", high)
        if low > high:
            raise Nothing(path, _keywords(schema, "array"), f"{low} items are required, {high} allowed", "Allow more.")
        return {
            "type": "array",
            **({"prefixItems": planned} if planned else {}),
            "items": False if rest is None else rest,
            "minItems": low,
            "maxItems": high,
        }

    def _object(self, schema: Schema, path: str, close: bool) -> dict[str, Any]:
        given, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(given, Mapping) or not isinstance(required, list):
            raise refuse(self._field, path, schema, "properties must be an object, required a list", "Correct them.")
        if not given and not required:
            return self._map(schema, path)
        low, high = self._counts(schema, path, "minProperties", "maxProperties")
        others = schema.get("additionalProperties", True)
        properties: dict[str, dict[str, Any]] = {}
        for name in [*given, *(name for name in required if name not in given)]:
            inner = f"{path}.{name}".removeprefix(".")
            if name not in given and others is False:
                raise Nothing(inner, name, "the property is required but not allowed", "Describe it in properties.")
            try:
                properties[name] = self._node(given[name] if name in given else others, inner)
            except Nothing:
                if name in required:
                    raise
        must = [name for name in properties if name in required]
        if high is not None and len(must) > high:
            raise Nothing(path, high, f"{len(must)} properties are required, {high} allowed", "Raise maxProperties.")
        if low > len(properties) and others is False:
            raise Nothing(path, low, f"only {len(properties)} properties are allowed", "Lower minProperties.")
        made: dict[str, Any] = {"type": "object", "properties": properties, "required": must}
        if close and low <= len(properties):
            made["additionalProperties"] = False
        elif others is not True:
            made["additionalProperties"] = others if others is False else self._node(others, f"{path}.*")
        if self._promote and (high is None or high >= len(properties)):
            self._optional[id(made)] = [name for name in properties if name not in must]
            made["required"] = list(properties)
        if low > len(made["required"]):
            self._miss(path, "minProperties", low)
        if high is not None and high < len(properties):
            self._miss(path, "maxProperties", high)
        return made

    def _map(self, schema: Schema, path: str) -> dict[str, Any]:
        low, high = self._counts(schema, path, "minProperties", "maxProperties")
        patterns: dict[str, Any] = dict(schema.get("patternProperties", {}))
        others = schema.get("additionalProperties", not patterns)
        if others is not False:
            keys = schema.get("x-keys", schema.get("propertyNames", {}))
            pattern, missed = key_pattern(keys, self._resolve, self._limits.key_length)
            if missed:
                self._miss(path, "propertyNames", missed)
            patterns.setdefault(pattern, others)
        planned = {}
        for pattern, values in patterns.items():
            try:
                planned[pattern] = self._node(values, f"{path}.*".removeprefix("."))
            except Nothing:
                if low:
                    raise
        if high is None and planned:
            high = max(self._limits.map_items, low)
            self._add(path, "maxProperties", high)
        if low > (high or 0):
            raise Nothing(path, _keywords(schema, "object"), f"{low} properties required, {high or 0} allowed", "Allow more.")
        if low > 1:
            self._miss(path, "minProperties", low)  # the grammar lets a key come twice, which counts once
        return self._map_of_patterns(planned, low, high or 0)

    def _map_of(self, values: dict[str, Any]) -> dict[str, Any]:
        pattern, _ = key_pattern({}, self._resolve, self._limits.key_length)
        return self._map_of_patterns({pattern: values}, 0, self._limits.map_items)

    def _map_of_patterns(self, patterns: dict[str, Any], low: int, high: int) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "object", "additionalProperties": False}
        if patterns:
            made.update(patternProperties=patterns, minProperties=low, maxProperties=high)
        return made

    def _list_of(self, items: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": items, "minItems": 0, "maxItems": self._limits.array_items}

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _give_way(self, root: dict[str, Any]) -> None:
        """Let promoted properties be optional again where requiring them leaves a type without a finite value."""
        for _ in range(len(self._definitions) + 2):
            known = finite.finite_definitions(self._definitions)
            if len(known) == len(self._definitions) and finite.has_value(root, known):
                return
            if not any([self._demote(node, known) for node in [root, *self._definitions.values()]]):
                break
        if not finite.has_value(root, finite.finite_definitions(self._definitions)):
            endless = sorted(self._definitions.keys() - finite.finite_definitions(self._definitions))
            raise refuse(
                self._field,
                "",
                endless,
                "every value would contain another one of the same type, without end",
                "Make the recursive field optional, or a list that may be empty.",
            )

    def _demote(self, node: Any, known: set[str]) -> bool:
        """Make promoted properties without a finite value optional, in this node and the nodes inside it."""
        changed = False
        for name in self._optional.get(id(node), ()):
            if name in node["required"] and not finite.has_value(node["properties"][name], known):
                node["required"].remove(name)
                changed = True
        inner: list[Any] = []
        if isinstance(node, dict):
            inner = [value for value in node.values() if isinstance(value, (dict, list))]
        elif isinstance(node, list):
            inner = [value for value in node if isinstance(value, (dict, list))]
        return any([self._demote(value, known) for value in inner]) or changed

    def _counts(self, schema: Schema, path: str, least: str, most: str) -> tuple[int, int | None]:
        for keyword in (least, most):
            value = schema.get(keyword, 0)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value != int(value):
                raise refuse(self._field, path, value, f"{keyword} must be a non-negative integer", "Correct it.")
        low, high = int(schema.get(least, 0)), schema.get(most)
        if high is not None and low > high:
            raise Nothing(path, {least: low, most: high}, f"{least} exceeds {most}", "Swap or widen them.")
        return low, None if high is None else int(high)

    def _miss(self, path: str, keyword: str, value: Any) -> None:
        self._unenforced.append(Unenforced(path, keyword, value))

    def _add(self, path: str, keyword: str, value: Any) -> None:
        self._added.append(Added(path, keyword, value))

    @contextmanager
    def _deeper(self, path: str) -> Iterator[None]:
        self._depth += 1
        try:
            if self._depth > self._limits.schema_depth:
                raise refuse(
                    self._field, path, self._depth, "the schema is nested too deeply", "Flatten it, or use $ref."
                )
            yield
        finally:
            self._depth -= 1


def _keywords(schema: Schema, kind: str) -> dict[str, Any]:
    return {key: schema[key] for key in schema if key in BY_KIND[kind]}
