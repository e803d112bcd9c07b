"""Peak memory of a process that loads the model and works through a batch which fills its KV cache."""

from __future__ import annotations

import json
import subprocess
import sys

from .models import gguf_file
from .options import Options
from .report import Report

RUNS = 3
FILE_FACTOR = 1.4
ALLOWANCE = 150e6

# VmHWM is the peak of this program alone; ru_maxrss would include what the parent had when it forked.
PROGRAM = """
import json, sys
from pageform import Engine, SamplingParams
with Engine(sys.argv[1], threads=int(sys.argv[2]), kv_cache_memory="256MB", max_num_seqs=32) as engine:
    ids = engine.tokenizer.encode("Every sentence of this text is as long as it must be. " * 30)
    prompts = [ids[i:] + ids[:i] for i in range(int(sys.argv[3]))]
    engine.generate(prompts, sampling=SamplingParams(temperature=0, max_tokens=16, ignore_eos=True))
    stats = engine.stats()
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": peak, "kv": stats.kv_cache_bytes, "weights": stats.weight_bytes}))
"""


def run(options: Options) -> Report:
    """Peak resident memory against 1.4 × file + KV cache + 150 MB."""
    runs, prompts = (1, 8) if options.smoke else (RUNS, 96)
    report = Report("memory", {"model": options.model, "threads": options.threads, "prompts": prompts})
    file_bytes = gguf_file(options.model).stat().st_size
    results = [measure(options, prompts) for _ in range(runs)]
    peak = report.add("peak resident memory", "MB", [result["peak"] / 1e6 for result in results])
    kv_bytes = results[0]["kv"]
    report.add("model file", "MB", file_bytes / 1e6)
    report.add("packed weights", "MB", results[0]["weights"] / 1e6)
    report.add("KV cache", "MB", kv_bytes / 1e6)
    bound = FILE_FACTOR * file_bytes + kv_bytes + ALLOWANCE
    report.add("bound", "MB", bound / 1e6)
    report.check("peak ≤ 1.4 × file + KV cache + 150 MB", max(peak.samples) * 1e6 <= bound)
    return report


def measure(options: Options, prompts: int) -> dict[str, float]:
    """Bytes that one process reports: its peak, its KV cache, its weights."""
    command = [sys.executable, "-c", PROGRAM, options.model, str(options.threads), str(prompts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result
