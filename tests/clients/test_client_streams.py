"""Streams through real connections: shown at once, closed when left, cut off, begun anew, linear in their length."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
import pytest
from people import ANN, ASK, GOOD, YOUNG, Person, names
from rigs import RIGS, Rig, said
from scripted_server import Cut, Gate, ScriptedServer, event, stream_reply
from wire_openai_chat import OpenAIChatWire
from wires import Pieces

from pageform.structured import IncompleteOutput, Mode, ValidationFailed
from pageform.structured.errors import ProviderError

GOOD_SAID = said(Mode.TOOLS, "Person", GOOD)
YOUNG_SAID = said(Mode.TOOLS, "Person", YOUNG)


def people(*given: tuple[str, int]) -> str:
    return json.dumps({"tasks": names(*given)})


SDKS = [RIGS[name] for name in ("openai", "groq", "litellm")]


@pytest.mark.parametrize("rig", SDKS, ids=lambda rig: rig.name)
@pytest.mark.parametrize("verb", ["create_partial", "create_iterable"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_leaving_a_stream_closes_the_connection(rig: Rig, verb: str, asynchronous: bool) -> None:
    kind = said(Mode.TOOLS, "list_Person", people(("Ann", 30), ("Bob", 40)))
    text = kind.calls[0].arguments
    with rig.server() as server:
        reply = rig.wire.stream(kind, Pieces(text.index("Bob"), {1: Gate()}))
        server.say(reply)
        wanted = list[Person] if verb == "create_partial" else Person
        stream = getattr(rig.client(server.url, asynchronous), verb)(wanted, ASK)
        if asynchronous:
            await anext(stream)
            assert not reply.hung_up.is_set()
            await stream.aclose()
        else:
            next(stream)
            assert not reply.hung_up.is_set()
            stream.close()
        assert await asyncio.to_thread(reply.hung_up.wait, 5)
        assert len(server.requests) == 1


async def test_a_cancelled_task_closes_the_connection(chat: ScriptedServer, wire: OpenAIChatWire, later: Any) -> None:
    reply = wire.stream(GOOD_SAID, Pieces(4, {2: (gate := Gate())}))
    chat.say(reply)

    async def consume() -> None:
        async for _ in later.create_partial(Person, ASK):
            pass

    task = asyncio.create_task(consume())
    assert await asyncio.to_thread(gate.reached.wait, 5)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(reply.hung_up.wait, 5)


@pytest.mark.parametrize("rig", SDKS, ids=lambda rig: rig.name)
@pytest.mark.parametrize("how", ["cut", "ended", "torn"])
async def test_a_stream_that_breaks_off_is_incomplete(rig: Rig, how: str) -> None:
    """By a broken connection, by an end without a finish reason, or in the middle of an event."""
    with rig.server() as server:
        for _ in range(4):
            if how == "cut":
                server.say(rig.wire.stream(GOOD_SAID, Pieces(6, {2: Cut()})))
            else:
                parts = rig.wire.stream(GOOD_SAID, Pieces(6)).parts[:4]
                server.say(stream_reply(parts[:-1] + ([parts[-1][:40]] if how == "torn" else [])))
        client = rig.client(server.url, False, mode="tools")
        with pytest.raises(IncompleteOutput) as caught:
            list(client.create_partial(Person, ASK))
        assert caught.value.partial_text.startswith('{"name')
        assert caught.value.partial.age is None
        with pytest.raises(IncompleteOutput):
            list(client.create_iterable(Person, ASK))
        later = rig.client(server.url, True, mode="tools")
        with pytest.raises(IncompleteOutput):
            [one async for one in later.create_partial(Person, ASK)]
        with pytest.raises(IncompleteOutput):
            [one async for one in later.create_iterable(Person, ASK)]
        assert len(server.requests) == 4, "what broke off is not asked for again"


def test_a_cut_names_its_cause(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    chat.say(wire.stream(GOOD_SAID, Pieces(6, {2: Cut()})))
    with pytest.raises(IncompleteOutput) as caught:
        list(client.create_partial(Person, ASK))
    assert isinstance(caught.value.__cause__, openai.APIConnectionError)


def test_a_connection_that_fails_before_the_first_word_is_the_sdks_error(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    chat.say(stream_reply([Cut()]))
    with pytest.raises(openai.APIConnectionError):
        list(client.create_partial(Person, ASK))


def test_an_error_of_the_provider_inside_a_stream_is_raised_unchanged(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    parts = wire.stream(GOOD_SAID).parts[:4]
    chat.say(stream_reply([*parts, event({"error": {"message": "overloaded", "type": "server_error"}})]))
    with pytest.raises(openai.APIError, match="overloaded"):
        list(client.create_partial(Person, ASK))
    chat.say(stream_reply([*parts, b'data: {"id": "\xff\xfe"}\n\n']))
    with pytest.raises(ProviderError, match="can't be read"):
        list(client.create_partial(Person, ASK))
    assert len(chat.requests) == 2


def test_each_attempt_starts_anew_and_the_last_is_the_value(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    chat.say(wire.stream(YOUNG_SAID), wire.stream(GOOD_SAID))
    stream = client.create_partial(Person, ASK)
    shown = list(stream)
    starts = [index for index, one in enumerate(shown) if one.name is None]
    assert len(starts) == 2
    assert shown[-1] == ANN
    outcome = stream.outcome
    assert (outcome.value, len(outcome.attempts), outcome.usage.total_tokens) == (ANN, 2, 30)
    chat.say(*[wire.stream(YOUNG_SAID) for _ in range(2)])
    with pytest.raises(ValidationFailed):
        list(client.create_partial(Person, ASK, max_retries=1))


def test_no_item_is_given_twice_and_none_is_lost(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    tries = (
        people(("a", 20), ("b", 2), ("c", 30)),
        people(("a", 20), ("b", 25), ("c", 3)),
        people(("a", 20), ("b", 25), ("c", 30)),
    )
    chat.say(*[wire.stream(said(Mode.TOOLS, "Iterable_Person", text)) for text in tries])
    stream = client.create_iterable(Person, ASK)
    given = [person.name for person in stream]
    assert given == ["a", "b", "c"] == [person.name for person in stream.outcome.value]
    assert "from its first item on" in json.dumps(chat.requests[1].json)
    assert [request.json["messages"][-1]["role"] for request in chat.requests] == ["user", "tool", "tool"]


def test_the_first_invalid_item_closes_the_stream_at_once(
    chat: ScriptedServer, wire: OpenAIChatWire, client: Any
) -> None:
    text = people(("a", 20), ("b", 2), ("c", 30))
    cut = text.index('{"name": "c"')
    held = wire.stream(said(Mode.TOOLS, "Iterable_Person", text), Pieces(cut, {1: Gate()}))
    chat.say(held, wire.stream(said(Mode.TOOLS, "Iterable_Person", people(("a", 20), ("b", 25)))))
    assert [person.age for person in client.create_iterable(Person, ASK)] == [20, 25]
    assert held.hung_up.wait(5)


def test_spent_retries_leave_what_was_given(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    text = people(("a", 20), ("b", 2))
    chat.say(*[wire.stream(said(Mode.TOOLS, "Iterable_Person", text)) for _ in range(2)])
    people_in = client.create_iterable(Person, ASK, max_retries=1)
    assert next(people_in).name == "a"
    with pytest.raises(ValidationFailed, match="after 2 attempts"):
        next(people_in)


def test_prose_around_a_list_in_text_mode(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    text = f"Here they are:\n```json\n{json.dumps(names(('a', 20), ('b', 30)))}\n```\nThat's all [two] of them."
    chat.say(wire.stream(said(Mode.TEXT, "", text)))
    assert [person.name for person in client.create_iterable(Person, ASK, mode="text")] == ["a", "b"]


def test_the_cost_of_a_stream_is_linear(chat: ScriptedServer, wire: OpenAIChatWire, client: Any) -> None:
    """Ten times the items take about ten times as long, through the SDK and all."""

    def seconds(count: int) -> float:
        text = people(*[(f"person {number}", 20 + number % 50) for number in range(count)])
        chat.say(wire.stream(said(Mode.TOOLS, "Iterable_Person", text), Pieces(200)))
        started = time.process_time()
        assert sum(1 for _ in client.create_iterable(Person, ASK)) == count
        return time.process_time() - started

    seconds(100)
    small, large = min(seconds(300) for _ in range(3)), seconds(3000)
    assert large < 20 * small, f"{small:.3f} s for 300 items, {large:.3f} s for 3,000"
