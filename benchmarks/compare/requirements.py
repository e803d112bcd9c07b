"""What a comparison must show: ratios of pageform to the best peer of each workload."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..report import Report
from .measure import EXACT, F1, MEMORY, OURS, VALID, paired_ratios, short


@dataclass(frozen=True, slots=True)
class Requirement:
    """`figure` of a workload: at least `must` times the best peer's if it is a rate, else at most. `against` names the
    peer that counts; without it the best of all does. By `points`, the difference counts instead of the ratio."""

    workload: str
    figure: str
    is_rate: bool
    must: float
    aim: float
    against: str | None = None
    points: bool = False

    @property
    def text(self) -> str:
        return f"{self.workload} {self.figure} against {self.against or 'the best peer'}"


REQUIREMENTS = (
    Requirement("W1", "decode", True, 2.2, 3.0),
    Requirement("W1", "TTFT p50", False, 0.5, 0.33),
    Requirement("W2", "output", True, 3.5, 5.0),
    Requirement("W2", "output", True, 14.0, 24.0, "transformers sequential"),
    Requirement("W3", "wall", False, 0.3, 0.15),
    Requirement("W4", "wall", False, 0.5, 0.3),
    Requirement("W5", VALID, True, 4.0, 8.0),
    Requirement("cold start", "seconds", False, 1.0, 0.7, "llama.cpp"),
    Requirement("W2", MEMORY, False, 1.2, 0.8, "llama.cpp"),
    Requirement("BFCL", EXACT, True, -1.0, 0.0, points=True),
    Requirement("wnut17", F1, True, -1.0, 0.0, points=True),
)

Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Engine → figure → one sample a round."""


def judge(report: Report, workload: str, samples: Samples) -> None:
    """Adds a row for each requirement on a workload and checks it; says so of those that cannot be judged."""
    rows = []
    for requirement in (r for r in REQUIREMENTS if r.workload == workload):
        theirs = {
            name: figures[requirement.figure]
            for name, figures in samples.items()
            if not name.startswith(OURS)
            and requirement.figure in figures
            and (requirement.against is None or name.startswith(requirement.against))
        }
        ours = samples.get(OURS, {}).get(requirement.figure)
        if not ours or not theirs:
            report.note(f"not judged: {requirement.text} (it was not measured)")
            continue
        best = (max if requirement.is_rate else min)(theirs, key=lambda name: statistics.median(theirs[name]))
        if requirement.points:
            ratios = [mine - other for mine, other in zip(ours, theirs[best], strict=False)]
        else:
            ratios = paired_ratios(ours, theirs[best])
        ratio = statistics.median(ratios)
        report.add(f"{requirement.text}, {best}", "points" if requirement.points else "×", ratios)
        sign = "≥" if requirement.is_rate else "≤"
        held = ratio >= requirement.must if requirement.is_rate else ratio <= requirement.must
        report.check(f"{requirement.text}: {short(ratio)} {sign} {requirement.must:g}", held)
        reached = ratio >= requirement.aim if requirement.is_rate else ratio <= requirement.aim
        aim = f"{sign} {requirement.aim:g}{' (reached)' if reached else ''}"
        rows.append([requirement.text, best, short(ratio), f"{sign} {requirement.must:g}", aim])
    if rows:
        report.table(["ratio, or difference in points", "peer", "measured", "must", "aim"], rows)
