"""Kinds of response types: lists and iterables, parallel tools, partials, JSON schemas, models of Pydantic v1."""

from __future__ import annotations

import collections.abc
import json
import pickle
import threading
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional

import pydantic.v1
import pytest
import typing_extensions
from pydantic import BaseModel, Field, RootModel, ValidationError, create_model, field_validator, model_validator

from pageform.core.errors import SchemaError
from pageform.structured import Spec
from pageform.structured.markers import Partial


class Weather(BaseModel):
    """Ask for the weather."""

    city: str


class Search(BaseModel):
    query: Annotated[str, Field(min_length=2)]


@dataclass
class Add:
    left: int
    right: int = 0


class Node(BaseModel):
    """A node."""

    children: list[Node] = []


class Plain(typing.TypedDict, total=False):
    """A plain one."""

    must: typing.Required[int]
    many: list[Weather]


class Address(pydantic.v1.BaseModel):
    street: str
    of: Optional[Person] = None  # noqa: UP045 - what Pydantic v1 understands


class Person(pydantic.v1.BaseModel):
    """Somebody."""

    name: str = pydantic.v1.Field(..., min_length=2, description="the full name")
    address: Address = None  # type: ignore[assignment]
    pair: tuple[int, str] = (1, "a")

    @pydantic.v1.validator("name")
    def no_braces(cls, value: str) -> str:
        if "{" in value:
            raise ValueError(f"{value} has 100% braces")
        return value


Address.update_forward_refs(Person=Person)

ORDER = {
    "title": "Order",
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "at": {"$ref": "#/$defs/when"}},
    "required": ["n"],
    "$defs": {"when": {"type": "string", "format": "date-time"}},
}

KINDS: list[tuple[Any, str, str | None, str]] = [
    (Weather, "value", None, "Weather"),
    (dict[str, int], "value", None, "dict_str_int"),
    (RootModel[dict[str, int]], "value", None, "RootModel_dict_str_int"),
    (Node, "value", None, "Node"),
    (Weather | None, "value", "content", "Weather_None"),
    (Weather | Search, "value", "content", "Weather_Search"),
    (int, "value", "content", "int"),
    (Annotated[int, Field(ge=3)], "value", "content", "int"),
    (tuple[int, ...], "value", "content", "tuple_int"),
    (Literal["a", "b"], "value", "content", "Literal_a_b"),
    (list[int], "iterable", "tasks", "list_int"),
    (list[Weather], "iterable", "tasks", "list_Weather"),
    (typing.Iterable[Weather], "iterable", "tasks", "Iterable_Weather"),
    (collections.abc.Iterable[Add], "iterable", "tasks", "Iterable_Add"),
    (list[Weather | None], "iterable", "tasks", "list_Weather_None"),
    (typing.Iterable, "iterable", "tasks", "Iterable"),
    (typing.Iterable[Weather | Search | Add], "parallel", "tasks", "Iterable_Weather_Search_Add"),
    (list[Weather | Person], "parallel", "tasks", "list_Weather_Person"),
    (Partial[Weather], "partial", None, "Weather"),
    (Partial[list[Weather]], "partial", "tasks", "list_Weather"),
]


@pytest.mark.parametrize(("given", "kind", "envelope", "name"), KINDS, ids=lambda value: str(value)[:40])
def test_kind_envelope_and_name(given: Any, kind: str, envelope: str | None, name: str) -> None:
    spec = Spec.of(given)
    assert (spec.kind, spec.envelope, spec.name, spec.tool_name) == (kind, envelope, name, name)
    assert spec.object_schema["type"] == "object"
    assert "$ref" not in spec.object_schema
    assert (spec.item is not None) == (envelope == "tasks")
    assert bool(spec.members) == (kind == "parallel")


@pytest.mark.parametrize("given", [Node, list[Weather], int, Weather | Search, Person], ids=str)
def test_references_of_the_object_schema_resolve(given: Any) -> None:
    schema = Spec.of(given).object_schema
    for reference in _references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def test_iterables_give_lists_of_the_callers_classes() -> None:
    spec = Spec.of(typing.Iterable[Weather])
    value = spec.validate('[{"city":"Rome"}]')
    assert value == [Weather(city="Rome")]
    assert type(value) is list
    assert type(value[0]) is Weather
    assert spec.item is Spec.of(Weather)


