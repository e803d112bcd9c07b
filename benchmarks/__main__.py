"""Runs benchmarks: python -m benchmarks NAME [options], where NAME is one of `NAMES` or "all"."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from .options import Options

NAMES = (
    "malformed",
    "streaming",
    "coldstart",
    "memory",
    "growth",
    "extraction",
    "rewind",
    "forms",
    "throughput",
    "compare",
    "gpu_kernels",
    "mixed",
    "soak",
)
"""In the order of `all`. The last two are load tests, and belong to `all` only as smoke tests."""


def main() -> int:
    """Exit code 0 when every checked requirement held, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What pageform does, measured.")
    parser.add_argument("name", choices=(*NAMES, "all"))
    parser.add_argument("--model", default="smollm2", help="smollm2 or a GGUF file (smollm2)")
    parser.add_argument("--threads", type=int, default=2, help="threads of pageform and of its baseline (2)")
    parser.add_argument(
        "--data", type=Path, help="folder of *.jsonl: questions or turns to make prompts of; forms: wnut17 and BFCL"
    )
    parser.add_argument("--peers", type=_names, default=(), help="compare: of llama.cpp,vllm,openvino,transformers")
    parser.add_argument("--workloads", type=_names, default=Options().workloads, help="compare: of W1,W2,W3,W4,W5,W6")
    parser.add_argument("--peers-dir", type=Path, help="compare: where peers are installed (~/.cache/pageform/peers)")
    parser.add_argument("--rounds", type=int, help="compare: how often each engine runs each workload (3)")
    parser.add_argument(
        "--full", action="store_true", help="throughput: transformers runs all requests; compare: all BFCL and wnut17"
    )
    parser.add_argument("--minutes", type=float, help="length of a soak (10); compare: no new round after them (35)")
    parser.add_argument("--seed", type=int, default=0, help="of lengths, prompts and random load (0)")
    parser.add_argument("--smoke", action="store_true", help="only show that everything works; timings are not judged")
    parser.add_argument(
        "--device",
        choices=("cuda", "hip", "simt"),
        help="gpu_kernels: where they run (the GPU that torch sees, or none)",
    )
    parser.add_argument("--save", action="store_true", help="write results to benchmarks/results/")
    arguments = vars(parser.parse_args())
    name, save = arguments.pop("name"), arguments.pop("save")
    options = Options(**arguments)
    names = (name,) if name != "all" else NAMES if options.smoke else NAMES[:-2]
    passed = True
    for chosen in names:
        report = importlib.import_module(f".{chosen}", __package__).run(options)
        print(report.markdown(), flush=True)
        passed &= report.passed
        if save or (chosen == "compare" and options.peers and not options.smoke):
            print(f"saved: {report.save()}.md\n")
    return 0 if passed else 1


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main())
