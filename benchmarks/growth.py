"""Whether cost grows as it should: with the prompt, with the context, with what was answered before, with the batch.

Time to the first token must be linear in the prompt plus the attention's square, without steps. Decoding must cost a
process that has answered ten thousand requests what it costs a new one, and memory must stay where it was. What a step
allocates in Python must not depend on the length of its contexts. And of a step itself the model must take nearly all.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pageform import Engine, SamplingParams
from pageform.engine.base import outcome
from pageform.engine.ticket import Ticket

from .compare.workloads import Material, extractions
from .options import Options
from .report import Report
from .soak import resident_bytes
from .workload import cut_text, read_texts

Array = NDArray[np.float64]

LENGTHS = tuple(range(64, 1901, 108))
PROMPT_ROUNDS = 3
RESIDUAL = 0.10
"""Of the fitted time, for the median of any length: a chunk too many costs less, reading a cache twice costs more."""

FINISHED = (0, 1_000, 10_000)
LATENCY_ROUNDS = 7
LATENCY_BATCH, LATENCY_TOKENS = 8, 48
LATENCY_RATIO = 1.1
MEMORY_AFTER = 2_000
"""Requests until caches are warm; from then on memory is compared."""
MEMORY_ALLOWED = 8e6

CONTEXTS = (100, 1_900)
ALLOCATION_STEPS = 60
TRANSIENT_ALLOWED = 1_024
"""Bytes that a step may allocate for a while more than one with a short context: a list that doubles now and then."""

BATCHES = (32, 64)
HOST_ROUNDS, HOST_TOKENS = 3, 64
HOST_SHARE = 0.05


def run(options: Options) -> Report:
    """Fits, ratios and shares, and what must hold of them."""
    report = Report("growth", {"model": options.model, "threads": options.threads})

    def make() -> Engine:
        return Engine(
            options.model,
            threads=options.threads,
            seed=options.seed,
            kv_cache_memory="256MB",
            max_num_seqs=64,
            max_model_len=2048,
            drafts="none",
        )

    with make() as engine:
        texts = Texts(options, engine)
        measure_prompts(report, engine, texts, options)
        measure_allocations(report, engine, texts, options)
        measure_host(report, engine, texts, options)
        measure_finished(report, engine, texts, options, make)
    return report


class Texts:
    """Prompts that share no beginning."""

    def __init__(self, options: Options, engine: Engine) -> None:
        self.material = Material(
            read_texts(options.data), engine.tokenizer.encode, engine.encode_chat, options.seed, options.smoke
        )
        self._random = random.Random(options.seed)
        self._number = 0

    def prompt(self, length: int) -> list[int]:
        """`length` token ids."""
        self._number += 1
        return cut_text(self.material.texts, self.material.encode, self._random, f"{self._number}. ", length)


# --- time to the first token -----------------------------------------------------------------------------------------


def measure_prompts(report: Report, engine: Engine, texts: Texts, options: Options) -> None:
    """Lone prompts of all lengths, in random order, against a·n + b·n² + c."""
    lengths, rounds = (LENGTHS[:4], 1) if options.smoke else (LENGTHS, PROMPT_ROUNDS)
    random_ = random.Random(options.seed)
    seconds: dict[int, list[float]] = {length: [] for length in lengths}
    first_token(engine, texts.prompt(lengths[-1]))
    for _ in range(rounds):
        for length in random_.sample(lengths, len(lengths)):
            seconds[length].append(first_token(engine, texts.prompt(length)))
    for length, samples in seconds.items():
        report.add(f"time to first token, prompt of {length}", "ms", [1000 * value for value in samples])
    # The fastest run of a length is the one that nothing else disturbed.
    times = np.array([min(samples) for samples in seconds.values()])
    coefficients, residuals = fit(np.array(lengths, float), times)
    constant, linear, square = coefficients
    report.add("time to first token: of the first token itself", "ms", 1000 * constant)
    report.add("time to first token: a token of the prompt", "ms", 1000 * linear)
    report.add("time to first token: a thousand pairs of tokens", "ms", 1e6 * square)
    worst = report.add("time to first token: largest distance from the fit", "%", 100 * float(abs(residuals).max()))
    if not options.smoke:
        report.check(
            f"time to first token is linear in the prompt plus its square, within {RESIDUAL:.0%} at every length",
            worst.median <= 100 * RESIDUAL and linear > 0 and square >= 0,
        )


def fit(lengths: Array, times: Array) -> tuple[Array, Array]:
    """Least squares of the relative error of c + a·n + b·n²: (c, a, b) and the relative residuals."""
    terms = np.stack([np.ones_like(lengths), lengths, lengths**2], axis=1)
    solution = np.linalg.lstsq(terms / times[:, None], np.ones_like(times), rcond=None)[0]
    coefficients = np.asarray(solution, np.float64)
    return coefficients, terms @ coefficients / times - 1.0


def first_token(engine: Engine, prompt: Sequence[int]) -> float:
    """Seconds until the first token of a lone request, with nothing in the cache."""
    engine.reset_prefix_cache()
    start = time.perf_counter()
    engine.generate([prompt], sampling=exactly(1), progress=False)
    return time.perf_counter() - start


def exactly(tokens: int) -> SamplingParams:
    """Greedily so many tokens."""
    return SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)


# --- what a step allocates --------------------------------------------------------------------------------------------


def measure_allocations(report: Report, engine: Engine, texts: Texts, options: Options) -> None:
    """Python's memory between steps, and the most that it is within one, at two lengths of context."""
    contexts = (50, 150) if options.smoke else CONTEXTS
    steps = 8 if options.smoke else ALLOCATION_STEPS
    kept: dict[int, float] = {}
    transient: dict[int, float] = {}
    for context in contexts:
        prompts = [texts.prompt(context) for _ in range(4)]
        blocks: list[int] = []
        decode(engine, prompts, steps, partial(note_blocks, blocks))
        kept[context] = (blocks[-1] - blocks[4]) / (len(blocks) - 5)
        peaks: list[int] = []
        tracemalloc.start()
        try:
            decode(engine, prompts, steps, partial(note_peak, peaks))
        finally:
            tracemalloc.stop()
        transient[context] = statistics.median(peaks[4:])
        report.add(f"Python allocations that a step keeps, context {context}", "blocks", kept[context])
        report.add(f"Python memory that a step uses for a while, context {context}", "kB", transient[context] / 1e3)
    short, long = contexts
    report.check("a step keeps as many Python allocations in a long context", kept[long] <= kept[short] + 2.0)
    report.check(
        "a step uses as much Python memory in a long context", transient[long] <= transient[short] + TRANSIENT_ALLOWED
    )
    report.note(f"allocations are of steps with four requests, over {steps} steps")


