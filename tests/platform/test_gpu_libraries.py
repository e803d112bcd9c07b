"""Where libraries of GPU vendors are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pageform.core.errors import ParameterError
from pageform.platform import library_files


def make_wheel(site: Path, file: str) -> str:
    path = site / "nvidia" / file
    path.parent.mkdir(parents=True)
    path.touch()
    return str(path)


def test_files_of_wheels_come_before_names_for_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGEFORM_CUBLASLT", raising=False)
    monkeypatch.delenv("PAGEFORM_NCCL", raising=False)
    one, other = tmp_path / "one", tmp_path / "other"
    older = make_wheel(one, "cublas/lib/libcublasLt.so.12")
    newer = make_wheel(other, "cu13/lib/libcublasLt.so.13")
    nccl = make_wheel(other, "nccl/lib/libnccl.so.2")
    monkeypatch.syspath_prepend(str(other))
    monkeypatch.syspath_prepend(str(one))
    found = library_files("cublaslt")
    assert found.index(newer) < found.index(older)
    assert found[-2:] == ["libcublasLt.so.13", "libcublasLt.so.12"]
    assert nccl in library_files("nccl")
    assert library_files("nccl")[-1] == "libnccl.so.2"


def test_the_environment_names_one_file_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEFORM_CUBLASLT", "/opt/libcublasLt.so")
    assert library_files("cublaslt") == ["/opt/libcublasLt.so"]
    monkeypatch.setenv("PAGEFORM_CUBLASLT", "")
    assert "/opt/libcublasLt.so" not in library_files("cublaslt")


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(ParameterError, match="Use one of: cublaslt, nccl"):
        library_files("cudnn")
