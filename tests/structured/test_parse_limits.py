"""Hostile and oversized answers: a typed error or a value within bounded time and memory, whatever the text."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from typing import Any

import pytest
from pydantic import BaseModel

from pageform.structured import Leniency, parse
from pageform.structured.parse_errors import (
    EmptyText,
    Malformed,
    NotFound,
    NotText,
    ParseError,
    TooComplex,
    TooDeep,
    TooLarge,
    Truncated,
)


class User(BaseModel):
    name: str
    age: int


class Node(BaseModel):
    size: int
    nodes: list[Node] = []


SIZE = 50_000
SECONDS = 3.0
"""Processor time. The slowest of these takes about 0.3 s on a core of 2024; anything quadratic takes far longer."""


def _of(piece: str, size: int = SIZE) -> str:
    return piece * (size // len(piece))


HOSTILE: dict[str, str] = {
    "opening braces": _of("{"),
    "opening brackets": _of("["),
    "objects that open": _of('{"name":'),
    "objects in lists that open": _of('[{"name":'),
    "prose with braces": _of("some {prose} and {more [of] it} "),
    "braces that look like JSON": _of('{"name": oops '),
    "escaped objects": _of('{\\"name\\"'),
    "quotes": '{"name": "' + _of('x" '),
    "quotes and commas": '{"name": "' + _of('a", '),
    "apostrophes": "{'name': '" + _of("it's "),
    "open strings": _of('{"name": "x\n'),
    "backslashes": '{"name": "' + _of("\\"),
    "comments that open": _of("{/*"),
    "line comments": _of("{// "),
    "commas": '{"name": ' + _of("a, "),
    "spaces": '{"name":' + _of(" ") + "?",
    "fences": _of("```\n"),
    "tildes": _of("~~~"),
    "answer tags": _of('<answer>"'),
    "thinking that opens": _of("<think>"),
    "thinking": _of("<think>x</think>"),
    "thinking that closes": _of("x</think>"),
    "tags": _of("<a "),
    "many values": _of('{"name": "a"} '),
    "many answers": _of('{"name": "a", "age": 1} '),
    "many keys": "{" + ", ".join(f'"k{index}": {index}' for index in range(SIZE // 14)) + ",}",
    "duplicate keys": "{" + _of('"name": 1, ') + "}",
    "many items": "[" + _of('{name: "a", age: "1 year"}, ') + "]",
    "digits": '{"name": "a", "age": ' + _of("9") + ",}",
    "digits in text": '{"name": "a", "age": "' + _of("1,") + '"}',
    "letters": _of("x"),
    "nothing": _of("\ufeff"),
    "zero bytes": _of("\0"),
    "ellipses": "[" + _of("..."),
    "sums of text": '{"name": "x"' + _of(' + "y"'),
    "surplus closers": '{"name": "a", "age": 1}' + _of("}"),
    "triple quotes": _of('{"name": """'),
    "keys without end": "{" + _of("name "),
    "envelopes": '{"result": ' * 60 + '{"name": "a"}' + "}" * 60,
}


@pytest.mark.parametrize(
    "annotation",
    [User, list[User], *(pytest.param(other, marks=pytest.mark.slow) for other in (str, Node | User, int))],
    ids=str,
)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_takes_long(name: str, annotation: Any) -> None:
    for leniency in ("default", "lenient"):
        start = time.process_time()
        with contextlib.suppress(ParseError):
            parse(HOSTILE[name], annotation, leniency)
        assert time.process_time() - start < SECONDS


@pytest.mark.parametrize(
    "name", ["opening braces", "prose with braces", "quotes", "many items", "commas", "escaped objects"]
)
def test_time_grows_with_the_text_and_not_with_its_square(name: str) -> None:
    def seconds(text: str) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            with contextlib.suppress(ParseError):
                parse(text, list[User])
            best = min(best, time.process_time() - start)
        return best

    text = HOSTILE[name] * 4 if name in ("opening braces", "prose with braces") else HOSTILE[name]
    head = text[: len(text) // 6]
    assert seconds(text[: 4 * len(head)]) < 10 * max(seconds(head), 0.01)


def test_memory_is_a_small_multiple_of_the_text() -> None:
    text = HOSTILE["many items"]
    text = text[: text.index("}", 30_000) + 1] + "]"
    tracemalloc.start()
    try:
        assert len(parse(text, list[User])) == text.count("name")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * len(text)


@pytest.mark.slow
def test_ten_megabytes() -> None:
    valid = "[" + ",".join(['{"name":"somebody","age":1}'] * 370_000) + "]"
    assert len(valid) > 10_000_000
    assert len(parse(valid, list[User])) == 370_000
    start = time.process_time()
    with pytest.raises(TooLarge, match="max_characters"):
        parse(valid[:-1], list[User])
    with pytest.raises(TooLarge):
        parse(b"\xff" * 10_000_000, User)
    assert time.process_time() - start < SECONDS
    with pytest.raises(TooLarge):
        parse('{"name": "Ann", "age": 31,}', User, Leniency(max_characters=10))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[" * 10_000, TooDeep),
        ("[" * 10_000 + "]" * 10_000, TooDeep),
        ('{"size":1,"nodes":[' * 10_000 + "]}" * 10_000, TooDeep),
        ("{size:1,nodes:[" * 10_000, TooDeep),
        ('"' + "[" * 10_000 + '"', ParseError),
    ],
)
def test_ten_thousand_levels(text: str, error: type[ParseError]) -> None:
    for leniency in ("default", "lenient"):
        with pytest.raises(error):
            parse(text, Node, leniency)


def test_depth_that_is_allowed_is_read_even_on_a_full_stack() -> None:
    depth = 31  # two levels each
    text = "{size: 1, nodes: [" * depth + "{size: 2}" + "]}" * depth

    def deeper(frames: int) -> Node:
        return deeper(frames - 1) if frames else parse(text, Node, Leniency(max_depth=80))

    value = deeper(100)
    for _ in range(depth):
        [value] = value.nodes
    assert value == Node(size=2)
    with pytest.raises(TooDeep):
        deeper(850)
    with pytest.raises(TooDeep, match="60 levels"):
        parse(text, Node, Leniency(max_depth=60))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"\xff\xfe\x00", NotText),
        (b'{"name": "\xc3", "age": 1}', NotText),
        ('{"name": "\udc80", "age": 1}', NotText),
        (b"", EmptyText),
        ("\ufeff\n", EmptyText),
        ("{" + '"a": {' * 20, Truncated),
        ('{"name": "Ann" "age" 31}', Malformed),
        ("no", NotFound),
        (_of('{"name": "a"} ', 200_000), TooComplex),
    ],
)
def test_each_is_an_error_of_its_own(text: str | bytes, error: type[ParseError]) -> None:
    with pytest.raises(error) as caught:
        parse(text, Node if "{" in str(text)[:3] and '"a"' in str(text)[:9] else User)
    assert type(caught.value) is error


def test_huge_numbers_are_kept_or_refused_never_rounded() -> None:
    class Big(BaseModel):
        x: int

    digits = "7" * 4000
    assert parse(f"{{x: {digits}}}", Big).x == int(digits)
    assert (
        parse('{"x": "123,456,789,012,345,678,901,234,567,890,123,456"}', Big).x == 123456789012345678901234567890123456
    )
    with pytest.raises(ParseError):
        parse(f"{{x: {digits * 2}}}", Big)
    with pytest.raises(ParseError):
        parse('{"x": "1e999999999"}', Big)
