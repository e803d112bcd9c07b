"""Finding quotations, and answers that must quote their source."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pageform.structured import Spec
from pageform.structured.citations import CitationMixin
from pageform.structured.quotes import find_quote

TEXT = "The kettle was bought on Monday.\n\nIt  leaks — badly — and must be\nreplaced before Friday.  Thank you!"

CASES = [
    ("bought on Monday", "bought on Monday"),
    ("It leaks — badly", "It  leaks — badly"),
    ("must be replaced before Friday", "must be\nreplaced before Friday"),
    ("  Thank you!\n", "Thank you!"),
    ("The kettle was bougth on Monday", "The kettle was bought on Monday"),
    ("It leaks - badly - and must be replaced", "It  leaks — badly — and must be\nreplaced"),
    ("kettle was sold on Monday", None),
    ("leeks", None),
    ("", None),
    ("The toaster was bought on Sunday", None),
]


@pytest.mark.parametrize(("quote", "found"), CASES)
def test_quotations_that_differ_a_little_are_found(quote: str, found: str | None) -> None:
    span = find_quote(quote, TEXT)
    assert (None if span is None else TEXT[slice(*span)]) == found


def test_the_number_of_edits_may_be_given() -> None:
    assert find_quote("leeks", TEXT, max_edits=1) == (38, 43)
    assert find_quote("It leaks - badly", TEXT, max_edits=0) is None
    assert find_quote("xyz", "ab", max_edits=5) is None


@settings(deadline=None, max_examples=400)
@given(st.text("abc", min_size=1, max_size=9), st.text("abc", max_size=40), st.integers(0, 4))
def test_the_best_part_is_found_as_by_trying_all(pattern: str, text: str, allowed: int) -> None:
    allowed = min(allowed, len(pattern) - 1)
    parts = [text[low:high] for low in range(len(text)) for high in range(low + 1, len(text) + 1)]
    least = min((distance(pattern, part) for part in parts), default=99)
    span = find_quote(pattern, text, max_edits=allowed)
    if least > allowed:
        assert span is None
    else:
        assert span is not None
        assert distance(pattern, text[slice(*span)]) == least


def distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        before, row = row, [number]
        for at, against in enumerate(other, 1):
            row.append(min(before[at] + 1, row[-1] + 1, before[at - 1] + (letter != against)))
    return row[-1]


@pytest.mark.parametrize("text", ["the quick brown fox jumps. ", "ab"], ids=["prose", "repetitive"])
def test_the_time_grows_with_the_text(text: str) -> None:
    quote = (text * 40)[:160].replace("b", "x", 3) + "?!"
    seconds = []
    for copies in (20_000, 80_000):
        haystack = text * (copies // len(text))
        started = time.process_time()
        find_quote(quote, haystack)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 10 * seconds[0] + 0.05


class Fact(CitationMixin):
    statement: str


def test_quotes_are_replaced_by_the_words_of_the_text() -> None:
    spec = Spec.of(Fact)
    text = '{"statement":"It leaks.","substring_quotes":["It leaks - badly","bought on Monday"]}'
    fact = spec.validate(text, context={"context": TEXT})
    assert fact.substring_quotes == ["It  leaks — badly", "bought on Monday"]
    assert [TEXT[slice(*span)] for span in fact.get_spans(TEXT)] == fact.substring_quotes
    assert "verbatim" in spec.json_schema["properties"]["substring_quotes"]["description"]


def test_invented_quotes_make_the_answer_invalid() -> None:
    text = '{"statement":"It sings.","substring_quotes":["It sings every morning","bought on Monday"]}'
    with pytest.raises(ValidationError) as caught:
        Spec.of(Fact).validate(text, context={"context": TEXT})
    [fault] = caught.value.errors()
    assert fault["loc"] == ("substring_quotes",)
    assert "'It sings every morning'" in fault["msg"]
    assert Spec.of(Fact).validate(text).substring_quotes[0] == "It sings every morning"  # nothing to look it up in
    with pytest.raises(TypeError, match="must be the text"):
        Spec.of(Fact).validate(text, context={"context": 3})
