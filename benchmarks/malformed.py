"""Malformed answers: what pageform makes of the table in tests/structured/malformed.py, beside json-repair + Pydantic.

For each row there is a value that it means, or it must be refused. What a parser gives is right, or wrong (another
value, or a value where nothing tells which is meant: the caller never learns of it), or an error where a value was
meant.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .options import Options
from .report import Report

TABLE = Path(__file__).parents[1] / "tests" / "structured"
OUTCOMES = ("right", "wrong", "error")
REQUIRED_ROWS = 80

Parser = Callable[[str | bytes, Any], Any]


def run(options: Options) -> Report:
    """Counts of right values, wrong values and errors by class of fault; fails if pageform gives any wrong one."""
    sys.path.insert(0, str(TABLE))
    try:
        malformed, damage = (importlib.import_module(name) for name in ("malformed", "malformed_damage"))
    finally:
        sys.path.remove(str(TABLE))
    cases = list(malformed.cases())
    groups = dict.fromkeys(case.group for case in cases)
    report = Report("malformed", {"rows": len(cases), "classes": len(groups)})
    counts: dict[str, dict[str, Counter[str]]] = {}
    for name, parser in parsers().items():
        outcome(parser, cases[0], malformed.is_error)  # what is imported on first use
        start = time.perf_counter()
        outcomes = [(case.group, outcome(parser, case, malformed.is_error)) for case in cases]
        milliseconds = (time.perf_counter() - start) * 1e3 / len(cases)
        counts[name] = {group: Counter(got for where, got in outcomes if where == group) for group in groups}
        report.add(f"{name}: mean time of a row", "ms", milliseconds)
    report.table(
        ["class", "rows", *(f"{name}: {'/'.join(OUTCOMES)}" for name in counts)],
        [
            [
                group,
                str(sum(case.group == group for case in cases)),
                *(_shown(by_group[group]) for by_group in counts.values()),
            ]
            for group in groups
        ]
        + [["all", str(len(cases)), *(_shown(_sum(by_group)) for by_group in counts.values())]],
    )
    chance = list(damage.damaged())[:: 20 if options.smoke else 1]
    report.table(
        ["one character wrong", "texts", *OUTCOMES],
        [[name, str(len(chance)), *_by_chance(parser, chance)] for name, parser in parsers().items()],
    )
    report.note("one character wrong: right is the value of the text without the mistake")
    report.note("right: the value that is meant, or an error where none is; wrong: any other value; error: no value")
    report.note("where pageform's presets differ by design, either's result counts as right, for every parser")
    report.note("the table was written along pageform's rules; the others were not made for all of it")
    report.check(f"at least {REQUIRED_ROWS} rows", len(cases) >= REQUIRED_ROWS)
    for name in ("pageform default", "pageform lenient"):
        report.check(f"{name}: every row right", _sum(counts[name])["right"] == len(cases))
    return report


def parsers() -> dict[str, Parser]:
    """What is compared, by name. json-repair is tried without and with the type's schema."""
    import json_repair
    from pydantic import TypeAdapter

    from pageform.structured import parse

    def text_of(answer: str | bytes) -> str:
        return answer if isinstance(answer, str) else answer.decode("utf-8", "replace")

    def repaired(answer: str | bytes, annotation: Any) -> Any:
        data = json_repair.loads(text_of(answer))
        return TypeAdapter(annotation).validate_json(json.dumps(data))

    def guided(answer: str | bytes, annotation: Any) -> Any:
        adapter = TypeAdapter(annotation)
        data = json_repair.loads(text_of(answer), schema=adapter.json_schema())
        return adapter.validate_json(json.dumps(data))

    return {
        "pageform default": lambda answer, annotation: parse(answer, annotation),
        "pageform lenient": lambda answer, annotation: parse(answer, annotation, "lenient"),
        "json-repair + Pydantic": repaired,
        "json-repair with schema + Pydantic": guided,
    }


def outcome(parser: Parser, case: Any, is_error: Callable[[Any], bool]) -> str:
    """One of `OUTCOMES`."""
    meant = [case.under("default"), case.under("lenient")]
    try:
        value = parser(case.text, case.type)
    except Exception:  # json-repair raises many kinds
        return "right" if any(map(is_error, meant)) else "error"
    right = any(not is_error(one) and type(one) is type(value) and one == value for one in meant)
    return "right" if right else "wrong"


def _by_chance(parser: Parser, texts: Sequence[Any]) -> list[str]:
    counts: Counter[str] = Counter()
    for one in texts:
        try:
            counts["right" if parser(one.text, one.type) == one.value else "wrong"] += 1
        except Exception:  # as above
            counts["error"] += 1
    return [str(counts[name]) for name in OUTCOMES]


def _sum(by_group: dict[str, Counter[str]]) -> Counter[str]:
    return sum(by_group.values(), Counter())


def _shown(count: Counter[str]) -> str:
    return " / ".join(str(count[name]) for name in OUTCOMES)
