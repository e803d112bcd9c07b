"""Suspending and resuming through the engines' doors, in other processes, and what is refused."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from replay_kit import LONG, SETTINGS, Reading, typed_call, write_model
from stepped import SteppedEngine
from test_drafts import harmless

from pageform import (
    AsyncEngine,
    Engine,
    NumericsMismatchError,
    ParameterError,
    Reasoning,
    ReplayError,
    RequestSuspended,
    RewindOptions,
    SamplingParams,
    SchemaMismatchError,
    SnapshotDamagedError,
    SnapshotError,
    SnapshotVersionError,
)
from pageform.core.log import RewindEntry, TokenEntry
from pageform.core.snapshot import decode, encode
from pageform.engine.options import TypedOptions
from pageform.engine.resume import Given, load
from pageform.engine.typed import TypedCall


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def first(folder: Path) -> Iterator[SteppedEngine]:
    with SteppedEngine(folder, **SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with Engine(folder, **SETTINGS, check_invariants=True) as made:
        yield made


def suspend_soon(engine: Engine, pieces: list[Any], **call: Any) -> bytes:
    """Suspends a stream after its first pieces. The data that the stream ended with."""
    for attempt in range(20):  # the engine may be done with everything before this thread gets to its fifth piece
        pieces.clear()
        data, error = b"", None
        try:
            for piece in engine.stream([7, 8, 9], request_id=f"stopped {attempt}", **call):
                pieces.append(piece)
                if len(pieces) == 5:
                    data = engine.suspend(f"stopped {attempt}")
        except ParameterError:
            continue
        except RequestSuspended as raised:
            error = raised
        assert error is not None
        assert (error.request_id, error.data) == (f"stopped {attempt}", data)
        return data
    raise AssertionError("the stream never lasted until its fifth piece was read")


def test_streams_go_on_where_they_stood(engine: Engine, folder: Path) -> None:
    whole = "".join(engine.stream([7, 8, 9], LONG))
    pieces: list[str] = []
    data = suspend_soon(engine, pieces, sampling=LONG)
    with Engine(folder, **SETTINGS) as other:
        rest = list(other.resume_stream(data))
        assert "".join(pieces + rest) == whole
        assert other.resume(data, request_id="once more").text == whole
    assert engine.resume(data).text == whole
    assert engine.stats().requests_finished["abort"] >= 1
    assert engine.stats().kv_blocks_used == 0


def test_typed_streams_go_on_where_they_stood(engine: Engine) -> None:
    params = SamplingParams(temperature=0.9, seed=6, max_tokens=150)
    options = {"response_model": Reading, "rewind": RewindOptions(tries=9)}
    whole = [str(one) for one in engine.stream([7, 8, 9], params, **options)]  # type: ignore[arg-type]
    pieces: list[Any] = []
    data = suspend_soon(engine, pieces, sampling=params, **options)
    parts = [str(one) for one in [*pieces, *engine.resume_stream(data, Reading)]]
    assert parts[-1] == whole[-1]
    assert set(parts) == set(whole)
    value, completion = engine.resume(data, Reading, with_completion=True)
    assert str(value) == whole[-1]
    assert isinstance(value, Reading)
    assert completion.rewinds


def test_a_plain_schema_comes_along(first: SteppedEngine) -> None:
    text = {"type": "string", "maxLength": 40, "minLength": 30}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"b": text, "a": {"enum": ["x", 10**30]}},
        "required": ["b", "a"],
        "additionalProperties": False,
    }
    params = SamplingParams(temperature=0)
    calls = [TypedCall(first, first.form(schema), [7, 8, 9], params, TypedOptions()) for _ in range(2)]
    for call, limit in zip(calls, (None, 20), strict=True):
        ticket = call.next_ticket()
        first.submit(ticket)
        first.answer(call, ticket, limit)
    data = first.suspend(ticket)
    resumed = load(first, data, Given())
    assert resumed.call is not None
    first.submit(resumed.ticket)
    first.answer(resumed.call, resumed.ticket)
    assert resumed.call.value == calls[0].value
    with pytest.raises(SchemaMismatchError, match=r"properties\.b\.maxLength"):
        first.resume(data, {**schema, "properties": {**schema["properties"], "b": {**text, "maxLength": 41}}})


async def test_the_async_doors(folder: Path) -> None:
    async with AsyncEngine(folder, **SETTINGS) as engine:
        whole = await engine.generate([7, 8, 9], LONG)
        pieces: list[str] = []
        data = await suspend_soon_too(engine, pieces, sampling=LONG)
        pieces += [piece async for piece in engine.resume_stream(data)]
        assert "".join(pieces) == whole.text
        assert (await engine.resume(data)).token_ids == whole.token_ids
        value = await engine.generate([7, 8, 9], response_model=Reading, rewind=RewindOptions(tries=9))
        data = await suspend_soon_too(engine, [], response_model=Reading, rewind=RewindOptions(tries=9))
        assert await engine.resume(data, Reading) == value
        rest = [one async for one in engine.resume_stream(data, Reading)]
        assert rest[-1] == value


async def suspend_soon_too(engine: AsyncEngine, pieces: list[Any], **call: Any) -> bytes:
    for attempt in range(20):
        pieces.clear()
        try:
            async for piece in engine.stream([7, 8, 9], request_id=f"stopped {attempt}", **call):
                pieces.append(piece)
                if len(pieces) == 3:
                    await engine.suspend(f"stopped {attempt}")
        except ParameterError:
            continue
        except RequestSuspended as error:
            return error.data
    raise AssertionError("the stream never lasted until its third piece was read")


def test_whoever_waits_hears_of_it_and_all_can_be_suspended(engine: Engine) -> None:
    heard: list[BaseException] = []

    def ask(seed: int) -> None:
        try:
            engine.generate([5, 6, 7 + seed], LONG.with_(seed=seed), request_id=f"waiting {seed}")
        except RequestSuspended as error:
            heard.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    saved: dict[str, bytes] = {}
    for thread in threads:
        thread.start()
    while len(saved) < 3 and any(thread.is_alive() for thread in threads):
        saved |= engine.suspend_all()
    for thread in threads:
        thread.join()
    assert {error.request_id: error.data for error in heard if isinstance(error, RequestSuspended)} == saved
    for seed in range(3):
        if (data := saved.get(f"waiting {seed}")) is not None:
            expected = engine.generate([5, 6, 7 + seed], LONG.with_(seed=seed))
            assert engine.resume(data).token_ids == expected.token_ids


def test_a_second_process_goes_on(first: SteppedEngine, folder: Path, tmp_path: Path) -> None:
    ticket = first.ticket([7, 8, 9], LONG.with_(logprobs=2, repetition_penalty=1.2, stop=["\x00\x01"]))
    again = first.ticket([7, 8, 9], ticket.requests[0].params)
    first.submit(ticket)
    first.finish(ticket)
    first.submit(again)
    for _ in range(50):
        first.step()
    (tmp_path / "data").write_bytes(first.suspend(again))
    script = (
        "import sys, json, pathlib, pageform\n"
        "with pageform.Engine(sys.argv[1], threads=2, max_model_len=1024, kv_cache_memory='2MB') as engine:\n"
        "    answer = engine.resume(pathlib.Path(sys.argv[2]).read_bytes())\n"
        "print(json.dumps([answer.token_ids, answer.text, [one.logprob for one in answer.logprobs]]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(tmp_path / "data")], capture_output=True, text=True, check=True
    )
    whole = ticket.future.result()
    assert whole.logprobs is not None
    assert msgspec.json.decode(run.stdout) == [whole.token_ids, whole.text, [one.logprob for one in whole.logprobs]]


def test_deadlines_count_time_in_engines_only(folder: Path) -> None:
    now = 100.0
    with SteppedEngine(folder, lambda: now, **SETTINGS) as one:
        ticket = one.parts.preparer.ticket([7, 8], LONG.with_(timeout=10.0), now=now)
        one.submit(ticket)
        for _ in range(20):
            one.step()
        now = 106.0
        data = one.suspend(ticket)
    with SteppedEngine(folder, **SETTINGS) as other:
        ticket = load(other, data, Given()).ticket
    [request] = ticket.requests
    assert request.deadline is not None
    assert request.deadline - request.arrival == 10.0
    assert decode(data).elapsed == 6.0


@pytest.mark.parametrize("form", [{"regex": "(ab){9,20}c"}, {"response_model": Reading}, {}])
@pytest.mark.parametrize("stop", [0, 3, 9, 25])
def test_thoughts_go_on_too(first: SteppedEngine, form: dict[str, Any], stop: int) -> None:
    form = dict(form)
    model = form.pop("response_model", None)
    limits = {"temperature": 1.0, "seed": 4, "max_tokens": 120, "thinking_token_budget": 14, "drafts": "none"}
    params = SamplingParams(reasoning=Reasoning("<a>", "</a>"), **limits, **form)

    def start() -> tuple[Any, Any]:
        if model is None:
            return None, first.ticket([7, 8, 9], params)
        call = TypedCall(first, first.form(model), [7, 8, 9], params, TypedOptions(rewind=RewindOptions(tries=9)))
        return call, call.next_ticket()

    _, whole = start()
    first.submit(whole)
    first.finish(whole)
    _, ticket = start()
    first.submit(ticket)
    for _ in range(stop):
        first.step()
    resumed = load(first, first.suspend(ticket), Given(model)).ticket
    first.submit(resumed)
    first.finish(resumed)
    one, other = whole.future.result(), resumed.future.result()
    assert one.reasoning
    assert (other.reasoning, other.text, other.token_ids) == (one.reasoning, one.text, one.token_ids)
    assert other.prompt_token_ids == one.prompt_token_ids
    assert (other.finish_reason, other.detail) == (one.finish_reason, one.detail)


def test_what_can_not_be_saved_goes_on(first: SteppedEngine) -> None:
    """Such as requests of a driver whose grammar is nobody's response model."""
    ticket = first.ticket([7, 8, 9], SamplingParams(temperature=0, max_tokens=100), first.form(Reading).grammar)
    first.submit(ticket)
    first.step()
    with pytest.raises(SnapshotError, match="grammar of its own"):
        first.suspend(ticket)
    assert first.suspend_all() == {}
    first.finish(ticket)
    assert ticket.future.result().text.startswith('{"name": "')


