"""Cohere's chat: what is asked, what is read, and how it is asked again; with the real SDK on a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cohere
import pytest
from cohere.errors import BadRequestError, TooManyRequestsError, UnauthorizedError
from conversation import ANN, GOOD, YOUNG, YOUNGER, Person, Search, Weather, assembled, call_of, converse
from pydantic import BaseModel
from scripted_server import ScriptedServer
from wire_cohere import CohereWire
from wires import Called, Said

from pageform.clients.base import Provider
from pageform.clients.providers import cohere as module
from pageform.core.completion import FinishReason, Usage
from pageform.core.errors import ParameterError, SchemaError
from pageform.structured import EmptyAnswer, IncompleteOutput, Mode, NoToolCall, ProviderError, ValidationFailed

provider: Provider = module
WIRE = CohereWire()
THINKS = CohereWire(thinking="They say that Ann is thirty.", plan="I will write down Ann.")
ASKED: dict[str, Any] = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "Ann is 30."}]}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(checks={WIRE.path: WIRE.check}) as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Any:
    return cohere.ClientV2("k", base_url=server.url)


def called(arguments: str, name: str = "Person", id: str = "Person_1") -> Said:
    return Said(calls=(Called(name, arguments, id),))


class Nothing(BaseModel):
    """An object without properties, which Cohere's structured output does not allow."""


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_tools_are_strict_and_required() -> None:
    prepared = provider.prepare(call_of(**ASKED))
    [tool] = prepared.kwargs["tools"]
    assert (tool["type"], tool["function"]["name"], tool["function"]["description"]) == (
        "function",
        "Person",
        "A person.",
    )
    assert set(tool["function"]["parameters"]["properties"]) == {"name", "age"}
    assert (prepared.kwargs["tool_choice"], prepared.kwargs["strict_tools"]) == ("REQUIRED", True)
    assert prepared.notes == ()
    assert "strict_tools" not in provider.prepare(call_of(**ASKED, strict=False)).kwargs


@pytest.mark.parametrize(
    ("model", "required"),
    [
        ("command-a-03-2025", True),
        ("command-r7b-12-2024", True),
        ("command-r-08-2024", False),
        ("command-r-plus", False),
        ("command-r", False),
    ],
)
def test_older_models_are_asked_to_call_the_tool(model: str, required: bool) -> None:
    prepared = provider.prepare(call_of(**{**ASKED, "model": model}))
    assert (prepared.kwargs.get("tool_choice") == "REQUIRED") is required
    assert any("can't be required" in note for note in prepared.notes) is not required
    assert (prepared.kwargs["messages"] == ASKED["messages"]) is required


def test_what_strict_schemas_can_not_say_is_noted_or_refused() -> None:
    plain = provider.prepare(call_of(Nothing, **ASKED))
    assert "strict_tools" not in plain.kwargs
    assert plain.notes
    with pytest.raises(SchemaError):
        provider.prepare(call_of(Nothing, **ASKED, strict=True))
    weaker = provider.prepare(call_of(Nothing, Mode.SCHEMA, **ASKED))
    assert (weaker.mode, "response_format" in weaker.kwargs) == (Mode.TOOLS, False)
    assert any("mode tools" in note for note in weaker.notes)


def test_schema_is_the_providers_own_structured_output() -> None:
    prepared = provider.prepare(call_of(Person, Mode.SCHEMA, **ASKED))
    form = prepared.kwargs["response_format"]
    assert (form["type"], set(form["json_schema"]["properties"])) == ("json_object", {"name", "age"})
    system, asked = prepared.kwargs["messages"]
    assert (system["role"], "JSON" in system["content"], asked) == ("system", True, ASKED["messages"][0])


def test_system_prompts_are_kept() -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    given = {**ASKED, "messages": [system, *ASKED["messages"]]}
    before = json.dumps(given)
    first, second = provider.prepare(call_of(Person, Mode.TEXT, **given)).kwargs["messages"]
    assert first["content"][0] == {"type": "text", "text": "Be brief."}
    assert first["content"][1]["text"].startswith("Answer only with JSON")
    assert second == ASKED["messages"][0]
    assert json.dumps(given) == before


def test_other_tools_are_kept_and_not_made_strict() -> None:
    other = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    prepared = provider.prepare(call_of(**ASKED, tools=[other]))
    assert prepared.kwargs["tools"][0] == other
    assert "strict_tools" not in prepared.kwargs
    assert any("does not enforce" in note for note in prepared.notes)


