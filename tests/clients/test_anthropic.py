"""Anthropic's messages: what is asked, what is read, how it is asked again; with the real SDK on a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import pytest
from conversation import ANN, GOOD, YOUNG, YOUNGER, Person, Search, Weather, assembled, call_of, converse
from pydantic import BaseModel, Field
from scripted_server import Cut, ScriptedServer, event, stream_reply
from wire_anthropic import SIGNATURE, AnthropicWire
from wires import Called, Pieces, Said

from pageform.clients.base import Provider
from pageform.clients.providers import anthropic as module
from pageform.core.completion import FinishReason, Usage
from pageform.core.errors import ParameterError, SchemaError
from pageform.structured import EmptyAnswer, IncompleteOutput, Mode, NoToolCall, ProviderError, ValidationFailed

provider: Provider = module
WIRE = AnthropicWire()
THINKS = AnthropicWire(thinking="They say that Ann is thirty.")
ASKED: dict[str, Any] = {
    "model": "claude-opus-4-8",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Ann is 30."}],
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(checks={WIRE.path: WIRE.check}) as server:
        yield server


@pytest.fixture
def create(server: ScriptedServer) -> Any:
    return anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0).messages.create


def called(arguments: str, name: str = "Person", id: str = "toolu_1") -> Said:
    return Said(calls=(Called(name, arguments, id),))


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_tools_are_strict_and_forced() -> None:
    prepared = provider.prepare(call_of(**ASKED))
    [tool] = prepared.kwargs["tools"]
    assert (tool["name"], tool["description"], tool["strict"]) == ("Person", "A person.", True)
    assert tool["input_schema"]["additionalProperties"] is False
    assert prepared.kwargs["tool_choice"] == {"type": "tool", "name": "Person", "disable_parallel_tool_use": True}
    assert prepared.notes == ()


@pytest.mark.parametrize(
    ("model", "strict", "sent"),
    [
        ("claude-sonnet-4-5", None, True),
        ("claude-sonnet-4-5", False, False),
        ("claude-3-5-haiku-latest", None, False),
        ("anthropic.claude-3-haiku-20240307-v1:0", None, False),
        ("claude-opus-4@20250514", None, False),
        ("claude-opus-4-1", None, True),
        ("claude-sonnet-4-20250514", None, False),
        ("claude-opus-5", True, True),
    ],
)
def test_strict_tools_where_the_model_has_them(model: str, strict: bool | None, sent: bool) -> None:
    prepared = provider.prepare(call_of(**{**ASKED, "model": model}, strict=strict))
    assert prepared.kwargs["tools"][0].get("strict", False) is sent


class Node(BaseModel):
    children: list[Node] = []


def test_what_strict_schemas_can_not_say_is_noted_or_refused() -> None:
    class Short(BaseModel):
        name: str = Field(max_length=3)

    noted = provider.prepare(call_of(Short, **ASKED))
    assert noted.kwargs["tools"][0]["strict"] is True
    assert any("maxLength" in note for note in noted.notes)
    plain = provider.prepare(call_of(Node, **ASKED))
    assert "strict" not in plain.kwargs["tools"][0]
    assert any("refers to itself" in note for note in plain.notes)
    with pytest.raises(SchemaError, match="refers to itself"):
        provider.prepare(call_of(Node, **ASKED, strict=True))
    with pytest.raises(ParameterError, match="no strict tools"):
        provider.prepare(call_of(**{**ASKED, "model": "claude-3-opus-latest"}, strict=True))
    weaker = provider.prepare(call_of(Node, Mode.SCHEMA, **ASKED))
    assert weaker.mode is Mode.TOOLS
    assert "output_config" not in weaker.kwargs
    assert any("mode tools" in note for note in weaker.notes)


def test_schema_is_the_providers_own_structured_output() -> None:
    prepared = provider.prepare(call_of(Person, Mode.SCHEMA, **ASKED, output_config={"effort": "low"}))
    form = prepared.kwargs["output_config"]["format"]
    assert (form["type"], set(form["schema"]["properties"])) == ("json_schema", {"name", "age"})
    assert prepared.kwargs["output_config"]["effort"] == "low"
    assert "tools" not in prepared.kwargs
    with pytest.raises(ParameterError, match="structured outputs"):
        provider.prepare(call_of(Person, Mode.SCHEMA, **{**ASKED, "model": "claude-3-haiku-20240307"}))


def test_text_is_asked_for_in_the_system_prompt() -> None:
    prepared = provider.prepare(call_of(Person, Mode.TEXT, **ASKED, system="Be brief."))
    assert prepared.kwargs["system"].startswith("Be brief.\n\nAnswer only with JSON")


def test_leading_system_messages_become_the_system_prompt_and_cached_blocks_stay() -> None:
    block = {"type": "text", "text": "Long rules.", "cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "system", "content": [block]},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Ann is 30.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "Go."},
    ]
    given = {**ASKED, "messages": messages, "system": "First."}
    before = json.dumps(given)
    prepared = provider.prepare(call_of(Person, Mode.TEXT, **given))
    first, cached, brief, asked = prepared.kwargs["system"]
    assert (first["text"], cached, brief["text"]) == ("First.", block, "Be brief.")
    assert asked["text"].startswith("Answer only with JSON")
    assert prepared.kwargs["messages"] == messages[2:]
    assert json.dumps(given) == before, "the caller's own is never changed"


def test_a_model_that_thinks_is_asked_to_call_the_tool() -> None:
    for more in ({"thinking": {"type": "adaptive"}}, {"model": "claude-opus-5-5"}, {"model": "claude-fable-5"}):
        prepared = provider.prepare(call_of(**{**ASKED, **more}))
        assert prepared.kwargs["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
        assert "calling the tool Person" in prepared.kwargs["system"]
        assert any("can't be forced" in note for note in prepared.notes)
        with pytest.raises(ParameterError, match="tool_choice"):
            provider.prepare(call_of(**{**ASKED, **more}, tool_choice={"type": "any"}))
    off = provider.prepare(call_of(**ASKED, thinking={"type": "disabled"}))
    assert off.kwargs["tool_choice"]["type"] == "tool"


def test_the_callers_tools_and_choice_are_kept() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    prepared = provider.prepare(call_of(**ASKED, tools=[search], tool_choice={"type": "auto"}))
    assert prepared.kwargs["tools"][0] == search
    assert prepared.kwargs["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_tokens": None}, "max_tokens=None: is missing"),
        ({"messages": None}, "messages=None: is missing"),
        ({"tool_choice": {"type": "none"}}, "forbids the tool"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "response_model"),
        ({"tools": [{"name": "Person", "input_schema": {"type": "object"}}]}, "another name"),
    ],
)
def test_what_can_not_be_is_refused_before_the_request(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        provider.prepare(call_of(**{**ASKED, **changed}))


# --- whole answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
def test_create_in_each_mode(server: ScriptedServer, create: Any, mode: Mode) -> None:
    server.say(WIRE.reply(called(GOOD) if mode is Mode.TOOLS else Said(GOOD)))
    outcome, _ = converse(provider, create, call_of(Person, mode, **ASKED))
    assert outcome.value == ANN
    assert outcome.usage == Usage(10, 5, 4)
    assert isinstance(outcome.response, anthropic.types.Message)


def test_tokens_of_the_cache_are_counted() -> None:
    raw = {"input_tokens": 3, "output_tokens": 5, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100}
    message = anthropic.types.Message.model_validate(
        {
            "id": "1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": "end_turn",
            "usage": raw,
        }
    )
    usage = provider.read(message).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (123, 5, 100)
    assert usage.details["cache_write_tokens"] == 20


def test_faults_go_back_as_results_of_the_tool(server: ScriptedServer, create: Any) -> None:
    server.say(WIRE.reply(called(YOUNG)), WIRE.reply(called(GOOD)))
    outcome, _ = converse(provider, create, call_of(**ASKED))
    assert outcome.value == ANN
    assert outcome.usage == Usage(20, 10, 8)
    asked, assistant, user = server.requests[1].json["messages"]
    assert asked == ASKED["messages"][0]
    assert assistant == {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "Person", "input": {"name": "Ann", "age": 3}}],
    }
    [result] = user["content"]
    assert (result["type"], result["tool_use_id"], result["is_error"]) == ("tool_result", "toolu_1", True)
    assert "age: Value error, too young" in result["content"]
    for name in ("system", "tools", "tool_choice", "model"):
        assert server.requests[0].json.get(name) == server.requests[1].json.get(name), "the cached prefix stays"


@pytest.mark.parametrize("mode", [Mode.SCHEMA, Mode.TEXT])
def test_faults_of_text_go_back_as_text(server: ScriptedServer, create: Any, mode: Mode) -> None:
    server.say(WIRE.reply(Said(YOUNG)), WIRE.reply(Said(GOOD)))
    converse(provider, create, call_of(Person, mode, **ASKED))
    _, assistant, user = server.requests[1].json["messages"]
    assert assistant == {"role": "assistant", "content": [{"type": "text", "text": YOUNG}]}
    assert "too young" in user["content"][0]["text"]


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_is_echoed_with_its_signature_behind_all_it_follows(
    server: ScriptedServer, create: Any, stream: bool
) -> None:
    speak = THINKS.stream if stream else THINKS.reply
    server.say(speak(called(YOUNG, id="a")), speak(called(YOUNGER, id="b")), speak(called(GOOD)))
    asked = {**ASKED, "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    outcome, _ = converse(provider, create, call_of(**asked, stream=stream))
    assert outcome.value == ANN
    turns = server.requests[2].json["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[:3] == server.requests[1].json["messages"], "signatures hold for the messages before them"
    for turn, id, age in ((turns[1], "a", 3), (turns[3], "b", 2)):
        thought, use = turn["content"]
        assert thought == {"type": "thinking", "thinking": THINKS.thinking, "signature": SIGNATURE}
        assert use == {"type": "tool_use", "id": id, "name": "Person", "input": {"name": "Ann", "age": age}}


def test_without_thinking_only_the_last_answer_is_shown(server: ScriptedServer, create: Any) -> None:
    server.say(*(WIRE.reply(called(text)) for text in (YOUNGER, YOUNG, GOOD)))
    converse(provider, create, call_of(**ASKED))
    assert [len(request.json["messages"]) for request in server.requests] == [1, 3, 3]


def test_each_call_gets_a_result(server: ScriptedServer, create: Any) -> None:
    twice = Said("Both:", calls=(Called("Person", GOOD, "a"), Called("Person", YOUNG, "b")))
    server.say(WIRE.reply(twice), WIRE.reply(called(GOOD)))
    converse(provider, create, call_of(**ASKED))
    _, assistant, user = server.requests[1].json["messages"]
    assert [block["type"] for block in assistant["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in user["content"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("", EmptyAnswer, "Your answer is empty"),
        ("  \n", EmptyAnswer, "Your answer is empty"),
        ("Ann is a person.", NoToolCall, "call of the tool"),
    ],
)
def test_a_missing_call_is_asked_for_without_an_empty_turn(
    server: ScriptedServer, create: Any, text: str, error: type[Exception], told: str
) -> None:
    server.say(WIRE.reply(Said(text)), WIRE.reply(called(GOOD)))
    outcome, _ = converse(provider, create, call_of(**ASKED))
    assert isinstance(outcome.attempts[0].error, error)
    turns = server.requests[1].json["messages"]
    assert len(turns) == (3 if text.strip() else 2)
    assert told in turns[-1]["content"][0]["text"]


@pytest.mark.parametrize(
    ("said", "error", "reason"),
    [
        (Said(GOOD[:9], finish="length"), IncompleteOutput, FinishReason.LENGTH),
        (Said(refusal="It could do harm."), ValidationFailed, FinishReason.CONTENT_FILTER),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_not_be_mended_is_not_asked_again(
    server: ScriptedServer, create: Any, said: Said, error: type[Exception], reason: FinishReason, stream: bool
) -> None:
    server.say(WIRE.stream(said) if stream else WIRE.reply(said))
    with pytest.raises(error, match=r"It could do harm|broke off") as caught:
        converse(provider, create, call_of(Person, Mode.TEXT, **ASKED, stream=stream))
    [attempt] = caught.value.attempts  # type: ignore[attr-defined]
    assert (attempt.finish_reason, attempt.usage) == (reason, Usage(10, 5, 4))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("pause_turn", FinishReason.ABORT),
        ("some_new_reason", FinishReason.ERROR),
    ],
)
def test_every_reason_to_stop_has_a_meaning(stop: str, finish: FinishReason) -> None:
    message = anthropic.types.Message.construct(content=[], stop_reason=stop, usage=None)
    assert provider.read(message).finish_reason is finish


def test_parallel_tools(server: ScriptedServer, create: Any) -> None:
    said = Said(calls=(Called("Weather", '{"city": "Bonn"}', "a"), Called("Search", '{"query": "Rhine"}', "b")))
    server.say(WIRE.reply(said))
    call = call_of(list[Weather | Search], **ASKED)
    prepared = provider.prepare(call)
    assert [tool["name"] for tool in prepared.kwargs["tools"]] == ["Weather", "Search"]
    assert prepared.kwargs["tool_choice"] == {"type": "any"}
    answer = provider.read(create(**prepared.kwargs))
    values = call.spec.validate_calls([(one.name, one.arguments) for one in answer.tool_calls])
    assert values == [Weather(city="Bonn"), Search(query="Rhine")]


def test_null_and_other_values_of_a_tools_input_are_kept(server: ScriptedServer, create: Any) -> None:
    """Fields of blocks that are null are left out when they are echoed, but not those of the model's own input."""

    class Pet(BaseModel):
        name: str | None
        kind: Literal["cat", "dog"]

    wrong = '{"name": null, "kind": "cow", "weight": 1.5}'
    server.say(WIRE.reply(called(wrong, "Pet")), WIRE.reply(called('{"name": null, "kind": "cat"}', "Pet")))
    outcome, _ = converse(provider, create, call_of(Pet, **ASKED))
    assert outcome.value == Pet(name=None, kind="cat")
    [use] = server.requests[1].json["messages"][1]["content"]
    assert use["input"] == json.loads(wrong)


