"""Whatever a provider sends, a call ends with a value or a typed error, within bounded time: whole and streamed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import groq
import openai
import pytest
from people import ANN, ASK, GOOD, YOUNG, Person
from rigs import RIGS, said
from scripted_server import Reply, ScriptedServer, json_reply, raw_reply, stream_reply
from wire_openai_chat import OpenAIChatWire
from wires import Called, Pieces, Said

from pageform.core.completion import FinishReason
from pageform.core.errors import PageformError
from pageform.structured import (
    IncompleteOutput,
    ManyToolCalls,
    Mode,
    NoToolCall,
    Refused,
    ValidationFailed,
    WrongTool,
)
from pageform.structured.errors import EmptyAnswer, ProviderError

SECONDS = 20.0
"""No answer may take longer, however bad; most take milliseconds."""

WIRE = OpenAIChatWire()
DEEP = "[" * 10_000
WIDE = 10_000_000

SDK_ERRORS = {"openai": openai.OpenAIError, "groq": groq.GroqError, "litellm": openai.OpenAIError}

Ask = Callable[..., Any]
ASKS = {
    "whole": lambda client, **options: client.create(Person, ASK, **options),
    "partial": lambda client, **options: list(client.create_partial(Person, ASK, **options))[-1],
    "items": lambda client, **options: list(client.create_iterable(Person, ASK, **options))[-1],
}


@pytest.fixture(params=list(ASKS))
def ask(request: pytest.FixtureRequest) -> Ask:
    kind: str = request.param

    def run(client: Any, server: ScriptedServer, answers: list[Said], **options: Any) -> Any:
        for answer in answers:
            server.say(WIRE.reply(answer) if kind == "whole" else WIRE.stream(answer, Pieces(50_000)))
        started = time.monotonic()
        try:
            return ASKS[kind](client, **options)
        finally:
            assert time.monotonic() - started < SECONDS

    return run


def people(mode: Mode, text: str) -> Said:
    return said(mode, "Person", text)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("finish", ["length", "filter"])
def test_what_was_cut_short_is_not_asked_for_again(
    chat: ScriptedServer, client: Any, ask: Ask, mode: Mode, finish: Any
) -> None:
    with pytest.raises(IncompleteOutput) as caught:
        ask(client, chat, [said(mode, "Person", '{"name":"Ann","ag', finish=finish)], mode=mode)
    reason = {"length": FinishReason.LENGTH, "filter": FinishReason.CONTENT_FILTER}[finish]
    assert [attempt.finish_reason for attempt in caught.value.attempts] == [reason]
    assert len(chat.requests) == 1


def test_cut_short_answers_keep_what_had_arrived(chat: ScriptedServer, client: Any) -> None:
    chat.say(WIRE.reply(said(Mode.TOOLS, "Person", '{"name":"Ann","ag', finish="length")))
    with pytest.raises(IncompleteOutput, match="max_tokens") as caught:
        client.create(Person, ASK)
    assert caught.value.partial.name == "Ann"
    text = '{"tasks":[{"name":"Ann","age":30},{"name":"Bo'
    chat.say(WIRE.stream(said(Mode.TOOLS, "list_Person", text, finish="length")))
    with pytest.raises(IncompleteOutput) as caught:
        list(client.create_iterable(list[Person], ASK))
    assert caught.value.partial == [ANN]


def test_a_refusal_is_final(chat: ScriptedServer, client: Any, ask: Ask) -> None:
    with pytest.raises(ValidationFailed, match="refused to answer: \"I can't") as caught:
        ask(client, chat, [Said(refusal="I can't help with that.")])
    assert isinstance(caught.value.__cause__, Refused)
    assert len(chat.requests) == 1


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Said(), EmptyAnswer),
        (Said("Ann is thirty."), NoToolCall),
        (Said(calls=(Called("Person", GOOD, "1"), Called("Person", GOOD, "2"))), ManyToolCalls),
        (Said(calls=(Called("Persona", "{}"),)), WrongTool),
    ],
    ids=["empty", "no call", "two calls", "another tool"],
)
def test_wrong_calls_are_asked_for_again_and_told_apart(
    chat: ScriptedServer, client: Any, answer: Said, cause: type[Exception]
) -> None:
    for verb, reply in ((client.create, WIRE.reply), (client.create_partial, WIRE.stream)):
        good = reply(people(Mode.TOOLS, GOOD))
        chat.say(reply(answer), reply(answer), reply(answer), good)
        with pytest.raises(ValidationFailed) as caught:
            list(verb(Person, ASK, max_retries=1))
        assert isinstance(caught.value.__cause__, cause)
        result = verb(Person, ASK, max_retries=1)
        assert (result if isinstance(result, Person) else list(result)[-1]) == ANN


def test_each_of_several_calls_gets_its_result(chat: ScriptedServer, client: Any) -> None:
    two = Said(calls=(Called("Person", GOOD, "first"), Called("Person", GOOD, "second")))
    chat.say(WIRE.reply(two), WIRE.reply(people(Mode.TOOLS, GOOD)))
    assert client.create(Person, ASK) == ANN
    told = chat.requests[1].json["messages"][1:]
    assert [message["role"] for message in told] == ["assistant", "tool", "tool"]
    assert [message["tool_call_id"] for message in told[1:]] == ["first", "second"]
    assert "calls 2 tools" in told[1]["content"]


BAD_TEXTS = {
    "empty object": "{}",
    "other JSON": "[1, 2]",
    "broken": '{"name": "Ann", "age": ',
    "deep": DEEP,
    "deep in place": '{"name":"Ann","age":30,"x":' + DEEP,
    "deep and closed": '{"name":"Ann","age":' + "[" * 10_000 + "]" * 10_000 + "}",
    "long text": '{"name":"' + "x" * (WIDE // 50),
    "many items": '{"name":"Ann","age":[' + "1," * (WIDE // 200) + "1]}",
    "zeros": "\\u0000" * 10,
    "half a pair": '{"name":"\\ud800","age":3}',
}


@pytest.mark.parametrize("text", list(BAD_TEXTS.values()), ids=list(BAD_TEXTS))
@pytest.mark.parametrize("mode", list(Mode))
def test_texts_that_are_no_value_end_in_a_typed_error(
    chat: ScriptedServer, client: Any, ask: Ask, mode: Mode, text: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        ask(client, chat, [people(mode, text)], mode=mode, max_retries=0)
    assert len(str(caught.value)) < 10_000
    assert len(caught.value.json()) < 50_000


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(Mode))
def test_ten_megabytes_that_are_no_value(chat: ScriptedServer, client: Any, ask: Ask, mode: Mode) -> None:
    for text in ('{"name":"Ann","age":[' + "1," * (WIDE // 2) + "1]}", '{"name":"' + "x" * WIDE, "[" * WIDE):
        with pytest.raises(ValidationFailed):
            ask(client, chat, [people(mode, text)], mode=mode, max_retries=0)


@pytest.mark.slow
def test_a_large_value_is_a_value(chat: ScriptedServer, client: Any) -> None:
    large = json.dumps({"name": "x" * WIDE, "age": 30})
    chat.say(WIRE.reply(people(Mode.TOOLS, large)), WIRE.stream(people(Mode.TOOLS, large), Pieces(20_000)))
    started = time.monotonic()
    assert len(client.create(Person, ASK).name) == WIDE
    assert len(list(client.create_partial(Person, ASK))[-1].name) == WIDE
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("name", list(SDK_ERRORS))
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
async def test_errors_of_the_provider_come_as_the_sdk_raises_them(name: str, status: int) -> None:
    rig = RIGS[name]
    with rig.server() as server:
        server.say(*[rig.wire.error(status) for _ in range(3)])
        client = rig.client(server.url, False)
        raised = []
        for ask in (lambda: client.create(Person, ASK), lambda: list(client.create_partial(Person, ASK))):
            with pytest.raises(SDK_ERRORS[name]) as caught:
                ask()
            raised.append(caught.value)
        with pytest.raises(SDK_ERRORS[name]) as caught:
            await rig.client(server.url, True).create(Person, ASK)
        raised.append(caught.value)
        assert {type(error).__module__.split(".")[0] for error in raised} == {rig.name}
        assert all(error.status_code == status for error in raised)
        assert not any(isinstance(error, PageformError) for error in raised)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        lambda: raw_reply(b'{"id": "\xff\xfe'),
        lambda: raw_reply(b'{"id": "chatcmpl-1", "choices": ['),
        lambda: raw_reply(b""),
        lambda: raw_reply(b"<html>Bad gateway</html>", content_type="text/html"),
        lambda: raw_reply(b"null"),
        lambda: json_reply([]),
        lambda: json_reply({}),
        lambda: json_reply({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}),
        lambda: json_reply({"error": {"message": "overloaded", "code": 502}, "choices": None}),
        lambda: json_reply({"choices": [{"index": 0, "finish_reason": "stop"}]}),
    ],
    ids=["utf-8", "cut", "empty", "html", "null", "list", "nothing", "no choice", "error in 200", "no message"],
)
async def test_what_is_no_response_is_a_provider_error(
    chat: ScriptedServer, client: Any, later: Any, reply: Callable[[], Reply]
) -> None:
    chat.say(reply(), reply())
    with pytest.raises(ProviderError):
        client.create(Person, ASK)
    with pytest.raises(ProviderError):
        await later.create(Person, ASK)
    assert len(chat.requests) == 2


def test_streams_of_nothing_or_of_nonsense(chat: ScriptedServer, client: Any) -> None:
    empty = [
        b"",
        b"data: [DONE]",
        b": ping",
        b'data: {"choices": []}',
        b'data: {"choices": [{"index": 0}]}',
        b"nonsense",
    ]
    for content in (one + b"\n\n" if one else one for one in empty):
        chat.say(stream_reply([content] if content else []))
        with pytest.raises(IncompleteOutput):
            list(client.create_partial(Person, ASK))
    chat.say(stream_reply([b"data: {\n\n"]))
    with pytest.raises(ProviderError):
        list(client.create_partial(Person, ASK))


def test_answers_that_never_improve_stay_small(chat: ScriptedServer, client: Any) -> None:
    """Each request holds the last answer alone, so that prompts do not grow with the attempts."""
    chat.say(*[WIRE.reply(people(Mode.TOOLS, YOUNG)) for _ in range(6)])
    with pytest.raises(ValidationFailed) as caught:
        client.create(Person, ASK, max_retries=5)
    assert len(caught.value.attempts) == 6
    assert {len(request.json["messages"]) for request in chat.requests[1:]} == {3}
