"""Probabilities of options, against a walk over every way in which a small vocabulary can spell them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from pageform.core.confidence import OTHER, ConfidenceOptions, Fields, TokenWeight
from pageform.forms.confidence import ScoredAnswer, score_fields
from pageform.forms.grammar import Grammar, GrammarCompiler
from pageform.forms.options import Options, OptionTree, TokenTexts

EOS = 2
WORDS = [
    '{"',
    '":',
    '":Ġ"',
    '",Ġ"',
    '"}',
    "hi",
    "gh",
    "high",
    "lo",
    "w",
    "low",
    "tr",
    "true",
    "nu",
    "null",
    "10",
    ',Ġ"k',
]
EXACT = ConfidenceOptions(tolerance=0.0, max_rows=10**6)


@cache
def vocabulary() -> tuple[GrammarCompiler, TokenTexts]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<unk>", "<s>", "</s>", *alphabet, *WORDS]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    compiler = GrammarCompiler(tokenizer.to_str, len(tokens), [EOS])
    texts = [b"" if i < 3 else bytes(compiler.tokenizer.decode_bytes([i])) for i in range(len(tokens))]
    return compiler, TokenTexts(texts)


def logits_after(seed: int, tokens: Sequence[int]) -> np.ndarray:
    """A language model: any numbers that the tokens so far determine."""
    width = len(vocabulary()[1].texts)
    return np.random.default_rng([seed, *tokens]).normal(0, 3, width).astype(np.float32)


def every_way(grammar: Grammar, seed: int, before: Sequence[int], enough: Any) -> dict[Any, float]:
    """Probability of each outcome of decoding on after `before`: `enough(text)` names one, or is None to go on."""
    texts = vocabulary()[1].texts
    start = grammar.matcher()
    assert all(start.accept(token) for token in before)
    found: dict[Any, float] = defaultdict(float)

    def walk(matcher: Any, tokens: list[int], text: bytes, mass: float) -> None:
        outcome = enough(text, matcher.is_stopped())
        if outcome is not None:
            found[outcome] += mass
            return
        words = np.zeros((len(texts) + 31) // 32, np.uint32)
        matcher.fill_mask(words)
        allowed = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")[: len(texts)])
        weights = np.exp(logits_after(seed, [*before, *tokens])[allowed].astype(np.float64))
        for token, weight in zip(allowed.tolist(), (weights / weights.sum()).tolist(), strict=True):
            if token == EOS:
                found[enough(text, True)] += mass * weight
                continue
            after = matcher.fork()
            assert after.accept(token)
            walk(after, [*tokens, token], text + texts[token], mass * weight)

    walk(start, [], b"", 1.0)
    return found


def answer_of(grammar: Grammar, text: str, cut: Sequence[int] = ()) -> list[int]:
    """Tokens of a text: the longest that fit, but for places where it is to be cut."""
    data, texts = text.encode(), vocabulary()[1].texts
    tokens: list[int] = []
    at = 0
    while at < len(data):
        limit = min([c for c in cut if c > at], default=len(data))
        fits = [i for i, one in enumerate(texts) if one and data.startswith(one, at) and at + len(one) <= limit]
        tokens.append(max(fits, key=lambda i: len(texts[i])))
        at += len(texts[tokens[-1]])
    matcher = grammar.matcher()
    assert all(matcher.accept(token) for token in tokens)
    return tokens


def scores(
    grammar: Grammar, tokens: list[int], seed: int, limits: ConfidenceOptions = EXACT, **changes: Any
) -> tuple[Fields, int]:
    """The fields of an answer, and how many rows of logits that took."""
    weights = [TokenWeight(-0.5, -1.0, -0.5, False)] * len(tokens)
    text = b"".join(vocabulary()[1].texts[token] for token in tokens)
    answer = ScoredAnswer(tokens, text, weights, (), grammar, frozenset({EOS}), **changes)
    ask, rows = score_fields(answer, vocabulary()[1], limits), 0
    try:
        wanted = next(ask)
        while True:
            rows += len(wanted)
            wanted = ask.send([logits_after(seed, one) for one in wanted])
    except StopIteration as stop:
        return stop.value, rows


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def reads(value: Any, lead: bytes) -> Any:
    """Names the JSON value that a text after `lead` has in full."""

    def enough(text: bytes, at_end: bool) -> Any:
        rest = text[len(lead) :]
        whole = (one for one in value if rest.startswith(one) and (rest != one or at_end or not one.isdigit()))
        return next((one for one in whole if rest[len(one) :][:1] in (b"", b",", b"}")), None)

    return enough


VALUES: dict[str, tuple[Any, list[Any]]] = {
    "enum": ({"enum": ["high", "low", "lower"]}, ["high", "low", "lower"]),
    "bool": ({"type": "boolean"}, [True, False]),
    "numbers, one beginning as another": ({"enum": [1, 10, 100]}, [1, 10, 100]),
    "optional enum": ({"anyOf": [{"enum": ["high", "low"]}, {"type": "null"}]}, ["high", "low", None]),
    "a text that must be escaped": ({"enum": ['a"b', "a\\", "é"]}, ['a"b', "a\\", "é"]),
    "one value": ({"const": "low"}, ["low"]),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("cut", [(), (5, 6), (1, 3, 4)], ids=["long tokens", "cut before", "cut all over"])
def test_options_are_the_sum_over_every_way_to_write_them(name: str, cut: Sequence[int]) -> None:
    node, values = VALUES[name]
    grammar = vocabulary()[0].compile_json_schema(schema(k=node, b={"type": "boolean"}))
    for seed, value in enumerate(values):
        text = json.dumps({"k": value, "b": True}, ensure_ascii=False)
        tokens = answer_of(grammar, text, cut)
        fields, rows = scores(grammar, tokens, seed)
        texts = vocabulary()[1].texts
        first = next(i for i in range(len(tokens)) if len(b"".join(texts[t] for t in tokens[: i + 1])) > 5)
        lead = b'{"k": '[len(b"".join(texts[t] for t in tokens[:first])) :]
        spelled = {json.dumps(v, ensure_ascii=False).encode(): v for v in values}
        truth = every_way(grammar, seed, tokens[:first], reads(spelled, lead))
        assert fields["k"].options == pytest.approx({spelled[one]: mass for one, mass in truth.items()}, abs=1e-9)
        assert sum(fields["k"].options.values()) == pytest.approx(1)
        assert fields["k"].unresolved == 0
        assert fields["k"].chosen == value
        assert fields["k"].confidence == fields["k"].options[value]
        assert sum(fields["b"].options.values()) == pytest.approx(1)
        assert rows < 200


def test_whatever_else_a_field_may_be_is_one_option_more() -> None:
    node = {"anyOf": [{"type": "string", "maxLength": 1}, {"type": "null"}, {"type": "integer", "maximum": 1}]}
    grammar = vocabulary()[0].compile_json_schema(schema(k=node))
    for seed, text in enumerate(['{"k": null}', '{"k": "a"}']):
        tokens = answer_of(grammar, text, (5,))
        fields, _ = scores(grammar, tokens, seed)
        null = fields["k"].options[None]
        assert fields["k"].options == {None: null, OTHER: pytest.approx(1 - null)}
        assert 0 < null < 1
        assert fields["k"].chosen is (None if "null" in text else OTHER)
        if "null" not in text:
            assert fields["k"].confidence == pytest.approx(np.exp(fields["k"].logprob))


def test_the_tag_of_a_union_is_a_field_with_options_and_narrows_those_that_follow() -> None:
    cat = schema(kind={"const": "cat"}, size={"enum": ["low", "high"]})
    dog = schema(kind={"const": "dog"}, size={"enum": ["10", "low"]})
    grammar = vocabulary()[0].compile_json_schema(schema(pet={"anyOf": [cat, dog]}))
    fields, _ = scores(grammar, answer_of(grammar, '{"pet": {"kind": "dog", "size": "low"}}'), 1)
    assert set(fields["pet.kind"].options) == {"cat", "dog"}
    assert set(fields["pet.size"].options) == {"10", "low"}  # a cat's sizes have no probability here
    assert sum(fields["pet.kind"].options.values()) == pytest.approx(1)
    assert sum(fields["pet", "size"].options.values()) == pytest.approx(1)


def test_an_item_of_a_list_is_conditional_on_there_being_one() -> None:
    grammar = vocabulary()[0].compile_json_schema(
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}
    )
    fields, _ = scores(grammar, answer_of(grammar, "[true, false]"), 3)
    for path in ("[0]", "[1]"):
        assert sum(fields[path].options.values()) == pytest.approx(1)
        assert fields[path].unresolved == 0


@pytest.mark.parametrize(
    "choices", [["low", "lower", "high"], ["a"], ["a", "ab", "abc", "b c"], ["a", "a,b", "a]", "a}}"]]
)
def test_choices_are_options_of_the_answer_as_a_whole(choices: list[str]) -> None:
    grammar = vocabulary()[0].compile_choice(choices)
    for seed, choice in enumerate(choices):
        tokens = answer_of(grammar, choice)
        for ended in (tokens, [*tokens, EOS]):
            fields, _ = scores(grammar, ended, seed, choices=choices)

            def whole(text: bytes, at_end: bool) -> Any:
                return text.decode() if at_end else None

            truth = every_way(grammar, seed, [], whole)
            assert fields[""].options == pytest.approx(dict(truth))
            assert fields[""].chosen == choice


def test_tolerance_and_rows_bound_the_work_and_what_is_left_is_told() -> None:
    options = ["abcdefghij-one", "abcdefghij-two"]
    grammar = vocabulary()[0].compile_json_schema(schema(k={"enum": options}))
    tokens = answer_of(grammar, json.dumps({"k": options[0]}))
    exact, all_rows = scores(grammar, tokens, 5)
    for limits in (ConfidenceOptions(tolerance=0, max_rows=7), ConfidenceOptions(tolerance=0.2), ConfidenceOptions()):
        fields, rows = scores(grammar, tokens, 5, limits)
        field = fields["k"]
        assert rows <= min(limits.max_rows, all_rows)
        found = field.options or dict.fromkeys(options, 0.0)
        assert sum(found.values()) + field.unresolved == pytest.approx(1)
        if rows < limits.max_rows:
            assert field.unresolved <= limits.tolerance
        for option in options:
            assert -1e-9 <= exact["k"].options[option] - found[option] <= field.unresolved + 1e-9


def test_logits_that_could_not_be_had_leave_their_share_open() -> None:
    grammar = vocabulary()[0].compile_json_schema(schema(k={"type": "boolean"}))
    matcher = grammar.matcher()
    [matcher.accept(token) for token in answer_of(grammar, '{"k": true}')[:2]]
    tree = OptionTree(matcher, b'":', Options((b"true", b"false"), False), vocabulary()[1], [EOS], EXACT)
    [way] = tree.wanted()
    tree.take(way, None)
    assert tree.unresolved == 1
    assert tree.wanted() == []


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    values=st.lists(
        st.one_of(st.sampled_from(["", "h", "hi", "high", "hig", "lo"]), st.integers(0, 12), st.booleans(), st.none()),
        min_size=1,
        max_size=5,
        unique_by=lambda value: (type(value), value),
    ),
    data=st.data(),
)
def test_any_options_add_up(seed: int, values: list[Any], data: st.DataObject) -> None:
    grammar = vocabulary()[0].compile_json_schema(schema(k={"enum": values}))
    chosen = data.draw(st.sampled_from(values))
    text = json.dumps({"k": chosen})
    cut = data.draw(st.lists(st.integers(1, len(text)), max_size=4))
    fields, _ = scores(grammar, answer_of(grammar, text, cut), seed)
    assert sum(fields["k"].options.values()) == pytest.approx(1)
    assert len(fields["k"].options) == len(values)
    assert fields["k"].unresolved == 0
    assert fields["k"].confidence is not None
    assert 0 < fields["k"].confidence <= 1