@pytest.mark.parametrize(
    ("mode", "changed", "message"),
    [
        (Mode.TOOLS, {"messages": None}, "messages=None: is missing"),
        (Mode.TOOLS, {"tool_choice": "NONE"}, "forbids the tool"),
        (Mode.TEXT, {"response_format": {"type": "json_object"}}, "response_model"),
        (Mode.SCHEMA, {"documents": ["Ann is 30."]}, "documents=.*can't be combined"),
        (Mode.SCHEMA, {"tools": [{"type": "function"}]}, "tools=.*can't be combined"),
        (Mode.TOOLS, {"tools": [{"type": "function", "function": {"name": "Person"}}]}, "another name"),
        (Mode.TOOLS, {"connectors": [{"id": "web-search"}]}, "version 1"),
        (Mode.TOOLS, {"message": "Ann is 30."}, "together"),
    ],
)
def test_what_can_not_be_is_refused_before_the_request(mode: Mode, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        provider.prepare(call_of(Person, mode, **{**ASKED, **changed}))


def test_arguments_of_version_1_are_rewritten() -> None:
    history = [{"role": "USER", "message": "Hello"}, cohere.ChatbotMessage(message="Hi")]
    old = {"model": "command-a-03-2025", "preamble": "Be brief.", "chat_history": history, "message": "Ann is 30."}
    assert provider.prepare(call_of(**old)).kwargs["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Ann is 30."},
    ]
    with pytest.raises(ParameterError, match="chat_history"):
        provider.prepare(call_of(**{**old, "chat_history": [{"role": "TOOL", "tool_results": []}]}))


# --- whole answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
def test_create_in_each_mode(server: ScriptedServer, client: Any, mode: Mode) -> None:
    server.say(WIRE.reply(called(GOOD) if mode is Mode.TOOLS else Said(GOOD)))
    outcome, _ = converse(provider, client.chat, call_of(Person, mode, **ASKED))
    assert outcome.value == ANN
    assert outcome.usage == Usage(10, 5, 4)
    assert isinstance(outcome.response, cohere.V2ChatResponse)


def test_faults_go_back_as_results_of_the_tool(server: ScriptedServer, client: Any) -> None:
    server.say(WIRE.reply(called(YOUNGER)), WIRE.reply(called(YOUNG)), WIRE.reply(called(GOOD)))
    outcome, _ = converse(provider, client.chat, call_of(**ASKED))
    assert (outcome.value, outcome.usage) == (ANN, Usage(30, 15, 12))
    asked, assistant, tool = server.requests[2].json["messages"]
    assert asked == ASKED["messages"][0]
    function = {"name": "Person", "arguments": YOUNG}
    assert assistant == {
        "role": "assistant",
        "tool_calls": [{"id": "Person_1", "type": "function", "function": function}],
    }
    assert (tool["role"], tool["tool_call_id"]) == ("tool", "Person_1")
    assert "age: Value error, too young" in json.loads(tool["content"])["error"]


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_and_plans_are_echoed(server: ScriptedServer, client: Any, stream: bool) -> None:
    speak = THINKS.stream if stream else THINKS.reply
    server.say(speak(called(YOUNG)), speak(called(GOOD)))
    outcome, _ = converse(provider, client.chat_stream if stream else client.chat, call_of(**ASKED, stream=stream))
    assert outcome.value == ANN
    assistant = server.requests[1].json["messages"][1]
    assert assistant["content"] == [{"type": "thinking", "thinking": THINKS.thinking}]
    assert assistant["tool_plan"] == THINKS.plan
    assert assistant["tool_calls"][0]["function"]["arguments"] == YOUNG


@pytest.mark.parametrize("mode", [Mode.SCHEMA, Mode.TEXT])
def test_faults_of_text_go_back_as_text(server: ScriptedServer, client: Any, mode: Mode) -> None:
    server.say(THINKS.reply(Said(YOUNG)), THINKS.reply(Said(GOOD)))
    outcome, _ = converse(provider, client.chat, call_of(Person, mode, **ASKED))
    assert outcome.value == ANN
    *_, assistant, user = server.requests[1].json["messages"]
    assert assistant["content"][1] == {"type": "text", "text": YOUNG}
    assert "too young" in user["content"]


def test_each_call_gets_a_result(server: ScriptedServer, client: Any) -> None:
    twice = Said(calls=(Called("Person", GOOD, "a"), Called("Person", YOUNG, "b")))
    server.say(WIRE.reply(twice), WIRE.reply(called(GOOD)))
    converse(provider, client.chat, call_of(**ASKED))
    assert [turn.get("tool_call_id") for turn in server.requests[1].json["messages"]] == [None, None, "a", "b"]


@pytest.mark.parametrize(
    ("text", "error", "told"), [("", EmptyAnswer, "Your answer is empty"), ("Ann!", NoToolCall, "call of the tool")]
)
def test_a_missing_call_is_asked_for(
    server: ScriptedServer, client: Any, text: str, error: type[Exception], told: str
) -> None:
    server.say(WIRE.reply(Said(text)), WIRE.reply(called(GOOD)))
    outcome, _ = converse(provider, client.chat, call_of(**ASKED))
    assert isinstance(outcome.attempts[0].error, error)
    turns = server.requests[1].json["messages"]
    assert (len(turns), told in turns[-1]["content"]) == (3 if text else 2, True)


