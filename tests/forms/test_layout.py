"""Answers of several parts, taken apart: however their bytes are cut into tokens, and back to any earlier token."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageform.core.reasoning import ReasoningDelta
from pageform.forms.layout import Kind, Layout, scan
from pageform.forms.segmenter import Segmenter, WrittenCall
from pageform.text.tool_formats import FORMATS, ToolFormat

THINK = b"</think>"
ARGUMENTS = [
    {},
    {"city": "Rome"},
    {"text": 'a "quoted" } { brace\\'},
    {"a": {"b": [{"c": "</tool_call>"}]}, "d": "é☃𝄞"},
]

words = st.text(st.sampled_from('ab <>/tholki_cé☃[{}"\n'), max_size=30)


def pieces(layout: Layout, data: bytes, cuts: list[int]) -> list[tuple[Kind, bytes]]:
    """What `scan` finds in data that comes in pieces, adjoining pieces of one kind joined."""
    at, found = layout.start, []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        at, new = scan(layout, at, data[start:end])
        for kind, piece, _ in new:
            if found and found[-1][0] is kind and kind in (Kind.THOUGHT, Kind.TEXT, Kind.ARGUMENTS):
                found[-1] = (kind, found[-1][1] + piece)
            else:
                found.append((kind, piece))
    return found


def written(form: ToolFormat, calls: list[tuple[str, Any]]) -> str:
    return form.calls([(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls])


@given(words, words, st.lists(st.integers(0, 80), max_size=8))
def test_thoughts_end_at_their_first_tag(thoughts: str, answer: str, cuts: list[int]) -> None:
    before = thoughts.replace("</think>", "")
    found = dict(pieces(Layout(THINK), f"{before}</think>\n\n{answer}".encode(), cuts))
    assert found.get(Kind.THOUGHT, b"").decode() == before
    assert found.get(Kind.TEXT, b"").decode() == answer.lstrip("\n")


@pytest.mark.parametrize("name", FORMATS)
@given(
    st.lists(st.tuples(st.sampled_from(["f", "get_weather", "a.b-c"]), st.sampled_from(ARGUMENTS)), max_size=4),
    st.lists(st.integers(0, 200), max_size=12),
    st.booleans(),
)
def test_calls_are_found_in_every_format(
    name: str, calls: list[tuple[str, Any]], cuts: list[int], thinks: bool
) -> None:
    form = FORMATS[name]
    layout = Layout(THINK if thinks else None, form)
    said = "" if form.at_start and calls else "Let me see.\n"
    text = ("hm</think>\n\n" if thinks else "") + said + (written(form, calls) if calls else "")
    found = pieces(layout, text.encode(), cuts)
    expected: list[tuple[Kind, bytes]] = [(Kind.THOUGHT, b"hm")] if thinks else []
    expected += [(Kind.TEXT, said.encode())] if said else []
    for tool, arguments in calls:
        expected += [(Kind.CALL, tool.encode()), (Kind.ARGUMENTS, json.dumps(arguments, ensure_ascii=False).encode())]
        expected += [(Kind.CALLED, b"")]
    assert found == expected


@given(st.data())
def test_any_earlier_token_can_be_gone_back_to(data: st.DataObject) -> None:
    """After taking tokens back and giving others, all is as if only the others had come."""
    layout = Layout(THINK, FORMATS["hermes"])
    texts = [
        "so é☃</think>\n\nLook: <tool_call>\n" + '{"name": "f", "arguments": {"a": "é"}}\n</tool_call>',
        "</thin king</think>plain text <tool",
        "x</think>" + written(FORMATS["hermes"], [("f", {"a": 1}), ("g", {"b": "☃"})]),
    ]
    cut = data.draw(st.sampled_from(texts)).encode(), data.draw(st.sampled_from(texts)).encode()
    tokens: dict[int, bytes] = {}

    def tokenize(text: bytes) -> list[int]:
        ids = []
        while text:
            size = data.draw(st.integers(1, 9))
            tokens[len(tokens)] = text[:size]
            ids.append(len(tokens) - 1)
            text = text[size:]
        return ids

    first, second = tokenize(cut[0]), tokenize(cut[1])
    segmenter = Segmenter(layout, tokens.__getitem__)
    for token in first:
        segmenter.push(token)
    kept = data.draw(st.integers(0, len(first)))
    segmenter.truncate(kept)
    fresh = Segmenter(layout, tokens.__getitem__)
    for token in first[:kept]:
        fresh.push(token)
    for token in second:
        assert segmenter.push(token) == fresh.push(token)
    assert segmenter.flush() == fresh.flush()
    for name in ("text", "thoughts", "calls", "num_thought_tokens", "is_thinking"):
        assert getattr(segmenter, name) == getattr(fresh, name), name


def test_parts_are_told_in_order() -> None:
    tokens = [
        b"hm",
        b"m</thi",
        b"nk>\n",
        b"\nSo: <tool_call>\n",
        b'{"name": "f", "arguments": {"a": 1',
        b"}}\n</tool_call>",
    ]
    segmenter = Segmenter(Layout(THINK, FORMATS["hermes"]), tokens.__getitem__)
    assert [segmenter.push(i) for i in range(len(tokens))] == ["", "", "", "So: ", "", ""]
    assert segmenter.take_parts() == [ReasoningDelta("hm"), ReasoningDelta("m"), WrittenCall(0, "f", '{"a": 1}', True)]
    assert segmenter.take_parts() == []
    assert segmenter.num_thought_tokens == 2
    assert segmenter.lead(3) == b"\n"
    assert segmenter.lead(4) == b'{"name": "f", "arguments": '


def test_what_may_have_been_a_tag_is_given_in_the_end() -> None:
    tokens = [b"a <tool_", b"thing</thi"]
    plain = Segmenter(Layout(None, FORMATS["hermes"]), tokens.__getitem__)
    assert plain.push(0) + plain.flush() == "a <tool_"
    thoughts = Segmenter(Layout(THINK), tokens.__getitem__)
    assert thoughts.push(1) + thoughts.flush() == ""
    assert thoughts.thoughts == "thing</thi"


def test_a_broken_character_stays_with_the_thoughts() -> None:
    tokens = [b"a\xe2\x98", b"</think>b"]
    segmenter = Segmenter(Layout(THINK), tokens.__getitem__)
    assert [segmenter.push(0), segmenter.push(1)] == ["", "b"]
    assert segmenter.thoughts == "a\ufffd"
