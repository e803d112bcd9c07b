"""Partial objects and iterables, as they arrive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import openai
import pytest
from compat_tools import WIRE, departs, tool
from pydantic import BaseModel
from scripted_server import Gate, ScriptedServer
from wires import Pieces, Said

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Jason is 25, Ann is 30."}]}
JASON = '{"name":"Jason","age":25}'
BOTH = f'{{"tasks":[{JASON},{{"name":"Ann","age":30}}]}}'


class User(BaseModel):
    name: str
    age: int


class Meeting(BaseModel):
    topic: str
    kind: Literal["call", "visit"]
    people: list[User]


def test_partials_grow_to_the_whole(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.stream(tool("PartialUser", JASON)))
    partials = list(instructor.from_openai(sdk).create_partial(**ASK, response_model=User))
    assert server.requests[0].json["stream"] is True
    names = [partial.name for partial in partials if partial.name]
    assert names == sorted(names, key=len)
    assert all("Jason".startswith(name) for name in names)
    assert {partial.age for partial in partials} == {None, 25}
    assert (partials[-1].name, partials[-1].age) == ("Jason", 25)


@departs("its synchronous stream gives nothing before the end")
def test_partials_come_while_the_server_is_still_talking(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI
) -> None:
    gate = Gate()
    server.say(WIRE.stream(tool("User", JASON), Pieces(4, {4: gate})))
    partials = iter(instructor.from_openai(sdk).create_partial(**ASK, response_model=User))
    seen = next(partials)
    while not seen.name:
        seen = next(partials)
    assert not gate.is_open
    gate.open()
    assert list(partials)[-1].age == 25


def test_a_partial_type_with_stream_is_the_same(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.stream(tool("PartialUser", JASON)))
    client = instructor.from_openai(sdk)
    partials = list(client.chat.completions.create(**ASK, response_model=instructor.Partial[User], stream=True))
    assert len(partials) > 2
    assert (partials[-1].name, partials[-1].age) == ("Jason", 25)


def test_partials_of_nested_models_and_literals(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    text = f'{{"topic":"budget","kind":"visit","people":[{JASON},{{"name":"Ann","age":30}}]}}'
    server.say(WIRE.stream(Said(text), Pieces(3)))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    partials = list(client.create_partial(**ASK, response_model=Meeting))
    assert [len(partial.people or []) for partial in partials] == sorted(len(p.people or []) for p in partials)
    assert [user.name for user in partials[-1].people] == ["Jason", "Ann"]


@departs("it shows halves of literals")
def test_literals_appear_when_they_are_complete(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.stream(Said('{"topic":"budget","kind":"visit","people":[]}'), Pieces(3)))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    partials = list(client.create_partial(**ASK, response_model=Meeting))
    assert {partial.kind for partial in partials} == {None, "visit"}


async def test_partials_of_an_async_client(
    instructor: Any, server: ScriptedServer, async_sdk: openai.AsyncOpenAI
) -> None:
    server.say(WIRE.stream(tool("PartialUser", JASON)))
    client = instructor.from_openai(async_sdk)
    partials = [partial async for partial in client.create_partial(**ASK, response_model=User)]
    assert len(partials) > 2
    assert partials[-1].age == 25


def test_iterables_give_item_by_item(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.stream(tool("IterableUser", BOTH)))
    users = list(instructor.from_openai(sdk).create_iterable(**ASK, response_model=User))
    assert [(user.name, user.age) for user in users] == [("Jason", 25), ("Ann", 30)]
    assert all(isinstance(user, User) for user in users)


def test_items_come_before_the_list_is_closed(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    gate = Gate()
    server.say(WIRE.stream(tool("IterableUser", BOTH), Pieces(4, {10: gate})))
    users = iter(instructor.from_openai(sdk).create_iterable(**ASK, response_model=User))
    assert next(users).name == "Jason"
    assert not gate.is_open
    gate.open()
    assert [user.name for user in users] == ["Ann"]


def test_an_iterable_type_with_stream_is_the_same(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.stream(tool("IterableUser", BOTH)))
    client = instructor.from_openai(sdk)
    users = client.chat.completions.create(**ASK, response_model=Iterable[User], stream=True)
    assert [user.name for user in users] == ["Jason", "Ann"]


async def test_iterables_of_an_async_client(
    instructor: Any, server: ScriptedServer, async_sdk: openai.AsyncOpenAI
) -> None:
    server.say(WIRE.stream(Said(BOTH)))
    client = instructor.from_openai(async_sdk, mode=instructor.Mode.JSON)
    users = [user async for user in client.create_iterable(**ASK, response_model=User)]
    assert [user.age for user in users] == [25, 30]


def test_iterables_of_a_union_are_told_apart(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    class Car(BaseModel):
        wheels: int

    text = f'{{"tasks":[{JASON},{{"wheels":4}}]}}'
    server.say(WIRE.stream(Said(text)))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    items = list(client.create_iterable(**ASK, response_model=User | Car))
    assert [type(item).__name__ for item in items] == ["User", "Car"]


@departs("it deletes line breaks from streams")
def test_line_breaks_in_streams_are_kept(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    class Letter(BaseModel):
        body: str

    server.say(WIRE.stream(Said('{"body":"Dear Ann,\\n\\nyours,\n\tBo"}')))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    assert list(client.create_partial(**ASK, response_model=Letter))[-1].body == "Dear Ann,\n\nyours,\n\tBo"


@pytest.mark.parametrize("mode", ["TOOLS", "JSON", "MD_JSON", "JSON_SCHEMA"])
def test_all_modes_stream(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI, mode: str) -> None:
    text = f"```json\n{JASON}\n```" if mode == "MD_JSON" else JASON
    server.say(WIRE.stream(tool("PartialUser", JASON) if mode == "TOOLS" else Said(text)))
    client = instructor.from_openai(sdk, mode=getattr(instructor.Mode, mode))
    assert list(client.create_partial(**ASK, response_model=User))[-1].age == 25
