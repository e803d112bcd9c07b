"""From a workload's runs to its table, its checks and its pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..job import Answer, Job
from ..peers.worker import Run
from ..report import Report
from . import sanity
from .accuracy import NamedScore
from .measure import MEMORY, METRICS, OURS, UNITS, VALID, spread, wall
from .workloads import Workload

Rounds = Mapping[str, Sequence[Sequence[Run]]]
"""Engine → rounds → batches."""
Figures = dict[str, dict[str, list[float]]]
"""Engine → figure → one sample a round."""
Decode = sanity.Decode


def figures_of(
    workload: Workload,
    rounds: Rounds,
    peaks: Mapping[str, int],
    decode: Decode,
    score: NamedScore | None = None,
    sampled: Collection[str] = (),
) -> Figures:
    """All figures of a workload; the peak memory has one sample, all else one a round. Of the engines that ran a sample
    of the requests only the rates are figures: fewer requests take less time and wait less."""
    found: Figures = {}
    for name, each in rounds.items():
        metrics = [metric for metric in METRICS[workload.name] if metric.is_rate or name not in sampled]
        found[name] = {metric.name: [metric.of(runs) for runs in each] for metric in metrics}
        if workload.name == "W5":
            found[name][VALID] = [_valid(runs, decode) / wall(runs) for runs in each]
        if score is not None:
            found[name][score[0]] = [score[1](_pairs([runs]), decode) for runs in each]
        if name in peaks:
            found[name][MEMORY] = [peaks[name] / 1e6]
    return found


def tell(report: Report, workload: Workload, figures: Figures) -> None:
    """A table for readers, and every sample for the file."""
    columns = max(map(list, figures.values()), key=len, default=[])
    report.table(
        [f"{workload.name}: {workload.title}", *(f"{column}, {UNITS[column]}" for column in columns)],
        [[name, *(spread(figures[name].get(column, ())) for column in columns)] for name in figures],
    )
    for name, by_figure in figures.items():
        for column, samples in by_figure.items():
            report.record(f"{workload.name}, {name}, {column}", UNITS[column], samples)


def check_answers(report: Report, workload: Workload, rounds: Rounds, decode: Decode, judged: bool) -> None:
    """Every answer by itself, then its beginning against transformers', if that ran and the sample is `judged`."""
    reference: dict[tuple[int, ...], Answer] = {}
    for name, each in rounds.items():
        if name.startswith("transformers"):
            reference |= {tuple(job.prompt): answer for job, answer in _pairs(each)}
    for name, each in rounds.items():
        pairs = _pairs(each)
        faults = sanity.faults([job for job, _ in pairs], [answer for _, answer in pairs], decode)
        detail = f", for example {faults[0]}" if faults else ""
        report.check(f"{workload.name}, {name}: {len(pairs)} answers, {len(faults)} faulty{detail}", not faults)
        if workload.name == "W5":
            good = sum(_valid(runs, decode) for runs in each)
            text = f"W5, {name}: {good} of {len(pairs)} answers valid by the schema"
            if name == OURS:
                report.check(text, good == len(pairs))
            else:
                report.note(text)
        known = [(answer, reference[tuple(job.prompt)]) for job, answer in pairs if tuple(job.prompt) in reference]
        if judged and known and not name.startswith("transformers"):
            answers, expected = [answer for answer, _ in known], [other for _, other in known]
            alike, length = sanity.agreement(answers, expected, decode)
            text = f"{workload.name}, {name}: {alike:.0%} of {len(known)} answers begin as transformers' do"
            detail = f"{length:.0f} characters agree on average"
            if len(known) < sanity.ENOUGH:
                report.note(f"{text}; {detail}")
                continue
            chance, _ = sanity.agreement(answers, [*expected[1:], *expected[:1]], decode)
            wanted = max(sanity.REQUIRED_SHARE, 2 * chance)
            told = f"≥ {wanted:.0%} (to other prompts {chance:.0%} do)"
            report.check(f"{text}, {told}; {detail}", alike >= wanted)


def _valid(runs: Sequence[Run], decode: Decode) -> int:
    return sum(job.schema is not None and sanity.is_valid(answer, job.schema, decode) for job, answer in _pairs([runs]))


def _pairs(rounds: Sequence[Sequence[Run]]) -> list[tuple[Job, Answer]]:
    return [pair for runs in rounds for run in runs for pair in zip(run.jobs, run.answers, strict=True)]