def note_blocks(blocks: list[int]) -> None:
    """Python's allocations now."""
    blocks.append(sys.getallocatedblocks())


def note_peak(peaks: list[int]) -> None:
    """By how much Python's memory was larger since the last call than it is now."""
    current, peak = tracemalloc.get_traced_memory()
    peaks.append(peak - current)
    tracemalloc.reset_peak()


def decode(engine: Engine, prompts: Sequence[Sequence[int]], tokens: int, after_step: Callable[[], None]) -> None:
    """Decodes all prompts at once; `after_step` is called in the engine's thread once a step."""
    tickets = [engine.ticket(list(prompt), exactly(tokens)) for prompt in prompts[:-1]]
    tickets.append(engine.ticket(list(prompts[-1]), exactly(tokens), on_delta=lambda _text, _token: after_step()))
    for ticket in tickets:
        engine.submit(ticket)
    for ticket in tickets:
        outcome(ticket)


# --- what of a step is not the model ----------------------------------------------------------------------------------


def measure_host(report: Report, engine: Engine, texts: Texts, options: Options) -> None:
    """The share of a step that the model does not run, as the engine itself counts it, and of whole runs."""
    rounds, tokens = (1, 4) if options.smoke else (HOST_ROUNDS, HOST_TOKENS)
    for batch in (4,) if options.smoke else BATCHES:
        shares: list[float] = []
        for _ in range(rounds):
            tickets = [engine.ticket(texts.prompt(48), exactly(tokens)) for _ in range(batch)]
            shares.append(host_share(engine, tickets))
        share = report.add(f"step outside the model, batch {batch}", "%", [100 * value for value in shares])
        if not options.smoke:
            name = f"a step at batch {batch} spends less than {HOST_SHARE:.0%} outside the model"
            report.check(name, share.median < 100 * HOST_SHARE)
    shares = []
    for number in range(rounds):
        jobs = extractions(texts.material, number)[0]
        params = [
            SamplingParams(temperature=0.0, max_tokens=job.output_tokens, json_schema=job.schema, drafts="auto")
            for job in jobs
        ]
        tickets = [engine.ticket(job.prompt, one) for job, one in zip(jobs, params, strict=True)]
        shares.append(host_share(engine, tickets))
    report.add("step outside the model, 16 extractions by schema", "%", [100 * value for value in shares])


