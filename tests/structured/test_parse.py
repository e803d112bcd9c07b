"""Lenient parsing: presets, single rules, the log, the errors, what is never done."""

from __future__ import annotations

import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from pageform.core.errors import PageformError, ParameterError
from pageform.structured import EmptyAnswer, Rejected, Spec
from pageform.structured.leniency import RULES, Leniency, rules
from pageform.structured.parse import parse, parse_report, read
from pageform.structured.parse_errors import (
    Ambiguous,
    EmptyText,
    Invalid,
    Malformed,
    NotFound,
    NotText,
    ParseError,
    Truncated,
)


class User(BaseModel):
    name: str
    age: int


class Node(BaseModel):
    name: str
    size: float = 0
    nodes: list[Node] = []


ANN = User(name="Ann", age=31)


def test_what_was_changed_is_told_with_layer_path_and_values() -> None:
    text = "Here: {name: 'top', nodes: [{name: 'a', Size: '1.234,5 kg',}]}"
    report = parse_report(text, Node)
    assert report.value == Node(name="top", nodes=[Node(name="a", size=1234.5)])
    told = {(entry.layer, entry.rule, entry.path): (entry.before, entry.after) for entry in reversed(report.repairs)}
    assert told["find", "prose", ()] == ("Here:", "")
    assert told["repair", "unquoted_key", ()] == ("name", "name")
    assert told["repair", "trailing_comma", ("nodes", 0)] == (",", "")
    assert told["align", "key_style", ("nodes", 0, "size")] == ("Size", "size")
    assert told["align", "thousands", ("nodes", 0, "size")] == ("1.234,5 kg", 1234.5)
    assert report.cost == sum(entry.cost for entry in report.repairs) > 0
    assert [entry.layer for entry in report.repairs] == sorted(
        (entry.layer for entry in report.repairs), key=["find", "repair", "align"].index
    )
    assert "align/thousands: nodes[0].size: '1.234,5 kg' → 1234.5" in map(str, report.repairs)
    assert pickle.loads(pickle.dumps(report)) == report


def test_valid_text_is_not_touched() -> None:
    for leniency in ("strict", "default", "lenient"):
        report = parse_report('{"name": "N/A", "age": "31", "x": 1}', User, leniency)
        assert report.value == User(name="N/A", age=31)
        assert (report.repairs, report.cost, report.truncated) == ((), 0, False)


def test_dropped_keys_are_told() -> None:
    (entry,) = (
        e for e in parse_report('{"name": "Ann", "age": 31, "hobby": "chess",}', User).repairs if e.rule == "extra"
    )
    assert (entry.path, entry.before) == (("hobby",), "chess")


def test_keys_that_pydantic_passes_over_can_be_asked_for() -> None:
    text = '{"name": "top", "colour": 1, "nodes": [{"name": "a", "sise": 2, "nodes": []}]}'
    report = parse_report(text, Node)
    assert (report.repairs, report.ignored) == ((), (("colour",), ("nodes", 0, "sise")))
    assert parse_report('{name: "a", sise: 2}', Node).ignored == (("sise",),)
    assert parse_report('{"name": "a"}', Node, "strict").ignored == ()


def test_an_envelope_that_names_another_class_is_not_opened() -> None:
    class Search(BaseModel):
        query: str

    class Weather(BaseModel):
        city: str

    assert parse('{"name": "Weather", "arguments": {"city": "Rome"}}', Search | Weather) == Weather(city="Rome")
    assert parse('{"tool": "weather", "input": {"city": "Rome"}}', Search | Weather) == Weather(city="Rome")
    with pytest.raises(Invalid):
        parse('{"name": "Search", "arguments": {"city": "Rome"}}', Search | Weather)


def test_keys_of_a_map_are_aligned_with_the_options_that_they_may_be() -> None:
    marks = dict[Literal["red", "dark blue"], int]
    report = parse_report('{"Red": 1, "DARK_BLUE": "2",}', marks)
    assert report.value == {"red": 1, "dark blue": 2}
    assert ("enum_case", ("red",)) in {(entry.rule, entry.path) for entry in report.repairs}
    with pytest.raises(Invalid):
        parse('{"Red": 1, "RED": 2}', marks)


def test_context_and_strict_reach_pydantic() -> None:
    class Limited(BaseModel):
        count: int

        @field_validator("count")
        @classmethod
        def at_most(cls, value: int, info: ValidationInfo) -> int:
            assert value <= info.context["limit"]
            return value

    assert parse("{count: 3}", Limited, context={"limit": 3}).count == 3
    with pytest.raises(Invalid, match="Assertion failed"):
        parse("{count: 4}", Limited, context={"limit": 3})
    with pytest.raises(Invalid, match="valid integer"):
        parse("{count: true}", Limited, context={"limit": 3}, strict=True)
    assert parse("{count: '3'}", Limited, context={"limit": 3}, strict=True).count == 3


