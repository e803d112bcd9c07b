"""One comparison from the first installation to the last figure."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pageform import Engine

from ..job import Job
from ..models import gguf_file
from ..options import Options
from ..peers.install import Environment, InstallError, install
from ..peers.models import Models
from ..peers.worker import PeerError, Run, Variant, Worker
from ..report import Report
from ..workload import read_texts, stratified
from . import extras, pictures
from .measure import DECODE, METRICS, OUTPUT, short, wall
from .requirements import OURS, judge
from .tell import Figures, check_answers, figures_of, tell
from .variants import candidates, ours
from .workloads import Batches, Material, Workload, scaled, workloads

ROUNDS = 3
SWEEP_JOBS = 16
"""Of a batch, for choosing among settings."""
LOAD = 0.7
"""Share of the fastest peer's capacity at which W6's requests arrive, for all engines alike."""
PEERS_DIR = Path.home() / ".cache" / "pageform" / "peers"
ARRIVALS = "azure2023_conv_300.jsonl"


class Session:
    """Peers are installed first; then each workload has fresh workers, of which one at a time runs."""

    def __init__(self, options: Options) -> None:
        for name in options.workloads:
            if name not in METRICS:
                raise ValueError(f"--workloads {name}: choose from {', '.join(METRICS)}")
        self.options = options
        self.rounds = 1 if options.smoke else options.rounds or ROUNDS
        self.peers_dir = options.peers_dir or PEERS_DIR
        self.models = Models(gguf_file(options.model), self.peers_dir)
        self.report = Report("compare", {"model": options.model, "threads": options.threads, "rounds": self.rounds})
        self.figures: dict[str, Figures] = {}
        self.variants: dict[str, dict[str, Variant]] = {}
        """Those that took part, by workload and name."""
        self._failed: set[str] = set()

    def run(self) -> Report:
        """Everything that was asked for."""
        environments = self._install()
        with Engine(
            self.options.model, threads=self.options.threads, kv_cache_memory="64MB", max_model_len=64
        ) as engine:
            tokenizer, chat = engine.tokenizer, engine.encode_chat
        arrivals = self.options.data / ARRIVALS if self.options.data else None
        material = Material(
            read_texts(self.options.data),
            tokenizer.encode,
            chat,
            self.options.seed,
            self.options.smoke,
            arrivals if arrivals and arrivals.exists() else None,
        )
        self._decode = tokenizer.decode
        known = workloads(material)
        for name in self.options.workloads:
            if name not in known:
                self.report.note(f"{name} was not run: it needs --data with {ARRIVALS}")
                continue
            self._workload(known[name], environments)
        if not self.options.smoke:
            self._extras(environments)
            for name, figures in self.figures.items():
                judge(self.report, name, figures)
        for peer in self.options.peers:
            self.report.check(f"{peer} was installed and ran", peer not in self._failed)
        return self.report

    # --- peers ------------------------------------------------------------------------------------------------------

    def _install(self) -> list[Environment]:
        """The peers that can be had; each that cannot fails the report."""
        found = []
        for name in self.options.peers:
            say(f"installing {name} into {self.peers_dir / name}")
            try:
                found.append(install(name, self.peers_dir))
            except InstallError as error:
                self._fail(name, f"could not be installed: {error}")
        return found

    def _fail(self, peer: str, reason: str) -> None:
        say(f"{peer}: {reason}")
        self.report.note(f"{peer} {reason}")
        self._failed.add(peer)

    def _variants(self, workload: Workload, environments: Sequence[Environment]) -> Iterable[Variant]:
        """Ours and, of each peer, the settings that take part."""
        yield ours(self.options)
        for environment in environments:
            try:
                found = candidates(environment, workload, self.models, self.options.threads, not self.options.smoke)
            except InstallError as error:
                self._fail(environment.name, f"has no model for {workload.name}: {error}")
                continue
            if not found:
                self.report.note(f"{environment.name} has no way to run {workload.name}")
            elif workload.name == "W1" or environment.name == "transformers":
                yield from found
            else:
                yield from self._best(workload, found)

    def _best(self, workload: Workload, found: list[Variant]) -> Iterable[Variant]:
        """The variant that does the first jobs of the workload in the shortest time, by a run of its own each."""
        if len(found) == 1:
            yield found[0]
            return
        batches = [[dataclasses.replace(job, at=0.0) for job in batch[:SWEEP_JOBS]] for batch in workload.make(-1)]
        seconds: dict[str, float] = {}
        for variant in found:
            try:
                with self._worker(variant, workload) as worker:
                    worker.start()
                    warm_up(worker, batches)
                    seconds[variant.name] = wall([worker.run(batch) for batch in batches])
            except PeerError as error:
                self.report.note(f"{workload.name}, choosing settings: {error}")
        if not seconds:
            self._fail(found[0].peer, f"failed in all settings of {workload.name}")
            return
        told = ", ".join(f"{name} {short(value)} s" for name, value in seconds.items())
        self.report.note(f"{workload.name}, settings of {found[0].peer} tried on {len(batches[0])} requests: {told}")
        yield next(v for v in found if v.name == min(seconds, key=lambda name: seconds[name]))

    def _worker(self, variant: Variant, workload: Workload) -> Worker:
        say(f"{workload.name}: {variant.name}")
        return Worker(variant, self._log(variant))

    def _log(self, variant: Variant) -> Path:
        return self.peers_dir / "logs" / f"{variant.name.replace(' ', '-')}.log"

    # --- one workload -----------------------------------------------------------------------------------------------

    def _workload(self, workload: Workload, environments: Sequence[Environment]) -> None:
        runs: dict[str, list[list[Run]]] = {}
        peaks: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            workers: list[Worker] = []
            for variant in self._variants(workload, environments):
                worker = stack.enter_context(self._worker(variant, workload))
                with self._guard(worker.variant.peer, workload.name):
                    worker.start()
                    warm_up(worker, workload.make(-2))
                    workers.append(worker)
                worker.pause()
            seconds = self._capacity(workload, workers) if workload.name == "W6" else 0.0
            for number in range(self.rounds):
                batches = workload.make(number)
                if workload.name == "W6":
                    batches = [scaled(batch, seconds / LOAD) for batch in batches]
                # Each round begins with another engine, so that none always comes after the same one.
                for worker in [*workers[number % len(workers) :], *workers[: number % len(workers)]]:
                    if worker.variant.peer in self._failed:
                        continue
                    worker.resume()
                    with self._guard(worker.variant.peer, workload.name):
                        runs.setdefault(worker.variant.name, []).append(self._round(worker, batches))
                    worker.pause()
            self.variants[workload.name] = {worker.variant.name: worker.variant for worker in workers}
            for worker in workers:
                peaks[worker.variant.name] = worker.peak_memory()
        complete = {name: rounds for name, rounds in runs.items() if len(rounds) == self.rounds}
        figures = figures_of(workload, complete, peaks, self._decode)
        self.figures[workload.name] = figures
        tell(self.report, workload, figures)
        check_answers(self.report, workload, complete, self._decode)

    def _round(self, worker: Worker, batches: Batches) -> list[Run]:
        most = worker.variant.most_jobs
        return [worker.run(batch if most is None else stratified(batch, most, self.options.seed)) for batch in batches]

    @contextlib.contextmanager
    def _guard(self, peer: str, doing: str) -> Iterator[None]:
        """A peer's failure ends its part in the comparison, and is told; ours ends everything."""
        try:
            yield
        except (PeerError, InstallError, subprocess.SubprocessError) as error:
            if peer == OURS:
                raise
            self._fail(peer, f"failed in {doing}: {error}")

    def _capacity(self, workload: Workload, workers: Sequence[Worker]) -> float:
        """Seconds that the fastest peer (or, without peers, pageform) takes for W6's requests when all come at once."""
        seconds: dict[str, float] = {}
        for worker in workers:
            worker.resume()
            with self._guard(worker.variant.peer, workload.name):
                seconds[worker.variant.name] = wall([worker.run(scaled(batch, 0.0)) for batch in workload.make(-3)])
            worker.pause()
        peers = {name: value for name, value in seconds.items() if name != OURS} or seconds
        name = min(peers, key=lambda key: peers[key])
        self.report.note(f"W6: requests arrive at {LOAD:.0%} of what {name} can do, for all engines alike")
        return peers[name]

    # --- besides the workloads --------------------------------------------------------------------------------------

    def _extras(self, environments: Sequence[Environment]) -> None:
        """What can be told by the workloads that ran: see `extras`."""
        threads, report = self.options.threads, self.report
        if "W1" in self.figures:
            lone = {name: figures[DECODE.name] for name, figures in self.figures["W1"].items()}
            limits = extras.machine_limits(threads)
            if limits is None:
                report.note("no roofline: the probe needs a C++ compiler and AVX2")
            else:
                sizes = {name: variant.model_bytes for name, variant in self.variants["W1"].items()}
                extras.tell_roofline(report, limits, sizes, lone)
        cold: dict[str, list[float]] = {}
        curves: dict[str, dict[str, extras.Curve]] = {}
        chosen = self._chosen()
        for _ in range(self.rounds):
            for variant in chosen:
                with self._guard(variant.peer, "cold start"):
                    say(f"cold start: {variant.name}")
                    cold.setdefault(variant.name, []).append(extras.first_token(variant, self._log(variant)))
        self.figures["cold start"] = {name: {"seconds": samples} for name, samples in cold.items()}
        for name, samples in cold.items():
            report.add(f"process start to first token, {name}", "s", samples)
        for variant in chosen:
            with self._guard(variant.peer, "curves"):
                say(f"curves: {variant.name}")
                curves[variant.name] = extras.curves(variant, self._log(variant), self.options.seed)
        extras.tell_curves(report, curves)
        for environment in environments:
            self._own_tool(environment)
        pictures.draw(report, self.figures, curves)

    def _chosen(self) -> list[Variant]:
        """Of each engine the variant with the most output in W2, or else the fastest in W1."""
        found: dict[str, Variant] = {}
        for name, metric in (("W2", OUTPUT), ("W1", DECODE)):
            figures = self.figures.get(name, {})
            for key in sorted(figures, key=lambda key: -statistics.median(figures[key][metric.name])):
                variant = self.variants[name][key]
                found.setdefault(variant.peer, variant)
        return list(found.values())

    def _own_tool(self, environment: Environment) -> None:
        """Checks that nothing is lost by how we drive a peer."""
        threads, report = self.options.threads, self.report
        variant = next((v for v in self._chosen() if v.peer == environment.name), None)
        if variant is None or environment.name in self._failed:
            return
        with self._guard(environment.name, "its own benchmark program"):
            say(f"own benchmark program: {variant.name}")
            extras.against_own_tool(report, environment, variant, threads, self._log(variant))
            lone = self.figures.get("W1", {}).get(variant.name)
            if environment.name == "llama.cpp" and lone:
                extras.against_llama_bench(report, environment, variant, threads, lone[DECODE.name])


def warm_up(worker: Worker, batches: Batches) -> None:
    """A short run, so that caches, thread pools and compiled parts are there."""
    jobs = batches[0][:2]
    worker.run([Job(job.prompt[:32], 4) for job in jobs])


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"compare: {text}", file=sys.stderr, flush=True)
