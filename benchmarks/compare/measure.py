"""From runs to figures: rates, latencies and their percentiles, ratios between engines that ran in turn."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..job import Answer
from ..peers.worker import Run

OURS = "pageform"
TTFT_LIMIT, GAP_LIMIT = 2.0, 0.2
"""Goodput counts answers whose first token came within the one and whose tokens came at least this often on average."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a round."""

    name: str
    unit: str
    is_rate: bool
    of: Callable[[Sequence[Run]], float]


def percentile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the closest ranks, as numpy's default does; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def first_token_seconds(runs: Sequence[Run]) -> list[float]:
    """Of each request, from its arrival."""
    return [a.times[0] - job.at for run in runs for job, a in zip(run.jobs, run.answers, strict=True) if a.times]


def gaps(runs: Sequence[Run]) -> list[float]:
    """Seconds between neighbouring tokens of each answer; zero when they came together."""
    return [later - earlier for run in runs for a in run.answers for earlier, later in itertools.pairwise(a.times)]


def wall(runs: Sequence[Run]) -> float:
    """Seconds of all batches."""
    return sum(run.seconds for run in runs)


def output_rate(runs: Sequence[Run]) -> float:
    """Output tokens a second, prompts included in the time."""
    return sum(a.count for run in runs for a in run.answers) / wall(runs)


def decode_rate(runs: Sequence[Run]) -> float:
    """Tokens a second from the first token to the last, of requests that ran alone; NaN when all came at once."""
    answers = [a for run in runs for a in run.answers if len(a.times) > 1]
    seconds = sum(a.times[-1] - a.times[0] for a in answers)
    return sum(a.count - 1 for a in answers) / seconds if seconds else math.nan


def goodput(runs: Sequence[Run]) -> float:
    """Requests a second that met both limits."""
    good = sum(_is_good(job.at, a) for run in runs for job, a in zip(run.jobs, run.answers, strict=True))
    return good / wall(runs)


def _is_good(at: float, answer: Answer) -> bool:
    times = answer.times
    if not times or times[0] - at > TTFT_LIMIT:
        return False
    return len(times) < 2 or (times[-1] - times[0]) / (len(times) - 1) <= GAP_LIMIT


def _latency(name: str, of: Callable[[Sequence[Run]], list[float]], share: float) -> Metric:
    return Metric(f"{name} p{share * 100:.0f}", "ms", False, lambda runs: 1000 * percentile(of(runs), share))


DECODE = Metric("decode", "tok/s", True, decode_rate)
OUTPUT = Metric("output", "tok/s", True, output_rate)
WALL = Metric("wall", "s", False, wall)
GOODPUT = Metric("goodput", "requests/s", True, goodput)
TTFT = _latency("TTFT", first_token_seconds, 0.5)
TTFT_TAIL = _latency("TTFT", first_token_seconds, 0.99)
GAP = _latency("between tokens", gaps, 0.5)
GAP_TAIL = _latency("between tokens", gaps, 0.99)

METRICS: dict[str, tuple[Metric, ...]] = {
    "W1": (DECODE, TTFT, GAP, GAP_TAIL),
    "W2": (OUTPUT, WALL, TTFT, TTFT_TAIL, GAP, GAP_TAIL),
    "W3": (WALL, OUTPUT, TTFT, TTFT_TAIL, GAP, GAP_TAIL),
    "W4": (WALL, OUTPUT, TTFT, TTFT_TAIL, GAP, GAP_TAIL),
    "W5": (WALL, OUTPUT, TTFT, TTFT_TAIL),
    "BFCL": (WALL, OUTPUT),
    "wnut17": (WALL, OUTPUT),
    "W6": (GOODPUT, TTFT, TTFT_TAIL, GAP, GAP_TAIL, OUTPUT),
}
"""What is told of each workload, the most telling first."""

VALID, MEMORY, EXACT, F1 = "valid objects", "peak memory", "exact match", "F1"
"""Figures that need more than the runs: the texts, the processes, the right answers."""
UNITS = {m.name: m.unit for of_workload in METRICS.values() for m in of_workload} | {
    VALID: "1/s",
    MEMORY: "MB",
    EXACT: "%",
    F1: "%",
}


FAR = 1.5
"""Times that an engine may be behind the best peer and still be thought to win another round."""


def in_contest(workload: str, rounds: Mapping[str, Sequence[Sequence[Run]]]) -> list[str]:
    """Of those that have done all rounds so far: pageform as it is judged, and each peer that is not far behind the
    best one in what decides the workload. The others need no further round."""
    metrics = {"W1": (DECODE, TTFT), "W6": (GOODPUT,)}.get(workload, (OUTPUT,))
    most = max(map(len, rounds.values()))
    peers = {name: each for name, each in rounds.items() if len(each) == most and not name.startswith(OURS)}
    found = {name for name in (OURS,) if len(rounds.get(name, ())) == most}
    for metric in metrics:
        behind = {name: _behind(metric, each[-1]) for name, each in peers.items()}
        found |= {name for name, value in behind.items() if value <= FAR * min(behind.values())}
    return [name for name in rounds if name in found]


def _behind(metric: Metric, runs: Sequence[Run]) -> float:
    """The figure as a time: less is better."""
    value = metric.of(runs)
    if not metric.is_rate:
        return value
    return 1 / value if value else math.inf


def paired_ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours to theirs, round by round, since rounds of both lie beside each other in time; as many as both have."""
    return [a / b if b else math.inf for a, b in zip(ours, theirs, strict=False)]


def spread(values: Sequence[float]) -> str:
    """Median, and in brackets the range, if there is one; a dash for nothing."""
    if not values:
        return "–"
    middle = short(statistics.median(values))
    return middle if len(values) < 2 else f"{middle} ({short(min(values))} … {short(max(values))})"


def short(value: float) -> str:
    """Three significant digits, never an exponent."""
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
