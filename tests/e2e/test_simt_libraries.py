"""An engine that may use cuBLASLt, on the emulated GPU: a library of the tests' own plays it, as the real one needs a
GPU. All else is real: where it is looked for, the comparison at the first step, layouts, choices, the report.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from simt_library import require_simt
from tiny import write_tiny_llama

from pageform import Completion, Engine, SamplingParams, _native
from pageform.core.errors import BackendError, ParameterError
from pageform.platform import builtin_backends

PROMPT = "A beginning long enough for a step of many rows, since with few of them the library is not even asked. " * 2
SLOW = pytest.mark.slow
SCORED = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True, logprobs=3)
OPTIONS: dict[str, Any] = {
    "device": "simt",
    "dtype": "bfloat16",
    "threads": 1,
    "max_model_len": 160,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 96,
    "kv_cache_memory": "4MB",
    "drafts": "none",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("libraries"), layers=2, hidden=64, head_dim=64)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> str:
    """The library that plays cuBLASLt, which a build with tests leaves beside the simt backend."""
    path = Path(require_simt()).parent / "libfake_cublaslt.so"
    assert path.is_file()
    monkeypatch.setenv("PAGEFORM_CUBLASLT", str(path))
    monkeypatch.setenv("PF_FAKE_CUBLASLT", "")
    return str(path)


def answer(tiny: Path, **options: Any) -> tuple[Completion, dict[str, Any], str]:
    """The answer to a long prompt, what the engine says of libraries, and its numerics id's kernels."""
    with Engine(tiny, **OPTIONS, **options) as engine:
        completion = engine.generate(PROMPT[:90], SCORED)
        stats = engine.stats()
        assert stats.step_faults == 0
        return completion, stats.gpu_libraries, engine._parts.numerics().kernels


def first_logprobs(completion: Completion) -> dict[int, float]:
    assert completion.logprobs is not None
    return dict(completion.logprobs[0].top)


def test_it_computes_products_of_many_rows(tiny: Path, fake: str, caplog: pytest.LogCaptureFixture) -> None:
    ours, nothing, kernels = answer(tiny)
    assert nothing == {}
    with caplog.at_level(logging.INFO, "pageform.gpu_libraries"):
        theirs, libraries, others = answer(tiny, gpu_libraries=True)
    assert '"version": "13.0.2"' in caplog.text
    found = libraries["cublaslt"]
    assert found["path"] == fake
    assert found["version"] == "13.0.2"
    products = found["products"]
    assert {(product["x"], product["y"]) for product in products} == {("bf16", "bf16"), ("bf16", "f32")}
    assert all(product["theirs"] and product["their_us"] < product["our_us"] for product in products)
    assert sum(product["launches"] for product in products) >= 8, "two layers of four products each"
    expected, got = first_logprobs(ours), first_logprobs(theirs)
    assert expected.keys() & got.keys()
    for token in expected.keys() & got.keys():
        assert got[token] == pytest.approx(expected[token], abs=0.1)
    assert others.startswith(kernels)
    assert others != kernels, "its bits depend on what was measured"


@pytest.mark.parametrize("fault", ["slow", pytest.param("wrong", marks=SLOW), pytest.param("no algorithm", marks=SLOW)])
def test_what_is_not_better_is_ours(tiny: Path, fake: str, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv("PF_FAKE_CUBLASLT", fault)
    ours, _, _ = answer(tiny)
    theirs, libraries, _ = answer(tiny, gpu_libraries=True)
    products = libraries["cublaslt"]["products"]
    assert products
    assert not any(product["theirs"] or product["launches"] for product in products)
    assert all(bool(product["reason"]) == (fault != "slow") for product in products)
    assert first_logprobs(theirs) == first_logprobs(ours)


@pytest.mark.parametrize("fault", ["old", "missing"])
def test_a_library_that_cannot_be_used_is_reported(
    tiny: Path, fake: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    monkeypatch.setenv("PF_FAKE_CUBLASLT", fault)
    if fault == "missing":
        monkeypatch.setenv("PAGEFORM_CUBLASLT", fake + ".1")
    _, libraries, _ = answer(tiny, gpu_libraries=True)
    reason = libraries["cublaslt"]["refused"]
    assert ("is version 11.9.0, too old" if fault == "old" else fake + ".1") in reason
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.name for record in warnings] == ["pageform.gpu_libraries"]


def test_what_it_can_be_is_checked(tiny: Path) -> None:
    with pytest.raises(ParameterError, match="must be True or False"):
        Engine(tiny, gpu_libraries="yes")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="the cpu backend is no GPU's"):
        Engine(tiny, device="cpu", gpu_libraries=True)


def test_a_device_refuses_libraries_that_it_does_not_know() -> None:
    simt = _native.Device(require_simt())
    assert simt.libraries() == "{}"
    with pytest.raises(BackendError, match='no library "cudnn" is known'):
        simt.use_library("cudnn", [])
    cpu = _native.Device(str(builtin_backends()["cpu"]))
    assert cpu.libraries() == "{}"
    with pytest.raises(BackendError, match="the cpu backend uses no libraries"):
        cpu.use_library("cublaslt", [])
