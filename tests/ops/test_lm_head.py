"""The op `lm_head`: `linear` where `sample` reads, and nothing at all elsewhere."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from harness import ISAS, OpResult, ProgramPair, Sequences, make_device, run_op
from hypothesis import given, settings
from hypothesis import strategies as st
from test_linear import activations, float_matrices, quantized_matrices
from test_sample_op import pack_mask, real_logits, sample
from weight_blocks import StoredMatrix, stored_matrix

from pageform import _native
from pageform.ops.reference_sample import only_allowed
from pageform.ops.reference_types import ReferenceStep
from pageform.ops.sampling import ROW_MASK_EMPTY, ROW_NONFINITE, ROW_OK, Sampled, SamplingInputs
from pageform.runtime.inputs import StepInputs
from pageform.runtime.program import InlineVector, Op, Program, Recorder, Rows, Tensor

SEED = st.integers(0, 2**32 - 1)


def head_program(cols: int, vocab: int, biased: bool) -> Program:
    """x [R, cols] → logits [R, vocab], which are an output → sample."""
    x, logits = Tensor(0, Rows.LOGITS, 0, cols), Tensor(1, Rows.LOGITS, 0, vocab)
    return Program(
        buffers=[(Rows.LOGITS, cols), (Rows.LOGITS, vocab)],
        ops=[Op("lm_head", (x,), (logits,), weight=0, vector=0 if biased else -1), Op("sample", (logits,), ())],
        weights=[("weight",)],
        vectors=[InlineVector((0.0,) * vocab)] if biased else [],
        inputs={"x": x},
        outputs={"logits": logits},
    )


def step_of(rows: int, sampling: SamplingInputs) -> StepInputs:
    return Sequences([0], [rows], logits_rows=range(rows)).inputs(sampling=sampling)


def run_head(
    device: _native.Device,
    matrix: StoredMatrix,
    x: np.ndarray,
    sampling: SamplingInputs,
    bias: np.ndarray | None = None,
) -> OpResult:
    outs, cols = matrix.values.shape
    pair = ProgramPair(
        head_program(cols, outs, bias is not None),
        [matrix.values],
        [] if bias is None else [bias],
        device=device,
        packed=[matrix.pack(device)],
        max_rows=len(x),
    )
    return pair.run(step_of(len(x), sampling), {"x": x})


def drawn_sampling(seed: int, rows: int, outs: int) -> SamplingInputs:
    """Free rows, rows with few and with many allowed tokens, and such as need all logits whatever they are allowed."""
    rng = np.random.default_rng(seed)
    vocab = max(1, outs - int(rng.integers(0, 5)))
    shares = [1.0, 0.6, 0.1, 1.5 / vocab, 0.0, 0.0, 0.0]
    allowed = np.stack([rng.random(vocab) < share for share in shares])
    allowed[4, rng.integers(0, vocab)] = True
    allowed[5, rng.integers(0, vocab) :][:16] = True
    return SamplingInputs.greedy(
        rows,
        temperature=rng.choice([0.0, 0.9], rows).astype(np.float32),
        top_p=rng.choice([1.0, 0.8], rows).astype(np.float32),
        seed=rng.integers(0, 2**64, rows, dtype=np.uint64),
        num_logprobs=np.where(rng.random(rows) < 0.1, 0, -1).astype(np.int32),
        target=np.where(rng.random(rows) < 0.1, 0, -1).astype(np.int32),
        defer=(rng.random(rows) < 0.1).astype(np.uint8),
        mask_row=rng.integers(-1, len(shares), rows).astype(np.int32),
        masks=pack_mask(allowed),
        vocab=vocab,
    )


def read_by_sample(sampling: SamplingInputs, rows: int, columns: int) -> np.ndarray:
    """Booleans [rows, columns]: the entries that must be right."""
    nothing = torch.zeros(0, dtype=torch.int64)
    step = ReferenceStep(*[nothing] * 7, sampling=sampling)
    read = np.zeros((rows, columns), bool)
    for row in range(rows):
        allowed = only_allowed(step, row)
        read[row, : sampling.vocab] = True if allowed is None else allowed
    return read


def assert_sampled(one: Sampled, other: Sampled) -> None:
    for name in ("ids", "logprobs", "ranks", "top_ids", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.cpu_only(reason="on a GPU linear stands for lm_head")
@settings(max_examples=20, deadline=None)
@given(matrix=st.one_of(quantized_matrices(), float_matrices()), rows=st.integers(1, 150), seed=SEED)
def test_entries_that_are_read_have_the_bits_of_linear(
    device: _native.Device, matrix: StoredMatrix, rows: int, seed: int
) -> None:
    outs, cols = matrix.values.shape
    x = activations(seed, rows, cols)
    sampling = drawn_sampling(seed, rows, outs)
    head = run_head(device, matrix, x, sampling)
    whole = run_op("linear", [x], [outs], weight=matrix.values, packed=matrix.pack(device), device=device)
    read = read_by_sample(sampling, rows, outs)
    np.testing.assert_array_equal(head.native[0][read], whole.native[0][read])
    np.testing.assert_array_equal(head.reference[0][read], whole.reference[0][read])
    assert np.isnan(head.reference[0][:, : sampling.vocab][~read[:, : sampling.vocab]]).all()
    # Tokens are those of a sampler that gets every logit: it reads no others than it should.
    plain = sample(device, whole.native[0], sampling)
    assert_sampled(head.native_sampled, plain.native_sampled)


def test_bias_is_added() -> None:
    device = make_device()
    matrix, bias = stored_matrix([("q8_0", 200)], 64, 5), np.arange(200, dtype=np.float32)
    sampling = SamplingInputs.greedy(
        2, mask_row=np.zeros(2, np.int32), masks=pack_mask(np.arange(200)[None] == 77), vocab=200
    )
    x = activations(1, 2, 64)
    head = run_head(device, matrix, x, sampling, bias)
    whole = run_op("linear", [x], [200], weight=matrix.values, packed=matrix.pack(device), vector=bias, device=device)
    np.testing.assert_array_equal(head.native[0][:, 77], whole.native[0][:, 77])
    np.testing.assert_array_equal(head.reference[0][:, 77], whole.reference[0][:, 77])


@pytest.mark.parametrize("isa", ISAS)
def test_bits_depend_neither_on_threads_nor_on_neighbours(isa: str) -> None:
    matrix = stored_matrix([("q4_0", 1000)], 96, 8)
    x = activations(2, 40, 96)
    sampling = drawn_sampling(11, 40, 1000)
    read = read_by_sample(sampling, 40, 1000)
    results = [run_head(make_device(isa, threads), matrix, x, sampling) for threads in (1, 3)]
    np.testing.assert_array_equal(results[0].native[0][read], results[1].native[0][read])
    for row in range(40):
        fields = {
            name: getattr(sampling, name)[row : row + 1]
            for name in ("temperature", "top_p", "seed", "num_logprobs", "target", "defer", "mask_row")
        }
        single = SamplingInputs.greedy(1, **fields, masks=sampling.masks, vocab=sampling.vocab)
        alone = run_head(make_device(isa), matrix, x[row : row + 1], single)
        np.testing.assert_array_equal(alone.native[0][0][read[row]], results[0].native[0][row][read[row]])
        assert alone.native_sampled.ids[0] == results[0].native_sampled.ids[row]


@pytest.mark.cpu_only(reason="on a GPU linear stands for lm_head")
def test_columns_that_no_row_wants_are_not_computed(device: _native.Device) -> None:
    matrix = stored_matrix([("q8_0", 640)], 64, 2)
    sampling = SamplingInputs.greedy(
        3, mask_row=np.zeros(3, np.int32), masks=pack_mask(np.arange(640)[None] == 300), vocab=640
    )
    x = activations(3, 3, 64)
    whole = run_head(device, matrix, x, SamplingInputs.greedy(3, vocab=640)).native[0]
    logits = run_head(device, matrix, x, sampling).native[0]
    assert (whole != 0).all()
    assert (logits[:, :288] == 0).all()  # as the memory was
    assert (logits[:, 304:] == 0).all()
    np.testing.assert_array_equal(logits[:, 300], whole[:, 300])


def test_masks_that_come_too_late_are_waited_for_by_sample_alone() -> None:
    """All columns are computed then; the token is the same."""
    matrix, x = stored_matrix([("q8_0", 640)], 64, 2), activations(3, 1, 64)
    masks = np.zeros((1, 20), np.uint32)
    step = step_of(1, SamplingInputs.greedy(1, mask_row=np.zeros(1, np.int32), masks=masks, vocab=640))
    device = make_device()
    runner = ProgramPair(head_program(64, 640, False), [matrix.values], device=device, packed=[matrix.pack(device)])
    runner.native.feed("x", x)
    gate = _native.MaskGate()
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(runner.native.run, step, gate)
        time.sleep(0.05)
        assert not result.done()
        masks[0, 9] = 1 << 12  # token 300 alone
        gate.open()
        assert result.result(10).ids.tolist() == [300]
    assert (runner.native.fetch("logits") != 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_masked_row_does_not_read_what_is_forbidden(device: _native.Device, bad: float) -> None:
    logits = real_logits(4, 4, 200)
    logits[:, 60:] = bad
    logits[3, 20] = bad
    sampling = SamplingInputs.greedy(
        4,
        temperature=np.array([0, 1, 1, 0], np.float32),
        num_logprobs=np.array([-1, -1, 0, -1], np.int32),
        mask_row=np.zeros(4, np.int32),
        masks=pack_mask((np.arange(200)[None] >= 20) & (np.arange(200)[None] < 60)),
    )
    result = sample(device, logits, sampling)
    finite = bad == -np.inf
    wanted = [ROW_OK, ROW_OK, ROW_OK if finite else ROW_NONFINITE, ROW_OK if finite else ROW_NONFINITE]
    assert result.native_sampled.status.tolist() == result.reference_sampled.status.tolist() == wanted
    np.testing.assert_array_equal(result.native_sampled.ids, result.reference_sampled.ids)


def test_nothing_left_is_told_from_nothing_finite(device: _native.Device) -> None:
    logits = np.full((2, 64), -np.inf, np.float32)
    sampling = SamplingInputs.greedy(
        2, mask_row=np.array([0, -1], np.int32), masks=pack_mask(np.arange(64)[None] < 9), vocab=64
    )
    result = sample(device, logits, sampling)
    assert result.native_sampled.status.tolist() == [ROW_MASK_EMPTY, ROW_NONFINITE]
    assert result.reference_sampled.status.tolist() == [ROW_MASK_EMPTY, ROW_NONFINITE]


def test_lowering_makes_it_where_only_sample_sees_the_logits() -> None:
    def names(seen: str) -> list[str]:
        r = Recorder()
        x = r.gather_rows(r.embed("embed", 32))
        logits = r.linear(x, "embed", 48)
        if seen == "outside":
            r.output("logits", logits)
        if seen == "by another op":
            r.add(logits, logits)
        if seen != "nowhere":
            r.sample(logits)
        return ProgramPair(r.program, [np.ones((48, 32), np.float32)]).native.op_names

    assert names("by sample") == ["embed", "gather_rows", "lm_head", "sample"]
    for seen in ("outside", "by another op", "nowhere"):
        assert "lm_head" not in names(seen)
