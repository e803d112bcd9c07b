"""Devices, packed weights and caches through the bindings."""

import mmap

import numpy as np
import pytest
from harness import ISAS, make_device, pack_f32

from pageform import _native
from pageform.core.errors import BackendError
from pageform.platform import builtin_backends, usable_cores

CPU = str(builtin_backends()["cpu"])


def test_describes_itself() -> None:
    device = make_device("generic", threads=3)
    assert (device.name, device.threads, device.describe) == ("cpu", 3, "cpu generic 3 threads")


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_has_the_same_ops(isa: str) -> None:
    assert make_device(isa, 1).op_names == make_device("generic", 1).op_names


def test_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEFORM_ISA", "generic")
    assert make_device("auto", 1).describe == "cpu generic 1 thread"
    monkeypatch.setenv("PAGEFORM_ISA", "sse9")
    with pytest.raises(BackendError, match='unknown instruction set "sse9"'):
        _native.Device(CPU, 1, "auto")


@pytest.mark.parametrize(
    ("path", "isa", "threads", "message"),
    [
        ("/nowhere/libpageform_gpu.so", "auto", 1, "cannot load backend /nowhere/libpageform_gpu.so"),
        (_native.__file__, "auto", 1, "not a pageform backend"),
        (CPU, "avx1024", 1, "unknown instruction set"),
        (CPU, "generic", -1, "at least one thread, not -1"),
    ],
)
def test_a_device_that_cannot_be_made(path: str, isa: str, threads: int, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        _native.Device(path, threads, isa)


def test_cores_are_one_for_each_thread() -> None:
    core = min(usable_cores() or {0})
    assert _native.Device(CPU, 1, cores=[core]).threads == 1
    with pytest.raises(BackendError, match="1 cores to pin 2 threads to"):
        _native.Device(CPU, 2, cores=[core])
    with pytest.raises(BackendError, match="pinning a thread to core 1023"):
        _native.Device(CPU, 2, cores=[core, 1023])


def test_f32_weights_come_back_as_packed() -> None:
    weight = np.random.default_rng(0).standard_normal((33, 48)).astype(np.float32)
    packed = pack_f32(make_device(), weight)
    assert packed.shape == (33, 48)
    assert packed.bytes >= weight.nbytes
    np.testing.assert_array_equal(packed.dequantize(), weight)
    np.testing.assert_array_equal(packed.dequantize(5, 7), weight[5:12])
    assert packed.dequantize(33, 0).shape == (0, 48)


@pytest.mark.parametrize(("row", "rows"), [(-1, 2), (0, 34), (33, 1), (5, -1), (2**62, 2**62)])
def test_dequantizing_rows_that_are_not_there(row: int, rows: int) -> None:
    packed = pack_f32(make_device(), np.zeros((33, 48), np.float32))
    with pytest.raises(ValueError, match="not within the 33 rows"):
        packed.dequantize(row, rows)


def test_parts_may_be_any_buffers_and_are_stacked(tmp_path) -> None:  # type: ignore[no-untyped-def]
    a = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    b = np.random.default_rng(1).standard_normal((6, 32)).astype(np.float32)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\0" * 3 + b.tobytes())  # an offset that is not aligned
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        packed = make_device().pack([(a.tobytes(), 0, a.nbytes, 4, 32, "f32"), (mapped, 3, b.nbytes, 6, 32, "f32")])
    np.testing.assert_array_equal(packed.dequantize(), np.vstack([a, b]))


ROW = 32 * 4


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((0, ROW, 1, 32, "q5_k"), 'unknown weight format "q5_k"'),
        ((0, 5 * ROW, 5, 32, "f32"), "of a buffer of 512"),
        ((-1, ROW, 1, 32, "f32"), "of a buffer of 512"),
        ((2**63 - 1, ROW, 1, 32, "f32"), "of a buffer of 512"),
        ((0, -4, 1, 32, "f32"), "of a buffer of 512"),
        ((0, ROW - 4, 1, 32, "f32"), "takes 128"),
        ((0, ROW, -1, 32, "f32"), r"has shape \[-1, 32\]"),
        ((0, 0, 0, 32, "f32"), r"has shape \[0, 32\]"),
        ((0, ROW, 2**40, 32, "f32"), "more than 2"),
        ((0, 34, 1, 31, "q8_0"), "not a multiple of 32"),
        ((0, 144, 1, 128, "q4_k"), "not a multiple of 256"),
    ],
)
def test_bad_parts_are_refused(part: tuple[int, int, int, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_device().pack([(bytes(4 * ROW), *part)])


def test_parts_must_have_equal_columns_and_be_some() -> None:
    device = make_device()
    with pytest.raises(ValueError, match="at least one part"):
        device.pack([])
    with pytest.raises(ValueError, match="part 1 has 16 columns, part 0 has 32"):
        device.pack([(bytes(ROW), 0, ROW, 1, 32, "f32"), (bytes(64), 0, 64, 1, 16, "f32")])


def test_cache_takes_memory_only_when_written() -> None:
    device = make_device()
    shape = {"num_layers": 4, "kv_heads": 8, "head_dim": 64, "block_size": 16, "dtype": "f16"}
    block = device.kv_block_bytes(**shape)
    assert block == 4 * 2 * 8 * 64 * 16 * 2
    before = _resident()
    cache = device.kv_cache(**shape, num_blocks=65536)
    assert (cache.bytes, cache.num_blocks, cache.block_size) == (65536 * block, 65536, 16)
    assert _resident() - before < 16 << 20  # of 8 GiB


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers of at least 1"),
        ({"head_dim": -64}, "head_dim of at least 1"),
        ({"num_blocks": 2**31 - 1}, "more than 2"),
        ({"dtype": "int4"}, "f32, f16, bf16, i16, i8 or e4m3, not int4"),
    ],
)
def test_bad_cache_shapes_are_refused(changes: dict[str, object], message: str) -> None:
    shape = {"num_layers": 1, "kv_heads": 1, "head_dim": 16, "block_size": 16, "num_blocks": 4, "dtype": "f32"}
    with pytest.raises(ValueError, match=message):
        make_device().kv_cache(**(shape | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["bf16", "e4m3"])
def test_caches_of_a_gpu_are_refused(dtype: str) -> None:
    with pytest.raises(BackendError, match="the KV cache of the CPU holds f32, f16, i16 or i8"):
        make_device().kv_cache(1, 1, 64, 16, 4, dtype)


def test_activations_are_float32() -> None:
    with pytest.raises(BackendError, match="activations on a CPU are float32"):
        _native.Device(CPU, activations="bf16")
    with pytest.raises(ValueError, match="f32, f16 or bf16, not f64"):
        _native.Device(CPU, activations="f64")


def test_an_int8_cache_has_its_limit() -> None:
    """Above it sums of products of codes could pass int32."""
    device = make_device()
    shape = {"num_layers": 1, "kv_heads": 1, "block_size": 16, "num_blocks": 1, "dtype": "i8"}
    assert device.kv_cache(**shape, head_dim=512).bytes == 16 * (512 + 16 * 4 + 512 + 4)
    with pytest.raises(BackendError, match="head_dim of an i8 KV cache on the CPU is 513, must be at most 512"):
        device.kv_cache(**shape, head_dim=513)


def test_a_failed_gate_stays_failed() -> None:
    gate = _native.MaskGate()
    gate.fail("grammar broke")
    gate.open()
    assert not gate.wait()
    assert gate.failure == "grammar broke"
