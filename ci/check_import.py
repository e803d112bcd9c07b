"""Fails when `import pageform` or `import pageform.structured` is slow, or when they or answering a prompt load a heavy
library that they must not need.

Runs the installed package in fresh processes, so it must be called with the interpreter that has it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile

LIMIT = 0.5
STRUCTURED_LIMIT = 0.25
"""Seconds of processor time beyond Pydantic's own import."""
RUNS = 5
HEAVY = ("torch", "transformers", "accelerate", "scipy", "pandas")
# What the structured room imports where it is used, if at all.
LATER = (
    *("numpy", "tokenizers", "llguidance", "pageform._native", "jsonschema", "docstring_parser", "json_repair"),
    *("jinja2", "tenacity", "rich", "pydantic.v1", "httpx", "openai", "anthropic", "opentelemetry"),
)

IMPORT = """
import json, sys, time
before = time.perf_counter()
import pageform
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules), "file": pageform.__file__}))
"""
STRUCTURED = """
import json, sys, time
from pydantic import BaseModel, TypeAdapter
before = time.process_time()
import pageform.structured
seconds = time.process_time() - before
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""
GENERATE = """
import json, sys
from pageform import Engine, SamplingParams
with Engine("smollm2", max_num_seqs=1, max_model_len=256, kv_cache_memory="64MB") as engine:
    completion = engine.generate("Hello", sampling=SamplingParams(temperature=0, max_tokens=4))
print(json.dumps({"modules": sorted(sys.modules), "text": completion.text}))
"""


def run(program: str) -> dict[str, object]:
    """What the program printed as JSON on its last line. Its working folder is empty: no source tree is importable."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"exit code {done.returncode} from:\n{program}\n{done.stderr}")
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    problems = []
    imports = [run(IMPORT) for _ in range(RUNS)]
    seconds = [float(str(result["seconds"])) for result in imports]
    print(f"import pageform: median {statistics.median(seconds):.3f} s, max {max(seconds):.3f} s of {RUNS} processes")
    if statistics.median(seconds) > LIMIT:
        problems.append(f"import takes {statistics.median(seconds):.3f} s, {LIMIT} allowed (see python -X importtime)")
    if not str(imports[0]["file"]).startswith(sysconfig.get_paths()["platlib"]):
        problems.append(f"the source tree was imported, not the installed package: {imports[0]['file']}")
    structured = [run(STRUCTURED) for _ in range(RUNS)]
    seconds = [float(str(result["seconds"])) for result in structured]
    median = statistics.median(seconds)
    print(f"import pageform.structured: median {median:.3f} s beyond Pydantic's own, max {max(seconds):.3f} s")
    if median > STRUCTURED_LIMIT:
        problems.append(f"importing structured takes {median:.3f} s beyond Pydantic, {STRUCTURED_LIMIT} allowed")
    for what, result, unwanted in (
        ("import pageform", imports[0], HEAVY),
        ("import pageform.structured", structured[0], HEAVY + LATER),
        ("generating text", run(GENERATE), HEAVY),
    ):
        modules = result["modules"]
        assert isinstance(modules, list)
        problems += [f"{what} loads {name}" for name in unwanted if name in modules]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