def test_errors_of_the_api_are_the_sdks_own(server: ScriptedServer, create: Any) -> None:
    for status, error in (
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (529, anthropic.APIStatusError),
    ):
        server.say(WIRE.error(status, "no such thing"))
        with pytest.raises(error, match="no such thing"):
            converse(provider, create, call_of(**ASKED))


def test_what_is_no_response_is_the_providers_error() -> None:
    for odd in (None, "overloaded", anthropic.types.Message.construct(content=None)):
        with pytest.raises(ProviderError, match="anthropic"):
            provider.read(odd)


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
def test_streams_give_the_same_answers(server: ScriptedServer, create: Any, mode: Mode) -> None:
    said = [called(text) if mode is Mode.TOOLS else Said(text) for text in (YOUNG, GOOD)]
    server.say(*(WIRE.stream(one) for one in said), *(WIRE.reply(one) for one in said))
    streamed, _ = converse(provider, create, call_of(Person, mode, **ASKED, stream=True))
    whole, _ = converse(provider, create, call_of(Person, mode, **ASKED))
    assert streamed.value == whole.value == ANN
    assert streamed.usage == whole.usage == Usage(20, 10, 8)
    first, second = (server.requests[index].json for index in (1, 3))
    assert first.pop("stream") is True
    assert json.loads(json.dumps(first)) == second, "a streamed answer is echoed as a whole one"


