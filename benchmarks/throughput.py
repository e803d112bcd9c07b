"""Sixty-four requests at once against transformers, which takes them one after another.

Both decode exactly the same number of tokens for the same prompts, greedily, on the same number of threads. The two
alternate, so that what else the machine does hits both alike.
"""

from __future__ import annotations

import time

from pageform import Engine, SamplingParams

from .baseline import Baseline
from .job import Job
from .models import gguf_file
from .options import Options
from .report import Report
from .workload import make_jobs, read_texts, stratified

REQUESTS = 64
SUBSET = 16
"""Requests that transformers gets without --full: all 64 take it minutes."""
ROUNDS = 4
REQUIRED_RATIO = 5.0


def run(options: Options) -> Report:
    """Tokens decoded a second by both, and the ratio of the times that all requests take."""
    count, subset, rounds = (8, 2, 1) if options.smoke else (REQUESTS, SUBSET, ROUNDS)
    if options.full:
        subset = count
    report = Report("throughput", {"model": options.model, "threads": options.threads, "requests": count})
    texts = read_texts(options.data)
    with Engine(options.model, threads=options.threads, max_num_seqs=count, kv_cache_memory="2GB") as engine:
        jobs = make_jobs(count, texts, engine.tokenizer.encode, options.seed)
        sample = stratified(jobs, subset, options.seed)
        report.settings |= {"prompt tokens": sum(len(job.prompt) for job in jobs), "output tokens": total(jobs)}
        baseline = Baseline(gguf_file(options.model), options.threads)
        warm = Job(jobs[0].prompt[:16], 8)
        batch_seconds(engine, [warm])
        baseline.seconds(warm)
        ours: list[float] = []
        theirs: list[float] = []  # seconds of each job of the sample, in order
        for number in range(rounds):
            ours.append(batch_seconds(engine, jobs))
            theirs += [
                baseline.seconds(job) for job in sample[number * subset // rounds : (number + 1) * subset // rounds]
            ]
    report.add("pageform", "tokens/s", [total(jobs) / seconds for seconds in ours])
    each = [job.output_tokens / seconds for job, seconds in zip(sample, theirs, strict=True)]
    report.add("transformers, each request", "tokens/s", each)
    # A sequential run takes the sum of its requests' times, so the sample's rate carries over to all of them.
    expected = sum(theirs) * total(jobs) / total(sample)
    report.add("transformers, all requests", "tokens/s", total(sample) / sum(theirs))
    ratio = report.add("pageform against transformers", "times as fast", [expected / seconds for seconds in ours])
    if subset < count:
        report.note(
            f"transformers ran {subset} of the {count} requests, one drawn from each of {subset} groups of similar"
            " output length; its time for all is extrapolated from their tokens/s (--full runs all)"
        )
    if not options.smoke:
        report.check(f"at least {REQUIRED_RATIO:g} times as fast as transformers", ratio.median >= REQUIRED_RATIO)
    return report


def total(jobs: list[Job]) -> int:
    """Tokens to decode."""
    return sum(job.output_tokens for job in jobs)


def batch_seconds(engine: Engine, jobs: list[Job]) -> float:
    """Seconds that the engine takes for all jobs, given at once to an empty prefix cache."""
    engine.reset_prefix_cache()
    sampling = [SamplingParams(temperature=0.0, max_tokens=job.output_tokens, ignore_eos=True) for job in jobs]
    start = time.perf_counter()
    completions = engine.generate([job.prompt for job in jobs], sampling=sampling)
    taken = time.perf_counter() - start
    for job, completion in zip(jobs, completions, strict=True):
        if len(completion.token_ids) != job.output_tokens:
            raise RuntimeError(f"decoded {len(completion.token_ids)} tokens instead of {job.output_tokens}")
    return taken
