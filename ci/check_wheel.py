"""Fails when a built wheel lacks its native parts, holds what it should not, or depends on a heavy library.

python ci/check_wheel.py dist/pageform-*.whl
"""

from __future__ import annotations

import re
import sys
import zipfile
from email.parser import Parser

NEEDED = (r"pageform/_native\..*\.so", r"pageform/backends/libpageform_cpu\.so", r"pageform/py\.typed")
UNWANTED = (r".*\.(cpp|h|o|a)", r".*__pycache__.*", r"(tests|benchmarks|examples|ci)/.*")
HEAVY = {"torch", "transformers", "accelerate", "ray", "llama-cpp-python", "vllm"}


def check(path: str) -> list[str]:
    """What is wrong with the wheel at `path`, one sentence each."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        metadata_name = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(metadata_name).decode())
    problems = [f"lacks {pattern}" for pattern in NEEDED if not any(re.fullmatch(pattern, name) for name in names)]
    problems += [f"holds {name}" for name in names if any(re.fullmatch(pattern, name) for pattern in UNWANTED)]
    if not any(name.endswith("/LICENSE") for name in names):
        problems.append("lacks its LICENSE")
    for requirement in metadata.get_all("Requires-Dist", []):
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
        if name in HEAVY and "extra ==" not in requirement:
            problems.append(f"requires {requirement}")
    return problems


def main() -> int:
    paths = sys.argv[1:]
    if not paths:
        sys.exit("no wheel given")
    found = [f"{path}: {problem}" for path in paths for problem in check(path)]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
