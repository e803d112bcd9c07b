"""What is drafted, and that drafting leaves index, grammar and odds as they should be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageform.core.drafts import Draft, DraftKind, DraftSettings
from pageform.core.log import RewindEntry, TokenEntry
from pageform.core.params import SamplingParams
from pageform.core.plan import RowSampling
from pageform.core.request import Request
from pageform.sampling.drafts import Odds, RequestDrafter
from pageform.sampling.ngram import NgramIndex

tokens = st.lists(st.integers(0, 3), max_size=40)


def longest_match(ids: Sequence[int], longest: int) -> int:
    """Length of the longest suffix that ends earlier as well, by trying all places."""
    best = 0
    for end in range(1, len(ids)):
        length = 0
        while length < min(end, longest) and ids[end - 1 - length] == ids[-1 - length]:
            length += 1
        best = max(best, length)
    return best


@given(tokens, st.integers(3, 9))
def test_a_match_is_real_and_as_long_as_it_says(ids: list[int], longest: int) -> None:
    index = NgramIndex(longest)
    for token in ids:
        index.push(token)
    match = index.match()
    true_length = longest_match(ids, longest)
    if match is None:
        assert true_length == 0
        return
    place, length = match
    assert 0 < place < len(ids)
    assert ids[place - length : place] == ids[len(ids) - length :]
    # Only a few of the places where three tokens recur are compared.
    assert length <= true_length
    assert length == true_length or true_length > 3


@given(tokens, tokens, tokens)
def test_truncating_is_as_if_the_rest_had_never_come(first: list[int], gone: list[int], then: list[int]) -> None:
    index, fresh = NgramIndex(), NgramIndex()
    for token in (*first, *gone):
        index.push(token)
    index.truncate(len(first))
    for token in first:
        fresh.push(token)
    assert index._last == fresh._last
    for token in then:
        index.push(token)
        fresh.push(token)
        assert index.match() == fresh.match()
    assert index.tokens == fresh.tokens == first + then


def test_tokens_of_one_normal_form_match_and_the_text_found_is_copied() -> None:
    index = NgramIndex(normal=lambda token: token % 100)
    for token in (5, 106, 107, 8, 1, 6, 7):
        index.push(token)
    match = index.match()
    assert match is not None
    assert (match.length, index.tokens[match.next]) == (2, 8)


class CountingGrammar:
    """Allows tokens below 10, in any order, and forces 1 2 3 after a 0; a 9 ends the text."""

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def forced(self) -> list[int]:
        for length in (3, 2, 1):
            if self.accepted[-length:] == [0, 1, 2][:length]:
                return [1, 2, 3][length - 1 :]
        return []

    def advance(self, ids: Sequence[int]) -> int:
        for count, token in enumerate(ids):
            if token >= 9 or (self.forced() and token != self.forced()[0]):
                return count
            self.accepted.append(token)
        return len(ids)

    def rollback(self, count: int) -> None:
        del self.accepted[len(self.accepted) - count :]


def make_request(prompt: list[int], output: list[int]) -> Request:
    request = Request(
        index=0,
        request_id="r",
        prompt_ids=prompt,
        params=SamplingParams(),
        sampling=RowSampling(),
        max_tokens=100,
        sink=None,  # type: ignore[arg-type]
        arrival=0.0,
    )
    for token in output:
        request.append(token)
    return request


def drafter(grammar: CountingGrammar | None = None, **changes: object) -> RequestDrafter:
    return RequestDrafter(DraftSettings(), Odds(), grammar=grammar, **changes)  # type: ignore[arg-type]


def proposed(drafts: list[Draft]) -> list[int]:
    return [draft.token for draft in drafts]


def test_forced_text_comes_first_then_what_followed_before_then_forced_text_again() -> None:
    grammar = CountingGrammar()
    grammar.advance([0])
    request = make_request([0, 1, 2, 3, 5, 0, 1, 2, 3, 7], [0])
    drafts = drafter(grammar).propose(request, 9, 0.01)
    assert proposed(drafts)[:5] == [1, 2, 3, 7, 0]
    assert [draft.kind for draft in drafts[:5]] == [DraftKind.FORCED] * 3 + [DraftKind.NGRAM] * 2
    assert len(drafts) == 9
    assert grammar.accepted == [0], "the grammar stands where it stood"


def test_the_grammar_cuts_ngrams_that_it_does_not_allow() -> None:
    grammar = CountingGrammar()
    grammar.advance([4, 5])
    request = make_request([4, 5, 6, 7, 12, 8], [4, 5])
    assert proposed(drafter(grammar).propose(request, 9, 0.01)) == [6, 7]
    assert proposed(drafter().propose(request, 4, 0.01)) == [6, 7, 12, 8]


def test_tokens_that_end_a_text_are_not_drafted() -> None:
    request = make_request([4, 5, 6, 7, 8], [4, 5])
    assert proposed(drafter(never=frozenset({7})).propose(request, 9, 0.01)) == [6]


def test_a_copy_that_reaches_the_end_goes_on_with_itself() -> None:
    assert proposed(drafter().propose(make_request([1, 2], [3, 1, 2, 3]), 8, 0.01)) == [1, 2, 3, 1, 2, 3, 1, 2]


def test_free_text_wants_two_tokens_to_match() -> None:
    assert drafter().propose(make_request([4, 5, 6], [9, 4]), 8, 0.0) == []
    assert proposed(drafter(CountingGrammar()).propose(make_request([4, 5, 6], [8, 4]), 2, 0.0)) == [5, 6]


def test_a_rewind_is_followed() -> None:
    request = make_request([4, 5, 6, 7], [4, 5, 6])
    drafting = drafter()
    assert proposed(drafting.propose(request, 1, 0.01)) == [7]
    request.cut(RewindEntry(0))
    for token in (8, 4, 5):
        request.append(token)
    assert proposed(drafting.propose(request, 2, 0.01)) == [6, 7]
    fresh = drafter()
    fresh.propose(request, 1, 0.01)
    assert fresh._index is not None
    assert drafting._index is not None
    assert drafting._index._last == fresh._index._last
    assert isinstance(request.log.entries[-1], TokenEntry)


def test_guesses_that_fail_are_given_up_and_tried_again_much_later() -> None:
    request = make_request([4, 5] * 4, [4, 5])
    drafting = drafter()
    rounds = []
    for _ in range(400):
        drafts = drafting.propose(request, 8, 0.15)
        rounds.append(len(drafts))
        if drafts:
            drafting.settle(drafts, 0, missed=True)
    assert rounds[0] > 2
    assert all(count == 0 or (count == 1 and i > 20) for i, count in enumerate(rounds[60:], 60))
    assert 3 <= sum(rounds[60:]) <= 10
    for _ in range(40):
        drafting.settle([Draft(1, 1.0, DraftKind.NGRAM, 8)], 1, missed=False)
    assert drafting.propose(request, 8, 0.15)


def test_a_request_learns_for_those_after_it() -> None:
    shared = Odds()
    assert Odds(shared).chance(3) == pytest.approx(0.5)
    one = Odds(shared)
    for _ in range(30):
        one.count(3, False)
    assert Odds(shared).chance(3) < 0.1
    assert one.chance(3) < 0.1
