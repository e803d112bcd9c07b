"""Requests, their states and their log."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageform.core.completion import FinishReason
from pageform.core.errors import IllegalTransition
from pageform.core.log import FinishEntry, LogEntry, RequestLog, RewindEntry, TokenEntry, VerdictEntry
from pageform.core.params import SamplingParams
from pageform.core.plan import RowSampling
from pageform.core.request import Request
from pageform.core.states import LEGAL_TRANSITIONS, RequestState, check_transition

S = RequestState
LEGAL = {
    (S.QUEUED, S.PREPARING),
    (S.QUEUED, S.RUNNING),
    (S.PREPARING, S.RUNNING),
    (S.RUNNING, S.PREEMPTED),
    (S.PREEMPTED, S.RUNNING),
    (S.RUNNING, S.VALIDATING),
    (S.VALIDATING, S.RUNNING),
} | {(state, S.FINISHED) for state in S if state is not S.FINISHED}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(S, S)))
def test_every_transition_is_either_legal_or_raises(old: RequestState, new: RequestState) -> None:
    if (old, new) in LEGAL:
        check_transition("r", old, new)
    else:
        with pytest.raises(IllegalTransition, match=f"request r: {old} -> {new}"):
            check_transition("r", old, new)


def test_the_table_names_every_state() -> None:
    assert set(LEGAL_TRANSITIONS) == set(S)


def request(prompt: list[int], **params: object) -> Request:
    return Request(
        index=3,
        request_id="r",
        prompt_ids=prompt,
        params=SamplingParams(**params),  # type: ignore[arg-type]
        sampling=RowSampling(),
        max_tokens=10,
        sink=None,  # type: ignore[arg-type]
        arrival=100.0,
    )


def test_deadlines_are_absolute_and_order_is_by_priority_then_arrival() -> None:
    r = request([1], queue_timeout=1.0, timeout=9.0, priority=2)
    assert (r.queue_deadline, r.first_token_deadline, r.deadline) == (101.0, None, 109.0)
    assert r.order == (-2, 100.0, 3)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.lists(st.integers(0, 9), max_size=8), st.data())
def test_tokens_are_slices_of_prompt_and_output(prompt: list[int], output: list[int], data: st.DataObject) -> None:
    r = request(prompt)
    for token in output:
        r.append(token)
    start = data.draw(st.integers(0, r.num_tokens))
    end = data.draw(st.integers(start, r.num_tokens))
    assert r.tokens(start, end) == (prompt + output)[start:end]


def test_a_finished_request_stays_as_it_is() -> None:
    r = request([1, 2])
    r.finish(FinishReason.ABORT, 105.0, None, None)
    assert r.log.entries == [FinishEntry(FinishReason.ABORT)]
    with pytest.raises(IllegalTransition):
        r.finish(FinishReason.STOP, 106.0, None, None)
    assert (r.finish_reason, r.finish_time) == (FinishReason.ABORT, 105.0)


@given(st.data())
def test_the_output_is_a_function_of_the_log(data: st.DataObject) -> None:
    log, model = RequestLog(), []
    view = log.output_ids
    entries: list[LogEntry] = []
    for _ in range(data.draw(st.integers(0, 30))):
        match data.draw(st.sampled_from(["token", "token", "token", "rewind", "verdict"])):
            case "token":
                entries.append(TokenEntry(data.draw(st.integers(0, 99))))
                model.append(entries[-1].id)
            case "rewind":
                entries.append(RewindEntry(data.draw(st.integers(0, len(model)))))
                model = model[: entries[-1].to]
            case _:
                entries.append(VerdictEntry("a.b", data.draw(st.booleans())))
        log.append(entries[-1])
        assert log.output_ids == model
    assert log.output_ids is view
    assert log.entries == entries
    assert RequestLog(entries).output_ids == model
