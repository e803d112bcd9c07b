"""Stop strings in streamed text against a search of the whole text."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from pageform.text import StopStrings

CHUNKS = st.lists(st.text("abc", max_size=4), max_size=12)
STOPS = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4, unique=True)


def first_match(text: str, stops: list[str], from_end: int = 0) -> tuple[int, str] | None:
    """(end, stop string) of the match that ends first, at `from_end` + 1 or later; the longest of those."""
    for end in range(from_end + 1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return end, max(found, key=len)
    return None


@settings(max_examples=1000, deadline=None)
@given(chunks=CHUNKS, stops=STOPS, include=st.booleans())
def test_streaming_equals_searching(chunks: list[str], stops: list[str], include: bool) -> None:
    checker = StopStrings(stops, include)
    emitted, hit = "", None
    seen = ""
    for chunk in chunks:
        seen += chunk
        delta, hit = checker.push(chunk)
        emitted += delta
        match = first_match(seen, stops)
        assert (hit is None) == (match is None)  # in the same step
        if match is not None:
            break
        # Nothing is held back that can't begin a stop string.
        held = seen[len(emitted) :]
        assert held == max(
            (seen[i:] for i in range(len(seen) + 1) if any(s.startswith(seen[i:]) for s in stops)), key=len
        )
    match = first_match("".join(chunks), stops)
    assert checker.hit == (match is not None)
    if match is None:
        assert emitted + checker.flush() == "".join(chunks)
    else:
        end, stop = match
        assert hit == stop
        assert emitted == seen[: end if include else end - len(stop)]
        assert checker.flush() == ""
        assert checker.push("more") == ("", stop)


@settings(max_examples=500, deadline=None)
@given(chunks=CHUNKS, stops=STOPS, unarmed=st.integers(0, 12))
def test_matches_before_arming_do_not_count(chunks: list[str], stops: list[str], unarmed: int) -> None:
    checker = StopStrings(stops)
    boundary = len("".join(chunks[:unarmed]))
    emitted, hit = "", None
    for i, chunk in enumerate(chunks):
        delta, hit = checker.push(chunk, armed=i >= unarmed)
        emitted += delta
        if hit:
            break
    match = first_match("".join(chunks), stops, from_end=boundary)
    assert hit == (match[1] if match else None)
    if match is None:
        assert emitted + checker.flush() == "".join(chunks)


@settings(max_examples=500, deadline=None)
@given(chunks=CHUNKS, stops=STOPS, cut=st.integers(0, 12), more=CHUNKS)
def test_truncation_forgets(chunks: list[str], stops: list[str], cut: int, more: list[str]) -> None:
    checker, fresh = StopStrings(stops), StopStrings(stops)
    for i, chunk in enumerate(chunks):
        checker.push(chunk)
        if i < cut:
            fresh.push(chunk)
    checker.flush()
    checker.truncate(cut)
    assert checker.hit == fresh.hit
    assert [checker.push(chunk) for chunk in more] == [fresh.push(chunk) for chunk in more]
    assert checker.flush() == fresh.flush()


def test_the_earliest_end_wins_then_the_longest() -> None:
    assert StopStrings(["abcd", "bc"]).push("xabcd") == ("xa", "bc")
    assert StopStrings(["bc", "abc"]).push("xabc") == ("x", "abc")
    assert StopStrings(["bc", "abc"], include=True).push("xabcd") == ("xabc", "abc")


def test_long_stop_strings_cost_little_a_character() -> None:
    """A naive search is quadratic here: each of 20,000 characters may begin a match of 10,000."""
    checker = StopStrings(["a" * 10_000 + "b"])
    start = time.process_time()
    for _ in range(2_000):
        checker.push("a" * 10)
    assert time.process_time() - start < 2.0
    assert checker.push("b")[1] is not None
