"""The figures as pictures, PNG and SVG, by matplotlib (pip install pageform[bench])."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Picture = dict[str, bytes]
"""Suffix → content."""

OURS = "pageform"
COLOUR, OTHERS = "#c2410c", ("#475569", "#0e7490", "#4d7c0f", "#7e22ce", "#0369a1", "#a16207", "#be185d", "#57534e")


def bars(title: str, unit: str, samples: Mapping[str, Sequence[float]], higher_is_better: bool) -> Picture:
    """A bar an engine: the median, with the range of all rounds; the best first."""
    figure, axes = _axes(title)
    names = sorted(samples, key=lambda name: statistics.median(samples[name]), reverse=higher_is_better)
    middles = [statistics.median(samples[name]) for name in names]
    below = [middle - min(samples[name]) for middle, name in zip(middles, names, strict=True)]
    above = [max(samples[name]) - middle for middle, name in zip(middles, names, strict=True)]
    axes.barh(names, middles, xerr=[below, above], color=[_colour(name, names) for name in names], capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit} ({'more' if higher_is_better else 'less'} is better)")
    return _rendered(figure)


def lines(title: str, across: str, up: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Picture:
    """A line an engine."""
    figure, axes = _axes(title)
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name, color=_colour(name, list(curves)))
    axes.set_xscale("log", base=2)
    ticks = sorted({x for points in curves.values() for x, _ in points})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(framealpha=0.5)
    return _rendered(figure)


def _axes(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _colour(name: str, names: Sequence[str]) -> str:
    if name == OURS:
        return COLOUR
    return OTHERS[sorted(n for n in names if n != OURS).index(name) % len(OTHERS)]


def _rendered(figure: Any) -> Picture:
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    figure.savefig(svg, format="svg", metadata={"Date": None})  # equal figures give equal files
    return {".png": png.getvalue(), ".svg": svg.getvalue()}
