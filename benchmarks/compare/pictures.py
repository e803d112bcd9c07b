"""Which figures of a comparison are drawn. They lie beside the tables, under the report's name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from ..report import Report
from . import plots
from .extras import Curve
from .measure import METRICS, UNITS, VALID
from .tell import Figures

FIRST = {"W1": ("decode", "TTFT p50"), "W2": ("output", "TTFT p50", "between tokens p99", "peak memory")}
"""What is drawn of a workload; of the others the first of its metrics, and of W5 its valid objects."""


def draw(report: Report, figures: Mapping[str, Figures], curves: Mapping[str, Mapping[str, Curve]]) -> None:
    """Leaves pictures to be written with the report. Without matplotlib there is a note instead."""
    if find_spec("matplotlib") is None:
        report.note("no pictures: pip install pageform[bench]")
        return
    rates = {metric.name for of_workload in METRICS.values() for metric in of_workload if metric.is_rate} | {VALID}
    for workload, of_engines in figures.items():
        names = FIRST.get(workload, (VALID,) if workload == "W5" else ("seconds",) if workload not in METRICS else ())
        for name in names or (METRICS[workload][0].name,):
            samples = {engine: by_figure[name] for engine, by_figure in of_engines.items() if name in by_figure}
            if samples:
                unit = UNITS.get(name, "s")
                report.picture(f"{workload}-{name}", plots.bars(f"{workload}: {name}", unit, samples, name in rates))
    drawn = {
        "batch": ("Tokens a second by requests at once", "requests at once", "output tok/s"),
        "context": ("Decoding by length of context", "tokens of the prompt", "tok/s, one request"),
        "first token": ("Time to the first token", "tokens of the prompt", "s"),
    }
    for kind, (title, across, up) in drawn.items():
        points = {engine: by_kind[kind] for engine, by_kind in curves.items()}
        if points:
            report.picture(f"by-{kind}", plots.lines(title, across, up, points))