def test_an_envelope_is_taken_off_and_errors_have_the_places_in_the_value() -> None:
    spec = Spec.of(list[Search])
    assert spec.validate('{"tasks":[{"query":"ab"}]}', envelope=True) == [Search(query="ab")]
    assert spec.validate_python({"tasks": [{"query": "ab"}]}, envelope=True) == [Search(query="ab")]
    with pytest.raises(ValidationError) as enveloped:
        spec.validate('{"tasks":[{"query":"a"},{}]}', envelope=True)
    with pytest.raises(ValidationError) as bare:
        spec.validate('[{"query":"a"},{}]')
    assert enveloped.value.errors() == bare.value.errors()
    with pytest.raises(ValidationError, match="Field required"):
        spec.validate("{}", envelope=True)
    assert Spec.of(Weather).validate('{"city":"Rome"}', envelope=True) == Weather(city="Rome")


def test_python_data_is_judged_as_its_json() -> None:
    class Strict(BaseModel):
        when: typing.Any
        ids: tuple[int, ...]
        raw: bytes

    spec = Spec.of(Strict)
    data = {"when": None, "ids": [1, 2], "raw": "aGk="}
    assert spec.validate_python(data, strict=True) == spec.validate(json.dumps(data), strict=True)
    kept = object()
    assert spec.validate_python({**data, "when": kept}).when is kept


def test_parallel_members_are_named_apart() -> None:
    other = create_model("Weather", country=(str, ...))
    spec = Spec.of(list[Weather | other])  # type: ignore[valid-type]
    assert list(spec.members) == ["Weather", "Weather_2"]
    assert spec.members["Weather_2"].response_type is other
    assert Spec.of(list[other | Weather]).members["Weather"].response_type is other  # type: ignore[valid-type]


def test_calls_of_tools_become_the_list() -> None:
    spec = Spec.of(typing.Iterable[Weather | Add])
    calls = [("Add", '{"left":1}'), ("Weather", '{"city":"Rome"}')]
    assert spec.validate_calls(calls) == [Add(1), Weather(city="Rome")]
    with pytest.raises(ValidationError) as caught:
        spec.validate_calls([("Add", '{"left":"x"}'), ("Fly", "{}"), ("Weather", "{}")])
    assert [fault["loc"] for fault in caught.value.errors()] == [(0, "left"), (1,), (2, "city")]
    assert "Weather, Add" in str(caught.value)


def test_bounds_on_the_number_of_calls_hold() -> None:
    spec = Spec.of(Annotated[typing.Iterable[Weather | Add], Field(min_length=2)])
    with pytest.raises(ValidationError, match="at least 2 items"):
        spec.validate_calls([("Add", '{"left":1}')])
    with pytest.raises(ValidationError, match="at least 2 items"):
        spec.validate('[{"left":1}]')


@pytest.mark.parametrize("given", [list[Weather], Person, ORDER, Weather | Add, Partial[Weather], int], ids=str)
@pytest.mark.parametrize("envelope", [False, True])
@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "nonsense", '"\ud800"', b"\xff\xfe", "[" * 10_000, '{"a":' * 10_000, '{"content":', "1e999999999x"],
    ids=lambda text: repr(text)[:12],
)
def test_what_is_no_json_is_a_validation_error(given: Any, envelope: bool, text: str | bytes) -> None:
    with pytest.raises(ValidationError):
        Spec.of(given).validate(text, envelope=envelope)


# --- names, descriptions, cache --------------------------------------------------------------------------------------


def test_long_names_are_cut_and_still_differ() -> None:
    first, second = (create_model("N" * 80 + end, x=(int, ...)) for end in "ab")
    names = {Spec.of(first).tool_name, Spec.of(second).tool_name}
    assert len(names) == 2
    assert all(len(name) == 64 for name in names)


def test_names_are_free_of_what_tools_do_not_take() -> None:
    assert Spec.of(create_model("Größe m²", x=(int, ...))).tool_name == "Gr_e_m"
    assert Spec.of(create_model("名前", x=(int, ...))).tool_name == "answer"


