"""Attention against its torch reference, and the promise that nothing but a token's own context decides its bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_rig import Chunk, Rig, Shape, in_chunks
from harness import ISAS, make_device
from hypothesis import given, settings
from hypothesis import strategies as st

from pageform import _native

HEAD_DIMS = {"cpu": [4, 16, 20, 32, 64, 80, 128, 256], "simt": [64, 80, 128, 256]}
DTYPES = {"cpu": ["f16", "f32", "i16", "i8"], "simt": ["f16", "f32"]}
CODES = [Shape(dtype="i8", head_dim=64), Shape(dtype="i16", head_dim=64)]
too_long = pytest.mark.cpu_only(reason="contexts of several splits take long there; cpp_tests/simt has them")


@st.composite
def shapes(draw: st.DrawFn, device: str) -> Shape:
    kv_heads, group = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 4, 7, 30]))
    return Shape(
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from(HEAD_DIMS[device])),
        window=draw(st.sampled_from([0, 0, 1, 5, 64, 100])),
        softcap=draw(st.sampled_from([0.0, 0.0, 5.0])),
        dtype=draw(st.sampled_from(DTYPES[device])),
        block_size=draw(st.sampled_from([16, 32])),
    )


def assert_agree(rig: Rig, steps: list[list[Chunk]]) -> None:
    """Native and reference, from an empty cache. Over codes queries and weights are rounded, too, to int16."""
    atol = {"i8": 2e-4, "i16": 8e-4}.get(rig.shape.dtype, 5e-6)
    for native, reference in zip(rig.run(steps), rig.run(steps, reference=True), strict=True):
        np.testing.assert_allclose(native, reference, rtol=1e-5, atol=atol)


@settings(max_examples=12, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_attention_agrees_with_its_reference(device: _native.Device, data: st.DataObject, seed: int) -> None:
    shape = data.draw(shapes(device.name), label="shape")
    longest = 150 if device.name == "cpu" else 30
    lengths = data.draw(st.lists(st.integers(1, longest), min_size=1, max_size=4), label="lengths")
    new = [data.draw(st.integers(1, length), label="new") for length in lengths]
    rig = Rig(shape, lengths, device, seed)
    earlier: list[Chunk] = [(s, n - m) for s, (n, m) in enumerate(zip(lengths, new, strict=True)) if n > m]
    steps = [earlier, list(enumerate(new))] if earlier else [list(enumerate(new))]
    assert_agree(rig, steps)


@too_long
@pytest.mark.parametrize("shape", [Shape(), Shape(dtype="f32", window=600, softcap=20.0), *CODES])
def test_several_splits_agree_with_the_reference(device: _native.Device, shape: Shape) -> None:
    rig = Rig(shape, [1300, 600], device)
    steps = [[(0, 1290), (1, 500)], [(0, 1), (1, 100)], [(0, 9)]]
    assert_agree(rig, steps)


VARIANTS = [
    Shape(),
    Shape(dtype="f32"),
    Shape(window=50),
    Shape(window=530, softcap=8.0, head_dim=20),
    Shape(dtype="i8", head_dim=64),
    Shape(dtype="i8", window=530, softcap=8.0, head_dim=20),
    Shape(dtype="i16", head_dim=64),
    Shape(dtype="i16", window=530, softcap=8.0, head_dim=20),
]


@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_bits_do_not_depend_on_chunks(device: _native.Device, shape: Shape) -> None:
    if shape.head_dim not in HEAD_DIMS[device.name] or shape.dtype not in DTYPES[device.name]:
        pytest.skip(f"{device.name} has no kernel for heads of {shape.head_dim} channels in {shape.dtype}")
    length = 150 if device.name == "cpu" else 70
    rig = Rig(shape, [length], device)
    (whole,) = rig.run(in_chunks(0, length, length))
    for size in (1, 3, 16, 64):
        (chunked,) = rig.run(in_chunks(0, length, size))
        np.testing.assert_array_equal(chunked.view(np.int32), whole.view(np.int32))


@too_long
@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_bits_do_not_depend_on_the_batch(device: _native.Device, shape: Shape) -> None:
    lengths = [1100, 70, 5, 333, 1]
    rig = Rig(shape, lengths, device)
    alone = [rig.run(in_chunks(seq, length, length))[seq] for seq, length in enumerate(lengths)]
    mixed = rig.run(
        [
            [(1, 60), (0, 500)],
            [(3, 100), (1, 1), (2, 2), (0, 598)],
            [(4, 1), (0, 1), (1, 9), (2, 3), (3, 233)],
            [(0, 1)],
        ]
    )
    for one, other in zip(alone, mixed, strict=True):
        np.testing.assert_array_equal(one.view(np.int32), other.view(np.int32))


@pytest.mark.parametrize("isa", [pytest.param("generic", marks=pytest.mark.slow), *ISAS[1:]])
@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_bits_do_not_depend_on_threads(isa: str, shape: Shape) -> None:
    """The last step decodes one long sequence, whose splits go to different threads where there are several."""
    lengths = [1500, 40]
    steps = [[(0, 1400)], [(1, 30), (0, 98)], [(0, 1), (1, 10)], [(0, 1)]]
    results = [Rig(shape, lengths, make_device(isa, threads)).run(steps) for threads in (1, 2, 3)]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one.view(np.int32), two.view(np.int32))


@too_long
@pytest.mark.parametrize(
    ("shape", "alike"),
    [
        (Shape(), 144),
        (Shape(window=50), 144),
        (Shape(dtype="f32", softcap=8.0, block_size=32), 192),
        (Shape(dtype="i8", head_dim=64), 144),
        (Shape(dtype="i8", heads=2, head_dim=16), 656),
        (Shape(dtype="i16", head_dim=64), 144),
    ],
    ids=str,
)
def test_shared_blocks_do_not_change_a_bit(device: _native.Device, shape: Shape, alike: int) -> None:
    """Sequences that begin with the same blocks are read together; each gets what it gets with blocks of its own."""
    lengths = [alike + own for own in (30, 1, 70, 12, 5)]
    prefixes: list[list[Chunk]] = [[(seq, alike - 3)] for seq in range(5)]
    steps = [*prefixes, [(0, 4), (1, 4), (2, 3), (3, 5), (4, 4)], [(2, 1), (0, 1), (3, 1), (4, 4)], [(0, 2), (2, 66)]]
    own = Rig(shape, lengths, device, alike=alike).run(steps)
    together = Rig(shape, lengths, device, alike=alike, shared=True).run(steps)
    for one, other in zip(own, together, strict=True):
        np.testing.assert_array_equal(one.view(np.int32), other.view(np.int32))


@pytest.mark.parametrize("shape", CODES, ids=str)
def test_instruction_sets_agree_over_codes(shape: Shape) -> None:
    """Sums are of integers, and the rest is float arithmetic that all sets with fma do alike."""
    results = []
    for isa in ISAS[1:]:
        try:
            device = make_device(isa)
        except pytest.skip.Exception:
            continue
        results.append(Rig(shape, [200, 31], device).run([[(0, 199), (1, 31)], [(0, 1)]]))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one.view(np.int32), two.view(np.int32))


@pytest.mark.cpu_only(reason="the GPU rounds an int8 cache otherwise and has no int16")
@pytest.mark.parametrize("shape", CODES, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["k", "v"])
def test_values_that_are_no_numbers_show_in_who_sees_them(
    device: _native.Device, name: str, bad: float, shape: Shape
) -> None:
    first_head = shape.heads // shape.kv_heads * shape.head_dim  # columns of the queries of KV head 0
    rig = Rig(shape, [70, 40], device)
    rig.data[0][name][50, 3] = bad
    broken, sound = rig.run([[(0, 60), (1, 30)], [(1, 10), (0, 10)]])
    assert np.isfinite(broken[:50]).all()
    assert np.isfinite(sound).all()
    assert np.isnan(broken[50:, :first_head]).all()
    assert np.isfinite(broken[50:, first_head:]).all()


@pytest.mark.cpu_only(reason="the GPU has no int16 cache")
@pytest.mark.parametrize("isa", ISAS)
def test_sums_of_the_largest_codes_stay_within_int32(isa: str) -> None:
    """All products of a score, or of a chunk's weights and values, are the largest there are and of one sign."""
    rig = Rig(Shape(dtype="i16", head_dim=64), [64], make_device(isa))
    below_two = np.nextafter(np.float32(2), np.float32(0))  # rounds up to the power of two
    for name in "qkv":
        rig.data[0][name][:] = below_two if name != "q" else 1.0
    (out,) = rig.run([[(0, 64)]])
    np.testing.assert_allclose(out, 2.0, rtol=2e-4)
    rig.data[0]["v"][:] = -below_two
    (out,) = rig.run([[(0, 64)]])
    np.testing.assert_allclose(out, -2.0, rtol=2e-4)


