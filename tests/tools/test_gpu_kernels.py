"""The benchmark of the GPU kernels: its arithmetic, that it sees mistakes, and the kernels on the emulator."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_kernels
from benchmarks.gpu_kernels import roofline_row, run, verdict
from benchmarks.gpu_kernels.attention import Heads, decode, prefill
from benchmarks.gpu_kernels.case import H100, Case, Setup, Trial
from benchmarks.gpu_kernels.library import Kernels
from benchmarks.gpu_kernels.matrices import linear, linear_8bit, moe
from benchmarks.gpu_kernels.shapes import named, small
from benchmarks.options import Options
from benchmarks.report import Report
from pageform.platform.backends import BACKEND_PATH

PAGE = Path(__file__).parents[2] / "docs/design/gpu-roofline.md"


class Idle:
    """Kernels that do nothing: outputs stay as they were."""

    device = "cpu"
    have_mma = have_fp8_mma = True

    def launch(self, *arguments: object) -> None: ...
    def synchronize(self) -> None: ...
    def wait_for_torch(self) -> None: ...
    def ask(self, *arguments: object) -> int:
        return 4096


@pytest.fixture(scope="module")
def simt() -> Iterator[Kernels]:
    folders = [Path(folder) for folder in os.environ.get(BACKEND_PATH, "").split(os.pathsep) if folder]
    if not folders:
        pytest.skip(f"{BACKEND_PATH} does not name the folder of a build with tests")
    kernels = Kernels("simt")
    yield kernels
    kernels.close()


def label(case: Case) -> str:
    return f"{case.kernel}, {case.shape}"


@pytest.mark.parametrize("case", small(), ids=label)
def test_kernels_on_the_emulator_equal_torch(simt: Kernels, case: Case) -> None:
    assert case.lacks(simt) == ""
    assert verdict(simt, case, seed=3) == ""


@pytest.mark.parametrize("case", small(), ids=label)
def test_a_kernel_that_writes_nothing_is_seen(case: Case) -> None:
    pytest.importorskip("torch")
    idle: Any = Idle()
    assert verdict(idle, case, seed=3) != ""


def test_one_wrong_value_is_seen(simt: Kernels) -> None:
    case = linear("17 x 72 x 192", rows=17, n=72, k=192)

    class Spoilt(Kernels):
        def launch(self, function: str, *arguments: Any) -> None:
            super().launch(function, *arguments)
            self.synchronize()
            arguments[5][16, 71] *= 1.05

    kernels = Spoilt("simt")
    assert verdict(simt, case, seed=0) == ""
    assert verdict(kernels, case, seed=0).startswith("y[16, 71] is ")
    kernels.close()


def test_what_is_right_is_timed_beside_others(simt: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens on a GPU, but for its clock: cases that are wrong, missing or without a library go on."""

    def take_time(kernels: Kernels, work: Callable[[], object], count: int) -> list[float]:
        work()
        return [8.0, 2.0, 4.0][:count]

    cases = [decode("40, 1", lens=[40, 1], heads=Heads(4, 2, 64)), linear("3 x 72 x 192", rows=3, n=72, k=192)]
    cases.append(dataclasses.replace(linear("wrong", rows=3, n=72, k=192), prepare=wrong_once(cases[1])))
    cases.append(dataclasses.replace(cases[1], shape="refused", prepare=refused))
    monkeypatch.setattr(gpu_kernels, "measure", take_time)
    monkeypatch.setattr(gpu_kernels, "named", lambda: cases)
    monkeypatch.setitem(sys.modules, "flashinfer", None)  # not installed
    report = Report("gpu_kernels", {})
    gpu_kernels.try_named(report, simt, Options(smoke=True))
    assert [check.held for check in report.checks] == [True, True, False, False]
    [table] = report.tables
    assert [row[6] for row in table[1:]] == ["4.0", "4.0", "wrong", "failed"]
    assert "K is 200000" in report.checks[3].text
    assert table[1][8].startswith("flashinfer: ModuleNotFoundError")
    assert table[2][8] == "torch.matmul, bf16: 4.0"
    assert table[2][7] == f"{1e8 * cases[1].seconds(H100) / 4.0:.0f} %"


def wrong_once(case: Case) -> Callable[[Setup], Trial]:
    """The case with an output that is spoilt after its launch."""

    def prepare(setup: Setup) -> Trial:
        trial = case.prepare(setup)
        return dataclasses.replace(trial, check=lambda: trial.check() or "spoilt")

    return prepare


def refused(setup: Setup) -> Trial:
    """A launch that the kernel does not take."""
    return linear_8bit("", rows=1, n=8, k=200_000, type="int8").prepare(setup)


def test_small_shapes_cover_every_kernel() -> None:
    assert {case.kernel for case in small()} == {case.kernel for case in named()}
    assert len({label(case) for case in named()}) == len(named())


def test_bytes_and_operations_are_those_counted_by_hand() -> None:
    dense = linear("", rows=64, n=4096, k=4096)
    assert (dense.bytes, dense.flops) == (2 * 4096 * 4096 + 2 * 64 * 8192, 2 * 64 * 4096 * 4096)
    assert dense.bound(H100) == "memory"
    assert dense.seconds(H100) == pytest.approx(34_603_008 / 3.35e12)
    packed = linear("", rows=1, n=64, k=64, weights="int4")
    assert packed.bytes == 64 * 64 // 2 + 2 * 64 * 2 + 2 * 128  # codes, two f16 scales a row, x and y
    one = decode("", lens=[100, 28], heads=Heads(8, 2, 64), cache="int8")
    assert one.bytes == 2 * 128 * 2 * (64 + 4) + 2 * 2 * 2 * 512
    assert one.flops == 4 * 128 * 512
    prompt = prefill("", counts=[3], lens=[5], heads=Heads(2, 1, 64))
    assert prompt.flops == 4 * (3 + 4 + 5) * 128
    few = moe("", tokens=1, experts=8, top_k=2, hidden=64, inner=32)
    assert few.flops == 2 * 2 * 3 * 64 * 32
    assert few.bytes == 2 * 3 * 64 * 32 * 2 + 2 * 64 * 2 + 2 * 2 * 2 * (32 + 64)


def test_the_page_holds_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for case in named():
        assert f"| {' | '.join(roofline_row(case))} |" in page


def test_without_a_gpu_the_table_is_printed_and_a_device_that_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = run(Options()).markdown()
    assert "nothing was run" in text
    assert "| decode, bf16 cache | 8B, 64 x 4096 |" in text
    for device, told in (("cuda", "sees no GPU"), ("simt", "-DPAGEFORM_SIMT=ON")):
        monkeypatch.setenv(BACKEND_PATH, "nowhere")
        report = run(Options(device=device))
        assert not report.passed
        assert told in report.checks[0].text
