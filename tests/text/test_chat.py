"""Chat prompts against transformers' rendering, malformed messages, and hostile templates."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from pageform.core.errors import ParameterError
from pageform.templating import budget as template_budget
from pageform.text import load_tokenizer, render_chat
from pageform.weights import open_checkpoint

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALTERNATING = """{{ bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' ~ message['content'] | trim ~ ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}"""
WITH_TOOLS = """
{%- set ns = namespace(system='none', count=0) %}
{%- macro show(tool) %}{{ tool.function.name }}: {{ tool | tojson(indent=2) }}{% endmacro %}
{%- for message in messages if message.role != 'tool' %}
    {%- if message.role == 'system' %}{% set ns.system = message.content %}{% continue %}{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {%- generation %}[{{ message.role | upper }}] {{ message.content if message.content is string else '-' }}
    {%- endgeneration %}
    {%- for call in message.tool_calls or [] %}<call>{{ call | tojson }}</call>{% endfor %}
    {%- if ns.count > 50 %}{% break %}{% endif %}
{%- endfor %}
{%- if tools %}{% for tool in tools %}
{{ show(tool) }}
{%- endfor %}{% endif %}
{{ ns.system }} {{ ns.count }} {{ messages[-1]['content'].split('ä')[-1].strip() }} {{ 7 // 2 }} {{ 'a' * 3 }}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}
{{ '%s-%05.1f' | format('x', 2.5) }} {{ 'abc' | replace('b', 'xyz') }} {{ [1, 2] + [3] }} {{ 2 ** 10 }}
{%- if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}
"""
TOOLS = [
    {"type": "function", "function": {"name": "f<é>", "parameters": {"type": "object", "properties": {"x": {}}}}},
]
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hallo, grüß dich! <b>&amp;</b> 'quoted' \"double\""}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  Hi\n\n"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye ä {{ 7 }} {% raw %}"},
    ],
    [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "🙂"}],
    [
        {"role": "user", "content": "call"},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"x": "ü"}}]},
        {"role": "tool", "content": "result"},
        {"role": "user", "content": "so?"},
    ],
]


@pytest.mark.parametrize("template", [CHATML, ALTERNATING, WITH_TOOLS], ids=["chatml", "alternating", "tools"])
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["", "tools"])
@pytest.mark.parametrize("prompt", [True, False])
def test_rendering_equals_transformers(template: str, tools: Any, prompt: bool) -> None:
    variables = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": False}
    compared = 0
    for chat in CHATS:
        options: dict[str, Any] = {"tools": tools, "add_generation_prompt": prompt, **variables}
        try:
            expected = render_jinja_template([chat], chat_template=template, **options)[0][0]
        except Exception:
            with pytest.raises(ParameterError):
                render_chat(chat, template, **options)
        else:
            assert render_chat(chat, template, **options) == expected
            compared += 1
    assert compared >= 2


def test_the_packaged_template_equals_transformers() -> None:
    tokenizer = load_tokenizer(open_checkpoint("smollm2"))
    assert tokenizer is not None
    for chat in CHATS[:3]:
        expected = render_jinja_template([chat], chat_template=tokenizer.chat_template, add_generation_prompt=True)[0][
            0
        ]
        assert render_chat(chat, tokenizer.chat_template, **tokenizer.special_tokens) == expected


def test_parts_of_type_text_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert render_chat([{"role": "user", "content": parts}], "{{ messages[0].content }}") == "a\nb"


