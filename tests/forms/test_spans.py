"""Where values lie in a text, what its schema says of them, and which tokens are theirs."""

from __future__ import annotations

import json
import math
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageform.core.confidence import ConfidenceOptions, Fields, TokenWeight
from pageform.forms.confidence import ScoredAnswer, score_fields
from pageform.forms.grammar import GrammarCompiler
from pageform.forms.options import TokenTexts
from pageform.forms.shortest import ShortestTexts
from pageform.forms.spans import listed_values, value_spans

SCALARS = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=6)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def every_value(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    found = {path: value}
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= every_value(inner, (*path, key))
    if isinstance(value, list):
        for i, inner in enumerate(value):
            found |= every_value(inner, (*path, i))
    return found


@settings(max_examples=40, deadline=None)
@given(value=TREES)
def test_every_value_lies_where_its_span_says(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    spans = value_spans(text, None)
    assert {one.path: json.loads(text[one.start : one.end]) for one in spans} == every_value(value)
    assert [one.start for one in spans] == sorted(one.start for one in spans)


def test_text_that_is_no_json_has_no_values_and_a_cut_one_those_that_closed() -> None:
    assert value_spans(b"a cat", None) == []
    assert [one.path for one in value_spans(b'{"a":[1,2],"b":"x', None)] == [("a",), ("a", 0), ("a", 1)]


SCHEMA = {
    "type": "object",
    "properties": {
        "size": {"enum": ["s", "m"]},
        "ok": {"type": "boolean"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "refers": {"$ref": "#/$defs/Size"},
        "many": {"type": "array", "items": {"const": 1}},
        "free": {"type": "string"},
    },
    "required": ["size", "ok", "maybe", "refers", "many", "free"],
    "$defs": {"Size": {"anyOf": [{"enum": ["s", 1]}, {"$ref": "#/$defs/Size"}]}},
}


def test_the_schema_says_which_values_a_field_may_have() -> None:
    text = b'{"size":"s","ok":true,"maybe":null,"refers":1,"many":[1],"free":"x"}'
    definitions = SCHEMA["$defs"]
    found = {
        one.path[0]: listed_values(one.nodes, definitions)
        for one in value_spans(text, ShortestTexts(SCHEMA))
        if len(one.path) == 1
    }
    assert found["size"] == ({b'"s"': "s", b'"m"': "m"}, False)
    assert found["ok"] == ({b"true": True, b"false": False}, False)
    assert found["maybe"] == ({b"null": None}, True)
    assert found["refers"] == ({b'"s"': "s", b"1": 1}, False)
    assert found["free"] == ({}, True)
    assert listed_values([], {}) == ({}, True)


def scored(grammar: Any, pieces: list[bytes], weights: list[TokenWeight], thoughts: bytes = b"") -> Fields:
    """Fields of an answer that is cut into `pieces`, after some thoughts; options are not looked into."""
    vocabulary, text = TokenTexts(pieces), b"".join(pieces).removeprefix(thoughts)
    rejected = ["b", "b"]
    answer = ScoredAnswer(range(len(pieces)), text, weights, rejected, grammar, frozenset(), is_complete=False)
    with pytest.raises(StopIteration) as stopped:
        next(score_fields(answer, vocabulary, ConfidenceOptions()))
    return stopped.value.value


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_value_has_the_tokens_that_hold_it(compiler: GrammarCompiler, data: st.DataObject) -> None:
    value = {"a": data.draw(st.integers(-99, 999)), "b": data.draw(st.text(max_size=5)), "c": [True, 17, "é"]}
    text = json.dumps(value, ensure_ascii=False).encode()
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=20))})
    pieces = [text[a:b] for a, b in pairwise(cuts)]
    ends = list(accumulate(map(len, pieces)))
    draws = st.tuples(st.floats(-9, 0), st.floats(-9, 0), st.floats(-9, 0), st.booleans())
    weights = [TokenWeight(*data.draw(draws)) for _ in pieces]
    unscored = data.draw(st.sets(st.integers(0, len(pieces) - 1), max_size=2))
    for i in unscored:
        weights[i] = TokenWeight(math.nan, math.nan, math.nan, weights[i].is_forced)
    fields = scored(compiler.compile_json_schema({}), pieces, weights)
    for span in value_spans(text, None):
        field = fields[span.path]
        reach = span.end + (text[span.start] in b"-0123456789")
        starts = (end - len(piece) for end, piece in zip(ends, pieces, strict=True))
        places = zip(weights, starts, ends, strict=True)
        mine = [one for one, start, end in places if end > span.start and start < reach]
        if not span.path:
            mine = weights
        free = [one for one in mine if not one.is_forced]
        assert (field.free_tokens, field.forced_tokens) == (len(free), len(mine) - len(free))
        assert field.unscored_tokens == sum(not one.is_scored for one in free)
        if field.unscored_tokens:
            assert field.logprob is field.model_logprob is None
        else:
            assert field.logprob == pytest.approx(sum(one.logprob for one in free))
            assert field.model_logprob == pytest.approx(sum(one.model_logprob for one in free))
        allowed = [one.log_allowed for one in mine if one.is_scored]
        assert field.log_allowed == pytest.approx(sum(allowed))
        assert field.max_removed == pytest.approx(1 - math.exp(min(allowed, default=0)))
    assert fields["b"].rejected == 2
    assert fields["a"].rejected == 0


def test_what_comes_before_the_answer_is_none_of_it(compiler: GrammarCompiler) -> None:
    grammar, thoughts = compiler.compile_json_schema({}), b'<think>{"b":1}</think>'
    pieces = [b'{"', b'a":', b"1", b',"b', b'":"', b"x", b'"}']
    weights = [TokenWeight(-float(i), -1.0, -0.1, i % 3 == 0) for i in range(len(pieces))]
    alone = scored(grammar, pieces, weights)
    before = [TokenWeight(-100.0, -100.0, -100.0, False)] * 2
    after = scored(grammar, [thoughts[:5], thoughts[5:], *pieces], before + weights, thoughts)
    assert dict(after) == dict(alone)
    assert set(alone) == {"", "a", "b"}
    assert len(after.tokens) == len(pieces) + 2
