"""Slow validators run beside decoding: late verdicts lead where prompt ones would have led, and disturb nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from field_kit import OPTIONS, even
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError, create_model

from pageform import (
    AsyncEngine,
    Engine,
    IncompleteOutput,
    ParameterError,
    RequestSuspended,
    RewindOptions,
    SamplingParams,
    SlowValidator,
    ValidationFailed,
)

FEW = RewindOptions(tries=8, max_rewound_tokens=4000)
Digit = Annotated[int, Field(ge=0, le=99)]


def small(value: int) -> int:
    if value > 50:
        raise ValueError("must be small")
    return value


def slowly(check: Callable[[Any], Any], seconds: float, asynchronous: bool = False) -> SlowValidator:
    """The check, after some time."""

    def wait(value: Any) -> Any:
        time.sleep(seconds)
        return check(value)

    async def wait_too(value: Any) -> Any:
        await asyncio.sleep(seconds)
        return check(value)

    return SlowValidator(wait_too if asynchronous else wait)


def model(first: Any, later: Any) -> type[BaseModel]:
    """Two fields with validators, with others around them, one inside a list."""
    item = create_model("Item", name=(Annotated[str, Field(max_length=3)], ...), code=(Annotated[Digit, later], ...))
    return create_model(
        "Order",
        one=(Digit, ...),
        number=(Annotated[Digit, first], ...),
        items=(Annotated[list[item], Field(min_length=2, max_length=2)], ...),  # type: ignore[valid-type]
        last=(Annotated[str, Field(max_length=4)], ...),
    )


PROMPT = model(AfterValidator(even), AfterValidator(small))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_late_verdicts_lead_where_prompt_ones_would(
    tiny: Engine, temperature: float, seed: int, asynchronous: bool
) -> None:
    sampling = SamplingParams(temperature=temperature, seed=seed, max_tokens=700)
    text = f"Order {seed}:"
    value, completion = tiny.generate_with_completion(text, PROMPT, sampling, rewind=FEW)
    for first, later in ((0.03, 0.001), (0.001, 0.03), (0.02, 0.02)):
        slow = model(slowly(even, first, asynchronous), slowly(small, later, asynchronous))
        same, late = tiny.generate_with_completion(text, slow, sampling, rewind=FEW)
        assert same.model_dump() == value.model_dump()
        assert late.text == completion.text
        assert late.rewound_tokens >= completion.rewound_tokens
        assert len(late.attempts) == 1


def test_what_came_after_a_value_that_fails_late_is_decoded_again(tiny: Engine) -> None:
    """The validator waits until several fields have closed after its value."""
    seen: list[int] = []

    def waits(value: int) -> None:
        seen.append(value)
        if len(seen) > 2:
            return
        goal = tiny.stats().steps + 8
        while tiny.stats().steps < goal and not held.is_set():
            time.sleep(0.002)
        raise ValueError("not that one")

    held = threading.Event()
    slow = model(SlowValidator(waits), AfterValidator(lambda value: value))
    timer = threading.Timer(5, held.set)
    timer.start()
    shown = []
    for one in tiny.stream("Order:", SamplingParams(temperature=0, max_tokens=400), slow, rewind=FEW):
        shown.append(one)
    timer.cancel()
    assert not held.is_set()
    assert shown[-1].number == seen[2]
    assert {one.number for one in shown} == {None, seen[2]}, "a value is shown when its verdict is there"
    _, completion = tiny.generate_with_completion(
        "Order:", model(slowly(even, 0.05), AfterValidator(small)), SamplingParams(temperature=1, seed=5), rewind=FEW
    )
    assert completion.finish_reason == "stop"


def test_equal_values_are_asked_about_once(tiny: Engine) -> None:
    calls: list[int] = []

    def count(value: int) -> None:
        calls.append(value)

    class Listed(BaseModel):
        numbers: list[Annotated[int, Field(ge=0, le=1), SlowValidator(count)]] = Field(min_length=6, max_length=6)
        inside: dict[str, Annotated[int, Field(ge=5, le=5), SlowValidator(count)]] = Field(min_length=1, max_length=1)

    value = tiny.generate("x", SamplingParams(temperature=1, seed=1, max_tokens=300), Listed)
    assert sorted(calls) == [*sorted(set(value.numbers)), 5]


def test_a_validator_may_change_the_value_and_see_the_others(tiny: Engine) -> None:
    def relative(value: int, info: Any) -> int:
        time.sleep(0.01)
        return value - info.data["one"] + info.context["plus"]

    slow = model(SlowValidator(relative), AfterValidator(lambda value: value))
    sampling = SamplingParams(temperature=1, seed=2, max_tokens=300)
    value, completion = tiny.generate_with_completion("x", slow, sampling, context={"plus": 1000})
    raw = TypeAdapter(dict[str, Any]).validate_json(completion.text)
    assert value.number == raw["number"] - raw["one"] + 1000


class Gate:
    """A slow validator that waits to be let through."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()

    def __call__(self, value: Any) -> None:
        self.entered.set()
        assert self.open.wait(20)


