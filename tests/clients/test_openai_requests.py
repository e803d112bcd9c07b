"""What OpenAI's two APIs are sent, and how odd but legal replies of its kin are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from people import ANN, ASK, GOOD, YOUNG, Person, Search, Weather
from pydantic import BaseModel, Field
from rigs import RIGS, said
from scripted_server import ScriptedServer, event, json_reply, stream_reply
from wire_openai_chat import OpenAIChatWire
from wire_openai_responses import OpenAIResponsesWire
from wires import Called, Said

from pageform.clients import from_openai, from_provider, patch
from pageform.core.errors import ParameterError, SchemaError
from pageform.structured import IncompleteOutput, Mode, ValidationFailed
from pageform.structured.errors import ProviderError

RESPONSES = OpenAIResponsesWire()


class Order(BaseModel):
    """An order.

    Args:
        item: what is ordered
    """

    item: str = Field(max_length=5)
    count: int = 1
    notes: dict[str, str] | None = None


class Plain(BaseModel):
    item: str
    count: int = 1


@pytest.fixture
def responses() -> Any:
    with RIGS["openai-responses"].server() as running:
        yield running


def of(server: ScriptedServer, **settings: Any) -> Any:
    return RIGS["openai-responses"].client(server.url, False, **settings)


def test_schemas_are_strict_where_the_type_allows_it(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    call = said(Mode.TOOLS, "Plain", '{"item":"tea","count":null}')
    chat.say(wire.reply(call), wire.reply(said(Mode.SCHEMA, "", '{"item":"tea","count":null}')))
    assert client.create(Plain, ASK) == client.create(Plain, ASK, mode="schema") == Plain(item="tea")
    function = chat.requests[0].json["tools"][0]["function"]
    form = chat.requests[1].json["response_format"]["json_schema"]
    assert function["strict"] is form["strict"] is True
    for schema in (function["parameters"], form["schema"]):
        assert schema["additionalProperties"] is False
        assert schema["required"] == ["item", "count"], "what may be left out may be null instead"
    chat.say(*[wire.reply(said(Mode.TOOLS, name, '{"item":"tea"}')) for name in ("Order", "Plain")])
    outcome = client.create_result(Order, ASK)
    assert "strict" not in chat.requests[2].json["tools"][0]["function"]
    assert outcome.notes, "that the schema is not enforced is told"
    client.create(Plain, ASK, strict_schema=False)
    assert "strict" not in chat.requests[3].json["tools"][0]["function"]
    with pytest.raises(SchemaError, match="strict_schema"):
        client.create(Order, ASK, strict_schema=True)


def test_constraints_that_are_not_enforced_are_told(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    class Short(BaseModel):
        text: str = Field(max_length=5)

    chat.say(wire.reply(said(Mode.TOOLS, "Short", '{"text":"tea"}')))
    [note] = client.create_result(Short, ASK).notes
    assert "text" in note
    assert "5" in note


def test_descriptions_are_sent(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(wire.reply(said(Mode.TOOLS, "Order", '{"item":"tea"}')))
    client.create(Order, ASK)
    function = chat.requests[0].json["tools"][0]["function"]
    assert function["description"] == "An order."
    assert function["parameters"]["properties"]["item"]["description"].startswith("what is ordered")


def test_services_get_what_they_can_do(chat: ScriptedServer, wire: OpenAIChatWire) -> None:
    def sent(name: str, mode: Mode, wanted: Any = Person) -> dict[str, Any]:
        client = RIGS[name].client(chat.url, False, mode=mode)
        chat.say(wire.reply(said(mode, "Person", GOOD)))
        client.create(wanted, ASK)
        return chat.requests[-1].json

    named = {"type": "function", "function": {"name": "Person"}}
    assert sent("openai", Mode.TOOLS)["tool_choice"] == sent("vllm", Mode.TOOLS)["tool_choice"] == named
    ollama = sent("ollama", Mode.TOOLS)
    assert ollama["tool_choice"] == "auto"
    assert "calling the tool Person" in ollama["messages"][0]["content"]
    assert "strict" not in json.dumps(ollama)
    for name, told in (("openai", False), ("ollama", True), ("vllm", True), ("perplexity", True)):
        messages = sent(name, Mode.SCHEMA)["messages"]
        assert ("Answer only with JSON" in json.dumps(messages)) is told
    chat.say(wire.reply(Said(calls=(Called("Weather", '{"city":"Oslo"}'),))))
    RIGS["openai"].client(chat.url, False).create(Iterable[Weather | Search], ASK)
    assert chat.requests[-1].json["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in chat.requests[-1].json["tools"]] == ["Weather", "Search"]


def test_services_are_known_by_their_address() -> None:
    sdk = openai.OpenAI(base_url="https://api.deepseek.com/v1", api_key="k")
    assert from_openai(sdk).modes == (Mode.TOOLS, Mode.TEXT)
    assert "deepseek" in repr(from_openai(sdk))
    assert "openai" in repr(from_openai(openai.OpenAI(base_url="https://example.org/v1", api_key="k")))


def test_the_callers_own_tools_stay(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    mine = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    chat.say(wire.reply(said(Mode.TOOLS, "Person", GOOD)))
    client.create(Person, ASK, tools=[mine], tool_choice="auto")
    request = chat.requests[0].json
    assert [tool["function"]["name"] for tool in request["tools"]] == ["mine", "Person"]
    assert request["tool_choice"] == "auto"


def test_the_assistants_turn_is_echoed_as_it_came(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    message = {
        "role": "assistant",
        "content": "Let me see.",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "hm",
        "tool_calls": [
            {
                "id": "call_9",
                "type": "function",
                "function": {"name": "Person", "arguments": YOUNG},
                "extra_content": {"google": {"thought_signature": "x"}},
            }
        ],
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    odd = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    with ScriptedServer() as loose:
        loose.say(json_reply(odd), wire.reply(said(Mode.TOOLS, "Person", GOOD)))
        assert RIGS["openai"].client(loose.url, False).create(Person, ASK) == ANN
        _, turn, result = loose.requests[1].json["messages"]
    assert turn["content"] == "Let me see."
    assert turn["tool_calls"] == message["tool_calls"], "services want their additions back"
    assert set(turn) == {"role", "content", "tool_calls"}
    assert result["tool_call_id"] == "call_9"


def test_what_some_servers_do_otherwise(chat: ScriptedServer, client: Any) -> None:
    """All calls numbered 0 in one event; usage beside the finish; content in parts; no ids."""

    def chunk(delta: dict[str, Any], **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish", None)}
        return event(
            {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
        )

    calls = [
        {"index": 0, "id": id, "function": {"name": name, "arguments": text}}
        for id, name, text in (("a", "Weather", '{"city":"Oslo"}'), ("b", "Search", '{"query":"rain"}'))
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    chat.say(stream_reply([chunk({"tool_calls": calls}), chunk({}, finish="tool_calls", usage=usage)]))
    stream = client.create_iterable(Weather | Search, ASK)
    assert list(stream) == [Weather(city="Oslo"), Search(query="rain")]
    assert stream.outcome.usage.total_tokens == 7
    message = {"role": "assistant", "content": [{"type": "text", "text": GOOD}]}
    choice = {"index": 0, "message": message, "finish_reason": "eos"}
    chat.say(json_reply({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}))
    assert client.create(Person, ASK, mode="text") == ANN


# --- the Responses API -----------------------------------------------------------------------------------------------


def test_both_apis_stand_on_one_client(responses: ScriptedServer) -> None:
    sdk = openai.OpenAI(base_url=f"{responses.url}/v1", api_key="key", max_retries=0)
    answers = [said(Mode.TOOLS, "Person", GOOD), Said("Hello."), said(Mode.TOOLS, "Person", GOOD)]
    responses.say(*[RESPONSES.reply(one) for one in answers], RESPONSES.stream(answers[0]))
    client = from_openai(sdk, model="m")
    assert client.responses.create(response_model=Person, input="Who?") == ANN
    plain = client.responses.create(input="Hi")
    assert isinstance(plain, openai.types.responses.Response)
    assert plain.output_text == "Hello."
    assert client.responses.retrieve == sdk.responses.retrieve
    person, response = client.responses.create_with_completion(Person, ASK)
    assert (person, type(response)) == (ANN, openai.types.responses.Response)
    assert list(client.responses.create_partial(Person, input="Who?"))[-1] == ANN
    responses.say(RESPONSES.reply(answers[0]))
    patch(sdk, model="m")
    assert sdk.responses.create(response_model=Person, input="Who?") == ANN
    assert responses.requests[0].json["tool_choice"] == {"type": "function", "name": "Person"}


def test_responses_in_each_mode(responses: ScriptedServer) -> None:
    responses.say(*[RESPONSES.reply(said(mode, "Person", GOOD)) for mode in Mode])
    for mode in Mode:
        assert of(responses, mode=mode).create(Person, ASK, instructions="Be brief.", text={"verbosity": "low"}) == ANN
    tools, schema, text = (request.json for request in responses.requests)
    assert tools["tools"][0]["strict"] is True
    assert schema["text"] == {"verbosity": "low", "format": schema["text"]["format"]}
    assert schema["text"]["format"]["strict"] is True
    assert text["instructions"].startswith("Be brief.\n\nAnswer only with JSON")
    assert text["input"] == ASK


def test_responses_echo_reasoning_with_the_call(responses: ScriptedServer) -> None:
    bad, good = said(Mode.TOOLS, "Person", YOUNG), said(Mode.TOOLS, "Person", GOOD)
    responses.say(RESPONSES.reply(bad), RESPONSES.reply(good), RESPONSES.stream(bad), RESPONSES.stream(good))
    client = of(responses)
    assert client.create(Person, ASK) == ANN
    assert list(client.create_partial(Person, ASK))[-1] == ANN
    for request in (responses.requests[1].json, responses.requests[3].json):
        kinds = [item.get("type", "message") for item in request["input"]]
        assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
        assert request["input"][1]["encrypted_content"] == "x"
        assert "too young" in request["input"][3]["output"]
    responses.say(RESPONSES.reply(bad), RESPONSES.reply(good))
    client.create(Person, ASK, conversation="conv_1")
    assert [item["type"] for item in responses.requests[-1].json["input"]] == ["function_call_output"]


def test_responses_that_are_not_whole(responses: ScriptedServer) -> None:
    client = of(responses)
    for finish in ("length", "filter"):
        answer = said(Mode.TOOLS, "Person", '{"name":"Ann"', finish=finish)
        responses.say(RESPONSES.reply(answer), RESPONSES.stream(answer))
        with pytest.raises(IncompleteOutput):
            client.create(Person, ASK)
        with pytest.raises(IncompleteOutput) as caught:
            list(client.create_partial(Person, ASK))
        assert caught.value.partial.name == "Ann"
    responses.say(*[RESPONSES.reply(Said(refusal="No.")), RESPONSES.stream(Said(refusal="No."))])
    with pytest.raises(ValidationFailed, match="refused"):
        client.create(Person, ASK)
    with pytest.raises(ValidationFailed, match="refused"):
        list(client.create_partial(Person, ASK))
    failed = RESPONSES.response(Said(), [])
    failed |= {"status": "failed", "error": {"code": "server_error", "message": "out of order"}}
    responses.say(
        json_reply(failed),
        stream_reply([event({"type": "response.failed", "sequence_number": 0, "response": failed}, "response.failed")]),
        stream_reply([event({"type": "error", "sequence_number": 0, "message": "out of order"}, "error")]),
        json_reply({"id": "resp_1", "object": "response"}),
    )
    with pytest.raises(ProviderError, match="out of order"):
        client.create(Person, ASK)
    for _ in range(2):
        with pytest.raises((ProviderError, openai.APIError), match="out of order"):
            list(client.create_partial(Person, ASK))
    with pytest.raises(ProviderError, match="no output"):
        client.create(Person, ASK)


def test_what_the_responses_api_does_not_do_is_refused(responses: ScriptedServer) -> None:
    client = of(responses)
    for match, arguments in (
        ("only one", {"messages": ASK, "input": "Who?"}),
        ("background", {"input": "Who?", "background": True}),
        ("input", {"input": 3}),
        ("input", {}),
        ("tool_choice", {"input": "Who?", "tool_choice": "none"}),
        ("format", {"input": "Who?", "mode": "schema", "text": {"format": {"type": "text"}}}),
    ):
        with pytest.raises(ParameterError, match=match):
            client.create(Person, **arguments)
    assert responses.requests == []
    with pytest.raises(ParameterError, match="api"):
        from_openai(client.client, api="assistants")
    made = from_provider("openai-responses/gpt-5-mini", api_key="k")
    assert "openai-responses" in repr(made)