def test_blocks_before_the_window_are_not_read(device: _native.Device) -> None:
    """Once every query's window has passed a block, the block may be given away."""
    rig = Rig(Shape(window=40, dtype="f32"), [100, 16], device)
    (clean, _) = rig.run([[(0, 60)], [(0, 40)]])
    for name in "kv":
        rig.data[1][name][:] = np.nan
    rig.run([[(0, 60), (1, 16)]])
    rig.tables[0, 0] = rig.tables[1, 0]  # positions 0 to 15; query 60 sees 21 to 60
    np.testing.assert_array_equal(rig.step([(0, 40)])[0], clean[60:])


def test_garbage_after_the_context_is_not_read(device: _native.Device) -> None:
    rig = Rig(Shape(dtype="f32"), [64], device)
    clean = rig.run(in_chunks(0, 40, 40))[0]
    healthy = {name: values.copy() for name, values in rig.data[0].items()}
    for name in "kv":
        rig.data[0][name][:] = np.nan
    rig.run(in_chunks(0, 64, 64))  # fills the blocks with NaN
    rig.data[0].update(healthy)
    np.testing.assert_array_equal(rig.run(in_chunks(0, 40, 40))[0], clean)


def test_what_is_not_finite_stays_visible_and_at_home(device: _native.Device) -> None:
    rig = Rig(Shape(dtype="f32"), [40, 40], device)
    rig.data[0]["k"][7, 3] = np.nan
    sick, healthy = rig.run([[(0, 40), (1, 40)]])
    assert np.isnan(sick[7:].reshape(33, 6, 64)[:, :3]).all()  # the three query heads of KV head 0
    assert np.isfinite(sick[:7]).all()
    assert np.isfinite(healthy).all()


def test_the_reference_agrees_with_torch_itself() -> None:
    """A contiguous context is scaled_dot_product_attention."""
    shape = Shape(dtype="f32")
    rig = Rig(shape, [50], make_device())
    ours = rig.run([[(0, 50)]], reference=True)[0].reshape(50, 6, 64)
    q, k, v = (torch.tensor(rig.data[0][name]).reshape(50, -1, 64).transpose(0, 1) for name in "qkv")
    theirs = torch.nn.functional.scaled_dot_product_attention(
        q[None], k[None], v[None], is_causal=True, enable_gqa=True
    )
    np.testing.assert_allclose(ours, theirs[0].transpose(0, 1).numpy(), rtol=1e-5, atol=1e-6)
