"""The settings in which each peer is tried on a workload: a few good ones, of which a short run chooses the best."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..models import gguf_file
from ..options import Options
from ..peers.install import Environment
from ..peers.models import Models
from ..peers.worker import Variant
from ..report import processor
from .workloads import Workload

SLOTS = 16
"""Of llama-server: 16 at once are faster than 64 here, and than one cache for all."""


LLAMA_FLAGS = ["--cache-ram", "0"]
"""Prompts of slots that get another request are not put away."""


def ours(options: Options, workload: Workload) -> list[Variant]:
    """pageform as everybody gets it, with room for all requests.

    Free text runs without drafts first: past its natural end an answer goes round in circles, which n-gram drafts
    foresee, and no peer gets drafts. What they give stands beside it.
    """
    settings = {"model": options.model, "threads": options.threads, "max_num_seqs": 64, "kv_cache_memory": "2GB"}
    size = gguf_file(options.model).stat().st_size
    module = "benchmarks.peers.pageform"
    if workload.is_guided:
        return [Variant("pageform", "", module, settings, model_bytes=size)]
    plain = Variant("pageform", "", module, {**settings, "drafts": "none"}, model_bytes=size)
    return [plain, Variant("pageform", "drafts", module, settings)]


def candidates(environment: Environment, workload: Workload, models: Models, threads: int) -> list[Variant]:
    """Variants of a peer for a workload, the one known as good first."""
    made = {"llama.cpp": llama_cpp, "vllm": vllm, "openvino": openvino, "transformers": transformers}
    return made[environment.name](environment, workload, models, threads)


def variations(peer: str, workload: str) -> dict[str, dict[str, Any]]:
    """Other settings that are tried of the candidate that was best, by their label."""
    if peer == "llama.cpp" and workload == "W1":
        return {"spinning": {"flags": [*LLAMA_FLAGS, "--poll", "100"]}}
    if peer == "llama.cpp":
        # Slots that share a prefix each compute it, so fewer are sometimes better.
        return {f"{slots} slots": {"slots": slots} for slots in ((4, 8) if workload == "W3" else (8, 32))}
    return {}


def llama_cpp(environment: Environment, workload: Workload, models: Models, threads: int) -> list[Variant]:
    """Three quantizations."""
    found = []
    for kind in ("q4_0", "q4_1", "q8_0"):
        file = models.gguf(environment, kind)
        settings = {
            "binary": str(environment.binaries / "llama-server"),
            "model": str(file),
            "threads": threads,
            "slots": min(SLOTS, workload.requests),
            "context": -(-(workload.context + 8) // 64) * 64,
            "flags": LLAMA_FLAGS,
        }
        found.append(_variant(environment, kind, "llama_cpp", settings, _bytes(file)))
    return found


def vllm(environment: Environment, workload: Workload, models: Models, threads: int) -> list[Variant]:
    """Float32, int8, and bfloat16 where the processor computes with it: on AVX2 it is several times
    slower. Settings are the same for all workloads, since each start takes a minute."""
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0))[:threads])
    variables = {
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "OMP_NUM_THREADS": str(threads),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    settings = {
        "dtype": "float32",
        "max_model_len": 2048,
        "max_num_seqs": 64,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    folder, small = models.safetensors(), models.int8()
    full, half = _bytes(folder), _bytes(folder) // 2
    made: list[tuple[str, Path, dict[str, object], int]] = [
        ("fp32", folder, {}, full),
        ("int8", small, {}, _bytes(small)),
    ]
    if "avx512_bf16" in processor().get("flags", ""):
        made.append(("bf16", folder, {"dtype": "bfloat16"}, half))
    return [
        _variant(environment, label, "vllm", {"model": str(path), **settings, **extra}, size, variables, keeps=True)
        for label, path, extra, size in made
    ]


def openvino(environment: Environment, workload: Workload, models: Models, threads: int) -> list[Variant]:
    """Two quantizations, and float32, which has the shortest time to a first token."""
    found = []
    for kind in ("int8", "int4", "fp32"):
        folder = models.openvino(environment, kind)
        settings = {
            "model": str(folder),
            "threads": threads,
            "requests": 64,
            "cache_gb": 2,
            "prefix_caching": workload.name == "W3",
        }
        found.append(_variant(environment, kind, "openvino", settings, _bytes(folder)))
    return found


def transformers(environment: Environment, workload: Workload, models: Models, threads: int) -> list[Variant]:
    """Sequential and, where there is more than one request, in batches; it has no guided decoding."""
    folder = models.safetensors()
    batches = {"W1": [1], "W2": [1, 16], "W3": [16], "W4": [4]}.get(workload.name, [])
    most = {1: 8, 16: 16}
    return [
        _variant(
            environment,
            "sequential" if batch == 1 else f"batch {batch}",
            "transformers",
            {"model": str(folder), "threads": threads, "batch": batch},
            _bytes(folder),
            most_jobs=most.get(batch) if workload.requests > SLOTS else None,
        )
        for batch in batches
    ]


def _variant(
    environment: Environment,
    label: str,
    worker: str,
    settings: dict[str, object],
    model_bytes: int,
    variables: dict[str, str] | None = None,
    most_jobs: int | None = None,
    keeps: bool = False,
) -> Variant:
    return Variant(
        environment.name,
        label,
        f"benchmarks.peers.{worker}",
        settings,
        environment.python,
        {**environment.variables, **(variables or {})},
        model_bytes,
        most_jobs,
        keeps,
    )


def _bytes(path: Path) -> int:
    """Of the weights: a file, or the big files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(
        file.stat().st_size for pattern in ("*.safetensors", "openvino_model.bin") for file in path.glob(pattern)
    )
