"""What is measured besides the workloads: cold start, curves, the roofline, and how well a peer is driven."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pageform.weights.gguf import GgufCheckpoint

from ..job import Job
from ..peers.install import Environment
from ..peers.own_tools import NoTool, Shape, llama_bench_decode, own_rate
from ..peers.worker import Variant, Worker
from ..report import Report
from .measure import decode_rate, first_token_seconds, short
from .pool import Pool
from .variants import SLOTS

PROBE = Path(__file__).resolve().parents[1] / "kernels" / "probe.cpp"
REQUIRED_OWN = 0.9
BANDWIDTH = "share of the bandwidth"
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (64, 256, 512, 1024, 1900)


def random_jobs(count: int, length: int, output: int, seed: int) -> list[Job]:
    """Prompts of random tokens, for figures that do not depend on what they say."""
    random_ = random.Random(f"{seed}-{count}-{length}")
    return [Job([random_.randrange(100, 20_000) for _ in range(length)], output) for _ in range(count)]


def first_token(variant: Variant, log: Path) -> float:
    """Seconds from the start of the engine's process to its first token.

    Of an engine that lives in the worker, the worker's whole life counts; of one that the worker drives, the driver's
    own start does not.
    """
    with Worker(variant, log) as worker:
        loading = worker.start()
        asked = time.perf_counter()
        run = worker.run(random_jobs(1, 8, 1, 0))
        return loading + (time.perf_counter() - asked if worker.is_engine else run.seconds)


def against_own_tool(report: Report, environment: Environment, variant: Variant, threads: int, pool: Pool) -> None:
    """The peer's own program and our worker on the same shape, in turn; the better of each, since both only lose by
    what else the machine does. Of a peer that takes long to start, once each."""
    shape = Shape()
    own: list[float] = []
    driven: list[float] = []
    [variant] = with_room(variant, shape.requests, 256)[:1]
    with pool.worker(variant) as worker:
        if not worker.is_ready:
            worker.start()
        worker.run(random_jobs(2, 16, 4, 0))
        worker.pause()
        for number in range(1 if variant.keeps else 2):
            try:
                name, rate = own_rate(environment, variant, shape, threads)
            except NoTool as reason:
                report.note(str(reason))
                return
            own.append(rate)
            worker.resume()
            run = worker.run(random_jobs(shape.requests, shape.input, shape.output, number + 1))
            driven.append(shape.tokens / run.seconds)
            worker.pause()
    told = f"{shape.requests} × ({shape.input} in, {shape.output} out)"
    report.add(f"{variant.name}, {name}, {told}", "tok/s", own)
    report.add(f"{variant.name}, driven here, {told}", "tok/s", driven)
    share = max(driven) / max(own)
    report.check(
        f"{variant.name} driven here reaches {share:.0%} of {name}, ≥ {REQUIRED_OWN:.0%}", share >= REQUIRED_OWN
    )


def with_room(variant: Variant, requests: int, context: int) -> list[Variant]:
    """The variant as it does best with so many requests at once, each within `context` tokens. Of a peer with slots, as
    many as there are requests; or, where those are more than are good at once, that number too: both must be tried."""
    settings = dict(variant.settings)
    if "batch" in settings:
        settings["batch"] = max(BATCHES)
    if "slots" not in settings:
        return [replace(variant, settings=settings)]
    counts = [requests] if requests <= SLOTS else [requests, SLOTS]
    return [replace(variant, settings={**settings, "slots": count, "context": context}) for count in counts]


def against_llama_bench(
    report: Report, environment: Environment, variant: Variant, threads: int, samples: Sequence[float]
) -> None:
    """W1's decode rate against llama-bench on the same file, at the same depth."""
    own = max(llama_bench_decode(environment, variant, threads, 128) for _ in range(2))
    report.add(f"{variant.name}, llama-bench, 128 tokens after 128", "tok/s", own)
    share = max(samples) / own
    report.check(
        f"W1, {variant.name} decodes at {share:.0%} of llama-bench, ≥ {REQUIRED_OWN:.0%}", share >= REQUIRED_OWN
    )


Curve = list[tuple[float, float]]


def by_batch(pool: Pool, lone: Variant, many: Variant, batches: Sequence[int], seed: int) -> Curve:
    """(requests at once, output tokens a second): 32 tokens in, 32 out."""
    best: dict[float, float] = {}
    for variants, counts in itertools.groupby(
        batches, lambda count: with_room(lone if count == 1 else many, count, 128)
    ):
        points = list(counts)
        for variant in variants:
            with _warm(pool, variant, seed) as worker:
                for count in points:
                    run = worker.run(random_jobs(count, 32, 32, seed))
                    rate = sum(answer.count for answer in run.answers) / run.seconds
                    best[count] = max(rate, best.get(count, 0.0))
    return list(best.items())