def test_messages_are_not_changed() -> None:
    chat = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    render_chat(chat, CHATML)
    assert chat == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ("hello", "messages"),
        ({"role": "user", "content": "x"}, "messages"),
        (None, "messages"),
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": 3, "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0]"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": 3}], "messages[1].content"),
        ([{"role": "user", "content": b"x"}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "…"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
    ],
)
def test_malformed_messages_are_named(messages: Any, field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        render_chat(messages, CHATML)
    assert caught.value.field == field
    assert caught.value.remedy


def test_tools_must_be_schemas() -> None:
    chat = [{"role": "user", "content": "x"}]
    for tools, field in (("f", "tools"), ({"a": 1}, "tools"), ([len], "tools[0]")):
        with pytest.raises(ParameterError) as caught:
            render_chat(chat, CHATML, tools=tools)  # type: ignore[arg-type]
        assert caught.value.field == field


def test_what_the_template_rejects_is_about_the_messages() -> None:
    with pytest.raises(ParameterError, match="roles must alternate") as caught:
        render_chat([{"role": "assistant", "content": "x"}], ALTERNATING, bos_token="")
    assert caught.value.field == "messages"


def test_no_template() -> None:
    with pytest.raises(ParameterError, match="no chat template"):
        render_chat(CHATS[0], None)


def test_the_date_is_todays() -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", render_chat(CHATS[0], "{{ strftime_now('%Y-%m-%d') }}"))


def sixty_times(start: str, step: str, before: str = "") -> str:
    """Replaces n.s, at first `start`, by `step` sixty times and prints it."""
    loop = f"{before}{{% set n.s = {step} %}}"
    return f"{{% set n = namespace(s={start}) %}}{{% for i in range(60) %}}{loop}{{% endfor %}}{{{{ n.s }}}}"


HOSTILE = {
    "syntax": "{% for %}",
    "unclosed": "{{ 'a' ",
    "undefined": "{{ nothing.here }}",
    "type error": "{{ 'a' + 1 }}",
    "missing file": "{% include '/etc/passwd' %}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() | length + 1 }}{{ ''.__class__.__base__.x }}",
    "format string": "{{ '{0.__class__.__init__.__globals__}'.format(messages).x.y }}",
    "changed message": "{{ messages.append(1) }}",
    "changed dict": "{{ messages[0].update({'a': 1}) }}",
    "globals of a function": "{{ raise_exception.__globals__['os'].x }}",
    "code of a macro": "{% macro m() %}{% endmacro %}{{ m.__call__.__globals__.x.y }}",
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops without end": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "recursive macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "exploding macro": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursive loop": "{% for x in [[0]] recursive %}{{ loop([[0], [0]]) }}{% endfor %}",
    "large range": "{{ range(10 ** 9) | list }}",
    "repeated text": "{{ 'a' * 10 ** 12 }}",
    "repeated list": "{{ (10 ** 12 * [1]) | length }}",
    "repeated tuple": "{{ ((1, 2) * 10 ** 12) | length }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "shifted power": "{{ 2 ** (10 ** 9) }}",
    "squared": sixty_times("7", "n.s * n.s"),
    "doubled by +": sixty_times("'ab'", "n.s + n.s"),
    "doubled by ~": sixty_times("'ab'", "n.s ~ n.s"),
    "doubled list": sixty_times("[1]", "n.s + n.s"),
    "doubled by set block": sixty_times("'ab'", "t", "{% set t %}{{ n.s }}{{ n.s }}{% endset %}"),
    "doubled by join": sixty_times("'ab'", "[n.s, n.s] | join"),
    "replaced": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "replaced by method": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "joined by method": "{{ ('a' * 99999).join(range(99999) | map('string') | list) }}",
    "joined by filter": "{{ range(99999) | join('a' * 99999) }}",
    "centred": "{{ 'a' | center(10 ** 11) }}",
    "centred by keyword": "{{ 'a' | center(width=10 ** 11) }}",
    "justified": "{{ 'a'.ljust(10 ** 11) }}",
    "zero-filled": "{{ '1'.zfill(10 ** 11) }}",
    "tabs": "{{ ('\\t' * 99999).expandtabs(10 ** 9) }}",
    "wide %": "{{ '%99999999999d' % 1 }}",
    "wide % with star": "{{ '%*d' % (10 ** 9, 1) }}",
    "wide filter": "{{ '%99999999999d' | format(1) }}",
    "wide format": "{{ '{:>99999999999}'.format(1) }}",
    "wide nested format": "{{ '{:>{}}'.format(1, 10 ** 9) }}",
    "indented": "{{ ('a\\n' * 99999) | indent(99999) }}",
    "padded batch": "{{ [1] | batch(10 ** 11, 'x') | list }}",
    "many slices": "{{ [1] | slice(10 ** 11) | list | length }}",
    "json indent": "{{ range(9999) | list | tojson(indent=10 ** 7) }}",
    "json of itself": "{% set d = dict() %}{{ {'a': d} | tojson | length + 'a' }}",
    "sum of lists": "{{ ([[1] * 99999] * 99999) | sum(start=[]) | length }}",
    "nested doubling": sixty_times("[1]", "[n.s, n.s]"),
    "nested dicts": sixty_times("1", "{'a': n.s, 'b': n.s}"),
    "nested by dict()": sixty_times("1", "dict(a=n.s, b=n.s)"),
    "work in map": "{{ ([range(99999)] * 99999) | map('sum') | list | length + 'a' }}",
    "texts in map": "{{ (['a' * 99999] * 99999) | map('upper') | list | length + 'a' }}",
    "tests in select": "{{ range(99999) | select('in', range(99999) | list) | list | length + 'a' }}",
    "word wrap": "{{ ('a' * 9999999) | wordwrap(1, wrapstring='b' * 9999) | length }}",
    "word wrap of a long word": "{{ ('a' * 999999) | wordwrap(1) | length }}",
    "translated": "{{ ('a' * 99999).translate({97: 'b' * 99999}) | length }}",
    "punycode": "{{ messages[0].content[:1] * 99999 ~ ('é' * 99999).encode('punycode') }}",
    "bytes justified": "{{ 'a'.encode().ljust(10 ** 11) | length }}",
    "bytes repeated": "{{ ('a'.encode() * 10 ** 12) | length }}",
    "bytes formatted": "{{ '%99999999999d'.encode() % 1 }}",
    "bytes replaced": "{{ ('a' * 99999).encode().replace('a'.encode(), ('b' * 99999).encode()) | length }}",
    "bytes joined": "{{ ('a' * 99999).encode().join(['b'.encode()] * 99999) | length }}",
    "bytes of a number": "{{ (1).to_bytes(10 ** 11, 'big') | length }}",
    "filler": "{{ lipsum(n=100000) }}",
    "code without end": "{{ 'a'" + " ~ 'a'" * 100_000 + " }}",
    "recursion in data": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "long power chain": "{{ " + " ** ".join(["9"] * 3000) + " }}",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_templates_end_in_a_typed_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "MAX_SECONDS", 0.5)
    start = time.process_time()
    with pytest.raises(ParameterError) as caught:
        render_chat(CHATS[0], HOSTILE[name])
    assert caught.value.field == "chat_template"
    assert "MemoryError" not in repr(caught.value.__cause__)
    assert time.process_time() - start < 2


def test_iterations_are_bounded_apart_from_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "MAX_SECONDS", 1e9)
    monkeypatch.setattr(template_budget, "MAX_ITERATIONS", 10_000)
    for name in ("nested loops", "exploding macro"):
        with pytest.raises(ParameterError, match="more than 10000 iterations"):
            render_chat(CHATS[0], HOSTILE[name])


def test_large_but_honest_prompts_pass() -> None:
    text = "word " * 200_000
    chat = [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}] * 3
    assert len(render_chat(chat, CHATML)) > 3 * len(text)
    many = [{"role": "user", "content": "x"}] * 10_000
    assert render_chat(many, CHATML).count("<|im_start|>") == 10_001
