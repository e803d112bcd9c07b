"""Random load for as long as wanted: requests of all sorts come, are aborted, run out of time and preempt each other.

The KV cache is made too small for all of them. What must hold: every request ends with a reason of its own, the same
question always gets the same answer whatever else runs, nothing is held when all is done, and memory does not grow.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from examples.extract.documents import Document, conversation, load
from examples.extract.records import KINDS
from pageform import AsyncEngine, PageformError, SamplingParams

from .options import Options
from .report import Report

IN_FLIGHT = 24
MINUTES = 10.0
CANARY = "Write one sentence about the sea."
GROWTH_ALLOWED = 32e6
"""Bytes of resident memory that may come after the warm-up: caches of grammars and fragmentation, not leaks."""


def run(options: Options) -> Report:
    """Counts how requests ended, and checks what must hold."""
    seconds = 10.0 if options.smoke else (options.minutes or MINUTES) * 60
    report = Report("soak", {"model": options.model, "threads": options.threads, "seconds": seconds})
    asyncio.run(_soak(options, seconds, report))
    return report


async def _soak(options: Options, seconds: float, report: Report) -> None:
    random_ = random.Random(options.seed)
    documents = load()
    ends: Counter[str] = Counter()
    canaries: set[tuple[int, ...]] = set()
    memory: list[float] = []
    async with AsyncEngine(
        options.model, threads=options.threads, max_num_seqs=16, kv_cache_memory="48MB", max_model_len=2048
    ) as engine:
        start = time.monotonic()
        running: set[asyncio.Task[str]] = set()
        while (elapsed := time.monotonic() - start) < seconds or running:
            while len(running) < IN_FLIGHT and elapsed < seconds:
                running.add(asyncio.create_task(_request(engine, random_, documents, canaries)))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            ends.update(task.result() for task in done)
            memory.append(resident_bytes())
        stats = await engine.stats()
    for end, count in ends.most_common():
        report.add(end, "requests", count)
    report.add("preemptions", "", stats.preemptions)
    report.add("resident memory", "MB", [value / 1e6 for value in memory])
    warm = memory[: max(1, len(memory) // 3)]
    report.check("the same question always got the same answer", len(canaries) == 1)
    report.check("no KV block is held at the end", stats.kv_blocks_used == 0)
    if not options.smoke:
        report.check("requests were preempted", stats.preemptions > 0)
        report.check(
            f"memory grew by less than {GROWTH_ALLOWED / 1e6:.0f} MB", max(memory) - max(warm) < GROWTH_ALLOWED
        )


async def _request(
    engine: AsyncEngine, random_: random.Random, documents: list[Document], canaries: set[tuple[int, ...]]
) -> str:
    """Makes one random request and says how it ended."""
    document = random_.choice(documents)
    prompt = document.text * random_.randint(1, 6)
    max_tokens = random_.randint(1, 200)
    what = random_.choices(("canary", "plain", "sampled", "typed", "timeout", "abandoned"), (2, 4, 4, 3, 2, 2))[0]
    if what == "canary":
        completion: Any = await engine.generate(CANARY, sampling=SamplingParams(temperature=0.0, max_tokens=24))
        canaries.add(tuple(completion.token_ids))
        return "canary"
    if what == "typed":
        kind = KINDS[document.kind]
        try:
            await engine.generate(
                [conversation(document)],
                response_model=kind.model,
                sampling=SamplingParams(temperature=0.8, seed=random_.getrandbits(32), max_tokens=max_tokens * 3),
            )
        except PageformError as error:
            return f"typed, {type(error).__name__}"
        return "typed, valid"
    params = SamplingParams(
        temperature=0.0 if what == "plain" else 1.0,
        seed=random_.getrandbits(32),
        max_tokens=max_tokens,
        timeout=random_.uniform(0.05, 2.0) if what == "timeout" else None,
        priority=random_.randint(0, 2),
    )
    task = asyncio.ensure_future(engine.generate(prompt, sampling=params))
    if what == "abandoned":
        await asyncio.sleep(random_.uniform(0.0, 1.0))
        task.cancel()
    try:
        completion = await task
    except asyncio.CancelledError:
        return "abandoned"
    return f"{what}, {completion.finish_reason}"


def resident_bytes() -> float:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS in /proc/self/status: this benchmark needs Linux")
