"""Recording programs."""

import pytest
import tiny_model

from pageform import _native
from pageform.ops.table import OPS
from pageform.runtime.program import InlineVector, Recorder, Rows, Tensor


def test_op_table_is_the_native_one() -> None:
    mine = {
        spec.name: (spec.inputs, spec.outputs, spec.ints, spec.floats, spec.weight, spec.vector)
        for spec in OPS.values()
    }
    assert _native.op_table() == mine


def test_split_gives_neighbouring_columns() -> None:
    joint = Tensor(3, Rows.TOKENS, 4, 12)
    assert joint.split([6, 2, 4]) == [
        Tensor(3, Rows.TOKENS, 4, 6),
        Tensor(3, Rows.TOKENS, 10, 2),
        Tensor(3, Rows.TOKENS, 12, 4),
    ]


@pytest.mark.parametrize("sizes", [[6, 6, 1], [12, 0], [13, -1], []])
def test_split_must_add_up(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot split 12 columns"):
        Tensor(0, Rows.TOKENS, 0, 12).split(sizes)


def test_recorded_ops_carry_parameters_in_table_order() -> None:
    r = Recorder()
    q = r.input("q", Rows.TOKENS, 64)
    r.attention(q, layer=3, heads=4, kv_heads=2, head_dim=16, scale=0.25, window=128, softcap=30.0)
    (op,) = r.program.ops
    assert dict(zip(OPS["attention"].ints, op.ints, strict=True)) == {
        "layer": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "window": 128,
    }
    assert dict(zip(OPS["attention"].floats, op.floats, strict=True)) == {"scale": 0.25, "softcap": 30.0}


def test_equal_requests_are_one() -> None:
    program = tiny_model.record(layers=3)
    assert len(program.weights) == len(set(program.weights)) == 1 + 4 * 3
    embed, logits = program.ops[0], program.ops[-2]
    assert (embed.name, logits.name) == ("embed", "linear")
    assert embed.weight == logits.weight  # the output layer is tied to the embedding
    assert program.weights[1] == ("layers.0.q", "layers.0.k", "layers.0.v")


def test_vectors_are_requested_by_name_or_inline() -> None:
    r = Recorder()
    r.rope_angles([1.0, 0.5])
    x = r.input("x", Rows.TOKENS, 8)
    r.linear(x, ["a", "b"], 4, bias=["a.bias", "b.bias"])
    r.linear(x, "c", 4, bias="c.bias")
    r.linear(x, "d", 4)
    assert r.program.vectors == [InlineVector((1.0, 0.5)), ("a.bias", "b.bias"), ("c.bias",)]
    assert [op.vector for op in r.program.ops] == [0, 1, 2, -1]


def test_gathering_changes_the_kind_of_rows() -> None:
    r = Recorder()
    x = r.input("x", Rows.TOKENS, 8)
    rows = r.gather_rows(x)
    assert (rows.rows, rows.cols) == (Rows.LOGITS, 8)
    assert r.linear(rows, "head", 100).rows is Rows.LOGITS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda r, x: r.add(x, x.split([4, 4])[0]), "shapes"),
        (lambda r, x: r.rms_norm(x, "w", 1e-6, groups=3), "not 3 equal groups"),
        (lambda r, x: r.silu_mul(x.split([3, 5])[0]), "not two halves"),
        (lambda r, x: r.attention(x, 0, 4, 2, 4, 1.0), "has 8 columns, expected 16"),
        (lambda r, x: r.attention(x, 0, 2, 4, 4, 1.0), "multiple of kv_heads"),
        (lambda r, x: r.cache_write(x, x, 0, 2, 2), "expected 4"),
        (lambda r, x: r.rope(x, x, 1, 8, 6), "expected 6"),
        (lambda r, x: r.rope(x, x, 2, 4, 8), "rot_dim=8"),
        (lambda r, x: r.linear(x, "w", 0), "at least one column"),
        (lambda r, x: r.input("x", Rows.TOKENS, 8), "already has an input 'x'"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(wrong, message) -> None:  # type: ignore[no-untyped-def]
    r = Recorder()
    x = r.input("x", Rows.TOKENS, 8)
    with pytest.raises(ValueError, match=message):
        wrong(r, x)


def test_a_program_reads_as_text() -> None:
    text = str(tiny_model.record(layers=1))
    assert "%0[T, 0:64] = embed(embed, scale=1)" in text
    assert "linear(%2[T, 0:64], layers.0.q+layers.0.k+layers.0.v)" in text
    assert "cache_write(%5[T, 0:32], %3[T, 96:128], layer=0, kv_heads=2, head_dim=16)" in text
    assert text.splitlines()[-1].startswith("output logits = ")
