"""Which tokenizer a checkpoint gets, and what its neighbour files add."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from pageform.core.errors import ModelFileError, ModelNotFoundError
from pageform.text import load_tokenizer


@dataclass
class Config:
    eos_ids: tuple[int, ...] = (1,)
    bos_id: int | None = 0


@dataclass
class Source:
    """A checkpoint as far as tokenizers need it."""

    path: Path
    kind: str = "safetensors"
    metadata: dict[str, Any] = field(default_factory=dict)
    config: Config = field(default_factory=Config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hf = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens([AddedToken("<s>"), AddedToken("</s>"), AddedToken("<|eot|>")])
    hf.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, **config: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_folder_without_neighbour_files(folder: Path) -> None:
    tokenizer = load_tokenizer(Source(folder))
    assert tokenizer is not None
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (0, (1,))
    assert tokenizer.chat_template is None
    assert tokenizer.encode("ab<s>") == [0, 1, 2]
    assert tokenizer.vocab_size == 5


def test_what_tokenizer_config_adds(folder: Path) -> None:
    write(
        folder, bos_token={"content": "<s>", "lstrip": False}, eos_token="</s>", unk_token=None, chat_template="{{ 1 }}"
    )
    tokenizer = load_tokenizer(Source(folder, config=Config(eos_ids=(4, 1))))
    assert tokenizer is not None
    assert tokenizer.bos_id == 2
    assert tokenizer.eos_ids == (4, 1, 3)
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert tokenizer.chat_template == "{{ 1 }}"


def test_named_templates_and_the_file_that_wins(folder: Path) -> None:
    write(folder, chat_template=[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}, 3])
    first = load_tokenizer(Source(folder))
    (folder / "chat_template.jinja").write_text("from file ü", encoding="utf-8")
    second = load_tokenizer(Source(folder))
    assert first is not None
    assert second is not None
    assert (first.chat_template, second.chat_template) == ("d", "from file ü")


def test_another_path_or_none(folder: Path, tmp_path: Path) -> None:
    elsewhere = Source(tmp_path / "model")
    for path in (folder, folder / "tokenizer.json", str(folder)):
        tokenizer = load_tokenizer(elsewhere, path)
        assert tokenizer is not None
        assert tokenizer.vocab_size == 5
    assert load_tokenizer(elsewhere, None) is None
    with pytest.raises(ModelNotFoundError, match=r"tokenizer=.*no such file"):
        load_tokenizer(elsewhere, tmp_path / "absent")


def test_damaged_files_are_named(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("[")
    with pytest.raises(ModelFileError, match=r"tokenizer_config\.json: it is not valid JSON"):
        load_tokenizer(Source(folder))
    (folder / "tokenizer_config.json").write_text("{}")
    for content in (b"", b"{}", b"{", b"\xff", b'{"model": 3}'):
        (folder / "tokenizer.json").write_bytes(content)
        with pytest.raises(ModelFileError, match=r"tokenizer\.json: it can't be read"):
            load_tokenizer(Source(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match=r"has no tokenizer\.json"):
        load_tokenizer(Source(folder))
