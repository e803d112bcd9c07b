"""What is measured beside the workloads, of each engine in its chosen settings: the order, and what is told of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..peers.install import Environment
from ..peers.worker import Variant
from . import extras, pictures
from .measure import DECODE, OURS, WALL
from .plan import EXPECTED, Plan
from .variants import ours
from .workloads import Workload

if TYPE_CHECKING:
    from .session import Session

LONE, MANY = "W1", "W2"
"""Whose settings serve lone requests, and whose many at once."""


def expect(plan: Plan, engines: Sequence[str]) -> None:
    """Tells the plan what there will be to do."""
    for name in ("cold start", "curves", "own programs"):
        for engine in engines:
            plan.expect(f"{name} of {engine}", EXPECTED[name].get(engine, 0.0))


def run(session: Session, known: Mapping[str, Workload], environments: Sequence[Environment]) -> None:
    """Everything that the workloads which ran allow."""
    session.keep()
    _roofline(session, known)
    if {LONE, MANY} & session.figures.keys():
        chosen = _chosen(session, known, environments)
        _cold_start(session, {peer: lone for peer, (lone, _) in chosen.items()})
        session.keep()
        curves = _curves(session, chosen)
        session.keep()
        for environment in environments:
            if environment.name in chosen:
                _own_programs(session, environment, *chosen[environment.name])
    else:
        curves = {}
    pictures.draw(session.report, session.figures, curves)


def _chosen(
    session: Session, known: Mapping[str, Workload], environments: Sequence[Environment]
) -> dict[str, tuple[Variant, Variant]]:
    """Of each engine the settings for lone requests and those for many."""
    found = {OURS: (ours(session.options, known[LONE])[0], ours(session.options, known[MANY])[0])}
    for environment in environments:
        lone, many = (session.chooser.take(environment, known[name]) for name in (LONE, MANY))
        if lone and many:
            # Of transformers, which chooses nothing, the last runs the most at once.
            found[environment.name] = (lone[0], many[-1])
    return found


def _left_out(session: Session, step: str) -> bool:
    """Whether there is no time for it any more, which is told."""
    if not session.plan.is_over:
        return False
    with session.plan.step(step):
        session.report.note(f"left out for lack of time: {step}")
    return True


def _roofline(session: Session, known: Mapping[str, Workload]) -> None:
    report = session.report
    if LONE not in session.figures and MANY not in session.figures:
        return
    limits = extras.machine_limits(session.options.threads)
    if limits is None:
        report.note("no roofline: the probe needs a C++ compiler and AVX2")
        return
    report.add("memory, read by all threads", "GB/s", limits["read_gbps"])
    report.add("int8 arithmetic (vpmaddubsw + vpaddw) of all threads", "GOP/s", limits["int8_gops"])
    lone = {name: figures[DECODE.name] for name, figures in session.figures.get(LONE, {}).items()}
    sizes = {name: variant.model_bytes for name, variant in session.variants.get(LONE, {}).items()}
    session.figures["roofline"] = extras.tell_roofline(report, limits, sizes, lone)
    many = session.figures.get(MANY, {})
    walls = {name: figures[WALL.name] for name, figures in many.items() if WALL.name in figures}
    if walls:
        jobs = [job for batch in known[MANY].make(0) for job in batch]
        tokens = (sum(len(job.prompt) + job.output_tokens for job in jobs), sum(job.output_tokens for job in jobs))
        extras.tell_arithmetic(report, limits, extras.linear_sizes(session.models.file), tokens, walls)


def _cold_start(session: Session, chosen: Mapping[str, Variant]) -> None:
    """As many starts of each as there are rounds, in turn; one of an engine that is far behind."""
    found: dict[str, list[float]] = {}
    for number in range(session.rounds):
        for peer, variant in chosen.items():
            theirs = [taken[0] for name, taken in found.items() if taken and not name.startswith(OURS)]
            soonest = min(theirs, default=0.0)
            samples = found.setdefault(variant.name, [])
            if len(samples) < number or (number and peer != OURS and samples[0] > 3 * soonest):
                continue
            step = f"cold start of {peer}"
            if _left_out(session, step):
                continue
            with session.plan.step(step):
                log = session.pool.log(variant)
                work = functools.partial(extras.first_token, variant, log)
                taken = session.attempt(peer, f"cold start of {variant.name}", work)
            if taken is not None:
                samples.append(taken)
    found = {name: samples for name, samples in found.items() if samples}
    session.figures["cold start"] = {name: {"seconds": samples} for name, samples in found.items()}
    for name, samples in found.items():
        session.report.add(f"process start to first token, {name}", "s", samples)


def _curves(session: Session, chosen: Mapping[str, tuple[Variant, Variant]]) -> dict[str, dict[str, extras.Curve]]:
    found: dict[str, dict[str, extras.Curve]] = {}
    for peer, (lone, many) in chosen.items():
        step = f"curves of {peer}"
        if _left_out(session, step):
            continue
        with session.plan.step(step):
            work = functools.partial(extras.curves, session.pool, lone, many, session.options.seed)
            drawn = session.attempt(peer, f"curves of {peer}", work)
        if drawn is not None:
            found[peer] = drawn
            session.report.note(f"curves: {lone.name} for lone requests, {many.name} for several at once")
    extras.tell_curves(session.report, found)
    return found


def _own_programs(session: Session, environment: Environment, lone: Variant, many: Variant) -> None:
    """Checks that nothing is lost by how we drive a peer."""
    peer, threads = environment.name, session.options.threads
    step = f"own programs of {peer}"
    if _left_out(session, step):
        return
    with session.plan.step(step):
        common = (session.report, environment)
        work = functools.partial(extras.against_own_tool, *common, many, threads, session.pool)
        session.attempt(peer, f"own benchmark program of {many.name}", work)
        samples = session.figures.get(LONE, {}).get(lone.name)
        if peer == "llama.cpp" and samples:
            alone = functools.partial(extras.against_llama_bench, *common, lone, threads, samples[DECODE.name])
            session.attempt(peer, f"llama-bench on {lone.name}", alone)
