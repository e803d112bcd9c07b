"""Lenient parsing against random types and texts: nothing valid changes, nothing but its own errors comes out."""

from __future__ import annotations

import datetime as dt
import enum
import json
import random
import re
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import CASES_BY_TYPE
from pydantic import BaseModel, ValidationError

from pageform.structured import Leniency, Spec, parse_report
from pageform.structured.leniency import RULES
from pageform.structured.parse_errors import ParseError


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    title: str
    price: Decimal | None = None
    color: Color = Color.RED
    when: dt.date | None = None


class Branch(BaseModel):
    label: str
    count: int
    ratio: float = 0
    leaves: list[Leaf] = []
    below: dict[str, Branch] = {}
    kind: Literal["a", "b"] | None = None


TYPES: list[Any] = [Branch, list[Leaf], dict[str, int], int | str, Leaf | Branch, list[list[float]], bool, str, Any]

words = st.text(st.characters(codec="utf-8"), max_size=12)
leaves = st.builds(
    Leaf, title=words, price=st.none() | st.decimals(-(10**6), 10**6, places=2), color=st.sampled_from(Color)
)
branches = st.builds(
    Branch,
    label=words,
    count=st.integers(-(10**20), 10**20),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    leaves=st.lists(leaves, max_size=3),
    below=st.just({}),
    kind=st.sampled_from([None, "a", "b"]),
)
values = st.recursive(
    branches,
    lambda inner: st.builds(Branch, label=words, count=st.just(1), below=st.dictionaries(words, inner, max_size=2)),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
_SIGNS = """{ } [ ] " ' : , \\ ``` ```json <think> </think> <answer> // /* # ... None true 1 1,234 label "label": 
"count":3
leaves => ( “"""
pieces = st.sampled_from([*_SIGNS.split(), "\n", " ", "\0", "\ud83d"])


@pytest.mark.parametrize("leniency", ["default", "lenient"])
@given(value=values)
@settings(max_examples=60, deadline=None)
def test_what_is_valid_is_never_changed(leniency: str, value: Branch) -> None:
    text = value.model_dump_json()
    report = parse_report(text, Branch, leniency)
    assert report.value == parse_report(text, Branch, "strict").value
    assert (report.repairs, report.json) == ((), text)


@pytest.mark.parametrize("annotation", TYPES, ids=str)
@given(data=json_values)
@settings(max_examples=60, deadline=None)
def test_any_json_is_accepted_as_strict_does_or_changed_and_then_valid(annotation: Any, data: Any) -> None:
    text = json.dumps(data)
    spec = Spec.of(annotation)
    try:
        expected = spec.validate(text)
    except ValidationError:
        try:
            report = parse_report(text, annotation, "lenient")
        except ParseError:
            return
        assert report.repairs
        assert spec.validate(report.json) == report.value
    else:
        report = parse_report(text, annotation, "lenient")
        assert report.value == expected
        assert not report.repairs


@pytest.mark.parametrize("leniency", ["strict", "default", "lenient"])
@given(text=st.lists(pieces | words, max_size=25).map("".join) | st.binary(max_size=60), data=st.data())
@settings(max_examples=300, deadline=None)
def test_only_its_own_errors_come_out_of_any_text(leniency: str, text: str | bytes, data: st.DataObject) -> None:
    annotation = data.draw(st.sampled_from(TYPES))
    try:
        report = parse_report(text, annotation, leniency)
    except ParseError:
        pass
    else:
        assert repr(Spec.of(annotation).validate(report.json)) == repr(report.value)  # NaN differs from itself
        assert all(RULES[entry.rule].layer == entry.layer for entry in report.repairs)


@given(value=values, seed=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_harmless_damage_is_mended_to_the_same_value(value: Branch, seed: int) -> None:
    text = _damaged(json.loads(value.model_dump_json()), random.Random(seed))
    assert parse_report(text, Branch).value == value


def _damaged(data: Any, chance: random.Random) -> str:
    """JSON as a careless writer may put it; only what can't change its meaning."""
    if isinstance(data, dict):
        members = [
            f"{_key(key, chance)}{chance.choice([':', ' : '])}{_damaged(item, chance)}" for key, item in data.items()
        ]
        return (
            "{"
            + chance.choice([",", ",\n", " , // next\n"]).join(members)
            + ("," if members and chance.random() < 0.5 else "")
            + "}"
        )
    if isinstance(data, list):
        items = [_damaged(item, chance) for item in data]
        return "[" + ", ".join(items) + ("," if items and chance.random() < 0.5 else "") + "]"
    if data is None or isinstance(data, bool):
        return chance.choice([json.dumps(data), str(data)])
    if isinstance(data, str):
        return _text(data, chance)
    return json.dumps(data)


def _key(key: str, chance: random.Random) -> str:
    if re.fullmatch(r"[a-z]+", key) and chance.random() < 0.5:
        return key
    return _text(key, chance)


def _text(text: str, chance: random.Random) -> str:
    written = json.dumps(text, ensure_ascii=chance.random() < 0.5)
    if "'" not in text and '"' not in text and "\\" not in written and chance.random() < 0.5:
        return f"'{text}'"
    return written


@pytest.mark.parametrize("leniency", ["default", "lenient"])
@pytest.mark.parametrize("cut", range(1, 60, 4))
def test_an_answer_cut_anywhere_is_an_error_or_told_to_be_cut(leniency: str, cut: int) -> None:
    whole = Branch(label="über", count=12345, leaves=[Leaf(title="a", price=Decimal("1.50")), Leaf(title="b")])
    text = whole.model_dump_json()
    cut_text = text[: len(text) * cut // 60]
    try:
        report = parse_report(cut_text, Branch, leniency)
    except ParseError:
        return
    rules = {entry.rule for entry in report.repairs}
    assert report.truncated or "missing_closer" in rules
    if leniency == "default":  # only closing brackets were missing: every scalar is one of the whole value
        assert set(re.findall(r'"[^"]*"|[\d.]+', report.json)) <= set(re.findall(r'"[^"]*"|[\d.]+', text))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_without_a_rule_no_repair_is_made_by_it(rule: str) -> None:
    without = Leniency.of("lenient").without(rule)
    for annotation, texts in CASES_BY_TYPE:
        for text in texts[::3]:
            try:
                report = parse_report(text, annotation, without)
            except ParseError:
                continue
            assert rule not in {entry.rule for entry in report.repairs}
