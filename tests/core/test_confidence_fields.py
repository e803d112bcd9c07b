"""Fields by path, and the numbers that follow from others."""

from __future__ import annotations

import math

import pytest

from pageform import ParameterError, SamplingParams
from pageform.core.completion import Completion, FinishReason
from pageform.core.confidence import OTHER, ConfidenceOptions, FieldConfidence, Fields, TokenWeight


def field(path: str, **changes: object) -> FieldConfidence:
    given = {"logprob": -1.0, "model_logprob": -2.0, "log_allowed": -0.5, "max_removed": 0.3}
    return FieldConfidence(path=path, **(given | {"free_tokens": 2, "forced_tokens": 1} | changes))


def test_values_are_found_by_path_and_by_steps() -> None:
    fields = Fields([((), field("")), (("lines", 0, "price"), field("lines[0].price")), ((0,), field("[0]"))], [])
    assert fields["lines[0].price"] is fields["lines", 0, "price"]
    assert fields[""] is fields[()]
    assert fields[0] is fields["[0]"] is fields[(0,)]
    assert list(fields) == ["", "lines[0].price", "[0]"]
    assert len(fields) == 3
    assert "lines[0].price" in fields
    assert "lines[1].price" not in fields
    assert repr(fields).startswith("Fields({'': 0.368, ")
    with pytest.raises(KeyError, match=r"'lines' is no value of the answer, which has '', 'lines\[0\].price'"):
        fields["lines"]


def test_a_key_that_looks_like_a_path_is_found_by_its_steps() -> None:
    plain, nested = field("a.b"), field("a.b", logprob=-3.0)
    fields = Fields([(("a.b",), plain), (("a", "b"), nested)], [])
    assert fields["a.b"] is fields[("a.b",)] is plain
    assert fields["a", "b"] is nested


def test_confidence_is_the_probability_of_the_value() -> None:
    assert field("x").confidence == math.exp(-1)
    assert field("x").per_token == math.exp(-0.5)
    assert field("x").removed == pytest.approx(1 - math.exp(-0.5))
    assert field("x", options={"a": 0.75, "b": 0.25}, chosen="a").confidence == 0.75
    assert field("x", options={None: 0.75, OTHER: 0.25}, chosen=None).confidence == 0.75
    assert field("x", options={None: 0.75, OTHER: 0.25}, chosen=OTHER).confidence == math.exp(-1)
    unknown = field("x", logprob=None, model_logprob=None, unscored_tokens=1)
    assert unknown.confidence is unknown.per_token is None
    assert field("x", logprob=None, options={True: 0.6, False: 0.4}, chosen=True).confidence == 0.6
    assert field("x", logprob=0.0, free_tokens=0).per_token == 1


def test_values_that_were_kept_have_the_numbers_of_their_attempt() -> None:
    nan = TokenWeight(math.nan, math.nan, math.nan, False)
    unscored = {"logprob": None, "model_logprob": None}
    kept, partly = field("kept", **unscored, unscored_tokens=2), field("", **unscored, unscored_tokens=1)
    new = field("new", logprob=-5.0)
    later = Fields([((), partly), (("kept",), kept), (("new",), new)], [nan])
    earlier = Fields([((), field("")), (("kept",), field("kept")), (("new",), field("new"))], [])
    both = later.completed_by(earlier)
    assert both["kept"] == earlier["kept"]
    assert both["new"] is new
    assert both[""] is partly
    assert both.tokens is later.tokens
    assert not nan.is_scored


@pytest.mark.parametrize("wrong", [{"max_rows": -1}, {"max_rows": True}, {"tolerance": 1}, {"tolerance": "no"}])
def test_options_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"confidence.{next(iter(wrong))}"):
        ConfidenceOptions(**wrong)
    assert SamplingParams(confidence=ConfidenceOptions(max_rows=0)).confidence.max_rows == 0


def test_a_completion_without_confidence_says_how_to_ask() -> None:
    completion = Completion("", [], FinishReason.STOP)
    with pytest.raises(ParameterError, match=r"Pass confidence=True, or SamplingParams\(confidence=True\)"):
        _ = completion.fields
