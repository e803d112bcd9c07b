"""Mistral's chat: what is asked, what is read, and how it is asked again; with the real SDK on a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conversation import ANN, GOOD, YOUNG, YOUNGER, Person, Search, Weather, assembled, call_of, converse
from mistralai.client import Mistral, errors, models
from scripted_server import ScriptedServer
from wire_mistral import MistralWire
from wires import Called, Said

from pageform.clients.base import Provider
from pageform.clients.providers import mistral as module
from pageform.core.completion import FinishReason, Usage
from pageform.core.errors import ParameterError
from pageform.structured import EmptyAnswer, IncompleteOutput, Mode, NoToolCall, ProviderError

provider: Provider = module
WIRE = MistralWire()
THINKS = MistralWire(thinking="They say that Ann is thirty.")
OBJECTS = MistralWire(arguments_as_objects=True)
ASKED: dict[str, Any] = {"model": "mistral-large-latest", "messages": [{"role": "user", "content": "Ann is 30."}]}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(checks={WIRE.path: WIRE.check}) as server:
        yield server


@pytest.fixture
def chat(server: ScriptedServer) -> Any:
    return Mistral(api_key="k", server_url=server.url).chat


def called(arguments: str, name: str = "Person", id: str = "D681PevKs") -> Said:
    return Said(calls=(Called(name, arguments, id),))


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_tools_are_strict_and_forced() -> None:
    prepared = provider.prepare(call_of(**ASKED))
    [tool] = prepared.kwargs["tools"]
    assert (tool["type"], tool["function"]["name"], tool["function"]["description"]) == (
        "function",
        "Person",
        "A person.",
    )
    assert tool["function"]["strict"] is True
    assert tool["function"]["parameters"]["additionalProperties"] is False
    assert prepared.kwargs["tool_choice"] == {"type": "function", "function": {"name": "Person"}}
    assert prepared.kwargs["parallel_tool_calls"] is False
    assert "strict" not in provider.prepare(call_of(**ASKED, strict=False)).kwargs["tools"][0]["function"]


@pytest.mark.parametrize("strict", [None, False])
def test_schema_is_the_providers_own_structured_output(strict: bool | None) -> None:
    prepared = provider.prepare(call_of(Person, Mode.SCHEMA, **ASKED, strict=strict))
    form = prepared.kwargs["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("Person", strict is None)
    assert set(form["schema_definition"]["properties"]) == {"name", "age"}
    assert prepared.kwargs["messages"] == ASKED["messages"]


def test_system_prompts_are_kept() -> None:
    given = {**ASKED, "messages": [{"role": "system", "content": "Be brief."}, *ASKED["messages"]]}
    before = json.dumps(given)
    first, second = provider.prepare(call_of(Person, Mode.TEXT, **given)).kwargs["messages"]
    assert first["content"].startswith("Be brief.\n\nAnswer only with JSON")
    assert (second, json.dumps(given)) == (ASKED["messages"][0], before)
    objects = {**ASKED, "messages": [models.UserMessage(content="Ann is 30.")]}
    first, second = provider.prepare(call_of(Person, Mode.TEXT, **objects)).kwargs["messages"]
    assert (first["role"], second) == ("system", objects["messages"][0])


def test_the_callers_tools_and_choice_are_kept() -> None:
    other = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    prepared = provider.prepare(call_of(**ASKED, tools=[other], tool_choice="auto", parallel_tool_calls=True))
    assert prepared.kwargs["tools"][0] == other
    assert (prepared.kwargs["tool_choice"], prepared.kwargs["parallel_tool_calls"]) == ("auto", True)


@pytest.mark.parametrize(
    ("mode", "changed", "message"),
    [
        (Mode.TOOLS, {"messages": None}, "messages=None: is missing"),
        (Mode.TOOLS, {"tool_choice": "none"}, "forbids the tool"),
        (Mode.TEXT, {"response_format": {"type": "json_object"}}, "response_model"),
        (Mode.TOOLS, {"n": 2}, "n=2"),
        (Mode.TOOLS, {"tools": [{"type": "function", "function": {"name": "Person"}}]}, "another name"),
    ],
)
def test_what_can_not_be_is_refused_before_the_request(mode: Mode, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        provider.prepare(call_of(Person, mode, **{**ASKED, **changed}))


# --- whole answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
@pytest.mark.parametrize("wire", [WIRE, THINKS, OBJECTS])
def test_create_in_each_mode(server: ScriptedServer, chat: Any, mode: Mode, wire: MistralWire) -> None:
    server.say(wire.reply(called(GOOD) if mode is Mode.TOOLS else Said(GOOD)))
    outcome, _ = converse(provider, chat.complete, call_of(Person, mode, **ASKED))
    assert outcome.value == ANN
    assert outcome.usage == Usage(10, 5)
    assert isinstance(outcome.response, models.ChatCompletionResponse)


def test_tokens_of_the_cache_are_counted_where_they_are_told() -> None:
    """The SDK's type has no field for them, but keeps whatever comes."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    said = {"id": "1", "object": "chat.completion", "model": "m", "created": 1, "choices": [choice], "usage": usage}
    assert provider.read(models.ChatCompletionResponse.model_validate(said)).usage == Usage(10, 5, 4)


