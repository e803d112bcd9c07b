"""Google GenAI: what is read, and how it is asked again; with the real SDK on a scripted server."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from conversation import ANN, GOOD, YOUNG, YOUNGER, Person, Search, Weather, assembled, call_of, converse
from google import genai
from google.genai import errors, types
from pydantic import BaseModel
from scripted_server import Reply, ScriptedServer, json_reply
from wire_genai import SIGNATURE, GenaiWire
from wires import Called, Said

from pageform.clients.base import Provider
from pageform.clients.providers import genai as module
from pageform.core.completion import FinishReason, Usage
from pageform.structured import EmptyAnswer, IncompleteOutput, Mode, NoToolCall, ProviderError, ValidationFailed

provider: Provider = module
WIRE = GenaiWire()
SIGNED = GenaiWire(signed=True, ids=False)
ASKED: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "Ann is 30."}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(checks={WIRE.path: WIRE.check}) as server:
        yield server


@pytest.fixture
def models(server: ScriptedServer) -> Iterator[Any]:
    with genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.url)) as client:
        yield client.models


def called(arguments: str, name: str = "Person", id: str = "call_1") -> Said:
    return Said(calls=(Called(name, arguments, id),))


def candidate(**more: Any) -> types.GenerateContentResponse:
    return types.GenerateContentResponse.model_validate({"candidates": [more]})


# --- whole answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
@pytest.mark.parametrize("wire", [WIRE, SIGNED])
def test_create_in_each_mode(server: ScriptedServer, models: Any, mode: Mode, wire: GenaiWire) -> None:
    server.say(wire.reply(called(GOOD) if mode is Mode.TOOLS else Said(GOOD)))
    outcome, _ = converse(provider, models.generate_content, call_of(Person, mode, **ASKED))
    assert outcome.value == ANN
    assert outcome.usage == Usage(10, 5, 4)
    assert isinstance(outcome.response, types.GenerateContentResponse)


def test_tokens_of_thoughts_and_tools_are_counted() -> None:
    usage = {"promptTokenCount": 10, "toolUsePromptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 7}
    response = types.GenerateContentResponse.model_validate({"usageMetadata": usage})
    read = provider.read(response).usage
    assert (read.prompt_tokens, read.completion_tokens, read.details) == (13, 12, {"reasoning_tokens": 7})


@pytest.mark.parametrize("wire", [WIRE, SIGNED])
@pytest.mark.parametrize("stream", [False, True])
def test_faults_go_back_as_responses_of_the_function(
    server: ScriptedServer, models: Any, wire: GenaiWire, stream: bool
) -> None:
    speak = wire.stream if stream else wire.reply
    server.say(*(speak(called(text)) for text in (YOUNGER, YOUNG, GOOD)))
    send = models.generate_content_stream if stream else models.generate_content
    outcome, _ = converse(provider, send, call_of(**ASKED, stream=stream))
    assert (outcome.value, outcome.usage) == (ANN, Usage(30, 15, 12))
    asked, model, user = server.requests[2].json["contents"]
    assert asked["parts"] == [{"text": "Ann is 30."}]
    *thoughts, call = model["parts"]
    assert call["functionCall"]["args"] == {"name": "Ann", "age": 3}
    [reply] = user["parts"]
    assert reply["functionResponse"]["name"] == "Person"
    assert "age: Value error, too young" in reply["functionResponse"]["response"]["error"]
    if wire is SIGNED:
        assert call["thoughtSignature"] == SIGNATURE
        assert thoughts == [{"text": "Let me think.", "thought": True}]
        assert "id" not in reply["functionResponse"]
    else:
        assert (call["functionCall"]["id"], reply["functionResponse"]["id"]) == ("call_1", "call_1")


@pytest.mark.parametrize("mode", [Mode.SCHEMA, Mode.TEXT])
def test_faults_of_text_go_back_as_text(server: ScriptedServer, models: Any, mode: Mode) -> None:
    server.say(WIRE.reply(Said(YOUNG)), WIRE.reply(Said(GOOD)))
    outcome, _ = converse(provider, models.generate_content, call_of(Person, mode, **ASKED))
    assert outcome.value == ANN
    _, model, user = server.requests[1].json["contents"]
    assert model == {"role": "model", "parts": [{"text": YOUNG}]}
    assert "too young" in user["parts"][0]["text"]


@pytest.mark.parametrize("wire", [WIRE, SIGNED])
@pytest.mark.parametrize("stream", [False, True])
def test_each_call_gets_a_response(server: ScriptedServer, models: Any, wire: GenaiWire, stream: bool) -> None:
    twice = Said(calls=(Called("Person", GOOD, "a"), Called("Person", YOUNG, "b")))
    speak = wire.stream if stream else wire.reply
    server.say(speak(twice), speak(called(GOOD)))
    send = models.generate_content_stream if stream else models.generate_content
    converse(provider, send, call_of(**ASKED, stream=stream))
    _, model, user = server.requests[1].json["contents"]
    assert sum("functionCall" in part for part in model["parts"]) == 2
    assert len(user["parts"]) == 2


@pytest.mark.parametrize(
    ("text", "error", "told"), [("", EmptyAnswer, "Your answer is empty"), ("Ann!", NoToolCall, "call of the tool")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_missing_call_is_asked_for(
    server: ScriptedServer, models: Any, text: str, error: type[Exception], told: str, stream: bool
) -> None:
    speak = WIRE.stream if stream else WIRE.reply
    server.say(speak(Said(text)), speak(called(GOOD)))
    send = models.generate_content_stream if stream else models.generate_content
    outcome, _ = converse(provider, send, call_of(**ASKED, stream=stream))
    assert isinstance(outcome.attempts[0].error, error)
    turns = server.requests[1].json["contents"]
    assert (len(turns), told in turns[-1]["parts"][0]["text"]) == (3 if text else 2, True)


@pytest.mark.parametrize(
    ("said", "error", "reason"),
    [
        (Said(GOOD[:9], finish="length"), IncompleteOutput, FinishReason.LENGTH),
        (Said(GOOD[:9], finish="filter"), ValidationFailed, FinishReason.CONTENT_FILTER),
        (Said(refusal="It could do harm."), ValidationFailed, FinishReason.CONTENT_FILTER),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_not_be_mended_is_not_asked_again(
    server: ScriptedServer, models: Any, said: Said, error: type[Exception], reason: FinishReason, stream: bool
) -> None:
    server.say(WIRE.stream(said) if stream else WIRE.reply(said))
    send = models.generate_content_stream if stream else models.generate_content
    with pytest.raises(error, match=r"It could do harm|blocked: SAFETY|broke off") as caught:
        converse(provider, send, call_of(Person, Mode.TEXT, **ASKED, stream=stream))
    [attempt] = caught.value.attempts  # type: ignore[attr-defined]
    assert (attempt.finish_reason, attempt.usage) == (reason, Usage(10, 5, 4))


@pytest.mark.parametrize("reason", list(types.FinishReason))
def test_every_reason_to_stop_has_a_meaning(reason: types.FinishReason) -> None:
    answer = provider.read(candidate(content={"role": "model", "parts": [{"text": "x"}]}, finishReason=reason.value))
    if reason.value == "NO_IMAGE" or reason.value == "IMAGE_OTHER":
        assert answer.finish_reason is FinishReason.ERROR
    else:
        known = {**module._STOPPED, **dict.fromkeys(module._BLOCKED, FinishReason.CONTENT_FILTER)}
        assert answer.finish_reason is known[reason.value]
    assert (answer.refusal is not None) is (answer.finish_reason is FinishReason.CONTENT_FILTER)


def test_a_call_that_the_api_could_not_read_is_asked_for_again(server: ScriptedServer, models: Any) -> None:
    malformed: Reply = json_reply({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "no"}]})
    server.say(malformed, WIRE.reply(called(GOOD)))
    outcome, _ = converse(provider, models.generate_content, call_of(**ASKED))
    assert outcome.value == ANN


def test_parallel_tools(server: ScriptedServer, models: Any) -> None:
    said = Said(calls=(Called("Weather", '{"city": "Bonn"}', "a"), Called("Search", '{"query": "Rhine"}', "b")))
    server.say(WIRE.reply(said), SIGNED.stream(said))
    call = call_of(list[Weather | Search], **ASKED)
    kwargs = provider.prepare(call).kwargs
    names = kwargs["config"]["tool_config"]["function_calling_config"]["allowed_function_names"]
    assert names == ["Weather", "Search"]
    whole = provider.read(models.generate_content(**kwargs))
    for answer in (whole, assembled(provider, models.generate_content_stream(**kwargs))):
        values = call.spec.validate_calls([(one.name, one.arguments) for one in answer.tool_calls])
        assert values == [Weather(city="Bonn"), Search(query="Rhine")]


def test_errors_of_the_api_are_the_sdks_own(server: ScriptedServer, models: Any) -> None:
    for status, error in ((400, errors.ClientError), (429, errors.ClientError), (500, errors.ServerError)):
        server.say(WIRE.error(status, "no such thing"))
        with pytest.raises(error, match="no such thing"):
            converse(provider, models.generate_content, call_of(**ASKED))


def test_what_is_no_response_is_the_providers_error() -> None:
    for odd in (None, "overloaded"):
        with pytest.raises(ProviderError, match="genai"):
            provider.read(odd)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int | None = None


class Dog(BaseModel):
    kind: Literal["dog"]
    color: Color
    sizes: list[Literal[1, 2]] = []


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.SCHEMA])
@pytest.mark.parametrize(
    ("response_type", "answer"),
    [
        (Cat | Dog, '{"kind": "dog", "color": "red", "sizes": [1]}'),
        (Color, '"blue"'),
        (Cat | None, '{"kind": "cat", "lives": 9}'),
        (int | str, "5"),
        (list[Color], '["red"]'),
        (Literal["a", "b"], '"b"'),
    ],
)
def test_optionals_unions_and_enums_are_taken(
    server: ScriptedServer, models: Any, mode: Mode, response_type: Any, answer: str
) -> None:
    call = call_of(response_type, mode, **ASKED)
    prepared = provider.prepare(call)
    assert prepared.mode is None, prepared.notes
    enveloped = answer if call.spec.envelope is None else json.dumps({call.spec.envelope: json.loads(answer)})
    server.say(WIRE.reply(called(enveloped, call.spec.tool_name) if mode is Mode.TOOLS else Said(enveloped)))
    read = provider.read(models.generate_content(**prepared.kwargs))
    assert call.spec.validate(read.payload, envelope=True) == call.spec.validate(answer)


# --- streams and async -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", provider.MODES)
def test_streams_give_the_same_answers(server: ScriptedServer, models: Any, mode: Mode) -> None:
    said = [called(text) if mode is Mode.TOOLS else Said(text) for text in (YOUNG, GOOD)]
    server.say(*(WIRE.stream(one) for one in said), *(WIRE.reply(one) for one in said))
    streamed, _ = converse(provider, models.generate_content_stream, call_of(Person, mode, **ASKED, stream=True))
    whole, _ = converse(provider, models.generate_content, call_of(Person, mode, **ASKED))
    assert streamed.value == whole.value == ANN
    assert streamed.usage == whole.usage == Usage(20, 10, 8)


def test_a_stream_that_breaks_off_is_incomplete(server: ScriptedServer, models: Any) -> None:
    server.say(WIRE.stream(Said(GOOD, finish=None)))
    kwargs = provider.prepare(call_of(Person, Mode.TEXT, **ASKED)).kwargs
    answer = assembled(provider, models.generate_content_stream(**kwargs))
    assert (answer.text, answer.finish_reason) == (GOOD, FinishReason.ABORT)


async def test_the_async_client_takes_the_same(server: ScriptedServer) -> None:
    server.say(WIRE.reply(called(GOOD)), WIRE.stream(called(GOOD)))
    kwargs = provider.prepare(call_of(**ASKED)).kwargs
    async with genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.url)).aio as client:
        whole = provider.read(await client.models.generate_content(**kwargs))
        events = [event async for event in await client.models.generate_content_stream(**kwargs)]
    assert whole.tool_calls == assembled(provider, events).tool_calls
    assert json.loads(whole.tool_calls[0].arguments) == json.loads(GOOD)
