"""float32 safetensors → int8 weights, one scale a row, in the format that vLLM reads ("compressed-tensors").

Activations are quantized by vLLM as they come, token by token. Embedding and output matrix stay as they are.

python -m benchmarks.peers.quantize FOLDER FOLDER      (in the environment of transformers)
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
SCHEME = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**INT8, "strategy": "channel", "dynamic": False},
            "input_activations": {**INT8, "strategy": "token", "dynamic": True},
        }
    },
}


def main(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != "model.safetensors.index.json":
            shutil.copy(file, target)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(source.glob("*.safetensors")):
        for name, weight in load_file(file).items():
            if weight.ndim == 2 and "_proj." in name:
                scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / 127
                tensors[name] = (weight / scale).round().to(torch.int8)
                tensors[f"{name}_scale"] = scale
            else:
                tensors[name] = weight
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": SCHEME}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
