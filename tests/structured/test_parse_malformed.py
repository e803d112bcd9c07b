"""The table of malformed answers: every row gives the value that it means, or the error that it must be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from malformed import Case, cases, is_error
from malformed_damage import damaged

from pageform.structured import Spec
from pageform.structured.leniency import RULES
from pageform.structured.parse import parse_report, read
from pageform.structured.parse_errors import ParseError

CASES = list(cases())


@pytest.mark.parametrize("leniency", ["default", "lenient"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_row_gives_its_value_or_its_error(case: Case, leniency: str) -> None:
    expected = case.under(leniency)
    if is_error(expected):
        with pytest.raises(expected) as caught:
            parse_report(case.text, case.type, leniency)
        assert type(caught.value) is expected
        assert caught.value.errors()
        return
    report = parse_report(case.text, case.type, leniency)
    assert report.value == expected
    assert type(report.value) is type(expected)
    assert report.repairs, "no row is valid as it is"
    assert Spec.of(case.type).validate(report.json) == report.value


@pytest.mark.parametrize("case", [case for case in CASES if isinstance(case.text, str)], ids=lambda case: case.id)
def test_strict_refuses_every_row(case: Case) -> None:
    with pytest.raises(Exception, match=r"(?s).*"):
        Spec.of(case.type).validate(case.text)
    with pytest.raises(ValueError, match=r"(?s).*"):
        read(case.text, Spec.of(case.type), "strict")


def test_the_table_is_large_and_covers_every_rule() -> None:
    groups = Counter(case.group for case in CASES)
    assert len(CASES) >= 120
    assert len({(case.text, str(case.type)) for case in CASES}) == len(CASES)
    assert min(groups.values()) >= 8
    used: set[str] = set()
    for case in CASES:
        if not is_error(case.under("lenient")):
            used |= {entry.rule for entry in _repairs(case)}
    assert RULES.keys() - used == NOT_IN_THE_TABLE


def _repairs(case: Case) -> Any:
    return parse_report(case.text, case.type, "lenient").repairs


NOT_IN_THE_TABLE: set[str] = set()


def test_one_wrong_character_gives_the_same_value_or_an_error() -> None:
    outcomes: Counter[str] = Counter()
    for annotation, text, value in damaged():
        try:
            report = parse_report(text, annotation)
        except ParseError:
            outcomes["error"] += 1
            continue
        rules = {entry.rule for entry in report.repairs}
        # 1,2 is a number to many, and \x has no meaning in JSON: both are told
        assert report.value == value or rules & {"thousands", "escape"}, text
        outcomes["same" if report.value == value else "other"] += 1
    assert outcomes.total() > 2000
    assert outcomes["same"] > 400
    assert outcomes["other"] <= 3
