"""Which figures of a comparison are drawn. They lie beside the tables, under the report's name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from ..report import Report
from . import plots
from .extras import BANDWIDTH, Curve
from .measure import METRICS, UNITS, VALID
from .tell import Figures

BESIDE = {"cold start": ("seconds", "s", False), "roofline": (BANDWIDTH, "%", True)}
"""Figures that belong to no workload: their name, unit, and whether more is better."""
CURVES = {
    "batch": ("Tokens a second by requests at once (32 in, 32 out)", "requests at once", "output tok/s"),
    "context": ("Decoding by length of context, one request", "tokens of the prompt", "tok/s"),
    "first token": ("Time to the first token, one request", "tokens of the prompt", "s"),
}


def draw(report: Report, figures: Mapping[str, Figures], curves: Mapping[str, Mapping[str, Curve]]) -> None:
    """Leaves pictures to be written with the report. Without matplotlib there is a note instead."""
    if find_spec("matplotlib") is None:
        report.note("no pictures: pip install pageform[bench]")
        return
    rates = {metric.name for of_workload in METRICS.values() for metric in of_workload if metric.is_rate} | {VALID}
    for workload, of_engines in figures.items():
        if workload in BESIDE:
            kinds = [BESIDE[workload]]
        else:
            names = dict.fromkeys(name for by_figure in of_engines.values() for name in by_figure)
            ordered = sorted(names, key=lambda name: name != VALID)  # W5 is about these
            kinds = [(name, UNITS[name], name in rates or UNITS[name] == "%") for name in ordered]
        drawn = []
        for name, unit, is_rate in kinds:
            samples = {engine: by_figure[name] for engine, by_figure in of_engines.items() if name in by_figure}
            if samples:
                drawn.append(plots.Panel(name, unit, samples, is_rate))
        if drawn:
            report.picture(workload, plots.panels(workload, drawn))
    for kind, (title, across, up) in CURVES.items():
        points = {engine: by_kind[kind] for engine, by_kind in curves.items() if by_kind.get(kind)}
        if points:
            report.picture(f"by-{kind}", plots.lines(title, across, up, points))
