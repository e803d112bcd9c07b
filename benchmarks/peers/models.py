"""The one GGUF file in the form and precision that each peer wants, made once and kept beside the peers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .install import ROOT, Environment, InstallError, environment_of, install

OPENVINO_EXPORT = {
    "int4": ["--weight-format", "int4", "--sym", "--group-size", "64", "--ratio", "1.0"],
    "int8": ["--weight-format", "int8"],
    "fp32": ["--weight-format", "fp32"],
}


@dataclass(frozen=True, slots=True)
class Models:
    """Conversions of `file`, kept in a folder of their own below `peers_dir`."""

    file: Path
    peers_dir: Path

    def gguf(self, environment: Environment, kind: str) -> Path:
        """The file for llama.cpp as "q4_0", "q4_1" or "q8_0", requantized unless it has that format by its name."""
        if kind in self.file.stem.lower():
            return self.file

        def make(target: Path) -> None:
            program = environment.binaries / "llama-quantize"
            _run([str(program), "--allow-requantize", str(self.file), str(target), kind.upper()], {})

        return self.made(f"{kind}.gguf", make)

    def safetensors(self) -> Path:
        """A folder with float32 weights and the tokenizer."""

        def make(target: Path) -> None:
            environment = install("transformers", self.peers_dir)
            module = "benchmarks.peers.convert"
            _run([str(environment.python), "-m", module, str(self.file), str(target)], environment.variables)

        return self.made("safetensors", make)

    def int8(self) -> Path:
        """A folder like `safetensors`, its linear layers in int8, for vLLM."""
        source = self.safetensors()

        def make(target: Path) -> None:
            environment = install("transformers", self.peers_dir)
            module = "benchmarks.peers.quantize"
            _run([str(environment.python), "-m", module, str(source), str(target)], environment.variables)

        return self.made("safetensors-int8", make)

    def openvino(self, environment: Environment, kind: str) -> Path:
        """A folder with OpenVINO's model and tokenizer, its weights "int4", "int8" or "fp32"."""
        source = self.safetensors()

        def make(target: Path) -> None:
            program = environment.python.with_name("optimum-cli")
            command = [str(program), "export", "openvino", "--model", str(source), *OPENVINO_EXPORT[kind]]
            _run([*command, "--task", "text-generation-with-past", str(target)], environment.variables)

        return self.made(f"openvino-{kind}", make)

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """The path called `name`, made under another name first, so that half a conversion is never used."""
        folder = self.peers_dir / "models" / f"{self.file.stem}-{self.file.stat().st_size}"
        target, unfinished = folder / name, folder / f"unfinished-{name}"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.unlink(missing_ok=True)
            make(unfinished)
            unfinished.rename(target)
        return target


def _run(command: list[str], variables: dict[str, str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment_of(variables))
    if done.returncode:
        text = " ".join((done.stderr or done.stdout)[-600:].split())
        raise InstallError(f"converting the model failed ({done.returncode}): {text}")
