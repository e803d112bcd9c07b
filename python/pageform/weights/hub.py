"""Models of the Hugging Face hub: downloaded into, and served from, its local cache."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import ModelNotFoundError

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(:(?P<file>[\w./ -]+\.gguf))?")
_WANTED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "*.safetensors",
)
_UNWANTED = ("*/*", "consolidated*", "adapter_*")
"""Sub-folders, and second copies of the weights in other layouts."""


def is_hub_id(model: str) -> bool:
    """Whether a name has the form `org/repo` or `org/repo:file.gguf`."""
    return _HUB_ID.fullmatch(model) is not None


def fetch(model: str) -> Path:
    """The local folder of `org/repo`, or the local file of `org/repo:file.gguf`, downloaded where necessary.

    Without a network a copy in the cache is used. Raises ModelNotFoundError when there is none, or no such repository
    or file.
    """
    match = _HUB_ID.fullmatch(model)
    if match is None:
        raise ModelNotFoundError("model", model, "is no hub id", "Write org/repo or org/repo:file.gguf.")
    file = match["file"]
    folder = _snapshot(model, match["repo"], file)
    if file is not None:
        if not (folder / file).is_file():
            raise ModelNotFoundError(
                "model", model, f"the repository has no file {file}, or it is not in the cache", _REMEDY
            )
        return folder / file
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            "model",
            model,
            "the repository has no config.json, or it is not in the cache",
            f'For a repository of GGUF files name one, such as "{match["repo"]}:model-Q4_K_M.gguf".',
        )
    return folder


_REMEDY = (
    "Check the name (no such file or folder exists here either), the network and HF_TOKEN, or pass a local path or "
    '"smollm2".'
)


def _snapshot(model: str, repo: str, file: str | None) -> Path:
    # Not hf_hub_download for a single file: without a network it retries for 20 s before it looks into the cache.
    from huggingface_hub import snapshot_download

    try:
        if file is not None:
            return Path(snapshot_download(repo, allow_patterns=[file]))
        return Path(snapshot_download(repo, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED)))
    except Exception as error:  # the library's own, those of requests or httpx by its version, OSError, ValueError
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelNotFoundError("model", model, f"it can't be had from the hub ({reason})", _REMEDY) from error
