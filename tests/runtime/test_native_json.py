"""The C++ JSON machine beside the Python one: the same table, the same events and faults for the same pieces."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pageform import _native
from pageform.structured.json_machine import Event, JsonMachine
from pageform.structured.json_text import JSONError, NestingTooDeep, UnexpectedEnd

ROOT = Path(__file__).resolve().parents[2]
_KINDS = {UnexpectedEnd: "too early", NestingTooDeep: "too deep", JSONError: "unexpected"}


def test_the_header_is_made_from_the_python_table() -> None:
    done = subprocess.run([sys.executable, "ci/generate_json_table.py", "--check"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def in_python(pieces: list[bytes], **options: Any) -> tuple[list[list[Event]], Any, list[int], bool, int]:
    machine = JsonMachine(**options)
    events: list[list[Event]] = []
    fault = None
    try:
        for piece in pieces:
            events.append(machine.feed(piece))
        events.append(machine.finish())
    except JSONError as error:
        events.append(error.events)
        fault = (_KINDS[type(error)], error.position, str(error))
    return events, fault, machine.tolerated, machine.complete, machine.depth


def natively(pieces: list[bytes], **options: Any) -> tuple[list[list[Event]], Any, list[int], bool, int]:
    machine = _native.JsonMachine(**options)
    events: list[list[Event]] = []
    for piece in pieces:
        events.append(machine.feed(piece))
        if machine.fault is not None:
            break
    else:
        events.append(machine.finish())
    return events, machine.fault, machine.tolerated, machine.complete, machine.depth


def agree(pieces: list[bytes], **options: Any) -> None:
    ours, theirs = in_python(pieces, **options), natively(pieces, **options)
    assert theirs[:3] == ours[:3]
    if ours[1] is None:
        assert theirs[3:] == ours[3:]


_BYTES = b"{}[]:,\"\\/ \n\t0123456789-+.eEabfnrtuxdD8cC\x7f\x00\x1f\x80\xbf\xc2\xc0\xe0\xed\xa0\xf0\x90\xf4\x8f\xff'"
_WORDS = ["true", "null", "NaN", "-Infinity", '"a":', "\\u12", "\\u00e9", "\\ud83d\\ude00", "é😀", '{"k": [1, "v"]}']


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.sampled_from([*_BYTES, *_WORDS]), max_size=16),
    st.sampled_from([b"", b'"', b"[", b'{"']),
    st.lists(st.integers(0, 60), max_size=30),
    st.fixed_dictionaries(
        {},
        optional={
            "then": st.sampled_from(["nothing", "anything", "values"]),
            "strict": st.booleans(),
            "max_depth": st.integers(0, 3),
            "offset": st.integers(0, 9),
        },
    ),
)
@example(["\\ud83d\\ude00", "é😀", *b'"'], b'"', list(range(60)), {})
@example(["\\u12", 0x7B], b'"', [2], {})
def test_both_machines_agree(parts: list[Any], first: bytes, cuts: list[int], options: dict[str, Any]) -> None:
    data = first + b"".join(part.encode() if isinstance(part, str) else bytes([part]) for part in parts)
    ends = sorted(min(at, len(data)) for at in cuts)
    agree([data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)], **options)
    agree([data], **options)
    agree([bytes([byte]) for byte in data], **options)


def test_every_pair_of_bytes_is_judged_alike_in_every_kind_of_place() -> None:
    """Each single byte after each prefix that leads into another state."""
    prefixes = [
        b"",
        b"[",
        b"[1",
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'"',
        b'"\\',
        b'"\\u',
        b'"\\u0',
        b'"\\ud',
    ]
    prefixes += [
        b'"\\ud8',
        b'"\\ud83d',
        b'"\\ud83d\\',
        b'"\\ud83d\\u',
        b'"\\ud83d\\ud',
        b"-",
        b"0",
        b"1.",
        b"1.0",
        b"1e",
    ]
    prefixes += [b"1e+", b"1e+1", b"t", b"tr", b"N", b"-I", b'"\xc3', b'"\xe0', b'"\xe1', b'"\xed', b'"\xf0', b'"\xf4']
    prefixes += [b'"\xf1\x80', b"[]", b"1"]
    for prefix in prefixes:
        for byte in range(256):
            agree([prefix + bytes([byte])])
            agree([prefix, bytes([byte])])


def test_a_copy_goes_on_alone() -> None:
    machine = _native.JsonMachine()
    machine.feed(b'{"a":"x\\ud83d')
    copy = machine.copy()
    machine.feed(b"!")
    assert machine.fault is not None
    assert [event[3] for event in copy.feed(b'\\ude00y"}')] == ["😀y", "", ""]
    assert copy.complete


def test_bad_options_and_data_are_refused() -> None:
    with pytest.raises(ValueError, match="then='more'"):
        _native.JsonMachine(then="more")
    with pytest.raises(TypeError):
        _native.JsonMachine().feed("text")  # type: ignore[arg-type]


def test_a_byte_costs_the_same_however_much_was_read() -> None:
    """A hundred times the text, fed in pieces of a token's size, in less than 300 times the time."""

    def seconds(n: int) -> float:
        machine = _native.JsonMachine()
        pieces = [b'{"sk', b'u":"', b"abc ", b'd","', b'n":1', b"2},", b" "] * n
        start = time.process_time()
        machine.feed(b"[")
        for piece in pieces:
            machine.feed(piece)
        assert machine.fault is None
        return time.process_time() - start

    assert seconds(50_000) < 300 * min(seconds(500) for _ in range(5))
