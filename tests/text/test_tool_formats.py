"""Tools in chat templates: which way of writing calls a template shows, and conversations with calls in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pageform.core.completion import ToolCall
from pageform.core.errors import ParameterError
from pageform.text.chat import render_chat
from pageform.text.tool_formats import FORMATS, detect_format, detect_reasoning, tool_format
from pageform.text.tool_prompt import definition, readable

# Written after the templates of these models, cut down to what matters here.
QWEN25 = """{%- if tools %}{{- '<|im_start|>system\\nYou may call functions.\\n<tools>' }}{%- for tool in tools %}
{{- '\\n' + (tool | tojson) }}{%- endfor %}{{- '\\n</tools>\\nAnswer with <tool_call>\\n{"name": <function-name>, \
"arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{%- if message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant' }}{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- for call in message.tool_calls %}{%- set call = call.function %}
{{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}{{- call.arguments | tojson }}
{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
QWEN3 = (
    QWEN25
    + """{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"""
)
LLAMA3 = """{{- bos_token }}{%- if tools is not none %}{{- 'Respond in the format \
{"name": function name, "parameters": dictionary of argument name and its value}.' }}
{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{%- endif %}
{%- for message in messages %}{%- if message.tool_calls %}
{%- if message.tool_calls | length != 1 %}{{- raise_exception('This model only supports single tool-calls at once!') }}
{%- endif %}{%- set call = message.tool_calls[0].function %}
{{- '{"name": "' + call.name + '", "parameters": ' }}{{- call.arguments | tojson }}{{- '}<|eot_id|>' }}
{%- elif message.role == 'tool' %}{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message.content }}
{%- else %}{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content + '<|eot_id|>' }}
{%- endif %}{%- endfor %}"""
MISTRAL = """{{- bos_token }}{%- if tools is not none %}
{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}
{%- for message in messages %}{%- if message.tool_calls is defined and message.tool_calls %}
{{- '[TOOL_CALLS] [' }}{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
{%- endif %}{{- call.function | tojson }}{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}
{{- ']' + eos_token }}
{%- elif message.role == 'tool' %}{{- '[TOOL_RESULTS] ' + message.content + '[/TOOL_RESULTS]' }}
{%- elif message.role == 'user' %}{{- '[INST] ' + message.content + '[/INST]' }}
{%- else %}{{- ' ' + message.content + eos_token }}{%- endif %}{%- endfor %}"""
NEMO = MISTRAL.replace("'[TOOL_CALLS] ['", "'[TOOL_CALLS]['")
SMALL = MISTRAL.replace("'[TOOL_CALLS] ['", "'[TOOL_CALLS]' + name + '[ARGS]'")
SMOLLM2 = """{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
XML = QWEN25.replace('{"name": <function-name>, "arguments": <args-json-object>}', "<function=name></function>")
DEEPSEEK = SMOLLM2 + "{{ '<think>\\n' }}"
MAGISTRAL = MISTRAL + "[THINK]"

TOOL = definition("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("abcdefghi", "weather", {"city": "Rome"}, '{"city": "Rome"}')
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Rome?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "sunny"},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize(
    ("template", "name", "native"),
    [
        (QWEN25, "hermes", True),
        (QWEN3, "hermes", True),
        (LLAMA3, "llama3", True),
        (MISTRAL, "mistral", True),
        (SMALL, "args", True),
        (SMOLLM2, "hermes", False),
        (XML, "hermes", False),
        (None, "hermes", False),
    ],
)
def test_the_template_tells_the_format(template: str | None, name: str, native: bool) -> None:
    form, is_native = tool_format("auto", template)
    assert (form.name, is_native) == (name, native)


def test_mistral_models_differ_in_a_space() -> None:
    assert detect_format(NEMO).begin == "[TOOL_CALLS]["  # type: ignore[union-attr]
    assert detect_format(MISTRAL).begin == "[TOOL_CALLS] ["  # type: ignore[union-attr]


def test_a_format_can_be_named() -> None:
    assert tool_format("mistral", QWEN25) == (FORMATS["mistral"], False)
    assert tool_format("hermes", QWEN25) == (FORMATS["hermes"], True)
    assert tool_format(FORMATS["llama3"], None) == (FORMATS["llama3"], False)
    assert tool_format("mistral", NEMO)[0].begin == "[TOOL_CALLS]["
    with pytest.raises(ParameterError, match="tool_format"):
        tool_format("xml", None)


@pytest.mark.parametrize(
    ("template", "form"), [(QWEN25, "hermes"), (QWEN3, "hermes"), (LLAMA3, "llama3"), (MISTRAL, "mistral")]
)
def test_templates_write_calls_as_the_table_says(template: str, form: str) -> None:
    """What a template makes of an earlier call is what the grammar has the model write."""
    text = render_chat(readable(TALK, template), template, [TOOL], **TOKENS)
    assert FORMATS[form].calls([("weather", '{"city": "Rome"}')]) in text
    assert "sunny" in text
    assert json.dumps(TOOL["function"]["parameters"]) in text


def test_a_template_without_tools_gets_text() -> None:
    text = render_chat(readable(TALK, SMOLLM2), SMOLLM2, None, **TOKENS)
    assert text == (
        "<|im_start|>user\nRome?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n'
        "</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_results_of_parallel_calls_are_one_turn() -> None:
    talk = [
        *TALK[:1],
        {**TALK[1], "tool_calls": [CALL, CALL], "content": "Let me see."},
        TALK[2],
        {**TALK[2], "content": {"c": 3}},
    ]
    turns = readable(talk, None)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"].startswith("Let me see.\n<tool_call>")
    assert turns[2]["content"].count("<tool_response>") == 2
    assert '{"c": 3}' in turns[2]["content"]


def test_messages_without_calls_are_left_alone() -> None:
    talk = [{"role": "user", "content": "Hi"}]
    assert readable(talk, SMOLLM2) is talk


@pytest.mark.parametrize(
    "call",
    [
        {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
        {"name": "weather", "arguments": {"city": "Rome"}},
        CALL,
    ],
)
def test_calls_may_be_mappings_or_objects(call: Any) -> None:
    [_, turn, _] = readable([TALK[0], {"role": "assistant", "content": None, "tool_calls": [call]}, TALK[2]], None)
    assert '{"name": "weather", "arguments": {"city": "Rome"}}' in turn["content"]


@pytest.mark.parametrize(
    "call", [{"arguments": "{}"}, {"name": "f", "arguments": "{"}, {"name": "f", "arguments": [1]}, 3]
)
def test_bad_calls_are_told(call: Any) -> None:
    with pytest.raises(ParameterError, match=r"messages\[0\].tool_calls\[0\]"):
        readable([{"role": "assistant", "content": "", "tool_calls": [call]}], None)


@pytest.mark.parametrize(
    ("template", "end"),
    [(QWEN3, "</think>"), (DEEPSEEK, "</think>"), (MAGISTRAL, "[/THINK]"), (SMOLLM2, "</think>"), (None, "</think>")],
)
def test_tags_of_thoughts(template: str | None, end: str) -> None:
    assert detect_reasoning(template).end == end
