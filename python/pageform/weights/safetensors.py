"""Checkpoints in safetensors files: one file, or shards listed by an index, with config.json beside them."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import ModelFileError
from .base import Checkpoint, TensorRef, TensorTable
from .config_hf import config_from_hf
from .json_file import read_json_object
from .mapping import map_file, reading

_INDEX = "model.safetensors.index.json"


class SafetensorsCheckpoint(Checkpoint):
    """A Hugging Face model folder, or one .safetensors file in it. `path` is always the folder."""

    def __init__(self, path: str | Path) -> None:
        given = Path(path)
        self.path = given if given.is_dir() else given.parent
        config_file = self.path / "config.json"
        self.metadata = read_json_object(config_file)
        generation_file = self.path / "generation_config.json"
        self.generation_config = read_json_object(generation_file) if generation_file.is_file() else {}
        self.config = config_from_hf(str(config_file), self.metadata, self.generation_config)
        refs = _read_shards(self.path) if given.is_dir() else _read_file(given)
        self.tensors = TensorTable(str(given), refs)

    @property
    def kind(self) -> str:
        return "safetensors"


def _read_shards(folder: Path) -> dict[str, TensorRef]:
    """Tensors of the folder's shards or of its only file."""
    if not (folder / _INDEX).is_file():
        return _read_file(_only_file(folder))
    index = folder / _INDEX
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(str(index), "it has no weight_map", "Get an undamaged copy of the file.")
    refs: dict[str, TensorRef] = {}
    for shard in dict.fromkeys(weight_map.values()):
        # A name with a folder in it could point anywhere on this machine.
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ModelFileError(str(index), f"its shard {shard!r} is no plain file name", "Don't use this model.")
        if not (folder / shard).is_file():
            raise ModelFileError(str(folder), f"its shard {shard} is missing", "Download the model again.")
        refs.update({name: ref for name, ref in _read_file(folder / shard).items() if weight_map.get(name) == shard})
    if missing := weight_map.keys() - refs.keys():
        raise ModelFileError(
            str(index), f"{len(missing)} of its tensors, such as {min(missing)}, are in no shard", "Download it again."
        )
    return refs


def _only_file(folder: Path) -> Path:
    """model.safetensors, or the folder's only .safetensors file."""
    if (folder / "model.safetensors").is_file():
        return folder / "model.safetensors"
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        what = (
            f"{len(files)} .safetensors files, no model.safetensors and no index" if files else "no .safetensors file"
        )
        raise ModelFileError(str(folder), f"it holds {what}", "Pass a folder with safetensors weights, or a GGUF file.")
    return files[0]


def _read_file(file: Path) -> dict[str, TensorRef]:
    from .._native import read_safetensors

    mapped = map_file(file)
    with reading(str(file)):
        _, rows = read_safetensors(mapped)
    return {name: TensorRef(name, shape, kind, mapped, offset, nbytes) for name, kind, shape, offset, nbytes in rows}