def test_a_log_tells_what_happened(first: SteppedEngine) -> None:
    call = typed_call(first, 1, rewind=RewindOptions(tries=9))
    ticket = call.next_ticket()
    first.submit(ticket)
    first.answer(call, ticket)
    moments = list(first.replay(call.completion))
    assert (moments[-1].text, list(moments[-1].token_ids)) == (call.completion.text, call.completion.token_ids)
    rewound = [(a, b) for a, b in itertools.pairwise(moments) if isinstance(b.entry, RewindEntry)]
    assert len(rewound) >= len(call.completion.rewinds) > 0
    for before, after in rewound:
        assert before.text.startswith(after.text)
        assert len(after.token_ids) == after.entry.to < len(before.token_ids)  # type: ignore[union-attr]
    tried = [one.value for one in call.completion.rewinds]
    assert any(before.text.endswith((f"{value},", f"{value}}}")) for value in tried for before, _ in rewound)


def test_what_is_suspended_can_be_looked_into(first: SteppedEngine, saved: bytes) -> None:
    *_, last = first.replay(saved)
    assert len(last.token_ids) >= 30
    assert first.tokenizer.decode(list(last.token_ids)).startswith(last.text)


# --- what can't be resumed --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(first: SteppedEngine) -> bytes:
    ticket = first.ticket([7, 8, 9], LONG)
    first.submit(ticket)
    for _ in range(30):
        first.step()
    return first.suspend(ticket)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_noticed(first: SteppedEngine, saved: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(saved) - 1))
    what = data.draw(st.sampled_from(["flip", "cut", "noise", "longer"]))
    damaged = {
        "flip": saved[:place] + bytes([saved[place] ^ (1 << place % 8)]) + saved[place + 1 :],
        "cut": saved[:place],
        "noise": data.draw(st.binary(max_size=60)),
        "longer": saved + b"\x00",
    }[what]
    kind = SnapshotVersionError if what == "flip" and place in (8, 9) else SnapshotDamagedError
    with pytest.raises(kind):
        first.resume(damaged)