def test_a_valid_answer_is_validated_once() -> None:
    calls = []

    class Counted(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def count(cls, value: int) -> int:
            calls.append(value)
            if value > 1:
                raise ValueError("too large")
            return value

    parse('{"x": 1}', Counted)
    with pytest.raises(Invalid, match="too large"):
        parse('{"x": 2}', Counted)
    parse("{x: 1}", Counted)
    assert calls == [1, 2, 1]


def test_what_a_validator_raises_besides_value_errors_is_the_callers() -> None:
    class Broken(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def fail(cls, value: int) -> int:
            raise RuntimeError("down")

    for text in ('{"x": 1}', "{x: 1}"):
        with pytest.raises(RuntimeError, match="down"):
            parse(text, Broken)


# --- switching layers and rules ---------------------------------------------------------------------------------------


def test_presets() -> None:
    assert Leniency.of("strict").names == frozenset()
    assert Leniency.of("lenient").names == RULES.keys()
    assert Leniency.of("default") == Leniency()
    assert Leniency().names == {name for name, rule in RULES.items() if rule.careful}
    mine = Leniency(find=False, align={"unit"})
    assert Leniency.of(mine) is mine
    assert mine.names == rules("repair", careful=True) | {"unit"}
    assert Leniency().plus("guess").without("prose", "unit").names == Leniency().names - {"prose", "unit"} | {"guess"}


def test_layers_can_be_switched_off() -> None:
    text = 'Sure: {name: "Ann", "age": "31 years"}'
    assert parse(text, User) == ANN
    with pytest.raises(Malformed):
        parse(text, User, Leniency(find=False))
    with pytest.raises(Malformed, match="unquoted_key"):
        parse(text, User, Leniency(repair=False))
    with pytest.raises(Invalid, match="valid integer"):
        parse(text, User, Leniency(align=False))
    assert parse('Sure: {"name": "Ann", "age": 31}', User, Leniency(repair=False, align=False)) == ANN
    assert parse('{name: "Ann", "age": 31,}', User, Leniency(find=False, align=False)) == ANN
    assert parse('{"Name": "Ann", "age": "31 y"}', User, Leniency(find=False, repair=False)) == ANN


_SAMPLES: list[tuple[str, Any, str]] = [
    ("trailing_comma", User, '{"name": "Ann", "age": 31,}'),
    ("comment", User, '{"name": "Ann", /* x */ "age": 31}'),
    ("quotes", User, "{'name': 'Ann', \"age\": 31}"),
    ("prose", User, 'Yes: {"name": "Ann", "age": 31}'),
    ("fence", User, '```\n{"name": "Ann", "age": 31}\n```'),
    ("key_style", User, '{"Name": "Ann", "age": 31}'),
    ("unit", User, '{"name": "Ann", "age": "31 years"}'),
    ("wrapper", User, '{"answer": {"name": "Ann", "age": 31}}'),
    ("double_encoding", User, '"{\\"name\\": \\"Ann\\", \\"age\\": 31}"'),
    ("single_item", User, '[{"name": "Ann", "age": 31}]'),
    ("missing_closer", User, '{"name": "Ann", "age": 31, "x": []'),
    ("opener", User, '"name": "Ann", "age": 31}'),
    ("choice", User, '{"x": 1} {"name": "Ann", "age": 31}'),
    ("thinking", User, '<think>Hm.</think>{"name": "Ann", "age": 31}'),
    ("tag", User, '<answer>{"name": "Ann", "age": 31}</answer>'),
    ("duplicate_key", User, '{"name": "Ann", "age": 30, "age": 31,}'),
]


@pytest.mark.parametrize(("rule", "annotation", "text"), _SAMPLES, ids=[sample[0] for sample in _SAMPLES])
def test_each_rule_can_be_switched_off_and_names_itself(rule: str, annotation: Any, text: str) -> None:
    report = parse_report(text, annotation)
    assert report.value == ANN
    assert rule in {entry.rule for entry in report.repairs}
    with pytest.raises(ParseError):
        parse(text, annotation, Leniency().without(rule))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: parse("1", int, "sloppy"), "leniency"),
        (lambda: parse("1", int, None), "leniency"),
        (lambda: Leniency(repair={"commas"}), "repair"),
        (lambda: Leniency(find={"unit"}), "find"),
        (lambda: Leniency().without("comas"), "rules"),
        (lambda: Leniency(max_depth=0), "max_depth"),
        (lambda: Leniency(max_characters=True), "max_characters"),
    ],
)
def test_wrong_settings_are_refused(make: Any, field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        make()
    assert caught.value.field == field


# --- errors -----------------------------------------------------------------------------------------------------------


def test_errors_are_typed_and_carry_pydantics_faults() -> None:
    with pytest.raises(Invalid) as caught:
        parse('{"name": 5, "age": "old",}', User)
    error = caught.value
    assert isinstance(error, (Rejected, PageformError))
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, ValidationError)
    assert [(fault["loc"], fault["type"]) for fault in error.errors()] == [(("age",), "int_parsing")]
    assert "age: Input should be a valid integer" in str(error)
    assert error.text == '{"name": 5, "age": "old",}'
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errors()) == (Invalid, str(error), error.errors())


