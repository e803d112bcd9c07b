"""Following an answer token by token, and going back."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pageform.forms.bans import Bans, TokenPrefixes
from pageform.forms.checks import Check
from pageform.forms.tracker import Closed, FieldTracker

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def tracker() -> FieldTracker:
    return FieldTracker(Check.of(TypeAdapter(Any)))


def spans(closed: list[Closed]) -> list[tuple[Any, int, int, int]]:
    return [(one.path, one.start, one.end, one.first_token) for one in closed]


def dumped(value: Any) -> bytes:
    return json.dumps({"root": value}, ensure_ascii=False).encode()


def cut(text: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    return [*(piece for piece in pieces if piece), text[at:]]


@given(JSON, st.lists(st.integers(1, 5), max_size=40))
def test_every_value_is_told_once_with_its_text(value: Any, sizes: list[int]) -> None:
    follow = tracker()
    text = dumped(value)
    pieces = cut(text, sizes)
    closed = [one for piece in pieces for one in follow.feed(piece)]

    def parts(node: Any, path: tuple[Any, ...]) -> dict[tuple[Any, ...], Any]:
        inner: dict[tuple[Any, ...], Any] = {path: node}
        if isinstance(node, dict):
            for key, one in node.items():
                inner |= parts(one, (*path, key))
        elif isinstance(node, list):
            for index, one in enumerate(node):
                inner |= parts(one, (*path, index))
        return inner

    found = {one.path: json.loads(text[one.start : one.end]) for one in closed}
    assert found == parts({"root": value}, ())
    assert len(closed) == len(found)
    starts = [follow.start_of(index) for index in range(len(pieces) + 1)]
    for one in closed:
        assert starts[one.first_token] <= one.start < starts[one.first_token + 1]


@given(JSON, st.lists(st.integers(1, 5), max_size=40), st.data())
def test_going_back_leaves_no_trace(value: Any, sizes: list[int], data: st.DataObject) -> None:
    pieces = cut(dumped(value), sizes)
    straight, wavering = tracker(), tracker()
    plain = [spans(straight.feed(piece)) for piece in pieces]
    at = 0
    for _ in range(data.draw(st.integers(1, 6))):
        upto = data.draw(st.integers(at, len(pieces)))
        for index in range(at, upto):
            assert spans(wavering.feed(pieces[index])) == plain[index]
        at = data.draw(st.integers(0, upto))
        wavering.truncate(at)
        assert wavering.text == b"".join(pieces[:at])
    for index in range(at, len(pieces)):
        assert spans(wavering.feed(pieces[index])) == plain[index]


class Letters:
    """A vocabulary of a few tokens."""

    tokens = (b"", b"1", b"12", b'"', b'"r', b"red", b'red"', b"r", b"ed", b",", b"12,", b"}", b'e"', b"\xc3\xa4")
    vocab_size = len(tokens)
    special_ids = frozenset({0})

    def token_bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id]


def test_bans_forbid_what_would_complete_a_value_and_nothing_else() -> None:
    prefixes = TokenPrefixes(Letters())

    def names(bans: Bans, text: bytes) -> set[bytes]:
        return {Letters.tokens[i] for i in bans.forbidden(text, prefixes)}

    red = Bans()
    red.add(b'"red"')
    assert names(red, b"") == set(), "no single token completes it"
    assert names(red, b'"') == {b'red"'}
    assert names(red, b'"red') == {b'"', b'"r'}, "whatever begins with the closing quote"
    assert names(red, b'"blue') == set()
    number = Bans()
    number.add(b"12")
    assert names(number, b"") == {b"12,"}
    assert names(number, b"1") == set()
    assert names(number, b"12") == {b",", b"}"}, "12 may go on, as 121"
    assert b"12.0" in number
    assert b"1.2e1" in number
    assert b"13" not in number
    nested = Bans()
    nested.add(b'{"a":[1.0,"x"]}')
    assert b'{"a" : [1, "\\u0078"]}' in nested
    number.add_dead_end(b"1")
    assert names(number, b"") == {b"1", b"12", b"12,"}


def test_text_is_spelled_exactly() -> None:
    prefixes = TokenPrefixes(Letters())
    for text in (b'"red"', b"12,1", b"", b"\xc3\xa4}"):
        assert b"".join(Letters.tokens[i] for i in prefixes.spell(text)) == text
    assert len(prefixes.spell(b'red"')) == 1