def test_a_stream_that_breaks_off_is_incomplete(server: ScriptedServer, create: Any) -> None:
    server.say(WIRE.stream(Said(GOOD, finish=None)))
    answer = assembled(provider, create(**provider.prepare(call_of(Person, Mode.TEXT, **ASKED, stream=True)).kwargs))
    assert (answer.text, answer.finish_reason) == (GOOD, FinishReason.ABORT)
    server.say(WIRE.stream(Said(GOOD), Pieces(before={3: Cut()})))
    with pytest.raises(Exception, match=r"peer closed|incomplete|disconnected"):
        assembled(provider, create(**provider.prepare(call_of(Person, Mode.TEXT, **ASKED, stream=True)).kwargs))


def test_an_error_amid_a_stream_is_the_sdks_own(server: ScriptedServer, create: Any) -> None:
    fault = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    begin = WIRE.stream(Said(GOOD)).parts[:4]
    server.say(stream_reply([*begin, event(fault, "error")]))
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        assembled(provider, create(**provider.prepare(call_of(Person, Mode.TEXT, **ASKED, stream=True)).kwargs))


def test_tools_of_the_server_are_not_the_answer(server: ScriptedServer, create: Any) -> None:
    """Their input streams like that of the caller's tools, without being it."""
    head, *rest = WIRE.stream(called(GOOD)).parts
    search = {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"query": "Ann"}'}
    shifted = [part.replace(b'"index": 0', b'"index": 1') if isinstance(part, bytes) else part for part in rest]
    own = [
        event({"type": "content_block_start", "index": 0, "content_block": search}, "content_block_start"),
        event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta"),
        event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    ]
    server.say(stream_reply([head, *own, *shifted]))
    answer = assembled(provider, create(**provider.prepare(call_of(**ASKED, stream=True)).kwargs))
    assert [call.arguments for call in answer.tool_calls] == [GOOD]


def test_arguments_that_are_no_json_are_echoed_as_text(server: ScriptedServer, create: Any) -> None:
    """The API takes only objects as input. Fine-grained streaming may give anything."""
    broken = '{"name": "Ann", "age": '
    server.say(WIRE.stream(called(broken)), WIRE.stream(called(GOOD)))
    outcome, _ = converse(provider, create, call_of(**ASKED, stream=True))
    assert outcome.value == ANN
    _, assistant, user = server.requests[1].json["messages"]
    assert assistant["content"] == [{"type": "text", "text": f"Person({broken})"}]
    assert "Invalid JSON" in user["content"][0]["text"]
