"""Tools from classes, functions and JSON schemas; what `tool_choice` may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from pageform.core.errors import ParameterError
from pageform.structured.tools import Tool, chosen, tools_of


class Weather(BaseModel):
    """The weather in a city."""

    city: str


@dataclass
class Point:
    x: int


class Named(TypedDict):
    schema: str


def convert(amount: float, to: Literal["eur", "usd"] = "eur", *, json: Annotated[int, Field(ge=1)] = 1) -> str:
    """Converts money.

    Args:
        amount: how much
        to: the currency
    """
    return f"{amount} {to} {json}"


class Desk:
    def book(self, seats: int) -> int:
        """Books seats."""
        return seats

    def __call__(self, day: str) -> str:
        """Opens the desk."""
        return day


SCHEMA = {"type": "object", "properties": {"q": {"type": "string", "minLength": 2}}, "required": ["q"]}


@pytest.mark.parametrize(
    ("source", "name", "description", "text", "value"),
    [
        (Weather, "Weather", "The weather in a city.", '{"city": "Rome"}', Weather(city="Rome")),
        (Point, "Point", None, '{"x": 3}', Point(3)),
        (Named, "Named", None, '{"schema": "s"}', {"schema": "s"}),
        (convert, "convert", "Converts money.", '{"amount": 2}', {"amount": 2.0}),
        (convert, "convert", "Converts money.", '{"amount": 2, "json": 4}', {"amount": 2.0, "json": 4}),
        (Desk().book, "book", "Books seats.", '{"seats": 2}', {"seats": 2}),
        (Desk(), "Desk", "Opens the desk.", '{"day": "May 1"}', {"day": "May 1"}),
        ({"name": "find", "description": "Finds.", "parameters": SCHEMA}, "find", "Finds.", '{"q": "ab"}', {"q": "ab"}),
        (
            {"type": "function", "function": {"name": "f-1", "parameters": SCHEMA}},
            "f-1",
            None,
            '{"q": "ab"}',
            {"q": "ab"},
        ),
        ({"name": "find", "input_schema": SCHEMA}, "find", None, '{"q": "ab"}', {"q": "ab"}),
        ({"name": "now"}, "now", None, "{}", {}),
    ],
)
def test_tools(source: Any, name: str, description: str | None, text: str, value: Any) -> None:
    tool = Tool.of(source)
    assert (tool.name, tool.description) == (name, description)
    assert tool.parameters["type"] == "object"
    assert tool.spec.validate(text) == value
    if callable(source) and not isinstance(source, type):
        source(**tool.spec.validate(text))


def test_functions_tell_of_their_parameters() -> None:
    tool = Tool.of(convert)
    assert tool.parameters["required"] == ["amount"]
    assert tool.parameters["properties"]["amount"] == {"type": "number", "description": "how much"}
    assert tool.parameters["properties"]["to"] == {
        "enum": ["eur", "usd"],
        "type": "string",
        "description": "the currency",
    }
    with pytest.raises(ValidationError):
        tool.spec.validate('{"amount": 1, "json": 0}')


@pytest.mark.parametrize(
    "source",
    [
        int,
        list[int],
        lambda x: x,
        "Weather",
        3,
        {"description": "nameless"},
        {"name": "a b"},
        {"type": "web_search"},
        {"name": "f", "parameters": "x"},
        lambda *args: args,
    ],
)
def test_what_is_no_tool_is_told(source: Any) -> None:
    with pytest.raises(ParameterError):
        tools_of([source])


def test_parameters_must_have_names() -> None:
    def rest(*values: int) -> None: ...

    def positional(a: int, /) -> None: ...

    for function in (rest, positional):
        with pytest.raises(ParameterError, match="can't be given by name"):
            Tool.of(function)


@pytest.mark.parametrize("sources", [[], "Weather", {"name": "f"}, [Weather, {"name": "Weather"}]])
def test_bad_lists_are_told(sources: Any) -> None:
    with pytest.raises(ParameterError, match="tools"):
        tools_of(sources)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", ("Weather", "convert"))),
        ("auto", ("auto", ("Weather", "convert"))),
        ("required", ("required", ("Weather", "convert"))),
        ("any", ("required", ("Weather", "convert"))),
        ({"type": "any"}, ("required", ("Weather", "convert"))),
        ("none", ("none", ("Weather", "convert"))),
        ("convert", ("named", ("convert",))),
        (convert, ("named", ("convert",))),
        (Weather, ("named", ("Weather",))),
        ({"name": "convert"}, ("named", ("convert",))),
        ({"type": "function", "function": {"name": "convert"}}, ("named", ("convert",))),
        ({"type": "tool", "name": "Weather"}, ("named", ("Weather",))),
    ],
)
def test_choices(choice: Any, expected: Any) -> None:
    assert chosen(choice, tools_of([Weather, convert])) == expected


@pytest.mark.parametrize("choice", ["Wether", {"name": "x"}, {"type": "function"}, 3, Point])
def test_bad_choices_are_told(choice: Any) -> None:
    with pytest.raises(ParameterError, match="tool_choice"):
        chosen(choice, tools_of([Weather, convert]))
