"""One comparison from the first installation to the last figure."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from pageform import Engine

from ..models import gguf_file
from ..options import Options
from ..peers.install import Environment, InstallError, install
from ..peers.models import Models
from ..peers.own_tools import ToolError
from ..peers.worker import PeerError, PeerHangs, Run, Variant, Worker
from ..report import Report
from ..workload import read_texts, stratified
from . import accuracy, beside, perplexity
from .choose import Chooser, ready
from .measure import METRICS, OURS, OUTPUT, in_contest, wall
from .plan import EXPECTED, Plan
from .pool import Pool
from .quiet import ALLOWED, Quiet
from .requirements import judge
from .tell import Figures, check_answers, figures_of, tell
from .variants import ours
from .workloads import Batches, Material, Workload, scaled, workloads

T = TypeVar("T")

ROUNDS, MINUTES = 3, 35.0
LOAD = 0.7
"""Share of the fastest peer's capacity at which W6's requests arrive, for all engines alike."""
PEERS_DIR = Path.home() / ".cache" / "pageform" / "peers"
ARRIVALS = "azure2023_conv_300.jsonl"


@dataclass(slots=True)
class Rounds:
    """What has been measured of a workload: an engine's rounds, each of one run a batch, and its peak memory."""

    workload: Workload
    score: accuracy.NamedScore | None
    runs: dict[str, list[list[Run]]] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    sampled: set[str] = field(default_factory=set)
    """Engines that ran a sample of the requests."""


