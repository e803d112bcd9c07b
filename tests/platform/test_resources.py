"""Threads and memory under affinity and cgroup limits, read from a made-up /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pageform.platform import free_memory, usable_threads

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 1000 MiB available."""
    write(tmp_path / "proc/meminfo", "MemTotal: 4096000 kB\nMemFree: 1 kB\nMemAvailable: 1024000 kB")
    write(tmp_path / "proc/self/cgroup", "0::/")
    return tmp_path


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_without_limits(root: Path) -> None:
    assert usable_threads(root) == 8
    assert free_memory(root) == 1000 * MIB


def test_a_machine_without_cgroups(root: Path) -> None:
    (root / "proc/self/cgroup").unlink()
    assert usable_threads(root) == 8
    assert free_memory(root) == 1000 * MIB


@pytest.mark.parametrize(
    ("cpu_max", "threads"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("1600000 100000", 8)],
)
def test_quota_of_cgroups_version_2(root: Path, cpu_max: str, threads: int) -> None:
    write(root / "sys/fs/cgroup/cpu.max", cpu_max)
    assert usable_threads(root) == threads


@pytest.mark.parametrize(("quota", "threads"), [(-1, 8), (300000, 3), (250000, 3)])
def test_quota_of_cgroups_version_1(root: Path, quota: int, threads: int) -> None:
    write(root / "proc/self/cgroup", "4:cpu,cpuacct:/jobs/7")
    write(root / "sys/fs/cgroup/cpu/jobs/7/cpu.cfs_quota_us", quota)
    write(root / "sys/fs/cgroup/cpu/jobs/7/cpu.cfs_period_us", 100000)
    assert usable_threads(root) == threads


def test_the_tightest_of_nested_limits_counts(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/slice/job")
    for folder, limit in (("", "max"), ("slice", 600 * MIB), ("slice/job", 800 * MIB)):
        write(root / "sys/fs/cgroup" / folder / "memory.max", limit)
        write(root / "sys/fs/cgroup" / folder / "memory.current", 200 * MIB)
        write(root / "sys/fs/cgroup" / folder / "cpu.max", "400000 100000" if folder else "max 100000")
    assert free_memory(root) == 400 * MIB
    assert usable_threads(root) == 4


def test_a_container_sees_its_own_cgroup_as_the_root(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/docker/0123456789")
    write(root / "sys/fs/cgroup/memory.max", 300 * MIB)
    write(root / "sys/fs/cgroup/memory.current", 100 * MIB)
    assert free_memory(root) == 200 * MIB


def test_file_pages_of_the_cgroup_count_as_free(root: Path) -> None:
    write(root / "sys/fs/cgroup/memory.max", 300 * MIB)
    write(root / "sys/fs/cgroup/memory.current", 290 * MIB)
    write(root / "sys/fs/cgroup/memory.stat", f"anon 1\ninactive_file {150 * MIB}\nactive_file 7")
    assert free_memory(root) == 160 * MIB


def test_memory_of_cgroups_version_1(root: Path) -> None:
    write(root / "proc/self/cgroup", "5:memory:/job\n3:cpuset:/")
    write(root / "sys/fs/cgroup/memory/job/memory.limit_in_bytes", 512 * MIB)
    write(root / "sys/fs/cgroup/memory/job/memory.usage_in_bytes", 600 * MIB)
    assert free_memory(root) == 0  # over the limit is not less than nothing


def test_this_machine_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= usable_threads() <= (os.cpu_count() or 1)
    assert free_memory() > 0
