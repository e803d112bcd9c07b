"""Threads and memory that this process may really use, inside containers too."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores() -> set[int] | None:
    """Numbers of the processors this process may run on; None on a system that can't pin threads."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def usable_threads(root: Path = Path("/")) -> int:
    """Cores this process may run on: its affinity, capped by the CPU quota of its cgroups (rounded up), at least 1.

    `root` is where /sys and /proc are looked for.
    """
    allowed = usable_cores()
    cores = (os.cpu_count() or 1) if allowed is None else len(allowed)
    quotas = [quota for folder in _cgroup_folders(root, "cpu") if (quota := _cpu_quota(folder)) is not None]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas)]))


def free_memory(root: Path = Path("/")) -> int:
    """Bytes this process can still allocate without swapping: MemAvailable, capped by what its cgroups leave it."""
    free = _mem_available(root)
    for folder in _cgroup_folders(root, "memory"):
        limit = _first_number(folder, ("memory.max", "memory.limit_in_bytes"))
        used = _first_number(folder, ("memory.current", "memory.usage_in_bytes"))
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used + _reclaimable(folder)))
    return free


def _mem_available(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    raise OSError(f"{root / 'proc/meminfo'} does not tell MemAvailable")


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders whose limits apply to this process: its own cgroup and all above, versions 2 and 1.

    A container often sees its own cgroup mounted as the root, so that the path in /proc/self/cgroup does not exist
    there; the existing part of the chain is walked.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controller
        else:
            continue
        folder = base / path.lstrip("/")
        while folder != base:
            if folder.is_dir():
                yield folder
            folder = folder.parent
        yield base


def _cpu_quota(folder: Path) -> float | None:
    """Cores' worth of time per period, None without a limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        microseconds = int((folder / "cpu.cfs_quota_us").read_text())
        return None if microseconds <= 0 else microseconds / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None


def _first_number(folder: Path, names: tuple[str, ...]) -> int | None:
    for name in names:
        try:
            return int((folder / name).read_text())
        except (OSError, ValueError):  # absent, or "max"
            continue
    return None


def _reclaimable(folder: Path) -> int:
    """File pages of the cgroup that the kernel gives back before it refuses memory."""
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
