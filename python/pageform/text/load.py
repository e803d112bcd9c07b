"""Which tokenizer a model gets, and where its parts come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import ModelFileError, ModelNotFoundError
from ..core.json_object import parse_json_object
from .gguf_tokenizer import tokenizer_from_gguf
from .tokenizer import Tokenizer, TokenizerSettings

_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


class ConfigSource(Protocol):
    @property
    def eos_ids(self) -> tuple[int, ...]: ...
    @property
    def bos_id(self) -> int | None: ...


class TokenizerSource(Protocol):
    """The part of `weights.Checkpoint` that a tokenizer is made from."""

    path: Path
    metadata: Mapping[str, Any]

    @property
    def kind(self) -> str: ...
    @property
    def config(self) -> ConfigSource: ...


def load_tokenizer(
    checkpoint: TokenizerSource, tokenizer: str | Path | None = "auto", is_known: bool = False
) -> Tokenizer | None:
    """The tokenizer of a model: its own ("auto"), the one of another folder or tokenizer.json, or none at all (None).

    Ids that end an answer are always those of the model's config and, if it has any, of the tokenizer's.
    What splits text into tokens is made at once, so that a damaged file is found out, unless the file `is_known` to be
    sound: then it is made for the first text. Raises ModelNotFoundError or ModelFileError.
    """
    if tokenizer is None:
        return None
    eos_ids, bos_id = checkpoint.config.eos_ids, checkpoint.config.bos_id
    if tokenizer == "auto":
        if checkpoint.kind == "gguf":
            found = tokenizer_from_gguf(str(checkpoint.path), checkpoint.metadata, eos_ids)
            if not is_known:
                _ = found.hf
            return found
        return _from_folder(checkpoint.path, eos_ids, bos_id)
    return read_tokenizer(Path(tokenizer), eos_ids, bos_id)


def read_tokenizer(path: Path, eos_ids: tuple[int, ...] = (), bos_id: int | None = None) -> Tokenizer:
    """The tokenizer of a tokenizer.json or the folder around it. Raises ModelNotFoundError or ModelFileError."""
    if not path.exists():
        raise ModelNotFoundError("tokenizer", str(path), "no such file or folder", 'Check the path, or use "auto".')
    return _from_folder(path, eos_ids, bos_id)


def _from_folder(path: Path, eos_ids: tuple[int, ...], bos_id: int | None) -> Tokenizer:
    """From a tokenizer.json or the folder around it, with what its neighbour files add."""
    from tokenizers import Tokenizer as HfTokenizer

    folder, file = (path, path / "tokenizer.json") if path.is_dir() else (path.parent, path)
    if not file.is_file():
        raise ModelFileError(
            str(folder),
            "it has no tokenizer.json",
            "Pass tokenizer=<folder with a tokenizer.json>, or a GGUF file as model.",
        )
    data = _read_text(file)
    try:
        hf = HfTokenizer.from_str(data)
    except Exception as error:  # the library raises bare Exception
        raise ModelFileError(str(file), f"it can't be read: {error}", "Get an undamaged copy of the file.") from error
    config = _read_json(folder / "tokenizer_config.json")
    special = {name: text for name in _TOKEN_NAMES if (text := _token_text(config.get(name))) is not None}
    ids = {name: hf.token_to_id(text) for name, text in special.items()}
    eos_id = ids.get("eos_token")
    settings = TokenizerSettings(
        bos_id=ids.get("bos_token", bos_id),
        eos_ids=tuple(dict.fromkeys([*eos_ids, *([] if eos_id is None else [eos_id])])),
        chat_template=_chat_template(folder, config),
        special_tokens=special,
    )
    return Tokenizer.of(hf, settings)


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """From chat_template.jinja, or tokenizer_config.json: one template, or a list of named ones with a default."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read_text(file)
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token_text(value: Any) -> str | None:
    """A special token is given as text or as an object with its `content`."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(str(file), f"it can't be read: {error}", "Check that it is complete and UTF-8.") from error


def _read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file."""
    return parse_json_object(str(file), _read_text(file)) if file.is_file() else {}
