"""ci/check_gpu.py: budgets, occupancy, the record of what was checked, and that nothing passes without a compiler."""

import importlib
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[2] / "ci"


@pytest.fixture(scope="module")
def check():
    sys.path.insert(0, str(CI))
    try:
        yield importlib.import_module("check_gpu")
    finally:
        sys.path.remove(str(CI))


@pytest.fixture
def kernel(check):
    return check.Kernel("k", "80", registers=64, threads=256, instructions=Counter({"LDG.E.128": 2, "LDG.E": 1}))


@pytest.mark.parametrize(
    ("target", "threads", "registers", "shared", "warps"),
    [
        ("80", 256, 32, 0, 64),
        ("80", 256, 33, 0, 48),  # registers go to a warp in 256s: 40 a thread
        ("86", 256, 32, 0, 48),
        ("80", 1024, 65, 0, 0),  # a block of 32 warps gets 65,536 registers at most
        ("80", 128, 168, 73728, 8),  # two blocks in 164 KiB
        ("86", 128, 168, 73728, 4),
        ("86", 256, 128, 98304, 8),
        ("86", 256, 128, 99 * 1024, 8),  # the most that a block may have
        ("86", 256, 128, 99 * 1024 + 1, 0),
        ("86", 32, 16, 0, 16),  # sixteen blocks at most
        ("90a", 384, 168, 200 * 1024, 12),
    ],
)
def test_resident_warps(check, target, threads, registers, shared, warps):
    assert check.TARGETS[target].resident_warps(threads, registers, shared) == warps


def test_a_kernel_within_its_budget_has_no_problems(check, kernel):
    assert check.problems_of(kernel, {"max_registers": 64, "need": {"LDG": 3}, "forbid": ["STL"]}) == []


@pytest.mark.parametrize(
    ("change", "budget", "problem"),
    [
        ({"spills": 8}, {}, "spills 8 bytes"),
        ({"stack": 16}, {"stack": 8}, "has a stack frame of 16 bytes"),
        ({"registers": 65}, {}, "uses 65 registers, 64 allowed"),
        ({"shared": 4097}, {"max_shared": 4096}, "declares 4097 bytes of shared memory"),
        ({"dynamic": True}, {}, "its budget needs dynamic_shared"),
        ({"threads": 0}, {}, "does not say how many threads"),
        ({}, {"dynamic_shared": 98304}, "has 8 warps on a multiprocessor, 16 needed"),
        ({}, {"min_warps": 40}, "has 32 warps on a multiprocessor, 40 needed"),
        ({}, {"need": {"LDG.E.128": 3}}, "has 2 LDG.E.128, 3 needed"),
        ({}, {"forbid": ["LDG"]}, "has 3 LDG"),
    ],
)
def test_each_breach_is_told(check, kernel, change, budget, problem):
    for name, value in change.items():
        setattr(kernel, name, value)
    [found] = check.problems_of(kernel, {"max_registers": 64, **budget})
    assert problem in found


def test_a_target_may_have_limits_of_its_own(check):
    budget = {"max_registers": 64, "min_warps": 4, "targets": {"80,90a": {"min_warps": 8}}}
    assert check.budget_for(budget, "90a")["min_warps"] == 8
    assert check.budget_for(budget, "86")["min_warps"] == 4


def test_kernels_and_budgets_must_meet(check, kernel):
    budgets = [{"kernel": "other", "max_registers": 64}]
    problems = check.check_budgets([kernel], budgets)
    assert "k: no budget" in problems["80"][0]
    assert "no kernel is other" in problems["every target"][0]


def test_every_budget_names_known_targets(check):
    for budget in json.loads((CI / "gpu_budgets.json").read_text()):
        names = {name for key in budget.get("targets", {}) for name in key.split(",")}
        assert names <= {*check.TARGETS, check.PTX}, budget["kernel"]


def test_changed_sources_are_refused_until_they_are_checked(check, tmp_path, monkeypatch):
    monkeypatch.chdir(CI.parent)
    record = tmp_path / "checked.json"
    monkeypatch.setattr(check, "RECORD", record)
    [refusal] = check.check_record()
    assert "make gpu-check-all" in refusal
    names = [check.target_name(arch) for arch in (*check.TARGETS, check.PTX)]
    targets = {name: {"digest": check.state()} for name in names}
    record.write_text(json.dumps({"targets": targets}))
    assert check.check_record() == []
    targets["sm_90a"]["digest"] = "another"
    record.write_text(json.dumps({"targets": targets}))
    [refusal] = check.check_record()
    assert "sm_90a" in refusal
    assert "sm_80" not in refusal


def test_what_passed_is_recorded_beside_what_holds_still(check, tmp_path, monkeypatch):
    monkeypatch.chdir(CI.parent)
    monkeypatch.setattr(check, "compiler_version", lambda: "nvcc 13")
    record = tmp_path / "checked.json"
    monkeypatch.setattr(check, "RECORD", record)
    now = check.state()
    entries = {"sm_80": {"digest": now, "kernels": 3}, "sm_86": {"digest": "another"}}
    record.write_text(json.dumps({"targets": entries}))
    check.write_record(now, {"sm_90a": {"kernels": 4}})
    assert check.recorded() == {"sm_80": entries["sm_80"], "sm_90a": {"digest": now, "kernels": 4}}
    assert check.stale_targets() == ["86", "89", "100a", "120a", check.PTX]


def test_all_compiles_nothing_when_all_is_recorded(check, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(CI.parent)
    record = tmp_path / "checked.json"
    monkeypatch.setattr(check, "RECORD", record)
    names = [check.target_name(arch) for arch in (*check.TARGETS, check.PTX)]
    record.write_text(json.dumps({"targets": {name: {"digest": check.state()} for name in names}}))
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--all"])
    assert check.main() == 0
    assert "all targets were checked" in capsys.readouterr().out


def test_the_digest_covers_included_files_of_this_vendor_only(check, monkeypatch):
    monkeypatch.chdir(CI.parent)
    files = {str(path) for path in check.files_of(check.kernel_sources())}
    assert {"csrc/gpu/gpu.h", "csrc/gpu/cuda/device.h", "csrc/ops/linear/gpu/gemm_mma.h"} <= files
    assert not [name for name in files if "/simt/" in name or "/hip/" in name]


def test_without_a_compiler_the_check_fails_and_says_what_to_do(check, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["cuda_tools"], "FOLDER", tmp_path / "cuda")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "argv", ["check_gpu.py"])
    assert check.main() == 1
    told = capsys.readouterr().out
    assert "nvcc is not in PATH and cannot be installed from PyPI" in told
    assert "Install CUDA 13.0's toolkit" in told