def test_specs_are_kept_by_type_and_not_mixed_up() -> None:
    assert Spec.of(Weather) is Spec.of(Weather)
    assert Spec.of(list[Weather]) is Spec.of(list[Weather])
    assert [Spec.of(one).name for one in (Literal[1], Literal[True])] == ["Literal_1", "Literal_True"]
    found: set[int] = set()
    threads = [threading.Thread(target=lambda: found.add(id(Spec.of(Node)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Spec.of(Node).validate("{}") == Node()


def test_a_rebuilt_model_gets_a_new_spec() -> None:
    model = create_model("Changing", x=(int, ...))
    old = Spec.of(model)
    model.model_fields["x"].annotation = str
    model.model_rebuild(force=True)
    assert Spec.of(model) is not old
    assert Spec.of(model).validate('{"x":"a"}').x == "a"


# --- JSON schemas ----------------------------------------------------------------------------------------------------


def test_a_json_schema_is_a_response_type() -> None:
    given = json.loads(json.dumps(ORDER))
    spec = Spec.of(given)
    given["properties"].clear()  # ours is a copy
    assert (spec.kind, spec.name, spec.envelope) == ("value", "Order", None)
    assert spec.json_schema == ORDER
    assert spec.validate('{"n":1,"at":"2024-02-29T10:00:00Z"}') == {"n": 1, "at": "2024-02-29T10:00:00Z"}
    with pytest.raises(ValidationError) as caught:
        spec.validate('{"n":0,"at":"2023-02-29T10:00:00Z"}')
    faults = {fault["loc"]: (fault["type"], fault["input"]) for fault in caught.value.errors()}
    assert faults == {("n",): ("json_schema.minimum", 0), ("at",): ("json_schema.format", "2023-02-29T10:00:00Z")}
    assert pickle.loads(pickle.dumps(spec)).json_schema == spec.json_schema


def test_a_json_schema_that_is_no_object_has_an_envelope() -> None:
    spec = Spec.of({"type": "array", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"type": "integer"}}})
    assert spec.envelope == "content"
    assert spec.object_schema["$defs"] == {"x": {"type": "integer"}}
    assert spec.validate('{"content":[1]}', envelope=True) == [1]
    with pytest.raises(ValidationError) as caught:
        spec.validate('{"content":["a"]}', envelope=True)
    assert caught.value.errors()[0]["loc"] == (0,)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "text"}, "no JSON schema"),
        ({"properties": {"a": {"minimum": "1"}}}, "properties/a/minimum"),
        ({"$ref": "https://example.org/schema.json"}, "leads nowhere"),
        ({"items": {"$ref": "#/$defs/nowhere"}}, "leads nowhere"),
        ({"name": "order", "schema": {"type": "object"}}, "no keyword"),
    ],
    ids=str,
)
def test_malformed_json_schemas_are_refused(schema: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason) as caught:
        Spec.of(schema)
    assert caught.value.value is schema


# --- models of Pydantic v1 -------------------------------------------------------------------------------------------


def test_version_1_models_validate_and_describe_like_any_other() -> None:
    spec = Spec.of(Person)
    value = spec.validate('{"name":"Ada","address":{"street":"Main"},"pair":[2,"b"]}')
    assert type(value) is Person
    assert value == Person(name="Ada", address=Address(street="Main"), pair=(2, "b"))
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(ValidationError) as caught:
        spec.validate('{"name":"{x}","address":{"street":[]}}')
    faults = {fault["loc"]: (fault["type"], fault["msg"], fault["input"]) for fault in caught.value.errors()}
    assert faults == {
        ("name",): ("value_error", "{x} has 100% braces", "{x}"),
        ("address", "street"): ("type_error.str", "str type expected", []),
    }


def test_the_schema_of_a_version_1_model_is_of_the_same_dialect() -> None:
    spec = Spec.of(list[Person])
    definitions = spec.json_schema["$defs"]
    assert spec.json_schema["items"] == {"$ref": "#/$defs/Person"}
    assert definitions["Person"]["description"] == "Somebody."
    assert definitions["Person"]["properties"]["name"] == {
        "type": "string",
        "minLength": 2,
        "description": "the full name",
    }
    assert definitions["Address"]["properties"]["of"] == {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]}
    assert definitions["Person"]["properties"]["pair"]["prefixItems"] == [{"type": "integer"}, {"type": "string"}]
    assert spec.validate('{"tasks":[{"name":"Ada"}]}', envelope=True) == [Person(name="Ada")]


def test_models_of_both_versions_are_parallel_tools() -> None:
    spec = Spec.of(typing.Iterable[Weather | Person])
    assert spec.validate_calls([("Person", '{"name":"Ada"}')]) == [Person(name="Ada")]


# --- what Pydantic does not take by itself ---------------------------------------------------------------------------


def test_typeddicts_of_the_standard_library() -> None:
    spec = Spec.of(list[Plain])
    assert spec.validate('[{"must":1,"many":[{"city":"Rome"}]}]') == [{"must": 1, "many": [Weather(city="Rome")]}]
    described = spec.json_schema["$defs"]["Plain"] if "$defs" in spec.json_schema else {}
    assert described["required"] == ["must"]
    assert described["description"] == "A plain one."
    with pytest.raises(ValidationError):
        spec.validate("[{}]")


def test_async_validators_are_refused() -> None:
    class Late(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        async def check(cls, value: int) -> int:
            return value

    class Later(BaseModel):
        x: int

        @model_validator(mode="after")
        async def check(self) -> Any:
            return self

    for late in (Late, list[Late], Later, typing_extensions.TypedDict("Holder", {"late": Late})):
        with pytest.raises(SchemaError, match="async"):
            Spec.of(late)


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for part in node.values() for found in _references(part)]
    return [found for part in node for found in _references(part)] if isinstance(node, list) else []
