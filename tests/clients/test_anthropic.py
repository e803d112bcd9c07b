"""Anthropic's messages: what is read, and how it is asked again; with the real SDK on a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import pytest
from conversation import ANN, GOOD, YOUNG, YOUNGER, Person, Search, Weather, assembled, call_of, converse
from pydantic import BaseModel
from scripted_server import Cut, ScriptedServer, event, raw_reply, stream_reply
from strict_types import check_model
from wire_anthropic import SIGNATURE, AnthropicWire
from wires import Called, Pieces, Said

from pageform.clients.base import Provider
from pageform.clients.providers import anthropic as module
from pageform.core.completion import FinishReason, Usage
from pageform.structured import (
    EmptyAnswer,
    IncompleteOutput,
    Mode,
    NoToolCall,
    ProviderError,
    Rejection,
    ValidationFailed,
)

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


def test_redacted_thinking_is_echoed_too(server: ScriptedServer, create: Any) -> None:
    redacted = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}
    [whole] = WIRE.reply(called(YOUNG)).parts
    message = json.loads(bytes(whole))  # type: ignore[arg-type]
    message["content"].insert(0, redacted)
    answer = provider.read(check_model(anthropic.types.Message, message))
    assert answer.anchored
    kwargs = provider.reask(dict(ASKED), answer, Rejection(ValueError("no"), "no"))
    assert kwargs["messages"][1]["content"][0] == redacted


def test_deep_input_is_read_and_echoed(server: ScriptedServer, create: Any) -> None:
    """Deeper than Pydantic's serializer goes."""
    deep = b"[" * 300 + b"]" * 300
    [whole] = WIRE.reply(called('{"name": "Ann", "age": "deep"}')).parts
    server.say(raw_reply(bytes(whole).replace(b'"deep"', deep)), WIRE.reply(called(GOOD)))  # type: ignore[arg-type]
    outcome, _ = converse(provider, create, call_of(**ASKED))
    assert outcome.value == ANN
    assert deep.decode() in outcome.attempts[0].text
    assert deep in server.requests[1].body


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


def test_citations_are_echoed_without_what_requests_have_no_place_for() -> None:
    cited = {"type": "char_location", "cited_text": "Ann", "document_index": 0, "document_title": None, "file_id": "f"}
    place = {**cited, "start_char_index": 0, "end_char_index": 3}
    usage = {"input_tokens": 1, "output_tokens": 1}
    head = {"id": "1", "type": "message", "role": "assistant", "model": "m", "usage": usage, "stop_reason": "end_turn"}
    whole = {**head, "content": [{"type": "text", "text": YOUNG, "citations": [place]}]}
    opened = {"type": "text", "text": "", "citations": None}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": opened},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": YOUNG}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": place}},
    ]
    read = provider.read(check_model(anthropic.types.Message, whole))
    streamed = assembled(provider, [check_model(anthropic.types.RawMessageStreamEvent, one) for one in events])
    for answer in (read, streamed):
        kwargs = provider.reask(dict(ASKED), answer, Rejection(ValueError("no"), "no"))
        WIRE.check(kwargs)
        del place["file_id"]
        assert kwargs["messages"][1]["content"] == [{"type": "text", "text": YOUNG, "citations": [place]}]
        place["file_id"] = "f"


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
