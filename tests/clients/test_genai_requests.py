"""Google GenAI: what is asked of the API, and what is refused before."""

from __future__ import annotations

from typing import Any

import pytest
from conversation import Person, call_of
from google.genai import types
from pydantic import BaseModel

from pageform.clients.base import Provider
from pageform.clients.providers import genai as module
from pageform.core.errors import ParameterError, SchemaError
from pageform.structured import Mode

provider: Provider = module
ASKED: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "Ann is 30."}


def test_tools_are_functions_of_which_one_must_be_called() -> None:
    config = provider.prepare(call_of(**ASKED)).kwargs["config"]
    [declared] = config["tools"][0]["function_declarations"]
    assert (declared["name"], declared["description"]) == ("Person", "A person.")
    assert set(declared["parameters_json_schema"]["properties"]) == {"name", "age"}
    calling = {"mode": "ANY", "allowed_function_names": ["Person"]}
    assert config["tool_config"] == {"function_calling_config": calling}
    assert config["automatic_function_calling"] == {"disable": True}


def test_schema_is_the_providers_own_structured_output() -> None:
    config = provider.prepare(call_of(Person, Mode.SCHEMA, **ASKED)).kwargs["config"]
    assert config["response_mime_type"] == "application/json"
    assert set(config["response_json_schema"]["properties"]) == {"name", "age"}


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": 0.1, "max_output_tokens": 50, "system_instruction": "Be brief."},
        {"temperature": 0.1, "maxOutputTokens": 50, "systemInstruction": "Be brief."},
        types.GenerateContentConfig(temperature=0.1, max_output_tokens=50, system_instruction="Be brief."),
    ],
)
def test_a_config_in_any_form_is_kept(config: Any) -> None:
    made = provider.prepare(call_of(Person, Mode.TEXT, **ASKED, config=config)).kwargs["config"]
    assert (made["temperature"], made["max_output_tokens"]) == (0.1, 50)
    assert made["system_instruction"].startswith("Be brief.\n\nAnswer only with JSON")


def test_options_may_stand_beside_the_config() -> None:
    options = {"max_tokens": 50, "temperature": 0, "stop": "END", "n": 1, "seed": 7}
    kwargs = provider.prepare(call_of(Person, Mode.SCHEMA, **ASKED, **options, generation_config={"top_p": 0.5})).kwargs
    assert kwargs.keys() == {"model", "contents", "config"}
    config = kwargs["config"]
    assert (config["max_output_tokens"], config["temperature"], config["stop_sequences"]) == (50, 0, ["END"])
    assert (config["candidate_count"], config["seed"], config["top_p"]) == (1, 7, 0.5)


def test_messages_become_contents_and_a_system_instruction() -> None:
    image = types.Part.from_bytes(data=b"x", mime_type="image/png")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": [{"text": "Be kind."}]},
        {"role": "user", "content": ["Look:", image]},
        {"role": "assistant", "content": "Seen."},
        {"role": "user", "parts": [{"text": "Who?"}]},
        types.Content(role="user", parts=[types.Part(text="Well?")]),
    ]
    kwargs = provider.prepare(call_of(Person, Mode.SCHEMA, model="gemini-2.5-flash", messages=messages)).kwargs
    assert kwargs["config"]["system_instruction"] == "Be brief.\n\nBe kind."
    assert kwargs["contents"][:2] == [
        {"role": "user", "parts": [{"text": "Look:"}, image]},
        {"role": "model", "parts": [{"text": "Seen."}]},
    ]
    assert kwargs["contents"][2:] == messages[4:]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (types.Content(parts=[types.Part(text="Be brief.")]), types.Part(text="Be brief.")),
        ({"parts": [{"text": "Be brief."}]}, {"text": "Be brief."}),
        (["Be brief."], "Be brief."),
        (types.Part(text="Be brief."), types.Part(text="Be brief.")),
    ],
)
def test_a_system_instruction_in_any_form_is_added_to(given: Any, kept: Any) -> None:
    config = {"system_instruction": given}
    first, second = provider.prepare(call_of(Person, Mode.TEXT, **ASKED, config=config)).kwargs["config"][
        "system_instruction"
    ]
    assert first == kept
    assert second["text"].startswith("Answer only with JSON")


def test_the_callers_tools_and_ways_to_call_are_kept() -> None:
    search = types.Tool(google_search=types.GoogleSearch())
    auto = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.AUTO)
    )
    given = types.GenerateContentConfig(tools=[search], tool_config=auto)
    config = provider.prepare(call_of(**ASKED, config=given)).kwargs["config"]
    assert config["tools"][0] == search
    assert config["tool_config"]["function_calling_config"] == {"mode": types.FunctionCallingConfigMode.AUTO}
    assert given.tools == [search]


class Tree(BaseModel):
    root: Node


class Node(BaseModel):
    left: Node | None


Tree.model_rebuild()


def test_what_the_dialect_can_not_say_is_asked_for_as_text() -> None:
    for mode in (Mode.TOOLS, Mode.SCHEMA):
        prepared = provider.prepare(call_of(Tree, mode, **ASKED))
        assert prepared.mode is Mode.TEXT
        assert "system_instruction" in prepared.kwargs["config"]
        assert any("mode text" in note for note in prepared.notes)
        with pytest.raises(SchemaError):
            provider.prepare(call_of(Tree, mode, **ASKED, strict=True))


def test_text_beside_cached_content_is_asked_for_in_the_conversation() -> None:
    kwargs = provider.prepare(call_of(Person, Mode.TEXT, **ASKED, cached_content="cachedContents/1")).kwargs
    assert "system_instruction" not in kwargs["config"]
    assert kwargs["contents"][0]["parts"][0]["text"].startswith("Answer only with JSON")
    assert kwargs["contents"][1] == "Ann is 30."


@pytest.mark.parametrize(
    ("mode", "changed", "message"),
    [
        (Mode.TOOLS, {"contents": None}, "contents=None: is missing"),
        (Mode.TOOLS, {"messages": []}, "together with contents"),
        (Mode.TOOLS, {"cached_content": "cachedContents/1"}, "cached_content=.*Use mode schema"),
        (Mode.SCHEMA, {"cached_content": "cachedContents/1", "system": "Be brief."}, "system_instruction="),
        (Mode.TOOLS, {"config": {"response_mime_type": "application/json"}}, "response_mime_type="),
        (Mode.SCHEMA, {"config": {"response_mime_type": "text/x.enum"}}, "response_mime_type="),
        (Mode.TEXT, {"config": types.GenerateContentConfig(response_schema=Person)}, "response_schema="),
        (Mode.TOOLS, {"n": 2}, "candidate_count=2"),
        (
            Mode.TOOLS,
            {"config": {"tool_config": {"function_calling_config": {"mode": "NONE"}}}},
            "forbids the function",
        ),
        (
            Mode.TOOLS,
            {"config": {"toolConfig": {"functionCallingConfig": {"streamFunctionCallArguments": True}}}},
            "stream_function_call_arguments",
        ),
        (Mode.SCHEMA, {"config": {"tools": [{"google_search": {}}]}}, "tools=.*refuses a schema"),
    ],
)
def test_what_can_not_be_is_refused_before_the_request(mode: Mode, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        provider.prepare(call_of(Person, mode, **{**ASKED, **changed}))


def test_messages_that_are_none_are_refused() -> None:
    for message in ({"role": "tool", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [{}]}):
        with pytest.raises(ParameterError, match=r"messages\[0\]"):
            provider.prepare(call_of(model="gemini-2.5-flash", messages=[message]))