def started(engine: Engine, gate: Gate, **options: Any) -> tuple[threading.Thread, list[Any]]:
    """A request in a thread, and where its outcome goes."""
    outcome: list[Any] = []
    slow = model(SlowValidator(gate), AfterValidator(lambda value: value))

    def ask() -> None:
        try:
            sampling = SamplingParams(temperature=0, max_tokens=400, timeout=options.pop("timeout", None))
            outcome.append(engine.generate("Order:", sampling, slow, **options))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert gate.entered.wait(20)
    return thread, outcome


def settled(engine: Engine) -> None:
    """Waits until no more steps are made."""
    steps = -1
    while steps != (steps := engine.stats().steps):
        time.sleep(0.1)


@pytest.mark.parametrize("on_invalid", ["rewind", "reask"])
def test_a_request_waits_for_its_verdicts_and_holds_up_nobody(tiny: Engine, on_invalid: Any) -> None:
    gate = Gate()
    thread, outcome = started(tiny, gate, on_invalid=on_invalid)
    settled(tiny)
    assert tiny.stats().requests_running == 1
    assert tiny.generate("y", SamplingParams(temperature=0, max_tokens=400), PROMPT, rewind=FEW)
    assert outcome == []
    gate.open.set()
    thread.join(20)
    assert isinstance(outcome[0], BaseModel)
    assert tiny.stats().requests_running == 0
    assert tiny.stats().kv_blocks_used == 0


def test_aborts_end_what_waits(tiny: Engine) -> None:
    gate = Gate()
    thread, outcome = started(tiny, gate, request_id="waits")
    settled(tiny)
    tiny.abort("waits")
    thread.join(20)
    assert isinstance(outcome[0], IncompleteOutput)
    assert tiny.stats().kv_blocks_used == 0
    gate.open.set()


def test_deadlines_end_what_waits(tiny: Engine) -> None:
    gate = Gate()
    thread, outcome = started(tiny, gate, timeout=1.0)
    thread.join(20)
    assert isinstance(outcome[0], IncompleteOutput)
    assert "timeout" in str(outcome[0])
    assert tiny.stats().kv_blocks_used == 0
    gate.open.set()


def test_decoding_goes_on_only_as_far_as_it_may_be_thrown_away(tiny: Engine) -> None:
    gate = Gate()
    tokens = tiny.stats().computed_tokens
    thread, outcome = started(tiny, gate, rewind=RewindOptions(max_rewound_tokens=12))
    settled(tiny)
    assert outcome == []
    ahead = tiny.stats().computed_tokens - tokens
    gate.open.set()
    thread.join(20)
    assert isinstance(outcome[0], BaseModel)
    assert tiny.stats().computed_tokens - tokens > ahead + 10


