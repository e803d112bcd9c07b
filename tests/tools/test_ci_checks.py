"""The checks of `.ci/run` find what they are for."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

CI = Path(__file__).parents[2] / "ci"


def run(check: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CI / check), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository in which all checks pass."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for name, content in {
        "python/pageform/__init__.py": '"""The package."""\n',
        "python/pageform/core.py": '"""Plain data: no I/O. More words."""\n',
        "csrc/pool.h": "// Blocks and who\n// holds them. More.\n#pragma once\n",
        "csrc/pool.cpp": '#include "pool.h"\n',
        "README.md": "See https://example.com/home/page and tests/root/x.\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    assert run("check_structures.py", tmp_path, "--write").returncode == 0
    return tmp_path


def test_structures_are_written_from_the_sources(repository: Path) -> None:
    page = (repository / "docs/structures.md").read_text(encoding="utf-8")
    assert "- `csrc/pool` — Blocks and who holds them\n" in page
    assert "- `python/pageform/` — The package\n- `python/pageform/core.py` — Plain data: no I/O\n" in page
    assert run("check_structures.py", repository).returncode == 0


def test_a_missing_and_a_gone_module_are_found(repository: Path) -> None:
    (repository / "python/pageform/core.py").rename(repository / "python/pageform/kernel.py")
    done = run("check_structures.py", repository)
    assert done.returncode == 1
    assert "python/pageform/core.py: described but gone" in done.stdout
    assert "python/pageform/kernel.py: not described" in done.stdout


def test_a_line_written_by_hand_is_kept(repository: Path) -> None:
    page = repository / "docs/structures.md"
    page.write_text(page.read_text(encoding="utf-8").replace("Plain data: no I/O", "By hand"), encoding="utf-8")
    assert run("check_structures.py", repository, "--write").returncode == 0
    assert "— By hand\n" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "lines", "code"), [("a.py", 400, 0), ("a.py", 401, 1), ("a.cpp", 600, 0), ("a.h", 601, 1)]
)
def test_lengths(repository: Path, name: str, lines: int, code: int) -> None:
    (repository / name).write_text("\n" * lines, encoding="utf-8")
    assert run("check_lengths.py", repository).returncode == code


@pytest.mark.parametrize("folder", ["home", "root", "work", "Users"])
def test_a_path_of_one_machine_is_found(repository: Path, folder: str) -> None:
    assert run("check_words.py", repository).returncode == 0
    (repository / "note.md").write_text(f"first\nsee `/{folder}/ada/file`\n", encoding="utf-8")
    done = run("check_words.py", repository)
    assert done.returncode == 1
    assert "note.md:2" in done.stdout


def test_a_wheel_must_be_whole_and_light(tmp_path: Path) -> None:
    def wheel(requirement: str, *names: str) -> str:
        path = tmp_path / "pageform-0.whl"
        with zipfile.ZipFile(path, "w") as file:
            for name in (*names, "pageform-0.dist-info/licenses/LICENSE"):
                file.writestr(name, "")
            file.writestr("pageform-0.dist-info/METADATA", f"Name: pageform\nRequires-Dist: {requirement}\n")
        return str(path)

    whole = ("pageform/_native.cpython-311.so", "pageform/backends/libpageform_cpu.so", "pageform/py.typed")
    assert run("check_wheel.py", tmp_path, wheel('torch>=2; extra == "test"', *whole)).returncode == 0
    assert "requires torch>=2" in run("check_wheel.py", tmp_path, wheel("torch>=2", *whole)).stdout
    assert "lacks pageform/backends" in run("check_wheel.py", tmp_path, wheel("numpy", whole[0], whole[2])).stdout
    assert "holds tests/x.py" in run("check_wheel.py", tmp_path, wheel("numpy", *whole, "tests/x.py")).stdout


def test_a_wheel_for_any_platform_must_be_free_of_the_engine(tmp_path: Path) -> None:
    check = load("check_pure_wheel")
    assert check.faults(make_pure(tmp_path / "pageform-0.1.0-py3-none-any.whl", {}, "rich>=13")) == []
    spoilt = make_pure(
        tmp_path / "pageform-0.1.0-cp311-abi3-linux_x86_64.whl", {"pageform/_native.so": ""}, "numpy>=1.26"
    )
    assert [fault.split(" ", 1)[0] for fault in check.faults(spoilt)] == [spoilt.name, "holds", "requires"]


def test_a_wheel_depends_on_the_engines_libraries_only_if_it_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = {"always": ["a"], "engine": ["b"]}
    dependencies = load("wheel_dependencies").dynamic_metadata
    assert dependencies(lists, {}) == {"dependencies": ["a", "b"]}
    monkeypatch.setenv("PAGEFORM_BACKENDS", "none")
    assert dependencies(lists, {}) == {"dependencies": ["a"]}


def test_plugins_are_of_pageforms_version_and_name_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CI.parent)
    monkeypatch.syspath_prepend(str(CI))
    builder = importlib.import_module("build_wheel")
    assert builder.version_faults() == []
    for backend in ("cuda", "hip"):
        folder = builder.PACKAGES[backend]
        module = folder.name.replace("-", "_")
        assert builder.project(folder)["entry-points"] == {"pageform.backends": {backend: f"{module}:library"}}
        assert f"libpageform_{backend}.so" in (folder / module / "__init__.py").read_text(encoding="utf-8")


RECORDS = """--- !Analysis
Pass:            kernel-resource-usage
Name:            FunctionName
Function:        _Z3addPf
Args:
  - FunctionName:    _Z3addPf
