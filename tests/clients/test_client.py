"""The client's surface: its verbs and where they stand, what passes through, and what calls may be told."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import openai
import pytest
import tenacity
from people import ANN, ASK, GOOD, YOUNG, Person
from rigs import RIGS, said
from scripted_server import ScriptedServer
from wire_openai_chat import OpenAIChatWire
from wires import Called, Said

from pageform.clients import from_openai, patch
from pageform.core.errors import ParameterError, SchemaError
from pageform.structured import (
    Backoff,
    Hooks,
    Mode,
    ModelRetry,
    Outcome,
    Partial,
    TokenBudgetExceeded,
    UsageUnavailable,
    ValidationFailed,
)
from pageform.structured.errors import ModeError

GOOD_SAID = said(Mode.TOOLS, "Person", GOOD)
YOUNG_SAID = said(Mode.TOOLS, "Person", YOUNG)


def test_verbs_stand_on_the_client_on_completions_and_on_messages(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    for place in (client, client.chat.completions, client.messages):
        chat.say(*[wire.reply(GOOD_SAID) for _ in range(3)], wire.stream(GOOD_SAID))
        assert place.create(response_model=Person, messages=ASK) == ANN
        assert place.create_with_completion(Person, ASK)[0] == ANN
        assert place.create_result(Person, ASK).value == ANN
        assert list(place.create_partial(Person, ASK))[-1] == ANN


def test_values_are_the_callers_own(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(wire.reply(GOOD_SAID))
    person = client.create(Person, ASK)
    assert type(person) is Person
    assert pickle.loads(pickle.dumps(person)) == person == ANN
    assert set(vars(person)) == {"name", "age"}


def test_a_call_without_a_type_is_the_sdks_own(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(wire.reply(Said("Hello")), wire.reply(Said("Hi")), wire.stream(Said("Hey")))
    completion = client.chat.completions.create(messages=ASK, temperature=0.5)
    assert isinstance(completion, openai.types.chat.ChatCompletion)
    assert chat.requests[0].json == {"model": "m", "messages": ASK, "temperature": 0.5}
    assert client.create(messages=ASK).choices[0].message.content == "Hi"
    chunks = client.chat.completions.create(messages=ASK, stream=True)
    assert isinstance(chunks, openai.Stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hey"
    for name, value in (("context", {}), ("max_retries", 1), ("token_budget", 5), ("mode", "text")):
        with pytest.raises(ParameterError, match="needs a response_model"):
            client.create(messages=ASK, **{name: value})


def test_everything_else_is_the_sdks(chat: ScriptedServer, client: Any) -> None:
    sdk = client.client
    assert client.api_key == "key"
    assert client.models is sdk.models
    assert client.chat.completions.with_raw_response is not None
    assert client.chat.completions.parse == sdk.chat.completions.parse
    assert client.with_options(timeout=3).timeout == 3
    for missing in (lambda: client.nothing, lambda: client.chat.nothing, lambda: client.chat.completions.nothing):
        with pytest.raises(AttributeError):
            missing()
    with client as entered:
        assert entered is client
    assert sdk.is_closed()


async def test_async_clients_give_awaitables(chat: ScriptedServer, wire: OpenAIChatWire, later: Any) -> None:
    chat.say(*[wire.reply(GOOD_SAID) for _ in range(3)], wire.stream(GOOD_SAID), wire.reply(Said("Hello")))
    assert await later.create(Person, ASK) == ANN
    assert (await later.chat.completions.create_with_completion(Person, ASK))[0] == ANN
    assert (await later.messages.create_result(Person, ASK)).value == ANN
    stream = await later.create(Partial[Person], ASK, stream=True)
    assert [one async for one in stream][-1] == ANN
    assert stream.outcome.value == ANN
    assert (await later.create(messages=ASK)).choices[0].message.content == "Hello"
    pending = later.create(Person, ASK, mode="telepathy")
    with pytest.raises(ModeError):
        await pending
    async with later:
        pass


class Frozen(dict[str, Any]):
    """A dict that can't be changed."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("changed")

    __setitem__ = __delitem__ = update = pop = clear = setdefault = popitem = __ior__ = _refuse


def frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Frozen({key: frozen(item) for key, item in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["openai", "groq", "litellm"])
@pytest.mark.parametrize("mode", list(Mode))
def test_nothing_of_the_callers_is_changed(name: str, mode: Mode) -> None:
    rig = RIGS[name]
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
    ]
    messages = frozen(asked)
    with rig.server() as server:
        client = rig.client(server.url, False, mode=mode, metadata=frozen({"a": "b"}))
        server.say(*[rig.wire.reply(said(mode, "Person", text)) for text in (YOUNG, GOOD)])
        assert client.create(Person, messages, stop=frozen(["x"])) == ANN
        sent = server.requests[1].json
    assert messages == frozen(asked)
    assert [message["role"] for message in sent["messages"]][:3] == ["system", "user", "assistant"]
    mapped = MappingProxyType({"role": "user", "content": "Who?"})
    with rig.server() as server:
        client = rig.client(server.url, False, mode=mode)
        server.say(rig.wire.reply(said(mode, "Person", GOOD)))
        assert client.create(Person, (mapped,)) == ANN


def test_defaults_are_those_of_the_client_and_calls_override_them(chat: ScriptedServer, wire: OpenAIChatWire) -> None:
    sdk = openai.OpenAI(base_url=f"{chat.url}/v1", api_key="key", max_retries=0)
    client = from_openai(sdk, model="small", temperature=0.5, max_retries=0)
    chat.say(wire.reply(YOUNG_SAID))
    with pytest.raises(ValidationFailed, match="after 1 attempt"):
        client.create(Person, ASK)
    chat.say(wire.reply(YOUNG_SAID), wire.reply(GOOD_SAID))
    assert client.create(Person, ASK, max_retries=1, model="large") == ANN
    assert [request.json["model"] for request in chat.requests] == ["small", "large", "large"]
    assert chat.requests[0].json["temperature"] == 0.5


def test_retries_as_tenacity_and_with_backoff(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    waits: list[float] = []
    rules = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2),
        wait=tenacity.wait_fixed(0.01),
        before_sleep=lambda state: waits.append(state.upcoming_sleep),
    )
    chat.say(*[wire.reply(YOUNG_SAID) for _ in range(2)])
    with pytest.raises(ValidationFailed, match="after 2 attempts"):
        client.create(Person, ASK, max_retries=rules)
    assert waits == [0.01]
    chat.say(wire.reply(YOUNG_SAID), wire.reply(GOOD_SAID))
    assert client.create(Person, ASK, max_retries=1, backoff=Backoff(0.01, jitter=False)) == ANN


