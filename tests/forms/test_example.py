"""Shortest texts of regular expressions."""

from __future__ import annotations

import re

import pytest

from pageform.forms.example import example
from pageform.forms.formats import PATTERNS


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("abc", "abc"),
        ("a*b+c{3}", "bccc"),
        ("(foo|ba)x?", "ba"),
        ("[0-9]{2}", "00"),
        ("[^a0]", " "),
        (r"\d\w\s\D", "0a a"),
        ("(?:x|yz)+", "x"),
        (".", "a"),
        ("^[A-Z]{2}-é$", "AA-é"),
        ("[x-z]", "x"),
        ("[^ax]b", "0b"),
    ],
)
def test_a_shortest_text(pattern: str, text: str) -> None:
    assert example(pattern) == text
    assert re.search(pattern, text)


@pytest.mark.parametrize("pattern", ["(?=a)b", "(", r"(a)\1", r"\p{L}"])
def test_what_cannot_be_read_has_none(pattern: str) -> None:
    assert example(pattern) is None


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_examples_of_formats_match(name: str) -> None:
    text = example(PATTERNS[name])
    assert text is None or re.search(PATTERNS[name], text) or name.startswith(("date", "time"))
