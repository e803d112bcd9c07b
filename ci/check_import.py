"""Fails when `import pageform` is slow, or when it or answering a prompt loads a heavy library that it must not need.

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
RUNS = 5
HEAVY = ("torch", "transformers", "accelerate", "scipy", "pandas")

IMPORT = """
import json, sys, time
before = time.perf_counter()
import pageform
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules), "file": pageform.__file__}))
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
    for what, result in (("import pageform", imports[0]), ("generating text", run(GENERATE))):
        modules = result["modules"]
        assert isinstance(modules, list)
        problems += [f"{what} loads {name}" for name in HEAVY if name in modules]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
