"""python every_fate.py MODEL COUNT SEED: random requests, too many for the cache; prints what was left."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

from pageform import Engine, SamplingParams


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(model: str, count: int, seed: int) -> None:
    rng = random.Random(seed)
    fates: Counter[str] = Counter()
    sizes: list[int] = []
    with Engine(
        model, threads=2, kv_cache_memory="0.1MB", max_model_len=96, max_num_seqs=16, check_invariants=True
    ) as engine:
        while fates.total() < count:
            prompts = ["".join(rng.choice("abcd ") for _ in range(rng.randint(1, 60))) for _ in range(200)]
            params = [
                SamplingParams(
                    max_tokens=rng.randint(1, 30),
                    seed=i,
                    n=rng.choice([1, 1, 1, 3]),
                    priority=rng.randint(-1, 1),
                    timeout=rng.choice([None, None, None, 0.02]),
                    ignore_eos=rng.random() < 0.5,
                )
                for i in range(len(prompts))
            ]
            fates.update(str(completion.finish_reason) for completion in engine.generate(prompts, params))
            sizes.append(resident())
        stats = engine.stats()
    report = {
        "fates": fates,
        "sizes": sizes,
        "kv_blocks_used": stats.kv_blocks_used,
        "running": stats.requests_running,
        "waiting": stats.requests_waiting,
        "preemptions": stats.preemptions,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
