"""Keys of requests in a cache: for whom an answer is kept."""

from __future__ import annotations

import threading
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from pageform.core.errors import ParameterError
from pageform.structured import Mode, Spec
from pageform.structured.cache_key import cache_key

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=50)


class Person(BaseModel):
    name: str
    age: int


class Color(Enum):
    RED = 1


class Tool(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = "t"


REQUEST = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"data": b"\0\1"}]}],
    "temperature": 0.5,
    "tools": [Tool(), Color.RED, Person],
}


def key(request: Any = None, **changed: Any) -> str:
    details = {"spec": Spec.of(Person), "mode": Mode.TOOLS, "provider": "openai", "scope": "me", **changed}
    return cache_key(REQUEST if request is None else request, **details)


class Other(BaseModel):
    name: str
    age: int


DIFFERENT = {
    "model": key({**REQUEST, "model": "n"}),
    "message": key({**REQUEST, "messages": [{"role": "user", "content": "Hi"}]}),
    "bytes": key(
        {**REQUEST, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"data": b"\0"}]}]}
    ),
    "temperature": key({**REQUEST, "temperature": 0.6}),
    "another argument": key({**REQUEST, "seed": 1}),
    "an argument of None": key({**REQUEST, "seed": None}),
    "tool": key({**REQUEST, "tools": [Tool(extra=1), Color.RED, Person]}),  # type: ignore[call-arg]
    "tool's class": key({**REQUEST, "tools": [Tool(), Color.RED, Other]}),
    "type": key(spec=Spec.of(Other)),
    "list": key(spec=Spec.of(list[Person])),
    "mode": key(mode=Mode.TEXT),
    "provider": key(provider="groq"),
    "tenant": key(scope="you"),
}


def test_each_part_of_a_request_makes_another_key() -> None:
    assert len({key(), *DIFFERENT.values()}) == len(DIFFERENT) + 1
    assert key() == key(dict(reversed(REQUEST.items())))
    assert len(key()) == 64
    assert key() == key({**REQUEST, "timeout": 3})


def test_keys_are_the_same_in_another_process() -> None:
    import subprocess
    import sys

    program = """
from pydantic import BaseModel
from pageform.structured import Mode, Spec
from pageform.structured.cache_key import cache_key
class Person(BaseModel):
    name: str
request = {"model": "m", "x": {"b": 1, "a": {2, 3, "c"}}}
print(cache_key(request, spec=Spec.of(Person), mode=Mode.TEXT, provider="p", scope="s"))
"""
    made = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_two_requests_have_one_key_only_if_they_are_the_same(one: Any, other: Any) -> None:
    same = repr(one) == repr(other) or (one == other and _types(one) == _types(other))
    assert (key({"x": one}) == key({"x": other})) == same


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _types(item) for name, item in value.items()}
    return [_types(item) for item in value] if isinstance(value, list) else (type(value), repr(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a", "bsc"], ["asb", "c"]),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ("1", 1),
        (1, 1.0),
        (True, 1),
        (0.0, -0.0),
        (None, "None"),
        ("x", b"x"),
        ([], {}),
        ([1, 2], {1: 2}),
    ],
)
def test_alike_is_not_the_same(one: Any, other: Any) -> None:
    assert key({"x": one}) != key({"x": other})


@pytest.mark.parametrize("odd", [object(), print, lambda: 1, iter([]), Decimal(1), threading.Lock()])
def test_a_request_without_stable_content_is_an_error_that_says_where(odd: Any) -> None:
    with pytest.raises(ParameterError, match=r"request\.messages\[0\]\.x is a ") as caught:
        key({"messages": [{"x": odd}]})
    assert caught.value.field == "cache"
    assert caught.value.remedy


def test_placeholders_of_sdks_are_not_sent() -> None:
    openai = pytest.importorskip("openai")

    assert key({**REQUEST, "seed": openai.NOT_GIVEN, "user": openai.omit}) == key()