@pytest.mark.parametrize("wire", [WIRE, OBJECTS])
def test_faults_go_back_as_messages_of_the_tool(server: ScriptedServer, chat: Any, wire: MistralWire) -> None:
    server.say(wire.reply(called(YOUNGER)), wire.reply(called(YOUNG)), wire.reply(called(GOOD)))
    outcome, _ = converse(provider, chat.complete, call_of(**ASKED))
    assert (outcome.value, outcome.usage) == (ANN, Usage(30, 15))
    asked, assistant, tool = server.requests[2].json["messages"]
    assert asked == ASKED["messages"][0]
    assert [(call["id"], call["function"]) for call in assistant["tool_calls"]] == [
        ("D681PevKs", {"name": "Person", "arguments": YOUNG})
    ]
    assert (tool["role"], tool["name"], tool["tool_call_id"]) == ("tool", "Person", "D681PevKs")
    assert "age: Value error, too young" in tool["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", [Mode.SCHEMA, Mode.TEXT])
def test_thoughts_are_echoed(server: ScriptedServer, chat: Any, stream: bool, mode: Mode) -> None:
    speak = THINKS.stream if stream else THINKS.reply
    server.say(speak(Said(YOUNG)), speak(Said(GOOD)))
    outcome, _ = converse(
        provider, chat.stream if stream else chat.complete, call_of(Person, mode, **ASKED, stream=stream)
    )
    assert outcome.value == ANN
    *_, assistant, user = server.requests[1].json["messages"]
    thought, text = assistant["content"]
    assert thought == {"type": "thinking", "thinking": [{"type": "text", "text": THINKS.thinking}]}
    assert text == {"type": "text", "text": YOUNG}
    assert "too young" in user["content"]


def test_signed_thoughts_of_a_stream_stay_apart() -> None:
    def chunk(**more: Any) -> dict[str, Any]:
        return {"type": "thinking", "thinking": [{"type": "text", "text": "a"}], **more}

    pieces = (chunk(), chunk(signature="s"), chunk(), "b", "c")
    [first, second, text] = module._content(pieces)
    assert first == {"type": "thinking", "thinking": [{"type": "text", "text": "aa"}], "signature": "s"}
    assert (second, text) == (chunk(), {"type": "text", "text": "bc"})


def test_each_call_gets_a_result_and_no_user_follows(server: ScriptedServer, chat: Any) -> None:
    twice = Said("Both:", calls=(Called("Person", GOOD, "a"), Called("Person", YOUNG, "b")))
    server.say(WIRE.reply(twice), WIRE.reply(called(GOOD)))
    converse(provider, chat.complete, call_of(**ASKED))
    turns = server.requests[1].json["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool"]
    assert [turn["tool_call_id"] for turn in turns[2:]] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "error", "told"), [("", EmptyAnswer, "Your answer is empty"), ("Ann!", NoToolCall, "call of the tool")]
)
def test_a_missing_call_is_asked_for(
    server: ScriptedServer, chat: Any, text: str, error: type[Exception], told: str
) -> None:
    server.say(WIRE.reply(Said(text)), WIRE.reply(called(GOOD)))
    outcome, _ = converse(provider, chat.complete, call_of(**ASKED))
    assert isinstance(outcome.attempts[0].error, error)
    turns = server.requests[1].json["messages"]
    assert (len(turns), told in turns[-1]["content"]) == (3 if text else 2, True)


