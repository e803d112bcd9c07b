"""The planner: walks a JSON schema once and rewrites each node for decoding. See `plan.plan` for what is promised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from ..core.errors import SchemaError
from ..structured.spec import FIELD
from .decode_schema import EMPTY, NARROWED, UNENFORCED
from .finite import loosen
from .kinds import KINDS, Node, plan_anything
from .nodes import ANNOTATIONS, UNSUPPORTED, Nothing, Schema, admits, kinds_of, writable
from .overlap import are_disjoint, merge_objects
from .plan import Added, Plan, PlanLimits, Unenforced
from .text_rules import refusal


class Planner:
    """Plans one schema. `parameter` names the caller's parameter in errors."""

    def __init__(self, root: Any, parameter: str, limits: PlanLimits, promotes: bool) -> None:
        self.limits = limits
        self.promotes = promotes
        self.reads_schema = parameter != FIELD
        """Whether it is a JSON schema, which says itself what else an object may hold."""
        self.definitions: dict[str, Node] = {}
        self._root = root
        self._parameter = parameter
        self._names: dict[str, str] = {}
        self._impossible: dict[str, Nothing] = {}
        self._promoted: dict[int, tuple[Node, list[str]]] = {}
        self._required: list[tuple[str, Node, list[str]]] = []
        self._unenforced: list[Unenforced] = []
        self._added: list[Added] = []
        self._conjunctions: list[str] = []
        self._depth = 0
        self._parts = 0

    def plan(self, source: Any) -> Plan:
        """The plan; `source` is kept in it."""
        try:
            root = self.node(self._root, "")
        except Nothing as nothing:
            raise self.malformed(nothing.path, nothing.value, nothing.reason, nothing.remedy) from None
        except RecursionError:
            raise self.malformed("", self._root, "the schema refers to itself without end", "Cut the circle.") from None
        endless = loosen(root, self.definitions, list(self._promoted.values()))
        if endless:
            raise self.malformed(
                "",
                endless,
                "every value would contain another one of the same type, without end",
                "Make the recursive field optional, or a list that may be empty.",
            )
        for path, node, names in self._required:
            kept = tuple(name for name in names if name in node["required"])
            if kept:
                self.add(path, "required", kept)
        schema = {**root, "$defs": self.definitions} if self.definitions else root
        if self._conjunctions:  # whose parts may exclude each other, which only compiling them tells
            fault = refusal(json.dumps(schema))
            if fault is not None and "nsatisfiable" in fault:
                remedy = "Remove one of the parts of the conjunction (allOf)."
                raise self.malformed(self._conjunctions[0], self._root, "nothing satisfies all of its parts", remedy)
        unenforced = tuple({(one.path, one.keyword, repr(one.value)): one for one in self._unenforced}.values())
        return Plan(schema, unenforced, tuple(dict.fromkeys(self._added)), self._parameter, source)

    # --- what the rules of `kinds` use -------------------------------------------------------------------------------

    def node(self, schema: Any, path: str, close: bool = True) -> Node:
        """The planned node. With `close`, objects admit no properties beyond their own. Raises `Nothing`."""
        self._depth += 1
        self._look(path)
        try:
            if self._depth > self.limits.schema_depth:
                raise self.malformed(path, self._depth, "the schema is nested too deeply", "Flatten it, or use $ref.")
            if schema is True:
                return plan_anything(self, path)
            if schema is False:
                raise Nothing(path, False, "the schema `false` admits no value", "Remove it or allow some value.")
            if not isinstance(schema, Mapping):
                raise self.malformed(path, schema, "a schema must be an object or a bool", "Correct the schema.")
            return self._mapping(schema, path, close)
        finally:
            self._depth -= 1

    def resolve(self, pointer: Any, path: str = "") -> Any:
        """The part of the schema that a reference points to."""
        self._look(path)
        if not isinstance(pointer, str) or (pointer != "#" and not pointer.startswith("#/")):
            reason = "only references inside the schema (#/…) are supported"
            raise self.malformed(path, pointer, reason, "Inline the target.")
        target = self._root
        for step in unquote(pointer).removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise self.malformed(path, pointer, "the reference points nowhere", "Define its target.") from None
        return target

    def _look(self, path: str) -> None:
        self._parts += 1
        if self._parts > self.limits.schema_parts:
            reason = f"the schema has more than {self.limits.schema_parts} parts"
            raise self.malformed(path, self._root, reason, "Use a smaller one: fewer options, or fewer nested allOf.")

    def promote(self, node: Node, path: str) -> None:
        """Require all properties of an object, and remember which of them may be optional again."""
        names = [name for name in node["properties"] if name not in node["required"]]
        node["required"] = list(node["properties"])
        self._promoted[id(node)] = (node, names)
        if names:
            self._required.append((path, node, names))

    def miss(self, path: str, keyword: str, value: Any) -> None:
        """Note a constraint that the grammar will not enforce."""
        self._unenforced.append(Unenforced(path, keyword, value))

    def _miss_all(self, schema: Schema, path: str, *keywords: str) -> None:
        for keyword in sorted(keywords):
            self.miss(path, keyword, schema[keyword])

    def add(self, path: str, keyword: str, value: Any) -> None:
        """Note a bound that the type does not have."""
        self._added.append(Added(path, keyword, value))

    def malformed(self, path: str, value: Any, reason: str, remedy: str) -> SchemaError:
        """The error for a place in the schema."""
        dot = "" if not path or path.startswith("[") else "."
        return SchemaError(f"{self._parameter}{dot}{path}", value, reason, remedy)

    # --- the walk ----------------------------------------------------------------------------------------------------

    def _mapping(self, schema: Schema, path: str, close: bool) -> Node:
        rest = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
        for keyword, value in rest.pop(UNENFORCED, ()):
            self.miss(path, keyword, value)
        for keyword, value in rest.pop(NARROWED, ()):
            self.add(path, keyword, value)
        if EMPTY in rest:
            raise Nothing(path, rest[EMPTY][0], rest[EMPTY][1], "Widen the bounds, or allow other values.")
        if rest.get("not", False) in (True, {}):
            raise Nothing(path, rest["not"], "`not` excludes every value", "Remove it.")
        for keyword in sorted(UNSUPPORTED & rest.keys()):
            self.miss(path, keyword, rest.pop(keyword))
        if "allOf" in rest or ("$ref" in rest and "properties" in rest):
            merged = merge_objects(rest, self.resolve)
            if merged is not None:
                return self._mapping(merged, path, close)
        joined = [key for key in ("$ref", "anyOf", "oneOf", "allOf") if key in rest]
        own = {key: value for key, value in rest.items() if key not in joined}
        # A closed object and another part of the same conjunction would exclude each other's properties.
        alone = len(joined) + bool(own) + (len(rest.get("allOf", ())) > 1) <= 1
        parts: list[Node] = []
        if own or not joined:
            parts.append(self._typed(own, path, close and alone))
        for keyword in joined:
            parts.extend(self._joined(keyword, rest[keyword], path, close and alone))
        if len(parts) == 1:
            return parts[0]
        self._conjunctions.append(path)
        return {"allOf": parts}

    def _joined(self, keyword: str, value: Any, path: str, close: bool) -> list[Node]:
        if keyword == "$ref":
            return [self._reference(value, path)]
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise self.malformed(path, value, f"{keyword} must be a non-empty list of schemas", "Correct it.")
        if keyword == "allOf":
            return [self.node(part, path, close) for part in value]
        if keyword == "oneOf" and not are_disjoint(value, self.resolve):
            self.miss(path, "oneOf", f"{len(value)} options that may overlap")
        return [self._options(value, path, close)]

    def _options(self, options: Sequence[Any], path: str, close: bool) -> Node:
        """The options that can be satisfied, as one node."""
        planned: list[Node] = []
        refused: Nothing | None = None
        for option in options:
            try:
                one = self.node(option, path, close)
            except Nothing as nothing:
                refused = refused or nothing
                continue
            planned.extend(piece for piece in one.get("anyOf", [one]) if piece not in planned)
        if refused is not None and not planned:
            raise Nothing(path, list(options), f"no option can be satisfied: {refused.reason}", refused.remedy)
        return planned[0] if len(planned) == 1 else {"anyOf": planned}

    def _reference(self, pointer: Any, path: str) -> Node:
        """Plan a definition at the first reference to it, under the path of that reference."""
        target = self.resolve(pointer, path)
        if pointer in self._impossible:
            raise self._impossible[pointer]
        if pointer not in self._names:
            tail = str(pointer).rsplit("/", 1)[-1]
            fresh = tail.isidentifier() and tail not in self.definitions
            name = self._names[pointer] = tail if fresh else f"schema{len(self._names)}"
            self.definitions[name] = {}
            try:
                self.definitions[name] = self.node(target, path)
            except Nothing as nothing:
                self._impossible[pointer] = nothing
                del self.definitions[name]
                raise
        return {"$ref": f"#/$defs/{self._names[pointer]}"}

    def _typed(self, schema: Schema, path: str, close: bool) -> Node:
        """A node without references and combinations: one option for each type that it allows."""
        if "const" in schema or "enum" in schema:
            return self._values(schema, path)
        kinds = kinds_of(schema)
        if kinds is None:
            raise self.malformed(path, schema["type"], "is not a JSON type", "Use string, integer, number, …")
        if not kinds:
            return plan_anything(self, path)
        if len(kinds) > 1:
            return self._options([{**schema, "type": kind} for kind in kinds], path, close)
        return KINDS[kinds[0]](self, {**schema, "type": kinds[0]}, path, close)

    def _values(self, schema: Schema, path: str) -> Node:
        given = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(given, list):
            raise self.malformed(path, given, "enum must be a list", "Give a list of values.")
        if "const" in schema and "enum" in schema:
            given = [value for value in given if value in schema["enum"]]
        try:
            values = [value for value in given if admits(schema, value)]
        except Exception:  # of jsonschema, for keywords that it can't judge here
            values = [value for value in given if admits({"type": schema["type"]} if "type" in schema else {}, value)]
            self._miss_all(schema, path, *(schema.keys() - {"type", "enum", "const"}))
        if "format" in schema and any(isinstance(value, str) for value in values):
            self._miss_all(schema, path, "format")
        if not values:
            reason = "no value of the enum satisfies the other keywords" if given else "the enum is empty"
            raise Nothing(path, given, reason, "Allow at least one value.")
        decodable = [value for value in values if writable(value)]
        if not decodable:
            raise Nothing(path, values, "the values hold control characters, which can't be decoded", "Remove them.")
        if len(decodable) < len(values):
            self.add(path, "enum without control characters", len(decodable))
        if any(isinstance(value, float) and value.is_integer() for value in decodable):
            self.add(path, "enum", "whole numbers without a point")
        return {"const": decodable[0]} if len(decodable) == 1 else {"enum": decodable}
