"""One comparison from the first installation to the last figure."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ParamSpec, TypeVar

from pageform import Engine

from ..job import Job
from ..models import gguf_file
from ..options import Options
from ..peers.install import Environment, InstallError, install
from ..peers.models import Models
from ..peers.own_tools import ToolError
from ..peers.worker import PeerError, Run, Variant, Worker
from ..report import Report
from ..workload import read_texts, stratified
from . import accuracy, extras, perplexity, pictures
from .measure import DECODE, METRICS, OUTPUT, short, wall
from .quiet import ALLOWED, Quiet
from .requirements import OURS, judge
from .tell import Figures, check_answers, figures_of, tell
from .variants import candidates, ours
from .workloads import Batches, Material, Workload, scaled, workloads

P = ParamSpec("P")
T = TypeVar("T")

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
        self.peers_dir = (options.peers_dir or PEERS_DIR).resolve()
        self.models = Models(gguf_file(options.model).resolve(), self.peers_dir)
        self.report = Report("compare", {"model": options.model, "threads": options.threads, "rounds": self.rounds})
        self.figures: dict[str, Figures] = {}
        self.variants: dict[str, dict[str, Variant]] = {}
        """Those that took part, by workload and name."""
        self._failed: set[str] = set()

    def run(self) -> Report:
        """Everything that was asked for."""
        # Workers are ended on the way out, and stopped ones would wait for ever: a plea to end must not skip that.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        environments = self._install()
        quiet = Quiet()
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
        if "W5" in self.options.workloads and self.options.data is not None:
            for workload, score in accuracy.workloads(material, self.options.data).values():
                self._workload(workload, environments, score)
            self._perplexity(self.options.data)
        if not self.options.smoke:
            self._extras(environments)
            self._judge(quiet.others())
        for peer in self.options.peers:
            self.report.check(f"{peer} was installed and ran", peer not in self._failed)
        return self.report

    def _judge(self, others: float | None) -> None:
        """The ratios, and whether they mean something: `others` is what other programs took of the processors' time."""
        if not self.options.peers:
            return
        if others is not None:
            text = f"other programs took {others:.0%} of the processors' time, ≤ {ALLOWED:.0%}"
            self.report.check(f"the machine was quiet: {text}", others <= ALLOWED)
        for name, figures in self.figures.items():
            judge(self.report, name, figures)

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
        yield from ours(self.options, workload)[: 1 if self.options.smoke else None]
        for environment in environments:
            arguments = (environment, workload, self.models, self.options.threads, not self.options.smoke)
            found = self._try(
                environment.name, f"{workload.name}: models of {environment.name}", candidates, *arguments
            )
            if found is None:
                continue
            if not found:
                self.report.note(f"{environment.name} has no way to run {workload.name}")
            elif workload.name in accuracy.LIMITS:
                # What is judged is the engine whose speed W5 tells, in the same settings.
                names = self.variants.get("W5", {})
                yield next((variant for variant in found if variant.name in names), found[0])
            elif environment.name == "transformers" or (workload.name == "W1" and environment.name != "vllm"):
                # One quantization may answer first and another decode fastest. vLLM takes 5 GB each time it runs.
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
            with Worker(variant, self._log(variant)) as worker:
                if self._try(
                    variant.peer, f"{workload.name}: starting {variant.name} to try it", self._ready, worker, batches
                ):
                    taken = self._try(
                        variant.peer, f"{workload.name}: trying {variant.name}", self._seconds, worker, batches
                    )
                    if taken is not None:
                        seconds[variant.name] = taken
        if not seconds:
            return
        told = ", ".join(f"{name} {short(value)} s" for name, value in seconds.items())
        self.report.note(f"{workload.name}, settings of {found[0].peer} tried on {len(batches[0])} requests: {told}")
        yield next(v for v in found if v.name == min(seconds, key=lambda name: seconds[name]))

    @staticmethod
    def _ready(worker: Worker, batches: Batches) -> bool:
        """Loads the model and does a short run, so that caches, thread pools and compiled parts are there."""
        worker.start()
        worker.run([Job(job.prompt[:32], 4) for job in batches[0][:2]])
        return True

    @staticmethod
    def _seconds(worker: Worker, batches: Batches) -> float:
        return wall([worker.run(batch) for batch in batches])

    def _log(self, variant: Variant) -> Path:
        return self.peers_dir / "logs" / f"{variant.name.replace(' ', '-')}.log"

    # --- one workload -----------------------------------------------------------------------------------------------

    def _workload(
        self, workload: Workload, environments: Sequence[Environment], score: accuracy.NamedScore | None = None
    ) -> None:
        rounds = 1 if score is not None else self.rounds  # right or wrong, greedy answers stay the same
        runs: dict[str, list[list[Run]]] = {}
        peaks: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            workers: list[Worker] = []
            for variant in self._variants(workload, environments):
                worker = stack.enter_context(Worker(variant, self._log(variant)))
                starting = f"{workload.name}: starting {variant.name}"
                if self._try(variant.peer, starting, self._ready, worker, workload.make(-2)):
                    workers.append(worker)
                worker.pause()
            seconds = self._capacity(workload, workers) if workload.name == "W6" else 0.0
            for number in range(rounds):
                batches = workload.make(number)
                if workload.name == "W6":
                    batches = [scaled(batch, seconds / LOAD) for batch in batches]
                # Each round begins with another engine, so that none always comes after the same one.
                for worker in [*workers[number % len(workers) :], *workers[: number % len(workers)]]:
                    variant = worker.variant
                    if len(runs.setdefault(variant.name, [])) < number:
                        continue  # it failed in an earlier round
                    worker.resume()
                    done = self._try(
                        variant.peer, f"{workload.name}: round {number} of {variant.name}", self._round, worker, batches
                    )
                    if done is not None:
                        runs[variant.name].append(done)
                    worker.pause()
            self.variants[workload.name] = {worker.variant.name: worker.variant for worker in workers}
            for worker in workers:
                peaks[worker.variant.name] = worker.peak_memory()
        complete = {name: samples for name, samples in runs.items() if len(samples) == rounds}
        sampled = {worker.variant.name for worker in workers if worker.variant.most_jobs is not None}
        figures = figures_of(workload, complete, peaks, self._decode, score, sampled)
        self.figures[workload.name] = figures
        tell(self.report, workload, figures)
        check_answers(self.report, workload, complete, self._decode, judged=not self.options.smoke)

    def _round(self, worker: Worker, batches: Batches) -> list[Run]:
        most = worker.variant.most_jobs
        return [worker.run(batch if most is None else stratified(batch, most, self.options.seed)) for batch in batches]

    def _try(self, peer: str, doing: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What `work` returns, or None when it failed: a peer's failure is told and fails the report, while the others
        go on; ours ends everything."""
        say(doing)
        try:
            return work(*args, **kwargs)
        except (PeerError, InstallError, ToolError, subprocess.SubprocessError, OSError) as error:
            if peer == OURS:
                raise
            self._fail(peer, f"failed ({doing}): {error}")
            return None

    def _capacity(self, workload: Workload, workers: Sequence[Worker]) -> float:
        """Seconds that the fastest peer (or, without peers, pageform) takes for W6's requests when all come at once."""
        seconds: dict[str, float] = {}
        for worker in workers:
            worker.resume()
            at_once = [scaled(batch, 0.0) for batch in workload.make(-3)]
            taken = self._try(
                worker.variant.peer, f"W6: capacity of {worker.variant.name}", self._seconds, worker, at_once
            )
            if taken is not None:
                seconds[worker.variant.name] = taken
            worker.pause()
        peers = {name: value for name, value in seconds.items() if not name.startswith(OURS)} or seconds
        name = min(peers, key=lambda key: peers[key])
        self.report.note(f"W6: requests arrive at {LOAD:.0%} of what {name} can do, for all engines alike")
        return peers[name]

    def _perplexity(self, data: Path) -> None:
        texts = accuracy.gsm8k(data)
        if self.options.smoke or not texts:
            return
        if find_spec("transformers") is None:
            self.report.note("no perplexity: its reference needs torch and transformers in this environment")
            return
        say("perplexity")
        perplexity.run(self.report, self.options, texts)

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
                taken = self._try(
                    variant.peer, f"cold start of {variant.name}", extras.first_token, variant, self._log(variant)
                )
                if taken is not None:
                    cold.setdefault(variant.name, []).append(taken)
        cold = {name: samples for name, samples in cold.items() if len(samples) == self.rounds}
        self.figures["cold start"] = {name: {"seconds": samples} for name, samples in cold.items()}
        for name, samples in cold.items():
            report.add(f"process start to first token, {name}", "s", samples)
        for variant in chosen:
            arguments = (variant, self._log(variant), self.options.seed)
            drawn = self._try(variant.peer, f"curves of {variant.name}", extras.curves, *arguments)
            if drawn is not None:
                curves[variant.name] = drawn
        extras.tell_curves(report, curves)
        for environment in environments:
            self._own_tool(environment)
        pictures.draw(report, self.figures, curves)

    def _chosen(self) -> list[Variant]:
        """Of each engine the variant with the most output in W2, or else the fastest in W1."""
        found: dict[str, Variant] = {}
        for name, metric in (("W2", OUTPUT), ("W1", DECODE)):
            figures = self.figures.get(name, {})
            # Of pageform the one that is judged.
            for key in sorted(figures, key=lambda key: (key != OURS, -statistics.median(figures[key][metric.name]))):
                variant = self.variants[name][key]
                found.setdefault(variant.peer, variant)
        return list(found.values())

    def _own_tool(self, environment: Environment) -> None:
        """Checks that nothing is lost by how we drive a peer."""
        variant = next((v for v in self._chosen() if v.peer == environment.name), None)
        if variant is None:
            return
        doing, common = (
            f"own benchmark program of {variant.name}",
            (self.report, environment, variant, self.options.threads),
        )
        self._try(environment.name, doing, extras.against_own_tool, *common, self._log(variant))
        lone = self.figures.get("W1", {}).get(variant.name)
        if environment.name == "llama.cpp" and lone:
            self._try(environment.name, doing, extras.against_llama_bench, *common, lone[DECODE.name])


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"compare: {text}", file=sys.stderr, flush=True)
