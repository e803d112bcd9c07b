"""Types drawn over what Pydantic knows, in both directions: answers validate, and values are accepted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks import schemas
from pageform import forms
from pageform.forms.grammar import GrammarCompiler


def judged(compiler: GrammarCompiler, count: int, walks: int) -> schemas.Tally:
    """So many types of a fresh seed, which a failure prints."""
    seed = random.SystemRandom().randrange(1, 10**6)
    print(f"python -m benchmarks.schemas --seed {seed}")
    tally = schemas.drawn(compiler, count, seed, walks)
    assert tally.invalid == []
    assert tally.refused == []
    assert tally.schemas == count
    assert tally.answers >= 0.9 * count * walks
    return tally


def test_a_few_drawn_types(compiler: GrammarCompiler) -> None:
    judged(compiler, 25, 1)


@pytest.mark.slow
def test_five_hundred_drawn_types(compiler: GrammarCompiler) -> None:
    tally = judged(compiler, 500, 1)
    assert tally.held >= schemas.HELD_SHARE * tally.schemas
    assert tally.missed, "what can't be held is drawn, too"
    assert tally.values > 500


def test_functions_as_tool_definitions_describe_them(compiler: GrammarCompiler, tmp_path: Path) -> None:
    """Python's names of types stand for JSON's."""
    parameters: dict[str, Any] = {
        "type": "dict",
        "properties": {
            "size": {"type": "float", "minimum": 0, "maximum": 9},
            "at": {"type": "tuple", "items": {"type": "int"}, "maxItems": 2},
            "more": {"type": ["str", "None"], "maxLength": 3},
            "what": {"type": "any"},
        },
        "required": ["size"],
    }
    tools = [{"type": "function", "function": {"name": "draw", "parameters": parameters}}]
    (tmp_path / "bfcl_own.jsonl").write_text(json.dumps({"tools": tools}) + "\n")
    assert list(schemas.functions(tmp_path)) == [parameters]
    tally = schemas.given(compiler, [parameters], 1)
    assert (tally.schemas, tally.held, tally.invalid) == (1, 1, [])
    form = forms.compile(forms.plan(parameters), compiler)
    assert form.accepts('{"size": 1.5, "at": [1, 2], "more": null, "what": {"a": []}}')
    assert not form.accepts('{"size": "1.5"}')
    assert form.spec.validate('{"size": 1, "more": "abc"}') == {"size": 1, "more": "abc"}
    assert parameters["type"] == "dict", "the caller's schema stays as it is"


def test_a_tally_sees_what_is_wrong(compiler: GrammarCompiler) -> None:
    """A form that vouches for more than it holds, and one that refuses a value, are both told."""
    tally = schemas.Tally()
    wrong = forms.Plan({"type": "integer", "minimum": 0, "maximum": 9}, source=forms.plan(bool).source)
    form = forms.compile(wrong, compiler)
    for number in range(9):
        tally.walk(form, compiler, random.Random(number))
    assert tally.invalid
    tally.value(form, True)
    assert len(tally.refused) == 1