def by_context(worker: Worker, contexts: Sequence[int], seed: int) -> tuple[Curve, Curve]:
    """(tokens of the prompt, tokens decoded a second) and (tokens of the prompt, seconds to the first token), of one
    request."""
    rates, firsts = [], []
    for length in contexts:
        run = worker.run(random_jobs(1, length, 24, seed))
        rates.append((float(length), decode_rate([run])))
        firsts.append((float(length), first_token_seconds([run])[0]))
    return rates, firsts


def curves(pool: Pool, lone: Variant, many: Variant, seed: int) -> dict[str, Curve]:
    """The three curves of an engine, by its name of each; prompts and answers differ from run to run."""
    batches = [count for count in BATCHES if many.most_jobs is None or count <= many.most_jobs]
    [variant] = with_room(lone, 1, 2048)
    with _warm(pool, variant, seed) as worker:
        rates, firsts = by_context(worker, CONTEXTS, seed)
    return {"batch": by_batch(pool, lone, many, batches, seed), "context": rates, "first token": firsts}


@contextlib.contextmanager
def _warm(pool: Pool, variant: Variant, seed: int) -> Iterator[Worker]:
    with pool.worker(variant) as worker:
        if not worker.is_ready:
            worker.start()
        worker.run(random_jobs(2, 16, 4, seed))
        yield worker


def tell_curves(report: Report, found: dict[str, dict[str, Curve]]) -> None:
    """A table a curve, one row an engine."""
    heads = {
        "batch": ("output tok/s by requests at once (32 in, 32 out)", BATCHES, 1.0),
        "context": ("decode tok/s after a prompt of", CONTEXTS, 1.0),
        "first token": ("ms to the first token of a prompt of", CONTEXTS, 1000.0),
    }
    for kind, (head, across, scale) in heads.items():
        rows = []
        for name, by_kind in found.items():
            points = dict(by_kind[kind])
            rows.append([name, *(short(points[x] * scale) if x in points else "–" for x in across)])
        if rows:
            report.table([head, *map(str, across)], rows)


def machine_limits(threads: int) -> dict[str, float] | None:
    """GOP/s of int8 arithmetic in registers and GB/s of reading memory, by a program compiled on the spot; None without
    a C++ compiler or AVX2."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, subprocess.CalledProcessError):
        program = str(Path(folder) / "probe")
        subprocess.run(["c++", "-O3", "-std=c++20", "-pthread", str(PROBE), "-o", program], check=True, timeout=120)
        done = subprocess.run([program, str(threads)], check=True, stdout=subprocess.PIPE, text=True, timeout=120)
        limits: dict[str, float] = json.loads(done.stdout)
        return limits
    return None


def tell_roofline(
    report: Report, limits: dict[str, float], model_bytes: dict[str, int], lone: dict[str, list[float]]
) -> dict[str, dict[str, list[float]]]:
    """How far lone requests are from the memory's bandwidth: each token reads all weights once. Returns the shares, in
    percent, by engine."""
    rows, shares = [], {}
    for name, samples in lone.items():
        if model_bytes.get(name):
            gbps = [rate * model_bytes[name] / 1e9 for rate in samples]
            share = [100 * value / limits["read_gbps"] for value in gbps]
            shares[name] = {BANDWIDTH: share}
            row = (model_bytes[name] / 1e6, statistics.median(gbps))
            rows.append([name, *map(short, row), f"{statistics.median(share):.0f}%"])
    report.table(["W1, distance from the roofline", "weights, MB", "weights read, GB/s", "of the bandwidth"], rows)
    return shares


def tell_arithmetic(
    report: Report,
    limits: dict[str, float],
    macs: tuple[int, int],
    tokens: tuple[int, int],
    walls: dict[str, list[float]],
) -> None:
    """How far many requests at once are from the arithmetic: each token is multiplied by all linear weights, and by the
    output matrix only if the next one is wanted. `macs` and `tokens` are of the two kinds."""
    operations = 2 * sum(each * count for each, count in zip(macs, tokens, strict=True)) / 1e9
    rows = []
    for name, seconds in walls.items():
        rate = operations / statistics.median(seconds)
        rows.append([name, short(rate), f"{rate / limits['int8_gops']:.0%}"])
    report.table(["W2, distance from the roofline", "products of linear layers, GOP/s", "of int8 arithmetic"], rows)


def linear_sizes(file: Path) -> tuple[int, int]:
    """Weights of a GGUF file's layers, and of its output matrix, which may be its embedding table."""
    shapes = {name: ref.shape for name, ref in GgufCheckpoint(file).tensors.items()}
    tables = ("lm_head.weight", "model.embed_tokens.weight")
    output = next(math.prod(shapes[name]) for name in tables if name in shapes)
    layers = sum(math.prod(shape) for name, shape in shapes.items() if len(shape) == 2 and name not in tables)
    return layers, output
