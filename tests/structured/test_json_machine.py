"""The JSON machine: the same events however the text is cut, the same verdict as Pydantic's parser, linear time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from pageform.core.errors import PageformError
from pageform.structured import json_table as table
from pageform.structured.json_machine import Event, JsonMachine
from pageform.structured.json_text import JSONError, NestingTooDeep, Tape, UnexpectedEnd, escaped

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
CUTS = st.lists(st.integers(0, 400), max_size=60)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces, some of them empty."""
    ends = sorted(min(at, len(data)) for at in cuts)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def joined(events: list[Event]) -> list[Event]:
    """Chunks that follow each other as one."""
    done: list[Event] = []
    for event in events:
        if done and event[0] == done[-1][0] == table.STRING_CHUNK:
            assert event[1] == done[-1][2]
            event = (event[0], done[-1][1], event[2], done.pop()[3] + event[3])
        done.append(event)
    return done


def read(pieces: list[bytes], **options: Any) -> tuple[list[Event], JSONError | None, list[int]]:
    machine = JsonMachine(**options)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += machine.feed(piece)
        return joined(events + machine.finish()), None, machine.tolerated
    except JSONError as error:
        return joined(events + error.events), error, machine.tolerated


def value_of(events: list[Event]) -> Any:
    """The value that events build, in the plainest way."""
    stack: list[Any] = [[]]
    keys: list[str] = []

    def put(value: Any) -> None:
        if isinstance(stack[-1], list):
            stack[-1].append(value)
        else:
            stack[-1][keys.pop()] = value

    text = ""
    for kind, _, _, content in events:
        if kind in (table.OBJECT_OPENED, table.ARRAY_OPENED):
            made: Any = {} if kind == table.OBJECT_OPENED else []
            put(made)
            stack.append(made)
        elif kind in (table.OBJECT_CLOSED, table.ARRAY_CLOSED):
            stack.pop()
        elif kind == table.KEY:
            keys.append(content)
        elif kind == table.STRING_CHUNK:
            text += content
        elif kind == table.STRING_CLOSED:
            put(text)
            text = ""
        elif kind in (table.NUMBER, table.LITERAL):
            put(json.loads(content))
    assert len(stack) == 1
    return stack[0]


