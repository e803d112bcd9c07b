"""The native runner: programs it refuses, inputs it refuses, gates, crossings, lowering."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny_model
from harness import ProgramPair, make_device

from pageform import _native
from pageform.core.errors import BackendError
from pageform.runtime.inputs import StepInputs
from pageform.runtime.program import InlineVector, Op, Program, Recorder, Rows, Tensor
from pageform.runtime.runner import NativeRunner


def native(program: Program, **options: object) -> NativeRunner:
    sizes = {"max_tokens": 32, "max_seqs": 4, "max_rows": 8}
    return NativeRunner(make_device(), program, [], [], None, **(sizes | options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pair() -> ProgramPair:
    return tiny_model.tiny_pair()


def mixed_inputs(**sampling: object) -> StepInputs:
    """Two sequences: the second token chunk of one, the prompt of another; 5 tokens, 2 rows."""
    step = tiny_model.sequences([16, 0], [2, 3]).inputs()
    step.sampling = tiny_model.greedy(2, **sampling)
    return step


# --- programs --------------------------------------------------------------------------------------------------------


def test_an_op_the_backend_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device()
    lacking = [name for name in _native.op_table() if not device.has_op(name)]
    assert lacking == []  # the CPU backend is complete ...
    program = Program(buffers=[(Rows.TOKENS, 4)] * 2)
    program.inputs["x"] = Tensor(0, Rows.TOKENS, 0, 4)
    program.ops.append(Op("fft", (Tensor(0, Rows.TOKENS, 0, 4),), (Tensor(1, Rows.TOKENS, 0, 4),)))
    with pytest.raises(ValueError, match="op 0 fft: is not an op of the op table"):  # ... and knows no others
        native(program)


def test_weights_must_fit_the_program() -> None:
    program = tiny_model.record()
    weights = tiny_model.draw_weights(program)
    weights[1] = weights[1][:-1]
    with pytest.raises(ValueError, match="op 3 linear: output columns is 128, expected 127"):
        ProgramPair(program, weights, tiny_model.draw_vectors(program), tiny_model.tiny_pair().kv)


@pytest.mark.parametrize("name", ["max_tokens", "max_seqs", "max_rows"])
def test_a_runner_must_allow_some_step(name: str) -> None:
    for size in (0, -1, 2**40):
        with pytest.raises(ValueError, match="the largest step has 1 to 16777216 tokens"):
            native(Program(), **{name: size})


def test_feed_and_fetch() -> None:
    r = Recorder()
    x = r.input("x", Rows.TOKENS, 24)
    r.output("left", x.split([8, 16])[0])
    r.output("sum", r.add(x, x))
    runner = native(r.program)
    step = tiny_model.sequences([0], [3]).inputs()
    with pytest.raises(ValueError, match='input "x" was not fed'):
        runner.run(step)
    values = np.arange(72, dtype=np.float32).reshape(3, 24)
    runner.feed("x", values)
    runner.run(step)
    np.testing.assert_array_equal(runner.fetch("left"), values[:, :8])
    np.testing.assert_array_equal(runner.fetch("sum"), 2 * values)
    with pytest.raises(ValueError, match='input "x" was fed 3 rows, the step has 4'):
        runner.run(tiny_model.sequences([0], [4]).inputs())
    for bad, message in [
        (lambda: runner.feed("y", values), 'no input "y"'),
        (lambda: runner.fetch("x"), 'no output "x"'),
        (lambda: runner.feed("x", values[:, :8]), "has 24 columns, was fed 8"),
        (lambda: runner.feed("x", values[0]), "2 dimensions"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()


# --- inputs ----------------------------------------------------------------------------------------------------------

I32 = np.int32
BAD_STEPS = {
    "no tokens": ({"token_ids": np.zeros(0, I32)}, "positions must have 0 elements"),
    "token out of vocabulary": ({"token_ids": np.array([0, 1, 2, 3, 96], I32)}, r"token_ids\[4\] is 96"),
    "negative token": ({"token_ids": np.array([0, 1, -1, 3, 4], I32)}, r"token_ids\[2\] is -1"),
    "wrong dtype": ({"token_ids": np.zeros(5, np.int64)}, "token_ids must have dtype int32, has int64"),
    "a list": ({"token_ids": [0] * 5}, "token_ids must be an array"),
    "None": ({"positions": None}, "positions must be an array"),
    "not contiguous": ({"positions": np.zeros(10, I32)[::2]}, "positions must be C-contiguous"),
    "two dimensions": ({"positions": np.zeros((5, 1), I32)}, "positions must have 1 dimensions"),
    "too short": ({"slots": np.zeros(4, I32)}, "slots must have 5 elements, has 4"),
    "position elsewhere": ({"positions": np.array([16, 18, 0, 1, 2], I32)}, r"positions\[1\] is 18"),
    "slot of another block": ({"slots": np.array([0, 17, 32, 33, 34], I32)}, r"slots\[0\] is 0"),
    "slot out of the cache": ({"slots": np.array([16, 10**6, 32, 33, 34], I32)}, r"slots\[1\] is 1000000"),
    "starts not at 0": ({"query_start": np.array([1, 2, 5], I32)}, r"query_start\[0\] is 1"),
    "starts fall": ({"query_start": np.array([0, 6, 5], I32)}, r"query_start\[2\] is 5 after 6"),
    "empty sequence": ({"query_start": np.array([0, 0, 5], I32)}, r"query_start\[1\] is 0 after 0"),
    "starts end early": ({"query_start": np.array([0, 2, 4], I32)}, r"query_start\[2\] is 4, must be the number"),
    "length below tokens": ({"seq_lens": np.array([18, 2], I32)}, r"seq_lens\[1\] is 2"),
    "length beyond table": ({"seq_lens": np.array([18, 33], I32)}, r"seq_lens\[1\] is 33"),
    "block out of range": ({"block_tables": np.array([[0, 16], [2, -1]], I32)}, r"block_tables\[0, 1\] is 16"),
    "block missing": ({"block_tables": np.array([[0, -1], [2, -1]], I32)}, r"block_tables\[0, 1\] is -1"),
    "table of too few rows": ({"block_tables": np.zeros((1, 2), I32)}, "block_tables must have 2 rows"),
    "table without columns": ({"block_tables": np.zeros((2, 0), I32)}, r"seq_lens\[0\] is 18"),
    "row of no token": ({"logits_rows": np.array([1, 5], I32)}, r"logits_rows\[1\] is 5"),
    "negative row": ({"logits_rows": np.array([-1, 4], I32)}, r"logits_rows\[0\] is -1"),
    "copies of different length": (
        {"copy_src": np.zeros(2, I32), "copy_dst": np.ones(1, I32)},
        "copy_dst must have 2 elements",
    ),
    "half a copy": ({"copy_src": np.zeros(2, I32)}, "copy_dst and copy_src must both be given"),
    "copy out of range": ({"copy_src": np.array([16], I32), "copy_dst": np.array([0], I32)}, r"copy_src\[0\] is 16"),
    "copy onto itself": ({"copy_src": np.array([3], I32), "copy_dst": np.array([3], I32)}, "onto itself"),
    "no sampling": ({"sampling": None}, "sampling is None"),
}


@pytest.mark.parametrize("case", BAD_STEPS)
def test_bad_steps_are_refused(pair: ProgramPair, case: str) -> None:
    changes, message = BAD_STEPS[case]
    with pytest.raises(ValueError, match=message):
        pair.native.run(replace(mixed_inputs(), **changes))  # type: ignore[arg-type]


def bias(start: list[int], tokens: list[int], values: list[float]) -> dict[str, object]:
    return {
        "bias_start": np.array(start, I32),
        "bias_tokens": np.array(tokens, I32),
        "bias_values": np.array(values, np.float32),
    }


def counts(start: list[int], tokens: list[int], values: list[int]) -> dict[str, object]:
    return {
        "count_start": np.array(start, I32),
        "count_tokens": np.array(tokens, I32),
        "count_values": np.array(values, I32),
    }


BAD_SAMPLING = {
    "negative temperature": ({"temperature": -0.5}, r"temperature\[0\]"),
    "temperature NaN": ({"temperature": np.array([0, np.nan], np.float32)}, r"temperature\[1\]"),
    "top_p of 0": ({"top_p": 0.0}, "top_p"),
    "top_p above 1": ({"top_p": 1.5}, "top_p"),
    "min_p above 1": ({"min_p": 1.5}, "min_p"),
    "repetition of 0": ({"repetition": 0.0}, "repetition"),
    "top_k negative": ({"top_k": -1}, "top_k"),
    "num_logprobs below -1": ({"num_logprobs": -2}, "num_logprobs"),
    "weigh of 2": ({"weigh": np.full(2, 2, np.uint8)}, "weigh"),
    "num_logprobs above vocab": ({"num_logprobs": 97}, "num_logprobs asks for 97 of 96"),
    "target out of vocab": ({"target": 96}, "target"),
    "defer neither 0 nor 1": ({"defer": 2}, "defer"),
    "one row short": ({"seed": np.zeros(1, np.uint64)}, "seed must have 2 elements"),
    "seed signed": ({"seed": np.zeros(2, np.int64)}, "seed must have dtype uint64"),
    "vocab above logits": ({"vocab": 97}, "sampling.vocab is 97"),
    "mask_row without masks": ({"mask_row": np.zeros(2, I32)}, "masks and mask_row must both"),
    "masks too narrow": ({"mask_row": np.zeros(2, I32), "masks": np.zeros((1, 2), np.uint32)}, "3 words a row"),
    "mask row missing": ({"mask_row": np.ones(2, I32), "masks": np.zeros((1, 3), np.uint32)}, r"mask_row\[0\] is 1"),
    "bias not ending": (bias([0, 1, 1], [0, 0], [0.0, 0.0]), r"bias_start\[2\] is 1, must be 2"),
    "bias start falls": (bias([0, 3, 2], [0, 0], [0.0, 0.0]), r"bias_start\[2\] is 2 after 3"),
    "bias values short": (bias([0, 1, 2], [0, 0], [0.0]), "bias_values must have 2 elements"),
    "bias of no token": (bias([0, 1, 1], [96], [0.0]), r"bias_tokens\[0\] is 96"),
    "bias infinite": (bias([0, 1, 1], [0], [np.inf]), r"bias_values\[0\]"),
    "bias NaN": (bias([0, 1, 1], [0], [np.nan]), r"bias_values\[0\]"),
    "count of no token": (counts([0, 0, 1], [-1], [1]), r"count_tokens\[0\] is -1"),
    "count negative": (counts([0, 1, 1], [0], [-1]), r"count_values\[0\]"),
}


@pytest.mark.parametrize("case", BAD_SAMPLING)
def test_bad_sampling_is_refused(pair: ProgramPair, case: str) -> None:
    changes, message = BAD_SAMPLING[case]
    with pytest.raises(ValueError, match=message):
        pair.native.run(mixed_inputs(**changes))


def test_steps_beyond_the_planned_sizes_are_refused() -> None:
    runner = native(Program())
    with pytest.raises(ValueError, match="the step has 33 tokens, must have 1 to 32"):
        runner.run(tiny_model.sequences([0], [33]).inputs())
    with pytest.raises(ValueError, match="the step has 5 sequences, must have 1 to 4"):
        runner.run(tiny_model.sequences([0] * 5, [1] * 5).inputs())
    with pytest.raises(ValueError, match="the step has 9 rows of logits, must have 0 to 8"):
        runner.run(tiny_model.sequences([0], [16], logits_rows=range(9)).inputs())


# --- gates -----------------------------------------------------------------------------------------------------------


def test_masks_may_be_filled_while_the_step_runs(pair: ProgramPair) -> None:
    gate = _native.MaskGate()
    masks = np.zeros((1, 3), np.uint32)
    step = mixed_inputs(mask_row=np.array([0, -1], I32), masks=masks)
    results = []
    thread = threading.Thread(target=lambda: results.append(pair.native.run(step, gate)))
    thread.start()
    time.sleep(0.05)
    assert not results  # it waits, and this thread could run meanwhile
    masks[0, 1] = 1 << 5  # token 37 alone
    gate.open()
    thread.join(10)
    assert results[0].ids[0] == 37


def test_a_failed_gate_fails_the_step_and_no_other(pair: ProgramPair) -> None:
    gate = _native.MaskGate()
    gate.fail("the grammar ran out of memory")
    with pytest.raises(BackendError, match="the grammar ran out of memory"):
        pair.native.run(mixed_inputs(), gate)
    assert (pair.native.run(mixed_inputs()).numpy().ids >= 0).all()


# --- one call a step -------------------------------------------------------------------------------------------------


def test_crossings_do_not_grow_with_layers() -> None:
    counts = []
    for layers in (1, 6):
        runner = tiny_model.tiny_pair(layers).native
        before = _native.crossings()
        for _ in range(3):
            runner.run(mixed_inputs())
        counts.append(_native.crossings() - before)
    assert counts == [3, 3]


def test_lowering_fuses_what_stands_around_the_products(pair: ProgramPair) -> None:
    plain = tiny_model.tiny_pair(lower=False).native
    layer = ["rms_norm_linear", "rope", "rope", "cache_write", "attention", "linear_add"]
    layer += ["rms_norm_linear_silu_mul", "linear_add"]
    end = ["gather_rows", "rms_norm_linear", "sample"]  # no lm_head, since the logits are fetched
    assert pair.native.op_names == ["embed", "rope_angles", *layer, *layer, *end]
    assert not {"linear_add", "rms_norm_linear", "rms_norm_linear_silu_mul"} & set(plain.op_names)
    step = mixed_inputs()
    np.testing.assert_array_equal(pair.native.run(step).ids, plain.run(step).ids)
    np.testing.assert_array_equal(pair.native.fetch("hidden"), plain.fetch("hidden"))
    np.testing.assert_array_equal(pair.native.fetch("logits"), plain.fetch("logits"))


def test_buffers_share_memory(pair: ProgramPair) -> None:
    deep = tiny_model.tiny_pair(layers=12)
    assert deep.native.arena_bytes == pair.native.arena_bytes  # what a layer leaves the next one takes


def test_inline_vectors_reach_the_kernels() -> None:
    r = Recorder()
    r.output("cs", r.rope_angles([1.0, 0.25]))
    (vector,) = r.program.vectors
    assert isinstance(vector, InlineVector)
    runner = NativeRunner(
        make_device(), r.program, [], [np.array(vector.values, np.float32)], None, max_tokens=8, max_seqs=1, max_rows=1
    )
    runner.run(tiny_model.sequences([0], [3]).inputs())
    angles = np.outer(np.arange(3), [1.0, 0.25])
    np.testing.assert_allclose(runner.fetch("cs"), np.hstack([np.cos(angles), np.sin(angles)]), atol=1e-6)
