"""Anthropic's messages: what is asked of the API, and what is refused before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conversation import Person, call_of
from pydantic import BaseModel, Field

from pageform.clients.base import Provider
from pageform.clients.providers import anthropic as module
from pageform.core.errors import ParameterError, SchemaError
from pageform.structured import Mode

provider: Provider = module
ASKED: dict[str, Any] = {
    "model": "claude-opus-4-8",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Ann is 30."}],
}


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