@settings(max_examples=300, deadline=None)
@given(VALUES, CUTS, st.booleans(), st.sampled_from([None, 1]))
@example({"é\n": ["\U0001f600", "\ud83d"[:0], 1.5e300]}, list(range(400)), True, None)
def test_any_chunking_gives_the_same_events_and_they_build_the_value(
    value: Any, cuts: list[int], ascii_only: bool, indent: int | None
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    events, error, _ = read([data])
    assert error is None
    assert read(cut(data, cuts)) == read([bytes([byte]) for byte in data]) == (events, None, [])
    built = value_of(events)
    assert json.dumps(built) == json.dumps([json.loads(data)])  # as text, since NaN is not equal to itself
    for kind, start, end, text in events:
        if kind in (table.KEY, table.NUMBER, table.LITERAL):
            loaded = json.loads(data[start:end])
            assert loaded == (text if kind == table.KEY else json.loads(text)) or loaded != loaded
        elif kind in (table.OBJECT_CLOSED, table.ARRAY_CLOSED, table.STRING_CLOSED):
            json.loads(data[start:end])
        elif kind == table.STRING_CHUNK:
            assert json.loads(b'"' + data[start:end] + b'"') == text
    machine = JsonMachine()
    machine.feed(data)
    machine.finish()
    assert machine.complete
    assert (machine.depth, machine.offset) == (0, len(data))


_BYTES = b'{}[]:,"\\/ \n\t0123456789-+.eEabfnrtuxdD8cC\x7f\x00\x1f\x80\xbf\xc2\xc0\xe0\xed\xa0\xf0\x90\xf4\x8f\xff'
_WORDS = ["true", "null", "false", "NaN", "Infinity", '"a":', "\\u12", "\\ud83d\\ude00", "😀"]
_PIECES = st.sampled_from([*_BYTES, *_WORDS])


@settings(max_examples=1500, deadline=None)
@given(st.lists(_PIECES, max_size=14), st.booleans(), CUTS)
@example(['"', "\\u12", *b'34"'], False, [])
@example(['"', *b'\\ud83d\\ud83d"'], False, [])
@example([*b"-Infinity"], False, [3])
@example([*b"01"], False, [])
def test_the_verdict_is_that_of_pydantics_parser(pieces: list[Any], quoted: bool, cuts: list[int]) -> None:
    data = b"".join(piece.encode() if isinstance(piece, str) else bytes([piece]) for piece in pieces)
    data = b'"' + data + b'"' if quoted else data
    events, error, tolerated = read([data])
    again = read(cut(data, cuts))
    assert again[0] == events
    assert (str(again[1]), type(again[1]), again[2]) == (str(error), type(error), tolerated)
    try:
        expected: Any = from_json(escaped(data, 0, tolerated))
    except ValueError:
        assert error is not None
        return
    assert error is None
    assert repr(value_of(events)) == repr([expected])
    _, strict, _ = read([data], strict=True)
    assert (strict is not None) == (bool(tolerated) or any(e[0] == table.LITERAL and e[3][-1] in "Ny" for e in events))


@pytest.mark.parametrize(
    ("data", "position", "events", "words"),
    [
        (b"x", 0, 0, "unexpected 'x' at byte 0 of the answer: expected a value"),
        (b'{"a" 1', 5, 2, "expected ':'"),
        (b"[1 2", 3, 2, "expected ',' or ']'"),
        (b"[1,]", 3, 2, "expected a value"),
        (b'{"a":1,}', 7, 3, "expected a key"),
        (b"[}", 1, 1, "expected a value or ']'"),
        (b'{"a":1]', 6, 3, "expected ',' or '}'"),
        (b"[1]x", 3, 3, "expected nothing more"),
        (b'"\\q"', 2, 1, "expected an escape"),
        (b'"\\ud800x"', 7, 1, "second half of a surrogate pair"),
        (b'"\\udc00"', 4, 1, "no lone half"),
        (b'"ab\xff"', 3, 2, "unexpected the byte 0xFF at byte 3 of the answer: expected text in UTF-8"),
        (b'"\xed\xa0\x80"', 2, 1, "0xA0"),
        (b'"\xc0\x80"', 1, 1, "0xC0"),
        (b"truf", 3, 0, "expected true, false or null"),
        (b"-x", 1, 0, "expected a number"),
        (b"1.x", 2, 0, "expected a number"),
    ],
)
def test_faults_have_a_place_and_a_reason_however_the_text_is_cut(
    data: bytes, position: int, events: int, words: str
) -> None:
    for pieces in ([data], [bytes([byte]) for byte in data]):
        found, error, _ = read(pieces)
        assert isinstance(error, JSONError)
        assert isinstance(error, (PageformError, ValueError))
        assert (error.position, len(found)) == (position, events)
        assert words in str(error)


def test_a_machine_that_failed_stays_failed() -> None:
    machine = JsonMachine()
    with pytest.raises(JSONError) as first:
        machine.feed(b"[1,x")
    for again in (lambda: machine.feed(b"1]"), machine.finish):
        with pytest.raises(JSONError) as second:
            again()
        assert second.value is first.value


@pytest.mark.parametrize("data", [b"", b" ", b"[", b'{"a"', b'"ab', b'"\\u12', b'"\xc3', b"tru", b"-", b"1.", b"[1"])
def test_text_that_ends_too_early_is_told_apart(data: bytes) -> None:
    _, error, _ = read([data])
    assert isinstance(error, UnexpectedEnd)
    assert error.position == len(data)


def test_control_characters_in_strings_are_kept_and_reported_or_refused() -> None:
    data = b'{"a\tb":"line\none\x00",\n"c":"\\n"}'
    for pieces in ([data], [bytes([byte]) for byte in data]):
        events, error, tolerated = read(pieces)
        assert error is None
        assert value_of(events) == [{"a\tb": "line\none\x00", "c": "\n"}]
        assert tolerated == [3, 12, 16]
    assert from_json(escaped(data, 0, tolerated)) == {"a\tb": "line\none\x00", "c": "\n"}
    assert escaped(data[7:18], 7, tolerated) == b'"line\\u000aone\\u0000"'
    _, error, _ = read([data], strict=True)
    assert error is not None
    assert error.position == 3
    _, error, _ = read([b"[NaN]"], strict=True)
    assert error is not None


def test_what_may_follow_a_value() -> None:
    assert read([b'{} "x'], then="anything")[0] == [(0, 0, 1, ""), (1, 0, 2, "")]
    assert read([b"12", b" ?"], then="anything")[0] == [(table.NUMBER, 0, 2, "12")]
    data = b'{"a":1}\n{"a":2},[3]\n4 "5"'
    for pieces in ([data], [bytes([byte]) for byte in data]):
        assert value_of(read(pieces, then="values")[0]) == [{"a": 1}, {"a": 2}, [3], 4, "5"]
    assert read([b""], then="values")[:2] == ([], None)
    assert isinstance(read([b"1 x"], then="values")[1], JSONError)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_is_bounded(opening: bytes) -> None:
    assert read([opening * 200])[1].__class__ is UnexpectedEnd
    for pieces in ([opening * 10_000], [opening] * 10_000):
        events, error, _ = read(pieces)
        assert isinstance(error, NestingTooDeep)
        assert error.position == 200 * len(opening)
        assert len(events) == 200 * len(opening) // (1 if opening == b"[" else 5) * (1 if opening == b"[" else 2)
    assert read([b"[[1]]"], max_depth=2)[1] is None
    assert isinstance(read([b"[[[1]]]"], max_depth=2)[1], NestingTooDeep)


def _seconds(data: bytes, size: int) -> float:
    machine = JsonMachine()
    start = time.process_time()
    for at in range(0, len(data), size):
        machine.feed(data[at : at + size])
    return time.process_time() - start


@pytest.mark.parametrize(
    "make",
    [
        lambda n: json.dumps([{"sku": "abc", "count": 3}] * n),
        lambda n: json.dumps("word " * (8 * n)),
        lambda n: json.dumps("漢字" * (8 * n), ensure_ascii=False),
        lambda n: json.dumps("é\n" * (4 * n)),
        lambda n: "[" + "1" * (40 * n) + "]",
        lambda n: '{"' + "k" * (40 * n) + '":1}',
        lambda n: " " * (40 * n) + "1",
    ],
    ids=["objects", "text", "characters", "escapes", "number", "key", "space"],
)
@pytest.mark.parametrize("size", [3, 1 << 30])
def test_time_grows_with_the_text_alone(make: Any, size: int) -> None:
    """Ten times the text in less than 30 times the time; a square would be 100 times."""
    small, large = make(1000).encode(), make(10_000).encode()
    assert min(_seconds(large, size) for _ in range(2)) < 30 * min(_seconds(small, size) for _ in range(3)) + 0.002


def test_every_state_is_reached_and_every_action_used() -> None:
    reached = {table.STATES[state] for state, _ in table.TABLE.transitions} | {"START", "VALUE"}
    assert set(table.STATES) - reached <= {"AFTER", "BETWEEN", "END", "ARRAY_AFTER", "OBJECT_AFTER", "OBJECT_COLON"}
    assert {action for _, action in table.TABLE.transitions} == set(range(len(table.ACTIONS)))
    assert len(table.TABLE.transitions) < 256
    assert all(len(row) == 256 for row in table.TABLE.rows)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=7), min_size=1, max_size=20), st.integers(0, 100), st.integers(0, 100))
def test_a_tape_gives_back_what_it_was_told_to_keep(pieces: list[bytes], kept: int, asked: int) -> None:
    whole = b"".join(pieces)
    tape = Tape()
    start = min(kept, len(whole))
    fed = 0
    for piece in pieces:
        tape.feed(piece)
        if fed <= start < fed + len(piece):
            tape.keep(start)
        fed += len(piece)
        if start < fed:
            at = min(start + asked, fed)
            assert tape.read(at, fed) == whole[at:fed]
    tape.release()
    tape.feed(b"xyz")
    assert tape.read(fed, fed + 3) == b"xyz"