...
""" + "".join(
    f"--- !Analysis\nPass:            kernel-resource-usage\nName:            {name}\nFunction:        _Z3addPf\n"
    f"Args:\n  - String:          '    {name}: '\n  - {name}:         '{value}'\n...\n"
    for name, value in {
        "NumVGPR": 20,
        "NumAGPR": 4,
        "ScratchSize": 0,
        "Occupancy": 8,
        "SGPRSpill": 0,
        "VGPRSpill": 0,
        "BytesLDS": 64,
    }.items()
)
BUDGET = {"kernel": "add", "vgprs": {"gfx9": 24, "gfx11": 16}, "occupancy": {"gfx9": 8, "gfx11": 16}, "lds": 64}


@pytest.fixture
def check_hip(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(CI))
    return importlib.import_module("check_hip")


def test_each_kernel_of_an_amd_gpu_has_a_budget_that_holds(check_hip: Any, tmp_path: Path) -> None:
    (tmp_path / "add.cu.o.gfx942.yaml").write_text(RECORDS, encoding="utf-8")
    (tmp_path / "add.cu.opt.yaml").write_text("", encoding="utf-8")
    [kernel] = check_hip.read_records(tmp_path, ["gfx942"])
    assert (kernel.name, kernel.family, kernel.vgprs) == ("add(float*)", "gfx9", 24)
    assert check_hip.check_budgets([kernel], [BUDGET]) == []
    [problem] = check_hip.check_budgets([kernel], [])
    assert "0 budgets" in problem
    [problem] = check_hip.check_budgets([], [BUDGET])
    assert "no kernel is add" in problem
    for name, value, told in (
        ("NumVGPR", 21, "uses 25 VGPRs, 24 allowed"),
        ("Occupancy", 7, "has 7 waves a SIMD, 8 needed"),
        ("BytesLDS", 65, "uses 65 bytes of shared memory, 64 allowed"),
        ("ScratchSize", 4, "uses 4 bytes of scratch"),
        ("VGPRSpill", 1, "spills 1 VGPRs"),
        ("SGPRSpill", 1, "spills 1 SGPRs, 0 allowed"),
    ):
        worse = check_hip.Kernel(kernel.name, kernel.arch, {**kernel.usage, name: value})
        [problem] = check_hip.check_budgets([worse], [BUDGET])
        assert told in problem


def test_a_kernel_of_an_amd_gpu_has_the_matrix_instruction_that_its_budget_names(check_hip: Any) -> None:
    usage = {"NumVGPR": 1, "Occupancy": 8, "BytesLDS": 0, "ScratchSize": 0, "VGPRSpill": 0, "SGPRSpill": 0}
    budget = {"kernel": "gemm", "vgprs": {"gfx9": 8, "gfx11": 8}, "occupancy": {"gfx9": 8, "gfx11": 8}}
    named = {**budget, "matrix": {"gfx942": r"v_mfma_f32_\w+_fp8_fp8", "gfx11": r"v_wmma_\w+"}}
    for arch, found, with_budget, told in (
        ("gfx942", {"v_mfma_f32_16x16x32_fp8_fp8"}, named, None),
        ("gfx942", set(), named, "has no matrix instruction, v_mfma_f32"),
        ("gfx942", {"v_mfma_f32_16x16x16_f16"}, named, "has v_mfma_f32_16x16x16_f16, v_mfma_f32"),
        ("gfx942", {"v_mfma_f32_16x16x32_fp8_fp8"}, budget, "which its budget does not name"),
        ("gfx90a", set(), named, None),
        ("gfx90a", {"v_mfma_i32_16x16x16i8"}, named, "which its budget does not name"),
        ("gfx1100", set(), named, "has no matrix instruction, v_wmma"),
    ):
        problems = check_hip.check_budgets([check_hip.Kernel("gemm", arch, usage, found)], [with_budget])
        assert len(problems) == (told is not None)
        assert told is None or told in problems[0]


def test_without_a_compiler_for_amd_gpus_the_check_fails(tmp_path: Path) -> None:
    command = [sys.executable, str(CI / "check_hip.py")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "no clang++-19" in done.stdout
    assert "apt-get install clang-19" in done.stdout


def load(check: str) -> Any:
    """The module of a check."""
    spec = importlib.util.spec_from_file_location(check, CI / f"{check}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_pure(path: Path, files: dict[str, str], requirement: str) -> Path:
    metadata = f"Metadata-Version: 2.4\nName: pageform\nRequires-Dist: {requirement}\n"
    files = {**files, "pageform/structured/spec.py": "", "pageform/py.typed": "", "p.dist-info/METADATA": metadata}
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path
