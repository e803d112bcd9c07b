"""The figures as pictures, PNG and SVG, by matplotlib (pip install pageform[bench])."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .measure import OURS, short

Picture = dict[str, bytes]
"""Suffix → content."""

COLOURS = {
    OURS: "#c2410c",
    "llama.cpp": "#475569",
    "openvino": "#0e7490",
    "vllm": "#4d7c0f",
    "transformers": "#7e22ce",
}
"""By engine, the same in all pictures; the settings of one engine share its colour."""
OTHER = "#a16207"
LOG_FROM = 20.0
"""Where the largest value is so many times the smallest, an axis is logarithmic."""
COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of several engines: all samples by engine."""

    title: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    higher_is_better: bool


def panels(title: str, drawn: Sequence[Panel]) -> Picture:
    """A panel a figure, in each a bar an engine: the median, with the range of all rounds. The order is that of the
    first panel, best first."""
    first = drawn[0]
    names = sorted(first.samples, key=lambda name: statistics.median(first.samples[name]))
    names = names[::-1] if first.higher_is_better else names
    names += [name for panel in drawn for name in panel.samples if name not in names]
    names = list(dict.fromkeys(names))
    columns = min(COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = _figure(1.8 + 3.2 * columns, 0.7 + rows * (0.9 + 0.3 * len(names)))
    figure.suptitle(title)
    for place, panel in enumerate(drawn):
        axes = figure.add_subplot(rows, columns, place + 1)
        _bars(axes, panel, names, labelled=place % columns == 0)
    return _rendered(figure)


def _bars(axes: Any, panel: Panel, names: Sequence[str], labelled: bool) -> None:
    for place, name in enumerate(names):
        samples = panel.samples.get(name)
        if samples and all(map(math.isfinite, samples)):
            middle = statistics.median(samples)
            error = [[middle - min(samples)], [max(samples) - middle]] if len(samples) > 1 else None
            axes.barh(place, middle, xerr=error, color=_colour(name), alpha=_alpha(name), height=0.7, capsize=2)
            axes.annotate(
                f" {short(middle)}",
                (max(samples), place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                size=8,
            )
        else:
            axes.annotate(
                "not measured", (0.02, place), xycoords=("axes fraction", "data"), va="center", size=7, color="#78716c"
            )
    axes.set_yticks(range(len(names)), names if labelled else [""] * len(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    middles = [statistics.median(samples) for samples in panel.samples.values() if samples]
    positive = [value for value in middles if value > 0 and math.isfinite(value)]
    if positive and max(positive) > LOG_FROM * min(positive):
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 3, max(positive) * 6)
    elif positive:
        axes.set_xlim(0, max(max(s) for s in panel.samples.values() if s) * 1.3)
        axes.locator_params(axis="x", nbins=5)
    axes.set_title(panel.title, size=10)
    axes.set_xlabel(f"{panel.unit} ({'more' if panel.higher_is_better else 'less'} is better)", size=8)
    axes.tick_params(axis="x", labelsize=8)
    _plain(axes)


def lines(title: str, across: str, up: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Picture:
    """A line an engine, both axes logarithmic."""
    figure = _figure(7, 4.2)
    axes = figure.add_subplot()
    axes.set_title(title)
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, color=_colour(name))
        axes.annotate(
            name, points[-1], xytext=(6, 0), textcoords="offset points", va="center", size=8, color=_colour(name)
        )
    ticks = sorted({x for points in curves.values() for x, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
    axes.set_yscale("log")
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(framealpha=0.8, fontsize=8)
    _plain(axes)
    return _rendered(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    return Figure(figsize=(width, height), layout="constrained")


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def _colour(name: str) -> str:
    return next((colour for engine, colour in COLOURS.items() if name.split()[0] == engine), OTHER)


def _alpha(name: str) -> float:
    """What is not judged is paler."""
    return 0.5 if name.startswith(OURS) and name != OURS else 1.0


def _rendered(figure: Any) -> Picture:
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    figure.savefig(svg, format="svg", metadata={"Date": None})  # equal figures give equal files
    return {".png": png.getvalue(), ".svg": svg.getvalue()}