def test_other_formats_models_and_settings_are_refused(
    first: SteppedEngine, saved: bytes, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SnapshotVersionError, match="format 2"):
        first.resume(saved[:8] + (2).to_bytes(2, "big") + saved[10:])
    with SteppedEngine(write_model(tmp_path / "tuned", seed=4), **SETTINGS) as other:
        with pytest.raises(NumericsMismatchError) as caught:
            other.resume(saved)
        assert set(caught.value.differences) == {"weights"}
    for changes, kind, message in (
        ({"kv_cache_dtype": "float32"}, NumericsMismatchError, "kv_dtype was int16, here it is float32"),
        ({"kv_cache_dtype": "int8"}, NumericsMismatchError, "kv_dtype was int16, here it is int8"),
        ({"dtype": "float32"}, NumericsMismatchError, "dtype was auto, here it is float32"),
        ({"tokenizer": None}, NumericsMismatchError, "tokenizer was"),
        ({"max_model_len": 120}, ParameterError, "max_tokens=180"),
    ):
        with SteppedEngine(folder, **{**SETTINGS, **changes}) as other, pytest.raises(kind, match=message):
            other.resume(saved)


def test_what_must_be_given_again_is_asked_for(first: SteppedEngine) -> None:
    ticket = first.ticket([7, 8, 9], LONG.with_(logits_processors=[harmless]))
    first.submit(ticket)
    first.step()
    data = first.suspend(ticket)
    with pytest.raises(ParameterError, match="logits_processors"):
        first.resume(data)
    with pytest.raises(SchemaMismatchError, match="no response model"):
        first.resume(data, Reading, logits_processors=[harmless])

    call = typed_call(first, 1, context={"tax": 3})
    ticket = call.next_ticket()
    first.submit(ticket)
    first.step()
    data = first.suspend(ticket)
    with pytest.raises(SchemaMismatchError, match="Reading"):
        first.resume(data)
    with pytest.raises(ParameterError, match="context"):
        first.resume(data, Reading)

    class Other(Reading):
        total: Annotated[int, Field(ge=0, le=998)]

    with pytest.raises(SchemaMismatchError):
        first.resume(data, Other, context={"tax": 3})
    with pytest.raises(ParameterError, match="request_id"):
        first.suspend("nobody")


def test_a_log_that_does_not_follow_from_itself_is_refused(first: SteppedEngine) -> None:
    ticket = first.ticket([7, 8, 9], LONG.with_(regex="(ab){9,20}", drafts="none"))
    first.submit(ticket)
    for _ in range(9):
        first.step()
    snapshot = decode(first.suspend(ticket))
    entries = snapshot.samples[0].log
    assert isinstance(entries[4], TokenEntry)
    entries[4] = TokenEntry(entries[4].id + 1)
    with pytest.raises(ReplayError, match=r"entry [45]") as caught:
        load(first, encode(snapshot), Given())
    assert isinstance(caught.value, SnapshotError)