def test_time_and_tokens_are_bounded(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(wire.reply(YOUNG_SAID), wire.reply(YOUNG_SAID))
    with pytest.raises(TokenBudgetExceeded, match="30 tokens of the budget of 20"):
        client.create(Person, ASK, token_budget=20)
    chat.say(wire.reply(said(Mode.TOOLS, "Person", YOUNG, usage=None)))
    with pytest.raises(UsageUnavailable):
        client.create(Person, ASK, token_budget=20)
    chat.say(wire.reply(YOUNG_SAID))
    with pytest.raises(ValidationFailed, match="after 1 attempt"):
        client.create(Person, ASK, timeout=0.2, backoff=Backoff(5, jitter=False))
    for wrong in ({"timeout": 0}, {"token_budget": -1}, {"max_retries": -1}, {"accumulate": "some"}, {"mode": "x"}):
        with pytest.raises(ParameterError):
            client.create(Person, ASK, **wrong)
    assert len(chat.requests) == 4


def test_a_timeout_bounds_each_request_by_what_is_left(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    from scripted_server import Gate, raw_reply

    chat.say(wire.reply(YOUNG_SAID), raw_reply(Gate()))
    with pytest.raises(openai.APITimeoutError):
        client.create(Person, ASK, timeout=0.5)
    assert len(chat.requests) == 2


def test_a_budget_reads_streams_to_their_end(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    wrong = said(Mode.TOOLS, "list_Person", '{"tasks":[{"name":"Ann","age":3},{"name":"Bob","age":40}]}')
    chat.say(wire.stream(wrong), wire.stream(wrong))
    with pytest.raises(TokenBudgetExceeded) as caught:
        list(client.create_iterable(list[Person], ASK, token_budget=20))
    assert caught.value.usage.total_tokens == 30


def test_hooks_of_client_and_call_are_told(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    seen: list[str] = []
    client.on("parse:error", lambda error: seen.append("client"))
    chat.say(wire.reply(YOUNG_SAID), wire.reply(GOOD_SAID), wire.reply(GOOD_SAID))
    client.create(Person, ASK, hooks={"completion:response": lambda response: seen.append(type(response).__name__)})
    assert seen == ["ChatCompletion", "client", "ChatCompletion"]
    client.clear()
    client.create(Person, ASK, hooks=Hooks({"completion:kwargs": lambda **kwargs: seen.append(kwargs["model"])}))
    assert seen[3:] == ["m"]


async def test_async_hooks_are_awaited(chat: ScriptedServer, wire: OpenAIChatWire, later: Any, client: Any) -> None:
    seen: list[str] = []

    async def note(event: Any) -> None:
        seen.append(str(event.name))

    chat.say(wire.reply(YOUNG_SAID), wire.reply(GOOD_SAID))
    await later.create(Person, ASK, hooks={"*": note})
    assert seen == ["kwargs", "response", "usage", "parse_error", "kwargs", "response", "usage", "end"]
    with pytest.raises(ParameterError, match="coroutine"):
        client.create(Person, ASK, hooks={"*": note})


def test_context_reaches_validators_and_strict_pydantic(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    from pydantic import BaseModel, ValidationInfo, field_validator

    class Guest(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def known(cls, value: str, info: ValidationInfo) -> str:
            assert info.context is not None
            if value not in info.context["guests"]:
                raise ModelRetry(f"{value} is no guest (attempt {info.context['attempt']})")
            return value

    chat.say(*[wire.reply(said(Mode.TOOLS, "Guest", f'{{"name":"{name}"}}')) for name in ("Eve", "Ann")])
    assert client.create(Guest, ASK, context={"guests": ["Ann"]}).name == "Ann"
    assert "Eve is no guest (attempt 1)" in json.dumps(chat.requests[1].json)
    text = '{"name":"Ann","age":"30"}'
    chat.say(*[wire.reply(said(Mode.TOOLS, "Person", text)) for _ in range(2)])
    assert client.create(Person, ASK) == ANN
    with pytest.raises(ValidationFailed, match="valid integer"):
        client.create(Person, ASK, strict=True, max_retries=0)


def test_what_can_not_be_is_refused_before_anything_is_sent(chat: ScriptedServer, client: Any) -> None:
    for error, match, ask in (
        (SchemaError, "response_model", lambda: client.create(object(), ASK)),
        (ParameterError, "needs one", lambda: client.create_with_completion(None, ASK)),
        (ParameterError, "neither Partial nor Iterable", lambda: client.create(Person, ASK, stream=True)),
        (SchemaError, "can't be streamed", lambda: client.create_iterable({"type": "object"}, ASK)),
        (ParameterError, "messages", lambda: client.create(Person)),
        (ParameterError, "messages", lambda: client.create(Person, "Who?")),
        (ParameterError, "n=3", lambda: client.create(Person, ASK, n=3)),
        (ParameterError, "tool_choice", lambda: client.create(Person, ASK, tool_choice="none")),
        (ParameterError, "tools", lambda: client.create(Person, ASK, tools=[{"function": {"name": "Person"}}])),
        (ParameterError, "response_format", lambda: client.create(Person, ASK, response_format={"type": "text"})),
        (ParameterError, "hooks", lambda: client.create(Person, ASK, hooks=3)),
    ):
        with pytest.raises(error, match=match):
            ask()
    assert chat.requests == []


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_patching_in_place(chat: ScriptedServer, wire: OpenAIChatWire, asynchronous: bool) -> None:
    async def result(value: Any) -> Any:
        return await value if asynchronous else value

    make = openai.AsyncOpenAI if asynchronous else openai.OpenAI
    sdk = make(base_url=f"{chat.url}/v1", api_key="key", max_retries=0)
    for _ in range(2):  # twice is as good as once
        assert patch(sdk, model="m", max_retries=0) is sdk
    chat.say(wire.reply(GOOD_SAID), wire.reply(Said("Hello")), wire.reply(GOOD_SAID), wire.reply(YOUNG_SAID))
    create = sdk.chat.completions.create
    assert await result(create(response_model=Person, messages=ASK)) == ANN
    assert (await result(create(messages=ASK))).choices[0].message.content == "Hello"
    outcome = await result(sdk.chat.completions.create_result(Person, messages=ASK))
    assert isinstance(outcome, Outcome)
    with pytest.raises(ValidationFailed):
        await result(create(response_model=Person, messages=ASK))
    assert len(chat.requests) == 4


def test_patching_a_function(chat: ScriptedServer, wire: OpenAIChatWire) -> None:
    sdk = openai.OpenAI(base_url=f"{chat.url}/v1", api_key="key", max_retries=0)
    create = patch(create=sdk.chat.completions.create)
    chat.say(wire.reply(GOOD_SAID), wire.reply(Said("Hello")))
    assert create(response_model=Person, messages=ASK, model="m") == ANN
    assert create(messages=ASK, model="m").choices[0].message.content == "Hello"
    for wrong in ({}, {"client": sdk, "create": create}, {"client": object()}):
        with pytest.raises(ParameterError):
            patch(**wrong)


def test_one_client_serves_many_threads(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(*[wire.reply(GOOD_SAID) for _ in range(20)])
    values: list[Any] = []
    threads = [threading.Thread(target=lambda: values.append(client.create(Person, ASK))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [ANN] * 20


def test_types_that_are_no_models(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    from dataclasses import dataclass
    from enum import Enum
    from typing import Literal

    class Colour(Enum):
        RED = "red"

    @dataclass
    class Point:
        x: int

    for wanted, name, text, value in (
        (Colour, "Colour", '{"content":"red"}', Colour.RED),
        (Point, "Point", '{"x":1}', Point(1)),
        (Literal["a", "b"], "Literal_a_b", '{"content":"b"}', "b"),
        (int | None, "int_None", '{"content":null}', None),
        (dict[str, int], "dict_str_int", '{"a":1}', {"a": 1}),
        ({"title": "T", "type": "object", "properties": {"a": {"type": "integer"}}}, "T", '{"a":1}', {"a": 1}),
    ):
        chat.say(wire.reply(said(Mode.TOOLS, name, text)))
        outcome = client.create_result(wanted, ASK)
        assert outcome.value == value
        assert not [note for note in outcome.notes if "offered" in note]


def test_media_are_written_as_the_provider_wants_them(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    from media_samples import png

    from pageform.media import Image

    chat.say(wire.reply(GOOD_SAID))
    client.create(Person, [{"role": "user", "content": ["Who is this?", Image.from_bytes(png())]}])
    text, image = chat.requests[0].json["messages"][0]["content"]
    assert text == {"type": "text", "text": "Who is this?"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,")


def test_streams_of_lists_and_unions(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    two = (Called("Iterable_int", '{"tasks":[1,2]}'),)
    chat.say(wire.stream(Said(calls=two)), wire.stream(said(Mode.TOOLS, "list_Person", f'{{"tasks":[{GOOD}]}}')))
    assert list(client.create_iterable(int, ASK)) == [1, 2]
    shown: Iterator[Any] = client.create(Partial[list[Person]], ASK, stream=True)
    assert list(shown)[-1] == [ANN]
    chat.say(wire.stream(Said(calls=two)))
    assert list(client.create(Iterable[int], ASK, stream=True)) == [1, 2]


def test_leniency_mends_and_tells(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    odd = "{'name': 'Ann', 'age': '30 years',}"
    chat.say(*[wire.reply(said(Mode.TOOLS, "Person", odd)) for _ in range(2)])
    outcome = client.create_result(Person, ASK)
    assert outcome.value == ANN
    assert {repair.rule for repair in outcome.repairs} >= {"quotes", "trailing_comma"}
    with pytest.raises(ValidationFailed):
        client.create(Person, ASK, leniency="strict", max_retries=0)
    items = '{"tasks":[{"name":"Ann","age":"30 years"},{"name":"Bob","age":40}]}'
    chat.say(wire.stream(said(Mode.TOOLS, "Iterable_Person", items)))
    stream = client.create_iterable(Person, ASK)
    assert [person.age for person in stream] == [30, 40]
    assert stream.outcome.repairs
    prose = f"Here you are: {GOOD} Anything else?"
    chat.say(wire.reply(Said(prose)), wire.reply(Said(prose)))
    assert client.create(Person, ASK, mode="text") == ANN
    with pytest.raises(ValidationFailed):
        client.create(Person, ASK, mode="text", leniency="strict", max_retries=0)
    with pytest.raises(ParameterError, match="leniency"):
        client.create(Person, ASK, leniency="very")