@pytest.mark.parametrize(
    ("said", "error", "reason"),
    [
        (Said(GOOD[:9], finish="length"), IncompleteOutput, FinishReason.LENGTH),
        (Said(GOOD, refusal="toxic"), ValidationFailed, FinishReason.CONTENT_FILTER),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_not_be_mended_is_not_asked_again(
    server: ScriptedServer, client: Any, said: Said, error: type[Exception], reason: FinishReason, stream: bool
) -> None:
    server.say(WIRE.stream(said) if stream else WIRE.reply(said))
    send = client.chat_stream if stream else client.chat
    with pytest.raises(error, match=r"toxic|broke off") as caught:
        converse(provider, send, call_of(Person, Mode.TEXT, **ASKED, stream=stream))
    [attempt] = caught.value.attempts  # type: ignore[attr-defined]
    assert (attempt.finish_reason, attempt.usage) == (reason, Usage(10, 5, 4))


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("COMPLETE", FinishReason.STOP),
        ("STOP_SEQUENCE", FinishReason.STOP),
        ("TIMEOUT", FinishReason.TIMEOUT),
        ("ERROR", FinishReason.ERROR),
        ("SOMETHING_NEW", FinishReason.ERROR),
    ],
)
def test_every_reason_to_stop_has_a_meaning(stop: str, finish: FinishReason) -> None:
    said = {"id": "1", "finish_reason": stop, "message": {"role": "assistant"}}
    assert provider.read(cohere.V2ChatResponse.model_validate(said)).finish_reason is finish


def test_parallel_tools(server: ScriptedServer, client: Any) -> None:
    said = Said(calls=(Called("Weather", '{"city": "Bonn"}', "a"), Called("Search", '{"query": "Rhine"}', "b")))
    server.say(WIRE.reply(said), WIRE.stream(said))
    call = call_of(list[Weather | Search], **ASKED)
    prepared = provider.prepare(call)
    assert [tool["function"]["name"] for tool in prepared.kwargs["tools"]] == ["Weather", "Search"]
    for answer in (
        provider.read(client.chat(**prepared.kwargs)),
        assembled(provider, client.chat_stream(**prepared.kwargs)),
    ):
        values = call.spec.validate_calls([(one.name, one.arguments) for one in answer.tool_calls])
        assert values == [Weather(city="Bonn"), Search(query="Rhine")]


def test_errors_of_the_api_are_the_sdks_own(server: ScriptedServer, client: Any) -> None:
    for status, error in ((400, BadRequestError), (401, UnauthorizedError)):
        server.say(WIRE.error(status, "no such thing"))
        with pytest.raises(error, match="no such thing"):
            converse(provider, client.chat, call_of(**ASKED))
    server.say(WIRE.error(429, "slowly"))
    options = {"request_options": {"max_retries": 0}}
    with pytest.raises(TooManyRequestsError, match="slowly"):
        converse(provider, client.chat, call_of(**ASKED, **options))


def test_what_is_no_response_is_the_providers_error() -> None:
    for odd in (None, "overloaded", cohere.V2ChatResponse.construct(message=None)):
        with pytest.raises(ProviderError, match="cohere"):
            provider.read(odd)


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
def test_streams_give_the_same_answers(server: ScriptedServer, client: Any, mode: Mode) -> None:
    said = [called(text) if mode is Mode.TOOLS else Said(text) for text in (YOUNG, GOOD)]
    server.say(*(THINKS.stream(one) for one in said), *(THINKS.reply(one) for one in said))
    streamed, _ = converse(provider, client.chat_stream, call_of(Person, mode, **ASKED, stream=True))
    whole, _ = converse(provider, client.chat, call_of(Person, mode, **ASKED))
    assert streamed.value == whole.value == ANN
    assert streamed.usage == whole.usage == Usage(20, 10, 8)
    first, second = (server.requests[index].json for index in (1, 3))
    assert (first.pop("stream"), second.pop("stream")) == (True, False)
    assert first == second, "a streamed answer is echoed as a whole one"


def test_a_stream_that_breaks_off_is_incomplete(server: ScriptedServer, client: Any) -> None:
    server.say(WIRE.stream(Said(GOOD, finish=None)))
    answer = assembled(provider, client.chat_stream(**provider.prepare(call_of(Person, Mode.TEXT, **ASKED)).kwargs))
    assert (answer.text, answer.finish_reason) == (GOOD, FinishReason.ABORT)
