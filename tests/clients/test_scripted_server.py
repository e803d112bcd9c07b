"""The harness itself: real SDKs against it, without any of our own code between."""

import asyncio
import time

import openai
import pytest
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import ValidationError
from scripted_server import Cut, Gate, ScriptedServer, raw_reply
from strict_types import check_model, check_params
from wire_openai_chat import OpenAIChatWire
from wires import Called, Pieces, Said

WIRE = OpenAIChatWire()
ASK = {"model": "m", "messages": [{"role": "user", "content": "Who?"}]}


def client_of(server: ScriptedServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def server():
    with ScriptedServer({WIRE.path: WIRE.check}) as running:
        yield running


def test_replies_are_read_and_requests_kept(server: ScriptedServer) -> None:
    server.say(WIRE.reply(Said("Ann")), WIRE.stream(Said(calls=(Called("User", '{"name":"Ann"}'),))))
    client = client_of(server)
    assert client.chat.completions.create(**ASK).choices[0].message.content == "Ann"
    stream = client.chat.completions.create(**ASK, stream=True)
    calls = [c for chunk in stream for choice in chunk.choices for c in choice.delta.tool_calls or []]
    assert "".join(call.function.arguments for call in calls) == '{"name":"Ann"}'
    assert [request.json.get("stream") for request in server.requests] == [None, True]
    assert server.requests[0].path == "/v1/chat/completions"


def test_gates_hold_chunks_back(server: ScriptedServer) -> None:
    gate = Gate()
    server.say(WIRE.stream(Said("abcdef"), Pieces(3, {1: gate})))
    stream = client_of(server).chat.completions.create(**ASK, stream=True)
    texts = (chunk.choices[0].delta.content for chunk in stream if chunk.choices)
    assert [next(texts), next(texts)] == ["", "abc"]
    assert not gate.is_open
    gate.open()
    assert next(texts) == "def"


def test_leaving_is_noticed(server: ScriptedServer) -> None:
    reply = WIRE.stream(Said("abcdef"), Pieces(3, {1: Gate()}))
    server.say(reply)
    stream = client_of(server).chat.completions.create(**ASK, stream=True)
    next(iter(stream))
    assert not reply.hung_up.is_set()
    stream.close()
    assert reply.hung_up.wait(5)


def test_connections_are_cut_and_bytes_sent_raw(server: ScriptedServer) -> None:
    server.say(WIRE.stream(Said("abcdef"), Pieces(3, {1: Cut()})), raw_reply(b'{"id": "\xff\xfe"}'), WIRE.error(429))
    client = client_of(server)
    with pytest.raises(openai.APIConnectionError):
        list(client.chat.completions.create(**ASK, stream=True))
    with pytest.raises((openai.APIError, UnicodeDecodeError, ValueError)):
        client.chat.completions.create(**ASK)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**ASK)


async def test_many_at_once(server: ScriptedServer) -> None:
    server.say(*[WIRE.reply(Said("Ann")) for _ in range(50)])
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    started = time.monotonic()
    replies = await asyncio.gather(*[client.chat.completions.create(**ASK) for _ in range(50)])
    assert len(replies) == 50
    assert time.monotonic() - started < 10


def test_a_wrong_request_fails_the_test() -> None:
    server = ScriptedServer({WIRE.path: WIRE.check})
    server.say(WIRE.reply(Said("Ann")))
    client_of(server).chat.completions.create(model="m", messages=[{"role": "user", "content": "Who?", "colour": 1}])  # type: ignore[typeddict-unknown-key]
    with pytest.raises(AssertionError, match=r"messages\[0\].colour"):
        server.close()


def test_a_script_is_used_up_exactly() -> None:
    server = ScriptedServer()
    server.say(WIRE.reply(Said("Ann")))
    with pytest.raises(AssertionError, match="never fetched"):
        server.close()
    server = ScriptedServer()
    with pytest.raises(openai.InternalServerError):
        client_of(server).chat.completions.create(**ASK)
    with pytest.raises(AssertionError, match="no reply left"):
        server.close()


def test_types_are_judged_strictly() -> None:
    check_params(CompletionCreateParamsNonStreaming, ASK)
    for wrong in (
        {**ASK, "temprature": 1},
        {"model": "m"},
        {**ASK, "temperature": "1"},
        {**ASK, "messages": [{"role": "nobody", "content": "x"}]},
        {**ASK, "tools": [{"type": "function", "function": {"name": "f", "schema": {}}}]},
        {**ASK, "response_format": {"type": "json_schema"}},
    ):
        with pytest.raises((AssertionError, ValidationError)):
            check_params(CompletionCreateParamsNonStreaming, wrong)
    good = WIRE.reply(Said("Ann")).parts[0]
    assert isinstance(good, bytes)
    made = ChatCompletion.model_validate_json(good)
    content = made.to_dict(exclude_unset=True)
    check_model(ChatCompletion, content)
    for changed in ({"extra": 1}, {"created": "1"}, {"choices": None}, {"object": "chat"}):
        with pytest.raises((AssertionError, ValidationError)):
            check_model(ChatCompletion, {**content, **changed})
