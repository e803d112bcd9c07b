"""From JSON Schema to a provider's dialect of it, with an account of what got lost on the way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..schema_walk import follow
from .base import Adapted, Dropped, Rules
from .join import ANNOTATIONS, Disjoint, join
from .measure import exceeded, recursions
from .nodes import ASSERTIONS, Node, Schema, admits_null, kind_of, kinds_of, nullable, of_type, sentences, words

_LOOKS_AROUND = re.compile(r"\(\?(?![:Pims-])|\(\?P=|\\[1-9]|\\[bB]")
"""Look-around, back references and word boundaries, which engines without backtracking lack."""
_INLINED = 500
"""Definitions written out at the place of use, so that a schema can't grow without bound."""


def adapt(schema: Schema, rules: Rules) -> Adapted:
    """The schema in the dialect of `rules`. Neither is changed; the result shares nothing with the schema.

    Adapting the result again changes nothing. A schema from `Spec.object_schema` has an object at its root, which every
    provider wants.
    """
    return _Adapter(schema, rules).adapted()


class _Adapter:
    def __init__(self, root: Schema, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._dropped: dict[tuple[str, str, str], Dropped] = {}
        self._obstacles: dict[str, None] = {}
        self._lost: list[list[str]] = [[]]
        self._names: dict[str, str] = {}
        self._definitions: dict[str, Node] = {}
        self._inside: list[str] = []
        self._inlined = 0

    def adapted(self) -> Adapted:
        rules = self._rules
        root = self._root
        if "$ref" in root:
            root = self._joined(root, "")
        made = self._node(root, "")
        if made.get("type") != "object" or "anyOf" in made:
            self._obstacle("", "the root is no object")
        if self._definitions:
            made["$defs"] = self._definitions
        if rules.recursion != "free":
            where = " outside of optional properties" if rules.recursion == "optional" else ""
            for name in recursions(made, only_required=rules.recursion == "optional"):
                self._obstacle(name, f"it refers to itself{where}")
        for problem in exceeded(made, rules.limits):
            self._obstacle("", problem)
        return Adapted(made, tuple(self._dropped.values()), tuple(self._obstacles), self._root)

    # --- what is lost ------------------------------------------------------------------------------------------------

    def _drop(self, path: str, keyword: str, value: Any) -> None:
        """A constraint that the dialect can't say: report it, and tell the model in words."""
        self._dropped.setdefault((path, keyword, repr(value)), Dropped(path, keyword, value))
        if keyword in ASSERTIONS:
            self._lost[-1].append(words(keyword, value))

    def _obstacle(self, path: str, reason: str) -> None:
        self._obstacles[f"{self._rules.provider} can't express {path or 'the answer'}: {reason}"] = None

    # --- the walk ----------------------------------------------------------------------------------------------------

    def _node(self, schema: Any, path: str) -> Node:
        if schema is False:
            self._obstacle(path, "it admits no value")
            return {}
        if schema is True:
            schema = {}
        self._lost.append([])
        joined = self._joined(schema, path)
        made = self._combined(joined, path)
        lost = self._lost.pop()
        if "$ref" in joined and ("$ref" not in made or not self._rules.beside_references):
            return made  # its target has been annotated, with what stood beside the reference
        return self._annotated(made, joined, lost)

    def _joined(self, schema: Schema, path: str) -> Schema:
        """The schema without `allOf`, and without a reference that has constraints beside it."""
        parts = [part for part in schema.get("allOf", ()) if isinstance(part, Mapping)]
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        constrained = bool(rest.keys() - ANNOTATIONS - {"$ref"})
        if not parts and not ("$ref" in rest and (constrained or schema is self._root)):
            return schema
        try:
            if len(parts) == 1 and not constrained and "$ref" not in rest:
                return {**parts[0], **rest}
            made: Schema = {key: value for key, value in rest.items() if key != "$ref"}
            for part in ([{"$ref": rest["$ref"]}] if "$ref" in rest else []) + parts:
                made = join(made, part, self._follow)
            return self._joined(made, path) if "allOf" in made else made
        except Disjoint as problem:
            self._obstacle(path, f"allOf can't be written as one schema ({problem})")
            return {key: value for key, value in rest.items() if key != "$ref"}

    def _follow(self, pointer: str) -> Any:
        return follow(pointer, self._root)

    def _combined(self, schema: Schema, path: str) -> Node:
        if schema.get("nullable") is True:
            rest = {key: value for key, value in schema.items() if key != "nullable"}
            return nullable(self._combined(rest, path), self._null()) if rest.keys() - ANNOTATIONS else self._null()
        if "$ref" in schema:
            return self._reference(schema, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._union(schema, keyword, path)
        kinds = kinds_of(schema)
        if "const" in schema or "enum" in schema:
            return self._values(schema, kinds, path)
        if not kinds:
            return self._anything(schema, path)
        if len(kinds) > 1:
            return self._options([{**of_type(schema, kind), "type": kind} for kind in kinds], path)
        return self._typed(schema, kinds[0], path)

    def _union(self, schema: Schema, keyword: str, path: str) -> Node:
        options = [option for option in schema[keyword] if option is not False]
        own = {key: value for key, value in schema.items() if key != keyword and key not in ANNOTATIONS}
        if keyword == "oneOf" and not self._rules.one_of and "discriminator" not in schema:
            self._drop(path, "oneOf", f"exactly one of {len(options)}")
        if own:
            try:
                options = [join(own, {} if option is True else option, self._follow) for option in options]
            except Disjoint as problem:
                self._obstacle(path, f"{keyword} beside other keywords ({problem})")
        kept = keyword if self._rules.one_of else "anyOf"
        return self._options(options, path, kept)

    def _options(self, options: Sequence[Any], path: str, keyword: str = "anyOf") -> Node:
        """The options, adapted, those of a nested union among them."""
        made: list[Node] = []
        nullable = False
        for option in options:
            node = self._node(option, path)
            inner = node.pop("anyOf") if set(node) == {"anyOf"} else [node]
            for one in inner:
                if one == {"nullable": True}:
                    nullable = True
                elif one not in made:
                    made.append(one)
        result = made[0] if len(made) == 1 and keyword == "anyOf" else {keyword: made}
        return {**result, "nullable": True} if nullable else result

    # --- references --------------------------------------------------------------------------------------------------

    def _reference(self, schema: Schema, path: str) -> Node:
        pointer = schema["$ref"]
        try:
            target = self._follow(pointer)
        except LookupError:
            self._obstacle(path, f"the reference {pointer} leads nowhere")
            return {}
        said = {"description", "examples", *self._rules.annotations}
        notes = {key: value for key, value in schema.items() if key in said}
        write_out = not self._rules.references or (notes and not self._rules.beside_references)
        if not write_out or (pointer in self._inside and self._rules.references):
            return {"$ref": f"#/$defs/{self._define(pointer, target, path)}"}
        self._inlined += 1
        if pointer in self._inside or self._inlined > _INLINED:
            reason = "it refers to itself" if pointer in self._inside else "written out, it is too large"
            self._obstacle(path, reason)
            return {}
        self._inside.append(pointer)
        try:
            return self._node({**target, **notes} if isinstance(target, Mapping) else target, path)
        finally:
            self._inside.pop()

    def _define(self, pointer: str, target: Any, path: str) -> str:
        """The name of the definition, which is made at the first reference to it."""
        if pointer not in self._names:
            tail = re.sub(r"[^A-Za-z0-9_.-]+", "_", pointer.rsplit("/", 1)[-1]) or "root"
            name, number = tail, 2
            while name in self._definitions:
                name, number = f"{tail}_{number}", number + 1
            self._names[pointer] = name
            self._definitions[name] = {}
            self._definitions[name] = self._node(target, path)
        return self._names[pointer]

    # --- values and types --------------------------------------------------------------------------------------------

    def _values(self, schema: Schema, kinds: Sequence[str], path: str) -> Node:
        """`const` and `enum`: values of each type as an option of its own."""
        given = [schema["const"]] if "const" in schema else list(schema["enum"])
        by_kind: dict[str, list[Any]] = {}
        for value in given:
            kind = kind_of(value)
            if kinds and kind not in kinds:
                kind = "number" if kind == "integer" and "number" in kinds else kind
            by_kind.setdefault(kind, []).append(value)
        options = [self._values_of(kind, values, path) for kind, values in by_kind.items()]
        if not options:
            self._obstacle(path, "its enum is empty")
            return {}
        return options[0] if len(options) == 1 else self._merged_options(options)

    def _values_of(self, kind: str, values: list[Any], path: str) -> Node:
        if kind == "null":
            return self._null()
        if kind not in self._rules.enum_types:
            self._drop(path, "enum" if len(values) > 1 else "const", values if len(values) > 1 else values[0])
            if kind in ("array", "object"):
                self._obstacle(path, f"a fixed {kind}")
            return {"type": kind}
        if len(values) == 1 and self._rules.const:
            return {"type": kind, "const": values[0]}
        return {"type": kind, "enum": values}

    def _merged_options(self, options: list[Node]) -> Node:
        if {"nullable": True} in options:
            rest = [one for one in options if one != {"nullable": True}]
            return {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), "nullable": True}
        return {"anyOf": options}

    def _null(self) -> Node:
        return {"type": "null"} if self._rules.null_type else {"nullable": True}

    def _anything(self, schema: Schema, path: str) -> Node:
        for key in schema.keys() - ANNOTATIONS:
            self._drop(path, key, schema[key])
        if not self._rules.anything:
            self._obstacle(path, "it may hold any value")
        return {}

    def _typed(self, schema: Schema, kind: str, path: str) -> Node:
        if kind == "object":
            return self._object(schema, path)
        if kind == "array":
            return self._array(schema, path)
        if kind == "null":
            return self._null()
        made: Node = {"type": kind}
        known = {"string": self._rules.string, "number": self._rules.number, "integer": self._rules.number}.get(kind)
        for key, value in schema.items():
            if key in ANNOTATIONS or key == "type":
                continue
            if (known is not None and key not in known) or not self._takes(key, value):
                self._drop(path, key, value)
            else:
                made[key] = value
        return made

    def _takes(self, key: str, value: Any) -> bool:
        if key == "format":
            return self._rules.formats is None or value in self._rules.formats
        if key == "pattern":
            return self._rules.lookaround or not _LOOKS_AROUND.search(str(value))
        return True

    # --- arrays ------------------------------------------------------------------------------------------------------

    def _array(self, schema: Schema, path: str) -> Node:
        made: Node = {"type": "array"}
        firsts = list(schema.get("prefixItems", ()))
        rest = schema.get("items", not firsts)
        inner = f"{path}[]"
        if firsts and self._rules.tuples:
            made["prefixItems"] = [self._node(part, f"{path}[{index}]") for index, part in enumerate(firsts)]
            if "items" in schema:
                made["items"] = rest if isinstance(rest, bool) else self._node(rest, inner)
        elif firsts:
            open_ended = schema.get("items", False) is not False and schema.get("maxItems") != len(firsts)
            options = firsts + ([rest] if open_ended else [])
            made["items"] = self._options(options, inner)
            if len({json.dumps(option, sort_keys=True) for option in options}) > 1:
                self._drop(path, "prefixItems", [option.get("type", "…") for option in map(dict, firsts)])
        elif rest is False:
            made["items"] = {}
            schema = {**schema, "maxItems": 0}
        else:
            made["items"] = self._node(rest, inner)
        for key, value in schema.items():
            if key in ANNOTATIONS or key in ("type", "items", "prefixItems"):
                continue
            known = self._rules.array is None or key in self._rules.array
            small = key != "minItems" or self._rules.max_min_items is None or value <= self._rules.max_min_items
            if known and small:
                made[key] = value
            elif not (key == "minItems" and value == 0):
                self._drop(path, key, value)
        return made

    # --- objects -----------------------------------------------------------------------------------------------------

    def _object(self, schema: Schema, path: str) -> Node:
        properties: Mapping[str, Any] = schema.get("properties", {})
        extra = schema.get("additionalProperties", True)
        made: Node = {"type": "object"}
        for key, value in schema.items():
            if key in ANNOTATIONS or key in ("type", "properties", "required", "additionalProperties"):
                continue
            if self._rules.object is not None and key not in self._rules.object:
                self._drop(path, key, value)
            else:
                made[key] = value
        if "properties" not in schema and extra is not False:
            return {**made, **self._map(extra, path)}
        required = [name for name in schema.get("required", ()) if name in properties]
        fill = self._rules.all_required or (self._rules.some_required and not required)
        made["properties"] = {
            name: self._property(value, f"{path}.{name}".lstrip("."), fill and name not in required)
            for name, value in properties.items()
        }
        if fill:
            required = list(properties)
        if required or fill:
            made["required"] = required
        if self._rules.ordering and len(properties) > 1:
            made["propertyOrdering"] = list(properties)
        if self._rules.some_required and not required:
            self._obstacle(path, "an object without properties")
        if self._rules.closed:
            if extra is not False and "additionalProperties" in schema:
                self._drop(path, "additionalProperties", extra)
            made["additionalProperties"] = False
        elif not self._rules.maps and "additionalProperties" in schema:
            self._drop(path, "additionalProperties", extra)
        elif "additionalProperties" in schema:
            made["additionalProperties"] = extra if isinstance(extra, bool) else self._node(extra, f"{path}.*")
        return made

    def _map(self, values: Any, path: str) -> Node:
        if self._rules.closed or not self._rules.maps:
            self._obstacle(path, "an object with any keys")
            return {"properties": {}, "required": [], "additionalProperties": False} if self._rules.closed else {}
        if isinstance(values, bool):
            if not self._rules.anything:
                self._obstacle(path, "an object with any content")
            return {"additionalProperties": values}
        return {"additionalProperties": self._node(values, f"{path}.*".lstrip("."))}

    def _property(self, schema: Any, path: str, may_be_null: bool) -> Node:
        """A property; one that the dialect requires though the type doesn't may be null, for "not given"."""
        default = schema.get("default") if isinstance(schema, Mapping) else None
        silent = "default" in self._rules.annotations
        if not may_be_null or admits_null(schema, self._root):
            if default is not None and not silent:
                said = sentences(schema.get("description"), words("Default:", default))
                schema = {**schema, "description": said}
            return self._node(schema, path)
        made = self._node(schema, path)
        described = made.pop("description", "")
        meaning = "Null if not given." if default is None else f"Null for {words('the default,', default)}."
        text = described if silent else sentences(described, meaning)
        made = nullable(made, self._null())
        return {**made, "description": text} if text else made

    # --- annotations -------------------------------------------------------------------------------------------------

    def _annotated(self, made: Node, schema: Schema, lost: Iterable[str]) -> Node:
        """Titles and the like, and in the description what the keywords no longer say."""
        for key in self._rules.annotations:
            if key in schema and key not in made:
                made[key] = schema[key]
        said = [schema.get("description") or made.get("description")]
        if lost:
            said.append(f"Constraints: {'; '.join(dict.fromkeys(lost))}")
        examples = schema.get("examples")
        if examples and "examples" not in self._rules.annotations:
            said.append(words("Examples:", examples, 200))
        text = sentences(*said)
        if text:
            made["description"] = text
        return made