def test_whatever_a_validator_raises_ends_its_own_request(tiny: Engine) -> None:
    def breaks(value: int, info: Any) -> None:
        time.sleep(0.01)
        if info.context["broken"]:
            raise ConnectionError("no route to host")

    slow = model(SlowValidator(breaks), AfterValidator(lambda value: value))
    sampling = SamplingParams(temperature=0, max_tokens=400)
    outcomes: list[Any] = []

    def ask(broken: bool) -> None:
        try:
            outcomes.append((broken, tiny.generate("x", sampling, slow, context={"broken": broken})))
        except Exception as error:
            outcomes.append((broken, error))

    threads = [threading.Thread(target=ask, args=(i == 1,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    failed = [outcome for broken, outcome in outcomes if broken]
    assert [type(one) for one in failed] == [ValidationFailed]
    assert isinstance(failed[0].__cause__, ConnectionError)
    assert all(isinstance(outcome, BaseModel) for broken, outcome in outcomes if not broken)
    assert tiny.stats().kv_blocks_used == 0


def test_without_rewinds_they_still_run_beside_decoding_and_judge(tiny: Engine) -> None:
    slow = model(slowly(even, 0.01), slowly(small, 0.01, asynchronous=True))
    sampling = [SamplingParams(temperature=1, seed=seed, max_tokens=300) for seed in range(8)]
    outcomes = tiny.generate(["x"] * 8, sampling, slow, on_invalid="raise", return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, ValidationFailed)]
    assert failed
    assert all("must be" in str(outcome) for outcome in failed)
    valid = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert all(outcome.number % 2 == 0 for outcome in valid)
    value = tiny.generate("x", SamplingParams(temperature=1, seed=3), slow, on_invalid="reask", max_retries=60)
    assert value.number % 2 == 0


async def test_coroutines_run_in_the_callers_loop(folder: Path, tiny: Engine) -> None:
    loops: set[Any] = set()

    async def noted(value: int) -> int:
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0.02)
        return even(value)

    slow = model(SlowValidator(noted), slowly(small, 0.01, asynchronous=True))
    sampling = SamplingParams(temperature=0, max_tokens=700)
    async with AsyncEngine(folder, **OPTIONS) as engine:
        values = await asyncio.gather(*(engine.generate("Order 0:", sampling, slow, rewind=FEW) for _ in range(3)))
    assert loops == {asyncio.get_running_loop()}
    expected = tiny.generate("Order 0:", sampling, PROMPT, rewind=FEW)
    assert [value.model_dump() for value in values] == [expected.model_dump()] * 3


async def test_stable_streams_hold_what_awaits_a_verdict(folder: Path) -> None:
    slow = model(slowly(even, 0.03), slowly(small, 0.01, asynchronous=True))
    sampling = SamplingParams(temperature=1, seed=1, max_tokens=700)
    async with AsyncEngine(folder, **OPTIONS) as engine:
        shown = [one async for one in engine.stream("Order:", sampling, slow, rewind=FEW, stable=True)]
    for one in shown:
        for name in one.model_fields_set - {"items"}:
            assert getattr(shown[-1], name).startswith(one.last) if name == "last" else True
            assert name == "last" or getattr(one, name) == getattr(shown[-1], name)


async def test_anywhere_else_they_are_validators() -> None:
    adapter: TypeAdapter[int] = TypeAdapter(Annotated[int, slowly(even, 0.001), slowly(small, 0.001, True)])
    assert adapter.validate_python(4) == 4
    for wrong in (5, 60):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
    with pytest.raises(ParameterError, match="callable"):
        SlowValidator("even")  # type: ignore[arg-type]


def test_a_request_that_waits_can_be_suspended(tiny: Engine, folder: Path) -> None:
    """It goes on elsewhere from before the value that waits, and its validator is asked there."""
    gate = Gate()
    thread, outcome = started(tiny, gate, request_id="moves")
    settled(tiny)
    data = tiny.suspend("moves")
    thread.join(20)
    assert isinstance(outcome[0], RequestSuspended)
    assert tiny.stats().kv_blocks_used == 0
    gate.entered.clear()
    gate.open.set()
    again = model(SlowValidator(gate), AfterValidator(lambda value: value))
    with Engine(folder, **OPTIONS) as other:
        value = other.resume(data, again)
    assert gate.entered.is_set()
    expected = tiny.generate("Order:", SamplingParams(temperature=0, max_tokens=400), again)
    assert value.model_dump() == expected.model_dump()


def test_a_log_with_late_verdicts_is_replayed_without_validators(tiny: Engine, folder: Path) -> None:
    """Suspended after its verdicts have come, with late rewinds behind it."""
    calls: list[int] = []

    def counted(value: int) -> None:
        calls.append(value)
        time.sleep(0.01)
        even(value)

    gate = Gate()
    slow = model(SlowValidator(counted), SlowValidator(gate))
    sampling = SamplingParams(temperature=1, seed=2, max_tokens=700)
    plain = model(AfterValidator(even), AfterValidator(lambda value: value))
    expected, completion = tiny.generate_with_completion("Order 1:", plain, sampling, rewind=FEW)
    outcome: list[Any] = []

    def ask() -> None:
        try:
            outcome.append(tiny.generate("Order 1:", sampling, slow, rewind=FEW, request_id="late"))
        except RequestSuspended as suspended:
            outcome.append(suspended)

    thread = threading.Thread(target=ask)
    thread.start()
    assert gate.entered.wait(20)
    settled(tiny)
    data = tiny.suspend("late")
    thread.join(20)
    judged = len(calls)
    gate.open.set()
    assert len(completion.rewinds) == judged - 1 > 0
    with Engine(folder, **OPTIONS) as other:
        value, resumed = other.resume(data, slow, with_completion=True)
    assert value.model_dump() == expected.model_dump()
    assert resumed.text == completion.text
    assert len(calls) <= judged + 1, "once more for the answer as a whole: the board did not travel"
