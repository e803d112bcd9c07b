"""How far from plain JSON an answer may be, through a client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from people import ANN, ASK, GOOD, Person
from rigs import said
from scripted_server import ScriptedServer
from wire_openai_chat import OpenAIChatWire

from pageform.core.errors import ParameterError
from pageform.structured import Leniency, Mode, ValidationFailed

ODD = "{name: 'Ann', 'age': \"30\",}"
AMID = f"Sure! Here it is:\n```json\n{GOOD}\n```"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_answers_are_mended_and_the_outcome_tells(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any, later: Any, mode: Mode, asynchronous: bool
) -> None:
    chat.say(wire.reply(said(mode, "Person", ODD)), wire.stream(said(mode, "Person", ODD)))
    if asynchronous:
        outcome = await later.create_result(Person, ASK, mode=mode)
        shown = [one async for one in later.create_partial(Person, ASK, mode=mode)]
    else:
        outcome = client.create_result(Person, ASK, mode=mode)
        shown = list(client.create_partial(Person, ASK, mode=mode))
    assert outcome.value == shown[-1] == ANN
    assert {"unquoted_key", "quotes", "trailing_comma"} <= {entry.rule for entry in outcome.repairs}
    assert len(outcome.attempts) == 1


def test_what_is_valid_is_not_touched(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(wire.reply(said(Mode.TOOLS, "Person", GOOD)))
    assert client.create_result(Person, ASK).repairs == ()


def test_each_preset(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    for leniency, error in (("strict", True), ("default", False), ("lenient", False), (Leniency(find=False), True)):
        chat.say(wire.reply(said(Mode.TEXT, "Person", AMID)))
        ask = {"mode": "text", "leniency": leniency, "max_retries": 0}
        if error:
            with pytest.raises(ValidationFailed):
                client.create(Person, ASK, **ask)
        else:
            assert client.create(Person, ASK, **ask) == ANN
    with pytest.raises(ParameterError, match="leniency"):
        client.create(Person, ASK, leniency="sloppy")
    assert len(chat.requests) == 4


def test_strict_validation_mends_json_but_changes_no_value(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    chat.say(*[wire.reply(said(Mode.TOOLS, "Person", text)) for text in ('{name: "Ann", age: 30}', ODD)])
    assert client.create(Person, ASK, strict=True) == ANN
    with pytest.raises(ValidationFailed, match="valid integer"):
        client.create(Person, ASK, strict=True, max_retries=0)


def test_faults_of_mended_answers_go_back_to_the_model(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    young = said(Mode.TOOLS, "Person", "{name: 'Ann', age: 3}")
    chat.say(wire.reply(young), wire.reply(said(Mode.TOOLS, "Person", GOOD)))
    outcome = client.create_result(Person, ASK)
    assert outcome.value == ANN
    assert [fault.loc for fault in outcome.attempts[0].faults] == [("age",)]
    assert "too young" in json.dumps(chat.requests[1].json)


def test_words_are_not_taken_for_a_text_that_was_asked_for(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    chat.say(wire.reply(said(Mode.TEXT, "", "I can't do that.")))
    with pytest.raises(ValidationFailed):
        client.create(str, ASK, max_retries=0)


def test_items_of_a_stream_are_mended_one_by_one(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    text = '{"tasks":[{"name":"Ann","age":"30"},{"name":"Ann","age":30}]}'
    chat.say(wire.stream(said(Mode.TOOLS, "list_Person", text)))
    assert list(client.create_iterable(Person, ASK)) == [ANN, ANN]