@pytest.mark.parametrize(("finish", "reason"), [("length", FinishReason.LENGTH), ("filter", FinishReason.ERROR)])
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_not_be_mended_is_not_asked_again(
    server: ScriptedServer, chat: Any, finish: Any, reason: FinishReason, stream: bool
) -> None:
    said = Said(GOOD[:9], finish=finish)
    server.say(WIRE.stream(said) if stream else WIRE.reply(said))
    with pytest.raises(IncompleteOutput) as caught:
        converse(provider, chat.stream if stream else chat.complete, call_of(Person, Mode.TEXT, **ASKED, stream=stream))
    [attempt] = caught.value.attempts
    assert (attempt.finish_reason, attempt.usage) == (reason, Usage(10, 5))


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("stop", FinishReason.STOP),
        ("tool_calls", FinishReason.STOP),
        ("model_length", FinishReason.LENGTH),
        ("error", FinishReason.ERROR),
        ("something_new", FinishReason.ERROR),
    ],
)
def test_every_reason_to_stop_has_a_meaning(stop: str, finish: FinishReason) -> None:
    choice = {"index": 0, "finish_reason": stop, "message": {"role": "assistant", "content": "x"}}
    said = {"id": "1", "object": "chat.completion", "model": "m", "created": 1, "choices": [choice], "usage": {}}
    assert provider.read(models.ChatCompletionResponse.model_validate(said)).finish_reason is finish


def test_parallel_tools(server: ScriptedServer, chat: Any) -> None:
    said = Said(calls=(Called("Weather", '{"city": "Bonn"}', "a"), Called("Search", '{"query": "Rhine"}', "b")))
    server.say(WIRE.reply(said), WIRE.stream(said))
    call = call_of(list[Weather | Search], **ASKED)
    prepared = provider.prepare(call)
    assert prepared.kwargs["tool_choice"] == "any"
    assert "parallel_tool_calls" not in prepared.kwargs
    for answer in (
        provider.read(chat.complete(**prepared.kwargs)),
        assembled(provider, chat.stream(**prepared.kwargs)),
    ):
        values = call.spec.validate_calls([(one.name, one.arguments) for one in answer.tool_calls])
        assert values == [Weather(city="Bonn"), Search(query="Rhine")]


def test_errors_of_the_api_are_the_sdks_own(server: ScriptedServer, chat: Any) -> None:
    for status in (400, 401, 429):
        server.say(WIRE.error(status, "no such thing"))
        with pytest.raises(errors.SDKError, match="no such thing") as caught:
            converse(provider, chat.complete, call_of(**ASKED))
        assert caught.value.status_code == status


def test_what_is_no_response_is_the_providers_error() -> None:
    for odd in (None, "overloaded", models.ChatCompletionResponse.model_construct(choices=[])):
        with pytest.raises(ProviderError, match="mistral"):
            provider.read(odd)


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
def test_streams_give_the_same_answers(server: ScriptedServer, chat: Any, mode: Mode) -> None:
    said = [called(text) if mode is Mode.TOOLS else Said(text) for text in (YOUNG, GOOD)]
    server.say(*(WIRE.stream(one) for one in said), *(WIRE.reply(one) for one in said))
    streamed, _ = converse(provider, chat.stream, call_of(Person, mode, **ASKED, stream=True))
    whole, _ = converse(provider, chat.complete, call_of(Person, mode, **ASKED))
    assert streamed.value == whole.value == ANN
    assert streamed.usage == whole.usage == Usage(20, 10)
    first, second = (server.requests[index].json for index in (1, 3))
    assert (first.pop("stream"), second.pop("stream")) == (True, False)
    assert first == second, "a streamed answer is echoed as a whole one"


def test_a_stream_that_breaks_off_is_incomplete(server: ScriptedServer, chat: Any) -> None:
    server.say(WIRE.stream(Said(GOOD, finish=None)))
    answer = assembled(provider, chat.stream(**provider.prepare(call_of(Person, Mode.TEXT, **ASKED)).kwargs))
    assert (answer.text, answer.finish_reason) == (GOOD, FinishReason.ABORT)
