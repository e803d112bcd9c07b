"""Which settings a peer takes part with: short runs decide, once a run for each kind of load, and the report tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from ..job import Job
from ..peers.install import Environment
from ..peers.models import Models
from ..peers.worker import Run, Variant, Worker
from ..report import Report
from .measure import decode_rate, first_token_seconds, percentile, short, wall
from .plan import EXPECTED, Plan
from .pool import Pool
from .variants import candidates, variations
from .workloads import Batches, Workload

T = TypeVar("T")

Tried = dict[tuple[str, str], list[Run] | None]
"""(label of a candidate, label of its variation) → what its sample gave, None when it failed."""

TOGETHER = "vllm"
"""The peer that takes long to start."""
SAMPLES = {"W2": 16, "W3": 32, "W4": 2}
"""Requests of a workload that decide; of W1 all."""


class Guard(Protocol):
    """Says what is done and does it; None when the peer failed, which is told."""

    def __call__(self, peer: str, doing: str, work: Callable[[], T], /) -> T | None: ...


class Chooser:
    """W1, W2 and W4 decide for themselves and W3 among variations of W2's settings; W2 decides for the rest. Of a peer
    that takes minutes to start, W1 and W2 decide together, and W2 for all but W1."""

    def __init__(
        self,
        pool: Pool,
        plan: Plan,
        guard: Guard,
        report: Report,
        models: Models,
        threads: int,
        known: Mapping[str, Workload],
    ) -> None:
        self._pool = pool
        self._plan = plan
        self._guard = guard
        self._report = report
        self._models = models
        self._threads = threads
        self._known = known
        self._best: dict[tuple[str, str], list[tuple[str, str]]] = {}
        """(peer, load) → labels as in `Tried`."""

    def expect(self, peers: Iterable[str], names: Iterable[str]) -> None:
        """Tells the plan what will be tried for workloads of these names."""
        for peer in peers:
            for load in sorted({_load(name, peer == TOGETHER) for name in names}):
                self._plan.expect(_step(peer, load), EXPECTED["settings"].get(peer, 0.0))

    def take(self, environment: Environment, workload: Workload, everything: bool = True) -> list[Variant]:
        """The variants of a peer that take part in a workload, the most telling first; without `everything` the one
        that is known as good. None where the peer cannot run it or all its settings failed."""
        peer = environment.name
        found = self._guard(
            peer,
            f"{workload.name}: models of {peer}",
            lambda: candidates(environment, workload, self._models, self._threads),
        )
        if not found:
            if found is not None:
                self._report.note(f"{peer} has no way to run {workload.name}")
            return []
        if not everything:
            return found[:1]
        if len(found) == 1 or peer == "transformers":
            return found
        best = self._decided(environment, _load(workload.name, found[0].keeps), found)
        by_label = {variant.label: variant for variant in found}
        return [self._varied(by_label[label], workload, variation) for label, variation in best]

    def _decided(self, environment: Environment, load: str, found: Sequence[Variant]) -> list[tuple[str, str]]:
        key = (environment.name, load)
        if key not in self._best:
            with self._plan.step(_step(environment.name, load)):
                if found[0].keeps:
                    self._decide_together(environment.name, found)
                else:
                    self._decide(environment, load)
        return self._best[key]

    def _decide(self, environment: Environment, load: str) -> None:
        """Candidates first, or those that were best under W2; then variations of the best of them."""
        peer, workload = environment.name, self._known[load]
        found = candidates(environment, workload, self._models, self._threads)
        by_label = {variant.label: variant for variant in found}
        labels = [label for label, _ in self._decided(environment, "W2", found)] if load == "W3" else list(by_label)
        tried: Tried = {(label, ""): None for label in labels}
        more = variations(peer, load)
        if len(tried) > 1 or more:
            tried = {(label, ""): self._tried(by_label[label], load) for label in labels}
            for label, _ in _leading(load, tried)[:1]:
                for variation in more:
                    changed = self._varied(by_label[label], workload, variation)
                    tried[label, variation] = self._tried(changed, load)
            self._best[peer, load] = _leading(load, tried)
            self._tell(peer, load, tried)
        else:
            self._best[peer, load] = list(tried)

    def _decide_together(self, peer: str, found: Sequence[Variant]) -> None:
        """Each candidate is started once; the workers of the best are kept."""
        runs: dict[str, Tried] = {"W1": {}, "W2": {}}
        for variant in found:
            with self._pool.worker(variant) as worker:
                for load, tried in runs.items():
                    tried[variant.label, ""] = self._asked(worker, load)
            for load, tried in runs.items():
                self._best[peer, load] = _leading(load, tried)
            labels = {label for load in runs for label, _ in self._best[peer, load]}
            self._pool.drop(peer, [variant for variant in found if variant.label in labels])
        for load, tried in runs.items():
            self._tell(peer, load, tried)

    def _tried(self, variant: Variant, load: str) -> list[Run] | None:
        with self._pool.worker(variant) as worker:
            return self._asked(worker, load)

    def _asked(self, worker: Worker, load: str) -> list[Run] | None:
        batches = sample(self._known[load])
        name = worker.variant.name

        def work() -> list[Run]:
            ready(worker, batches)
            return [worker.run(batch) for batch in batches]

        return self._guard(worker.variant.peer, f"settings for {load}: trying {name}", work)

    @staticmethod
    def _varied(variant: Variant, workload: Workload, variation: str) -> Variant:
        changes = variations(variant.peer, workload.name).get(variation, {})
        if not changes:
            return variant
        settings = {**variant.settings, **changes}
        if "slots" in settings:
            settings["slots"] = min(int(settings["slots"]), workload.requests)
        return dataclasses.replace(variant, label=f"{variant.label} {variation}", settings=settings)

    def _tell(self, peer: str, load: str, runs: Tried) -> None:
        told = ", ".join(
            f"{' '.join(label).rstrip()} {_figures(load, done)}" for label, done in runs.items() if done is not None
        )
        if told and len(runs) > 1:
            count = sum(len(batch) for batch in sample(self._known[load]))
            self._report.note(f"settings of {peer} for {load}, tried on {count} requests: {told}")


def _step(peer: str, load: str) -> str:
    return f"settings of {peer}" if peer == TOGETHER else f"settings of {peer} for {load}"


def _load(name: str, together: bool) -> str:
    if together:
        return "W1" if name == "W1" else "W2"
    return name if name in ("W1", "W3", "W4") else "W2"


def _leading(load: str, runs: Tried) -> list[tuple[str, str]]:
    """The best by wall; of W1 the fastest to decode, and the one with the first token soonest if that is another."""
    done = {label: tried for label, tried in runs.items() if tried is not None}
    if not done:
        return []
    if load != "W1":
        return [min(done, key=lambda label: wall(done[label]))]
    fastest = max(done, key=lambda label: decode_rate(done[label]))
    soonest = min(done, key=lambda label: _first(done[label]))
    return [fastest] if fastest == soonest else [fastest, soonest]


def _first(runs: Sequence[Run]) -> float:
    return percentile(first_token_seconds(runs), 0.5)


def _figures(load: str, runs: Sequence[Run]) -> str:
    if load == "W1":
        return f"{short(decode_rate(runs))} tok/s after {short(1000 * _first(runs))} ms"
    return f"{short(wall(runs))} s"


def sample(workload: Workload) -> Batches:
    """A part of a workload, all requests at once, with prompts that no round has."""
    count = SAMPLES.get(workload.name)
    return [[dataclasses.replace(job, at=0.0) for job in batch[:count]] for batch in workload.make(-1)]


def ready(worker: Worker, batches: Batches) -> bool:
    """Loads the model unless it is loaded, and does a short run, so that caches, thread pools and compiled parts are
    there."""
    if not worker.is_ready:
        worker.start()
    worker.run([Job(job.prompt[:32], 4) for job in batches[0][:2]])
    return True
