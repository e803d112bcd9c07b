"""A provider's pure functions in a conversation with a real SDK, without a client: what they say is what is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ValidationInfo, field_validator

from pageform.clients.base import Call, Prepared, Provider
from pageform.structured import Answer, Assembler, CountedPolicy, Judge, Mode, Outcome, Spec, retry


class Person(BaseModel):
    """A person."""

    name: str
    age: int

    @field_validator("age")
    @classmethod
    def grown(cls, value: int, info: ValidationInfo) -> int:
        if value < 18:
            raise ValueError("too young")
        return value


class Weather(BaseModel):
    """Where to look up the weather."""

    city: str


class Search(BaseModel):
    query: str


ANN = Person(name="Ann", age=30)
GOOD = '{"name": "Ann", "age": 30}'
YOUNG = '{"name": "Ann", "age": 3}'
YOUNGER = '{"name": "Ann", "age": 2}'

Send = Callable[..., Any]


def call_of(response_type: Any = Person, mode: Mode = Mode.TOOLS, **options: Any) -> Call:
    """A call with `stream` and `strict` taken out of the options; the rest are the SDK's arguments."""
    stream, strict = options.pop("stream", False), options.pop("strict", None)
    return Call(Spec.of(response_type), mode, options, stream=stream, strict=strict)


def converse(
    provider: Provider, send: Send, call: Call, max_retries: int = 2, accumulate: Any = "last"
) -> tuple[Outcome[Any], Prepared]:
    """Runs the retry loop: `send` takes the kwargs and gives a response, or the events of a stream."""
    prepared = provider.prepare(call)
    judge: Judge[Any] = Judge(call.spec, prepared.mode or call.mode)
    policy = CountedPolicy(max_retries)
    loop = retry(prepared.kwargs, judge=judge, reask=provider.reask, policy=policy, accumulate=accumulate)
    ask = next(loop)
    while True:
        came = send(**ask.payload)
        answer = assembled(provider, came) if call.stream else provider.read(came)
        try:
            ask = loop.send(answer)
        except StopIteration as stop:
            return stop.value, prepared


def assembled(provider: Provider, events: Iterable[Any]) -> Answer:
    """The answer of a whole stream."""
    assembler = Assembler()
    for event in events:
        for delta in provider.read_deltas(event):
            assembler.add(delta)
    return assembler.answer()