class Session:
    """Peers are installed first; then each workload has its workers, of which one at a time runs."""

    def __init__(self, options: Options) -> None:
        for name in options.workloads:
            if name not in METRICS:
                raise ValueError(f"--workloads {name}: choose from {', '.join(METRICS)}")
        self.options = options
        self.rounds = 1 if options.smoke else options.rounds or ROUNDS
        self.peers_dir = (options.peers_dir or PEERS_DIR).resolve()
        self.models = Models(gguf_file(options.model).resolve(), self.peers_dir)
        self.report = Report("compare", {"model": options.model, "threads": options.threads, "rounds": self.rounds})
        self.plan = Plan(options.minutes or MINUTES)
        self.pool = Pool(self.peers_dir / "logs")
        self.figures: dict[str, Figures] = {}
        self.variants: dict[str, dict[str, Variant]] = {}
        """Those that took part, by workload and name."""
        self._failed: set[str] = set()
        self._out: set[str] = set()
        """Peers that fell silent: what they are asked next would only take the others' time."""

    def run(self) -> Report:
        """Everything that was asked for. What has been measured is saved as it comes."""
        # Workers are ended on the way out, and stopped ones would wait for ever: a plea to end must not skip that.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        environments = self._install()
        quiet = Quiet()
        with contextlib.closing(self.pool):
            material = self._material()
            known = workloads(material)
            scored = (
                accuracy.workloads(material, self.options.data, self.options.full)
                if "W5" in self.options.workloads
                else {}
            )
            named = [name for name in self.options.workloads if name in known]
            for name in sorted(set(self.options.workloads) - set(named)):
                self.report.note(f"{name} was not run: it needs --data with {ARRIVALS}")
            self.chooser = Chooser(
                self.pool, self.plan, self.attempt, self.report, self.models, self.options.threads, known
            )
            self._expect([*named, *scored, *(["perplexity"] if scored else [])], environments)
            for name in named:
                self._workload(known[name], environments)
            for workload, score in scored.values():
                self._workload(workload, environments, score)
            if scored and self.options.data is not None:
                self._perplexity(self.options.data)
            if not self.options.smoke:
                beside.run(self, known, environments)
        if not self.options.smoke:
            self._judge(quiet.others())  # Kept workers have ended: only then are they known to be ours.
        for peer in self.options.peers:
            self.report.check(f"{peer} was installed and ran", peer not in self._failed)
        return self.report

    def _material(self) -> Material:
        with Engine(
            self.options.model, threads=self.options.threads, kv_cache_memory="64MB", max_model_len=64
        ) as engine:
            tokenizer, chat = engine.tokenizer, engine.encode_chat
        self._decode: Callable[[list[int]], str] = tokenizer.decode
        arrivals = self.options.data / ARRIVALS if self.options.data else None
        return Material(
            read_texts(self.options.data),
            tokenizer.encode,
            chat,
            self.options.seed,
            self.options.smoke,
            arrivals if arrivals and arrivals.exists() else None,
        )

    def _expect(self, names: Sequence[str], environments: Sequence[Environment]) -> None:
        engines = (OURS, *(environment.name for environment in environments))
        for name in names:
            self.plan.expect(name, sum(EXPECTED[name].get(engine, 0.0) for engine in engines))
        if not self.options.smoke:
            self.chooser.expect(engines, names)
            beside.expect(self.plan, engines)

    def _judge(self, others: float | None) -> None:
        """The ratios, and whether they mean something: `others` is what other programs took of the processors' time."""
        if not self.options.peers:
            return
        if others is not None:
            text = f"other programs took {others:.0%} of the processors' time, ≤ {ALLOWED:.0%}"
            self.report.check(f"the machine was quiet: {text}", others <= ALLOWED)
        for name, figures in self.figures.items():
            judge(self.report, name, figures)

    def keep(self) -> None:
        """Saves what there is so far, as the report of a run that did not end; a later save takes its place."""
        if self.options.peers and not self.options.smoke:
            unfinished = dataclasses.replace(self.report, checks=list(self.report.checks))
            unfinished.check("the comparison ran to its end", False)
            unfinished.save()

    # --- peers ------------------------------------------------------------------------------------------------------

    def _install(self) -> list[Environment]:
        """The peers that can be had; each that cannot fails the report."""
        found = []
        for name in self.options.peers:
            self.plan.say(f"installing {name} into {self.peers_dir / name}")
            try:
                found.append(install(name, self.peers_dir))
            except InstallError as error:
                self._fail(name, f"could not be installed: {error}")
        return found

    def _fail(self, peer: str, reason: str) -> None:
        self.plan.say(f"{peer}: {reason}")
        self.report.note(f"{peer} {reason}")
        self._failed.add(peer)

    def attempt(self, peer: str, doing: str, work: Callable[[], T]) -> T | None:
        """What `work` returns, or None when it failed: a peer's failure is told and fails the report, while the others
        go on; ours ends everything. A peer that once fell silent is asked nothing more."""
        if peer in self._out:
            return None
        self.plan.say(doing)
        try:
            return work()
        except (PeerError, InstallError, ToolError, subprocess.SubprocessError, OSError) as error:
            if peer == OURS:
                raise
            self._fail(peer, f"failed ({doing}): {error}")
            if isinstance(error, PeerHangs):
                self._out.add(peer)
                self.report.note(f"{peer} was asked nothing more")
            return None

    def _taking_part(self, workload: Workload, environments: Sequence[Environment]) -> Iterable[Variant]:
        """Ours and, of each peer, the settings that take part."""
        yield from ours(self.options, workload)[: 1 if self.options.smoke else None]
        for environment in environments:
            yield from self.chooser.take(environment, workload, not self.options.smoke)

    # --- one workload -----------------------------------------------------------------------------------------------

    def _workload(
        self, workload: Workload, environments: Sequence[Environment], score: accuracy.NamedScore | None = None
    ) -> None:
        variants = list(self._taking_part(workload, environments))
        done = Rounds(workload, score)
        with contextlib.ExitStack() as stack:
            stack.callback(self._tell, done)  # whatever happens: what has been measured is told and saved
            with self.plan.step(workload.name):
                workers = [worker for variant in variants if (worker := self._started(stack, workload, variant))]
                self.variants[workload.name] = {worker.variant.name: worker.variant for worker in workers}
                done.sampled |= {worker.variant.name for worker in workers if worker.variant.most_jobs is not None}
                seconds = self._capacity(workload, workers) / LOAD if workload.name == "W6" else None
                self._round(done, 0, workers, seconds)
            # Right or wrong, greedy answers stay the same.
            for number in range(1, self.rounds if score is None else 1):
                names = in_contest(workload.name, done.runs)
                going_on = [worker for worker in workers if worker.variant.name in names]
                last = sum(wall(done.runs[name][-1]) for name in names)
                if not self.plan.fits(last):
                    self.report.note(f"{workload.name}: {number} of {self.rounds} rounds, for lack of time")
                    break
                # Each round begins with another engine, so that none always comes after the same one.
                first = number % len(going_on)
                self._round(done, number, [*going_on[first:], *going_on[:first]], seconds)
            done.peaks |= {worker.variant.name: worker.peak_memory() for worker in workers}

    def _started(self, stack: contextlib.ExitStack, workload: Workload, variant: Variant) -> Worker | None:
        """A worker that is ready and stopped, for as long as `stack` lasts."""
        worker = stack.enter_context(self.pool.worker(variant))
        starting = f"{workload.name}: starting {variant.name}"
        is_ready = self.attempt(variant.peer, starting, lambda: ready(worker, workload.make(-2)))
        worker.pause()
        return worker if is_ready else None

    def _round(self, done: Rounds, number: int, workers: Sequence[Worker], seconds: float | None) -> None:
        """One round of each worker; arrivals are spread over `seconds`, if they are told."""
        workload = done.workload
        batches = workload.make(number)
        if seconds is not None:
            batches = [scaled(batch, seconds) for batch in batches]
        for worker in workers:
            variant = worker.variant
            if len(done.runs.setdefault(variant.name, [])) < number:
                continue  # it failed in an earlier round
            most = variant.most_jobs
            mine = batches if most is None else [stratified(batch, most, self.options.seed) for batch in batches]
            worker.resume()
            doing = f"{workload.name}: round {number + 1} of {variant.name}"
            runs = self.attempt(variant.peer, doing, functools.partial(_run, worker, mine))
            if runs is not None:
                done.runs[variant.name].append(runs)
            worker.pause()

    def _tell(self, done: Rounds) -> None:
        runs = {name: each for name, each in done.runs.items() if each}
        if not runs:
            return
        workload = done.workload
        figures = figures_of(workload, runs, done.peaks, self._decode, done.score, done.sampled)
        self.figures[workload.name] = figures
        tell(self.report, workload, figures)
        few = sorted(name for name, each in runs.items() if len(each) < max(map(len, runs.values())))
        if few:
            self.report.note(
                f"{workload.name}: one round only, since far behind the best peer or not judged: {', '.join(few)}"
            )
        check_answers(self.report, workload, runs, self._decode, judged=not self.options.smoke)
        self.keep()

    def _capacity(self, workload: Workload, workers: Sequence[Worker]) -> float:
        """Seconds that the fastest peer (or, without peers, pageform) takes for W6's requests when all come at once.
        The fastest is W2's, or found out."""
        peers = [worker for worker in workers if worker.variant.peer != OURS] or list(workers)
        rates = {name: statistics.median(figures[OUTPUT.name]) for name, figures in self.figures.get("W2", {}).items()}
        known = [worker for worker in peers if worker.variant.name in rates]
        asked = [max(known, key=lambda worker: rates[worker.variant.name])] if known else peers
        seconds: dict[str, float] = {}
        for worker in asked:
            at_once = [scaled(batch, 0.0) for batch in workload.make(-3)]
            name = worker.variant.name
            worker.resume()
            runs = self.attempt(
                worker.variant.peer, f"W6: capacity of {name}", functools.partial(_run, worker, at_once)
            )
            worker.pause()
            if runs is not None:
                seconds[name] = wall(runs)
        if not seconds:
            raise RuntimeError("W6 cannot be run: no engine told what it can do")
        name = min(seconds, key=lambda key: seconds[key])
        self.report.note(f"W6: requests arrive at {LOAD:.0%} of what {name} can do, for all engines alike")
        return seconds[name]

    def _perplexity(self, data: Path) -> None:
        texts = accuracy.gsm8k(data)
        if self.options.smoke or not texts:
            return
        if find_spec("transformers") is None:
            self.report.note("no perplexity: its reference needs torch and transformers in this environment")
            return
        self.plan.say("perplexity")
        with self.plan.step("perplexity"):
            perplexity.run(self.report, self.options, texts)
        self.keep()


def _run(worker: Worker, batches: Batches) -> list[Run]:
    return [worker.run(batch) for batch in batches]
