"""Hypothesis strategies: Pydantic types, and values that a JSON schema of the simple kind admits."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import uuid
from typing import Annotated, Any, Literal, Optional, Union

from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

_numbers = itertools.count()


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Tree(BaseModel):
    label: str = "leaf"
    children: list[Tree] = []
    parent: Tree | None = None


SCALARS: list[Any] = [
    int,
    float,
    bool,
    str,
    dt.date,
    dt.datetime,
    uuid.UUID,
    Mood,
    Level,
    Literal["a"],
    Literal["a", "b c", 3],
    Literal["x", None],
    Annotated[int, Field(ge=-3, le=12)],
    Annotated[int, Field(gt=0, multiple_of=5)],
    Annotated[float, Field(ge=0.5, lt=2)],
    Annotated[str, Field(pattern="^[a-c]{1,4}$")],
    Annotated[str, Field(min_length=1, max_length=6)],
    Annotated[str, Field(description="Any text.")],
]
DEFAULTS: dict[Any, Any] = {int: 7, float: 0.25, bool: True, str: "é", Mood: Mood.BAD, Level: Level.HIGH}


@st.composite
def types(draw: st.DrawFn, depth: int = 2) -> Any:
    """A type that Pydantic takes and JSON carries."""
    if depth == 0:
        return draw(st.sampled_from(SCALARS))
    kind = draw(st.sampled_from(["scalar", "scalar", "optional", "list", "union", "model", "tagged", "tuple", "tree"]))
    if kind == "optional":
        return Optional[draw(types(depth - 1))]  # noqa: UP045 - the type is drawn
    if kind == "list":
        low = draw(st.sampled_from([None, None, 0, 1, 2]))
        return Annotated[
            list[draw(types(depth - 1))], Field(min_length=low, max_length=draw(st.sampled_from([None, 3])))
        ]  # type: ignore[misc]
    if kind == "union":
        return Union[draw(types(depth - 1)), draw(types(depth - 1))]  # noqa: UP007
    if kind == "model":
        return draw(models(depth - 1))
    if kind == "tagged":
        options = [draw(models(depth - 1, tag=tag)) for tag in ("one", "two")]
        return Annotated[Union[tuple(options)], Field(discriminator="kind")]  # noqa: UP007
    if kind == "tuple":
        return tuple[draw(types(depth - 1)), int]  # type: ignore[misc]
    return Tree if kind == "tree" else draw(st.sampled_from(SCALARS))


@st.composite
def models(draw: st.DrawFn, depth: int = 2, tag: str | None = None) -> type[BaseModel]:
    """A model of a few fields, some required, some with defaults, some described or renamed."""
    fields: dict[str, Any] = {} if tag is None else {"kind": (Literal[tag], ...)}
    for number in range(draw(st.integers(0 if tag else 1, 4))):
        annotation = draw(types(depth))
        about = {
            "alias": draw(st.sampled_from([None, None, f"Field {number}"])),
            "description": draw(st.sampled_from([None, None, "What it is", "See there."])),
        }
        default: Any = ...
        if draw(st.booleans()):
            nullable = annotation is not Any and type(None) in getattr(annotation, "__args__", ())
            default = DEFAULTS.get(annotation) if annotation in DEFAULTS else None if nullable else ...
        if default is ... and annotation in (int, float):
            default = draw(st.sampled_from([..., DEFAULTS[annotation]]))
        fields[f"f{number}"] = (annotation, Field(default, **{key: value for key, value in about.items() if value}))
    made: type[BaseModel] = create_model(f"Drawn{next(_numbers)}", **fields)
    return made


def values(schema: Any, root: Any, depth: int = 3) -> st.SearchStrategy[Any]:
    """Values that the schema admits. No deeper than `depth` references where it leaves a choice."""
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        return st.deferred(lambda: values(target, root, depth - 1))
    if schema.get("nullable"):
        rest = {key: value for key, value in schema.items() if key != "nullable"}
        return st.none() | values(rest, root, depth) if "type" in rest or "anyOf" in rest else st.none()
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            options = schema[keyword]
            shallow = [one for one in options if one.get("type") not in ("array", "object") and "$ref" not in one]
            chosen = shallow if depth < 0 and shallow else options
            return st.one_of([values(option, root, depth) for option in chosen])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _TYPED[schema["type"]](schema, root, depth)


def _object(schema: Any, root: Any, depth: int) -> st.SearchStrategy[Any]:
    properties = {name: values(part, root, depth) for name, part in schema["properties"].items()}
    required = schema.get("required", [])
    optional = {name: made for name, made in properties.items() if name not in required and depth >= 0}
    return st.fixed_dictionaries({name: properties[name] for name in required}, optional=optional)


def _array(schema: Any, root: Any, depth: int) -> st.SearchStrategy[Any]:
    low = schema.get("minItems", 0)
    if "prefixItems" in schema:
        return st.tuples(*(values(part, root, depth) for part in schema["prefixItems"])).map(list)
    high = min(schema.get("maxItems", 4), low if depth < 0 else 4)
    return st.lists(values(schema["items"], root, depth), min_size=low, max_size=max(low, high))


def _string(schema: Any, root: Any, depth: int) -> st.SearchStrategy[Any]:
    formats = {
        "date": st.dates().map(dt.date.isoformat),
        "date-time": st.datetimes(timezones=st.just(dt.UTC)).map(dt.datetime.isoformat),
        "uuid": st.uuids().map(str),
    }
    if schema.get("format") in formats:
        return formats[schema["format"]]
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return st.text(
        st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 8)
    )


def _integer(schema: Any, root: Any, depth: int) -> st.SearchStrategy[Any]:
    step = schema.get("multipleOf", 1)
    low = max(schema.get("minimum", -1000), schema.get("exclusiveMinimum", -1001) + 1)
    high = min(schema.get("maximum", 1000), schema.get("exclusiveMaximum", 1001) - 1)
    return st.integers(-(-low // step), high // step).map(lambda number: number * step)


def _number(schema: Any, root: Any, depth: int) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", -1e6), schema.get("maximum", schema.get("exclusiveMaximum", 1e6))
    return st.floats(low, high, exclude_max="exclusiveMaximum" in schema, allow_nan=False)


_TYPED: dict[str, Any] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
}