def test_ambiguous_values_are_told_with_their_readings_beside_the_other_faults() -> None:
    class Sale(BaseModel):
        price: float
        count: int

    with pytest.raises(Ambiguous) as caught:
        parse('{"price": "1,234", "count": "many"}', Sale)
    first, second = caught.value.errors()
    told = ("price", "ambiguous", "'1,234' can mean 1.234 or 1234", "1,234")
    assert (first["path"], first["type"], first["msg"], first["input"]) == told
    assert (second["loc"], second["type"]) == (("count",), "int_parsing")


def test_bounds_tell_readings_apart() -> None:
    class Small(BaseModel):
        x: float = Field(le=10)
        y: Decimal = Field(ge=Decimal(100))

    assert parse('{"x": "1,234", "y": "1,234"}', Small) == Small(x=1.234, y=Decimal(1234))


@pytest.mark.parametrize(
    ("text", "error", "kind", "words"),
    [
        ("", EmptyText, "empty_text", "empty"),
        ("I would rather not.", NotFound, "not_found", "no JSON was found"),
        ('<think>{"name": "Ann", "age": 31}', NotFound, "not_found", "only its reasoning"),
        (b"\xff\xfe{", NotText, "not_text", "UTF-8"),
        ('{"name": "\ud800", "age": 1}', NotText, "not_text", "UTF-8"),
        ('{"name": "Ann", "age"', Truncated, "truncated", "line 1, character 22"),
        ('{"name": "Ann"\n, "age" ? 31}', Malformed, "malformed", "line 2"),
    ],
)
def test_each_kind_of_failure_has_its_own_error(text: Any, error: type[ParseError], kind: str, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        parse(text, User)
    assert caught.value.kind == kind
    assert caught.value.errors()[0]["type"] == kind
    assert isinstance(caught.value, EmptyAnswer) == (kind == "empty_text")
    assert pickle.loads(pickle.dumps(caught.value)).kind == kind


def test_a_broken_off_answer_is_reported_as_such_under_lenient() -> None:
    report = parse_report('{"name": "top", "nodes": [{"name": "a"}, {"name": "b', Node, "lenient")
    assert report.value == Node(name="top", nodes=[Node(name="a"), Node(name="b")])
    assert report.truncated
    assert "cut" in {entry.rule for entry in report.repairs}


# --- the seam and the package ----------------------------------------------------------------------------------------


def test_read_takes_a_spec_and_returns_the_report() -> None:
    spec = Spec.of(list[User])
    report = read(b'{"name": "Ann", "age": 31}\n{"name": "Ben", "age": 40}', spec, Leniency())
    assert report.value == [ANN, User(name="Ben", age=40)]
    assert spec.validate(report.json) == report.value


def test_an_envelope_that_was_asked_for_is_no_repair() -> None:
    spec = Spec.of(list[User])
    valid = read('{"tasks": [{"name": "Ann", "age": 31}]}', spec, envelope=True)
    assert (valid.value, valid.repairs) == ([ANN], ())
    nearly = read('{"tasks": [{"name": "Ann", "age": "31 years"}]}', spec, envelope=True)
    assert (nearly.value, [entry.rule for entry in nearly.repairs]) == ([ANN], ["unit"])
    bare = read('[{"name": "Ann", "age": 31}]', spec, envelope=True)
    assert bare.value == [ANN]
    with pytest.raises(Invalid):
        read('{"tasks": 5}', spec, envelope=True)


def test_json_repair_is_loaded_where_it_is_needed() -> None:
    program = (
        "import sys, pageform.structured as s\n"
        "class_ = s.parse('{\"a\": 1,}', dict)\n"
        "assert class_ == {'a': 1}\n"
        "assert 'json_repair' not in sys.modules\n"
        "assert s.parse('{\"a\" \"b\"}', dict, 'lenient') == {'a': 'b'} and 'json_repair' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_page_lists_every_rule_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "design" / "lenient-parsing.md").read_text(encoding="utf-8")
    for name, rule in RULES.items():
        preset = "default" if rule.careful else "lenient"
        assert f"| `{name}` | {rule.layer} | {rule.cost:g} | {preset} | {rule.text} |" in page
    assert page.count("\n| `") == len(RULES) + 4  # the presets are listed in the same way
