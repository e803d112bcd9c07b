"""Variables in messages: which texts are templates, what becomes of values, what is refused."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pageform.templating import MessageTemplateError, Text, render_kwargs, render_messages
from pageform.templating import budget as template_budget


class Person(BaseModel):
    name: str
    tags: list[str] = []


CONTEXT = {"name": "Ann", "items": ["a", "b"], "person": Person(name="Bo", tags=["x"]), "n": 3}


def rendered(content: Any, context: Any = CONTEXT, role: str = "user", **options: Any) -> Any:
    return render_messages([{"role": role, "content": content}], context, **options)[0]["content"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Greet {{ name }}.", "Greet Ann."),
        ("{% for item in items %}- {{ item }}\n{% endfor %}", "- a\n- b\n"),
        ("{{ person.name }} {{ person.tags[0] }} {{ items | length }}", "Bo x 2"),
        ("{% if missing is defined %}x{% else %}y{% endif %}", "y"),
        ("{{ missing | default('none') }}", "none"),
        ("{# a note #}Hi", "Hi"),
        ("{% raw %}{{ name }}{% endraw %}", "{{ name }}"),
        ("  keep {{ name }}\n", "keep Ann\n"),
        ("\n    Two\n      lines for {{ name }}\n    ", "\nTwo\n  lines for Ann\n"),
        ("no template { at } all\r\n", "no template { at } all\r\n"),
        ("   indented, but no template", "   indented, but no template"),
        ("", ""),
    ],
)
def test_templates_and_what_they_make(template: str, text: str) -> None:
    assert rendered(template) == text


def test_only_a_context_makes_templates_of_messages() -> None:
    for context in (None, {}, [], object(), "text"):
        assert rendered("{{ name }} {% broken", context) == "{{ name }} {% broken"


@given(st.text(), st.text(alphabet=" {}%#abc\n"))
def test_values_are_put_in_as_they_are(one: str, other: str) -> None:
    assert rendered("<{{ x }}|{{ y }}>", {"x": one, "y": other}) == f"<{one}|{other}>"


@given(st.text(alphabet="ab {}%#'\"\n", max_size=40))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    before = [{"role": "user", "content": text}]
    try:
        after = render_messages(before, {"a": 1})
    except MessageTemplateError:
        assert "{{" in text or "{%" in text or "{#" in text
    else:
        assert after == before or "{" in text
    assert before == [{"role": "user", "content": text}]


def test_values_stay_values_in_later_attempts() -> None:
    """What was rendered once and is rendered again, as in a second call with its result, stays the same as `Text`."""
    first = rendered("{{ x }}", {"x": "{{ y }}"})
    assert first == "{{ y }}"
    assert rendered(Text(first), {"y": "secret"}) == "{{ y }}"


PARTS = [
    ({"type": "text", "text": "{{ name }}"}, {"type": "text", "text": "Ann"}),
    ({"type": "input_text", "text": "{{ name }}", "k": 1}, {"type": "input_text", "text": "Ann", "k": 1}),
    ({"text": "{{ name }}"}, {"text": "Ann"}),
    ("{{ name }}", "Ann"),
    (Text("{{ name }}"), "{{ name }}"),
    ({"type": "image_url", "image_url": {"url": "https://x/{{ name }}"}}, None),
    ({"type": "tool_result", "tool_use_id": "t", "content": "{{ name }}"}, None),
    ({"type": "thinking", "text": "{{ name }}"}, None),
    ({"inline_data": {"data": b"{{ name }}"}}, None),
    (7, None),
]


def test_text_parts_are_templates_and_others_are_not() -> None:
    given_parts = [part for part, _ in PARTS]
    for key in ("content", "parts"):
        messages = [{"role": "user", key: given_parts}]
        before = copy.deepcopy(messages)
        [message] = render_messages(messages, CONTEXT)
        assert message[key] == [part if result is None else result for part, result in PARTS]
        assert messages == before


def test_what_tools_say_is_no_template() -> None:
    messages = [
        {"role": "system", "content": "{{ name }}"},
        {"role": "assistant", "content": "{{ name }}", "tool_calls": [{"function": {"arguments": "{{ name }}"}}]},
        {"role": "tool", "content": "{{ secret }}", "tool_call_id": "1"},
        {"role": "function", "content": "{{ secret }}", "name": "f"},
        {"type": "function_call_output", "call_id": "1", "output": "{{ secret }}"},
        {"role": "user", "content": None},
        {"role": "user", "content": "plain"},
    ]
    after = render_messages(messages, CONTEXT)
    assert [message.get("content") for message in after] == ["Ann", "Ann", *(m.get("content") for m in messages[2:])]
    assert after[1]["tool_calls"] == messages[1]["tool_calls"]
    assert all(after[i] is messages[i] for i in range(2, 7))


def test_the_conversation_is_found_under_each_sdks_name() -> None:
    from google.genai import types

    content = types.Content(
        role="user", parts=[types.Part(text="{{ name }}"), types.Part.from_bytes(data=b"{{", mime_type="image/png")]
    )
    kwargs = {
        "model": "{{ name }}",
        "system": "{{ name }}",
        "messages": [{"role": "user", "content": "{{ name }}"}],
        "input": "{{ name }}",
        "contents": ["{{ name }}", content, {"text": "{{ name }}"}],
    }
    after = render_kwargs(kwargs, CONTEXT)
    assert (after["model"], after["system"], after["input"]) == ("{{ name }}", "{{ name }}", "Ann")
    assert after["messages"] == [{"role": "user", "content": "Ann"}]
    assert after["contents"][0] == "Ann"
    assert after["contents"][1].parts[0].text == "Ann"
    assert after["contents"][1].parts[1].inline_data.data == b"{{"
    assert after["contents"][2] == {"text": "Ann"}
    assert content.parts is not None
    assert content.parts[0].text == "{{ name }}"
    assert kwargs["messages"] == [{"role": "user", "content": "{{ name }}"}]
    assert render_kwargs({"messages": None}, CONTEXT) == {"messages": None}


@pytest.mark.parametrize(
    ("template", "variable"),
    [
        ("Hi {{ nam }}", "'nam' is undefined"),
        ("{{ person.age }}", "no attribute 'age'"),
        ("{% for x in lost %}{% endfor %}", "'lost' is undefined"),
        ("{% if lost %}{% endif %}", "'lost' is undefined"),
        ("{{ items[7] }}", "has no element 7"),
    ],
)
def test_an_unknown_variable_is_named(template: str, variable: str) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "user", "content": ["Hi", template]}]
    with pytest.raises(MessageTemplateError, match=variable) as caught:
        render_messages(messages, CONTEXT)
    assert caught.value.field == "messages[1].content[1]"
    assert "items, n, name, person" in caught.value.remedy
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_unknown_variables_may_be_empty_where_asked_for() -> None:
    assert rendered("Hi {{ nam }}!{% if lost %}x{% endif %}", strict=False) == "Hi !"
    assert rendered("Hi {{ name }}!", strict=False) == "Hi Ann!"


HOSTILE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ person.__class__.__init__.__globals__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(person) }}",
    "{{ items.append(1) }}",
    "{{ person.model_copy.__func__.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% for %}",
    "{{ name ",
    "{{ n / 0 }}",
    "{{ raise_exception('x') }}",
    "{{ lipsum(n=100000) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ 'a' * 10 ** 12 }}",
    "{{ 'a'.encode().ljust(10 ** 11) | length }}",
    "{% set x = namespace(s='ab') %}{% for i in range(60) %}{% set x.s = x.s ~ x.s %}{% endfor %}{{ x.s }}",
    "{{ a" + " ~ a" * 100_000 + " }}",
    "{{ " + "(" * 20_000,
]


@pytest.mark.parametrize("template", HOSTILE, ids=lambda text: text[:50])
def test_hostile_templates_end_in_a_typed_error(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "MAX_SECONDS", 0.5)
    context = copy.deepcopy(CONTEXT)
    started = time.process_time()
    for strict in (True, False):
        with pytest.raises(MessageTemplateError) as caught:
            rendered(template, context, strict=strict)
        assert caught.value.field == "messages[0].content"
        assert len(str(caught.value)) < 1500
    assert time.process_time() - started < 3
    assert context == CONTEXT


def test_all_messages_of_a_call_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "MAX_SECONDS", 0.5)
    slow = "{% for a in range(9000) %}{% endfor %}{{ n }}"
    assert rendered(slow) == "3"
    started = time.process_time()
    with pytest.raises(MessageTemplateError, match="longer than 0"):
        render_messages([{"role": "user", "content": slow + str(i)} for i in range(10_000)], CONTEXT)
    assert time.process_time() - started < 2


def test_templates_keep_no_budget_and_no_values() -> None:
    for _ in range(3):
        assert rendered("{{ 'a' * 5000000 }}", {"x": 1}) == "a" * 5_000_000
    assert rendered("{{ name }}", {"name": "Bo"}) == "Bo"
    assert rendered("{{ name }}", {"name": "Cy"}) == "Cy"