def host_share(engine: Engine, tickets: Sequence[Ticket]) -> float:
    """Of all steps that the tickets take, the share of their time outside the model."""
    before = engine.stats()
    for ticket in tickets:
        engine.submit(ticket)
    for ticket in tickets:
        outcome(ticket)
    after = engine.stats()
    steps = after.step_seconds - before.step_seconds
    return 1.0 - (after.device_seconds - before.device_seconds) / steps


# --- what was answered before -----------------------------------------------------------------------------------------


def measure_finished(
    report: Report, engine: Engine, texts: Texts, options: Options, make: Callable[[], Engine]
) -> None:
    """Decoding in an engine that has finished more and more requests, in turn with a new one; and its memory."""
    stages, rounds = ((0, 50), 1) if options.smoke else (FINISHED, LATENCY_ROUNDS)
    finished = 0
    memory: list[float] = []
    warm = float("inf")
    for stage in stages:
        while finished < stage:
            engine.generate([texts.prompt(6) for _ in range(50)], sampling=exactly(2), progress=False)
            finished += 50
            memory.append(resident_bytes())
            if finished <= MEMORY_AFTER:
                warm = memory[-1]
        with make() as new:
            used, fresh = [], []
            for one in (new, engine):  # first steps touch memory
                token_seconds(one, texts)
            for _ in range(rounds):
                fresh.append(token_seconds(new, texts))
                used.append(token_seconds(engine, texts))
        name = f"a token after {stage} finished requests"
        report.add(f"{name}, batch {LATENCY_BATCH}", "ms", [1000 * value for value in used])
        ratios = [mine / other for mine, other in zip(used, fresh, strict=True)]
        ratio = report.add(f"{name}, against a new engine in turn", "times the time", ratios)
        if not options.smoke:
            report.check(f"{name} takes at most {LATENCY_RATIO:g} times the time", ratio.median <= LATENCY_RATIO)
    grown = report.add(f"memory that requests after the first {MEMORY_AFTER} added", "MB", (memory[-1] - warm) / 1e6)
    if not options.smoke:
        report.check(f"memory stays within {MEMORY_ALLOWED / 1e6:.0f} MB", grown.median <= MEMORY_ALLOWED / 1e6)


def token_seconds(engine: Engine, texts: Texts) -> float:
    """Seconds of a step that decodes a few requests at once."""
    prompts = [texts.prompt(24) for _ in range(LATENCY_BATCH)]
    times: list[float] = []
    decode(engine, prompts, LATENCY_TOKENS, lambda: times.append(time.perf_counter()))
    return float(np.median(np.diff(times[4:])))
