"""What can be asked for: simple types, lists, unions, enums, Maybe, citations, parallel tools, schemas."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Generic, Literal, TypeVar, Union

import openai
import pytest
from compat_tools import WIRE, departs, tool
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field, create_model
from scripted_server import ScriptedServer
from typing_extensions import TypedDict
from wires import Called, Said

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Jason is 25, Ann is 30."}]}
JASON = '{"name":"Jason","age":25}'


class User(BaseModel):
    name: str
    age: int


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Weather(BaseModel):
    """Looks the weather up."""

    location: str
    units: Literal["metric", "imperial"] = "metric"


class Search(BaseModel):
    """Searches the web."""

    query: str


@pytest.mark.parametrize(
    ("kind", "json", "value"),
    [
        (int, "25", 25),
        (str, '"Jason"', "Jason"),
        (bool, "true", True),
        (float, "2.5", 2.5),
        (Colour, '"red"', Colour.RED),
        (Literal["red", "blue"], '"blue"', "blue"),
        (list[int], "[1,2]", [1, 2]),
        (list[str], '["a"]', ["a"]),
        (Union[int, str], '"a"', "a"),  # noqa: UP007
    ],
)
def test_simple_types_are_wrapped_in_a_response(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI, kind: Any, json: str, value: Any
) -> None:
    server.say(WIRE.reply(tool("Response", f'{{"content":{json}}}')))
    assert instructor.from_openai(sdk).create(**ASK, response_model=kind) == value
    [offered] = server.requests[0].json["tools"]
    assert offered["function"]["name"] == "Response"
    assert list(offered["function"]["parameters"]["properties"]) == ["content"]


@pytest.mark.parametrize("kind", [list[User], Iterable[User]])
def test_lists_of_models_are_wrapped_in_tasks(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI, kind: Any
) -> None:
    server.say(WIRE.reply(tool("IterableUser", f'{{"tasks":[{JASON},{{"name":"Ann","age":30}}]}}')))
    users = instructor.from_openai(sdk).create(**ASK, response_model=kind)
    assert [(user.name, user.age) for user in users] == [("Jason", 25), ("Ann", 30)]
    [offered] = server.requests[0].json["tools"]
    assert offered["function"]["name"] == "IterableUser"
    assert list(offered["function"]["parameters"]["properties"]) == ["tasks"]


def test_typed_dicts_are_taken(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    class Person(TypedDict):
        name: str
        age: int

    server.say(WIRE.reply(tool("Person", JASON)))
    person: Any = instructor.from_openai(sdk).create(**ASK, response_model=Person)
    assert (person["name"] if isinstance(person, dict) else person.name) == "Jason"


@departs("it refuses dataclasses")
def test_dataclasses_are_taken(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: int
        y: int

    server.say(WIRE.reply(tool("Point", '{"x":1,"y":2}')))
    assert instructor.from_openai(sdk).create(**ASK, response_model=Point) == Point(1, 2)


def test_models_made_at_run_time_are_taken(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    made = create_model("Made", name=(str, ...), age=(int, Field(ge=0)))
    server.say(WIRE.reply(tool("Made", JASON)))
    assert instructor.from_openai(sdk).create(**ASK, response_model=made).name == "Jason"


def test_nested_models_and_unions_are_taken(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    class Cat(BaseModel):
        kind: Literal["cat"]
        lives: int

    class Dog(BaseModel):
        kind: Literal["dog"]
        tricks: list[str]

    class Owner(BaseModel):
        name: str
        pet: Cat | Dog = Field(discriminator="kind")
        friends: list[Owner] = []

    Owner.model_rebuild(_types_namespace={"Owner": Owner, "Cat": Cat, "Dog": Dog})
    text = (
        '{"name":"Ann","pet":{"kind":"dog","tricks":["sit"]},"friends":[{"name":"Bo","pet":{"kind":"cat","lives":9}}]}'
    )
    server.say(WIRE.reply(tool("Owner", text)))
    owner = instructor.from_openai(sdk).create(**ASK, response_model=Owner)
    assert owner.pet.tricks == ["sit"]
    assert owner.friends[0].pet.lives == 9


def test_maybe_has_a_result_or_an_error(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    MaybeUser = instructor.Maybe(User)
    server.say(
        WIRE.reply(tool("MaybeUser", f'{{"result":{JASON},"error":false,"message":null}}')),
        WIRE.reply(tool("MaybeUser", '{"result":null,"error":true,"message":"nobody is named"}')),
    )
    client = instructor.from_openai(sdk)
    found = client.create(**ASK, response_model=MaybeUser)
    assert found
    assert found.result.age == 25
    missing = client.create(**ASK, response_model=MaybeUser)
    assert not missing
    assert missing.error is True
    assert missing.message == "nobody is named"
    assert server.requests[0].json["tools"][0]["function"]["name"] == "MaybeUser"


def test_parallel_tools_give_several_values(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(
        WIRE.reply(
            Said(
                calls=(
                    Called("Weather", '{"location":"Oslo","units":"metric"}', "call_1"),
                    Called("Search", '{"query":"who won"}', "call_2"),
                    Called("Weather", '{"location":"Rome","units":"imperial"}', "call_3"),
                )
            )
        )
    )
    client = instructor.from_openai(sdk, mode=instructor.Mode.PARALLEL_TOOLS)
    calls = list(client.create(**ASK, response_model=Iterable[Weather | Search]))
    assert [type(call).__name__ for call in calls] == ["Weather", "Search", "Weather"]
    assert calls[2].location == "Rome"
    sent = server.requests[0].json
    assert {one["function"]["name"] for one in sent["tools"]} == {"Weather", "Search"}
    assert sent["tool_choice"] == "auto"


def test_schemas_can_be_had_alone(instructor: Any) -> None:
    schema = instructor.generate_openai_schema(Weather)
    assert schema["name"] == "Weather"
    assert schema["description"] == "Looks the weather up."
    assert set(schema["parameters"]["properties"]) == {"location", "units"}
    assert schema["parameters"]["required"] == ["location"]
    anthropic = instructor.generate_anthropic_schema(Weather)
    assert anthropic["name"] == "Weather"
    assert "location" in anthropic["input_schema"]["properties"]


def test_a_schema_class_reads_a_completion_by_itself(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI
) -> None:
    class Person(instructor.OpenAISchema):  # type: ignore[misc, name-defined]
        """A person.

        Args:
            name: as it is signed
            age: in years
        """

        name: str
        age: int

    server.say(WIRE.reply(tool("Person", JASON)))
    function = Person.openai_schema
    assert function["parameters"]["properties"]["name"]["description"] == "as it is signed"
    completion = sdk.chat.completions.create(
        model="m", messages=ASK["messages"], tools=[{"type": "function", "function": function}]
    )
    assert isinstance(completion, ChatCompletion)
    person = Person.from_response(completion, mode=instructor.Mode.TOOLS)
    assert (person.name, person.age) == ("Jason", 25)


def test_citations_are_checked_against_the_context(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    class Fact(instructor.CitationMixin, BaseModel):  # type: ignore[misc, name-defined]
        statement: str

    text = '{"statement":"He is 25","substring_quotes":["Jason is 25","he lives on the moon"]}'
    server.say(WIRE.reply(tool("Fact", text)))
    source = "We met Jason. Jason is 25 and works in Rome."
    fact = instructor.from_openai(sdk).create(**ASK, response_model=Fact, context={"context": source})
    assert fact.substring_quotes == ["Jason is 25"]


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]
    more: bool


def test_generic_models_are_taken(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said(f'{{"items":[{JASON}],"more":false}}')))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    page = client.create(**ASK, response_model=Page[User])
    assert page.items[0].name == "Jason"
