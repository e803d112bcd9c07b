"""Builds the wheel without native parts, installs it into a fresh environment and runs the tests of its rooms there.

    python ci/check_pure_wheel.py [--keep FOLDER]      called in the root of the repository

Fails when the wheel is not for any platform, holds or needs what only an engine does, needs a compiler to be built,
does not say where to get an engine, or fails a test.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

ROOMS = ("tests/structured",)
# Of the libraries of the tests: oracles of the engine, and the SDKs, without which a few tests skip themselves.
LEFT_OUT = {"gguf", "safetensors", "transformers", "accelerate", "sentencepiece", "protobuf"}
LEFT_OUT |= {"openai", "anthropic", "cohere", "mistralai", "google-genai", "groq", "litellm"}
ENGINE_ONLY = {"numpy", "tokenizers", "huggingface-hub", "llguidance", "torch"}

LOOK = """
import importlib.util, pageform, pageform.structured, sys
present = [name for name in sys.argv[1:] if importlib.util.find_spec(name.replace("-", "_"))]
assert not present, f"the environment holds {present}"
assert pageform.__file__.startswith(sys.prefix), pageform.__file__
try:
    pageform.Engine
except pageform.PageformError as error:
    print(f"pageform.Engine: {error}")
    assert "pip install" in str(error), error
else:
    raise AssertionError("a wheel without native parts has an Engine")
"""


def build(folder: Path) -> Path:
    """The wheel, built where any compiler fails."""
    environment = {**os.environ, "PAGEFORM_BACKENDS": "none", "CC": "false", "CXX": "false"}
    pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(folder), ".", environment=environment)
    [wheel] = folder.glob("pageform-*.whl")
    return wheel


def faults(wheel: Path) -> list[str]:
    """What is wrong with the wheel itself, one sentence each."""
    found = [] if wheel.name.endswith("-py3-none-any.whl") else [f"{wheel.name} is not for any platform"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata_name = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(metadata_name).decode())
    found += [f"holds {name}" for name in names if name.endswith((".so", ".cpp", ".h", ".pyd"))]
    found += [f"lacks {name}" for name in ("pageform/structured/spec.py", "pageform/py.typed") if name not in names]
    for requirement in metadata.get_all("Requires-Dist", []):
        if name_of(requirement) in ENGINE_ONLY and "extra ==" not in requirement:
            found.append(f"requires {requirement}, which only an engine needs")
    return found


def test_libraries() -> list[str]:
    """What the rooms' tests need besides the wheel."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [one for one in project["optional-dependencies"]["test"] if name_of(one) not in LEFT_OUT]


def name_of(requirement: str) -> str:
    """The package that a requirement names."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def pip(python: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
    """Run pip quietly; its output only if it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def run(python: Path, *arguments: str) -> bool:
    """Whether the environment's Python succeeds with the arguments, seeing the installed package only."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], env=environment, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        folder = (keep or Path(temporary)).resolve()
        wheel = build(folder)
        found = faults(wheel)
        for fault in found:
            print(f"{wheel.name}: {fault}")
        venv.create(folder / "environment", with_pip=True)
        python = folder / "environment" / "bin" / "python"
        pip(python, "install", str(wheel))
        sound = run(python, "-c", LOOK, *sorted(ENGINE_ONLY))
        pip(python, "install", *test_libraries())
        passed = run(python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *ROOMS)
        return 0 if sound and passed and not found else 1


if __name__ == "__main__":
    sys.exit(main())
