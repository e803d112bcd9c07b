"""Packed weights kept in a file, so that the next process reads them instead of packing them again.

The file lies beside the model, or in the user's cache folder where that one can't be written. It is good for one state
of the model's files and one layout of packed weights, carries checksums of all its bytes, is replaced as a whole, and
may be deleted at any time. Whatever is wrong with it costs the time of packing, never an answer.

    magic (16 bytes) · length of the header, CRC-32 of the header (two little-endian u64) · header (JSON)
    · packed weights, each from a multiple of 64 bytes on
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..core.errors import BackendError

if TYPE_CHECKING:
    from .. import _native
    from ..weights.base import Checkpoint

VARIABLE = "PAGEFORM_PACKED_CACHE"
"""What "auto" means: "off", or the folder of all caches."""
LEAST_BYTES = 8 << 20
"""Smaller models are packed in a few milliseconds."""

_MAGIC = b"pageform packed\n"
_PREFIX = struct.Struct("<16sQQ")
_MAX_HEADER = 64 << 20
_ALIGNMENT = 64
_STALE_SECONDS = 3600
"""A file that a process began to write so long ago was left by one that was killed."""

Parts = Sequence[tuple[int, int, str]]
"""(rows, columns, format) of each tensor of a weight."""


def folders(checkpoint: Checkpoint, where: str | None) -> list[Path]:
    """Where the file may lie, best place first; none where there is to be no cache."""
    if where == "auto":
        where = os.environ.get(VARIABLE) or "auto"
    if where is None or where == "off":
        return []
    if where != "auto":
        return [Path(where)]
    beside = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return [beside, cache / "pageform" / "packed"]


@dataclass(frozen=True, slots=True)
class PackedCache:
    """The cache of one model under one layout. `key` is what a file must have been written for, `paths` are its places
    and `weights` the parts of each weight."""

    paths: tuple[Path, ...]
    key: dict[str, Any]
    weights: tuple[Parts, ...]

    @staticmethod
    def of(
        checkpoint: Checkpoint, fingerprint: str, layout: str | None, weights: Sequence[Parts], where: str | None
    ) -> PackedCache | None:
        """The cache of what `weights` are packed from; None where nothing is to be kept."""
        places = folders(checkpoint, where)
        if layout is None or not places:
            return None
        files = sorted({ref.buffer.path for ref in checkpoint.tensors.values() if ref.nbytes})
        try:
            states = [(os.fsdecode(path), os.stat(path)) for path in files]
        except OSError:  # gone since it was mapped
            return None
        if sum(state.st_size for _, state in states) < LEAST_BYTES:
            return None
        key = {
            "layout": layout,
            "files": [[Path(path).name, state.st_size, state.st_mtime_ns] for path, state in states],
            "fingerprint": fingerprint,
        }
        name = checkpoint.path.name
        paths = [
            folder / f"{name}.pageform-packed"
            if folder == places[0]
            else folder / f"{fingerprint}-{name}.pageform-packed"
            for folder in places
        ]
        return PackedCache(tuple(paths), key, tuple(weights))

    def open(self) -> PackedFile | None:
        """The first file that was written for this very model and layout. What is wrong with others is logged."""
        for path in self.paths:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # there is none
                continue
            file = PackedFile(path, descriptor, [])
            try:
                header = _read_header(descriptor)
                if header["key"] != self.key:
                    file.close()
                    _log().info("%s is of another state of the model or layout of weights: packing anew", path)
                    continue
                places = [(int(offset), int(total, 16)) for offset, total in header["weights"]]
                if len(places) != len(self.weights):
                    raise ValueError(f"it has {len(places)} weights, not {len(self.weights)}")
            except (OSError, ValueError, KeyError, TypeError) as error:
                file.close()
                _log().warning("%s is damaged (%s): packing anew", path, error)
                continue
            file.saved.extend((list(parts), *place) for parts, place in zip(self.weights, places, strict=True))
            return file
        return None

    def keep(self, packed: Sequence[_native.Weight]) -> None:
        """Writes the file in the first folder that takes it. Never raises: a cache that can't be kept is logged."""
        reasons = []
        for path in self.paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, self.key, packed)
                return
            except (OSError, BackendError) as error:
                reasons.append(f"{path}: {error}")
        _log().warning("packed weights could not be kept for the next start (%s)", "; ".join(reasons))


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that fits, as far as its header tells. `restore` reads and checks everything else, and closes it."""

    path: Path
    descriptor: int
    saved: list[Any]

    def restore(self, device: _native.Device) -> list[_native.Weight] | None:
        """The weights, without the GIL; None, and a line in the log, when a byte is not as it was written."""
        try:
            return device.restore(self.descriptor, self.saved)
        except (OSError, ValueError, BackendError) as error:
            _log().warning("%s is damaged (%s): packing anew", self.path, error)
            return None
        finally:
            self.close()

    def close(self) -> None:
        os.close(self.descriptor)


def _read_header(descriptor: int) -> dict[str, Any]:
    magic, length, checksum = _PREFIX.unpack(os.pread(descriptor, _PREFIX.size, 0).ljust(_PREFIX.size, b"\0"))
    if magic != _MAGIC or length > _MAX_HEADER:
        raise ValueError("it does not begin as a file of packed weights does")
    text = os.pread(descriptor, length, _PREFIX.size)
    if len(text) != length or crc32(text) != checksum:
        raise ValueError("its header is not as it was written")
    header: dict[str, Any] = json.loads(text)
    return header


def _header(key: dict[str, Any], places: Sequence[tuple[int, int]]) -> bytes:
    """As long for all sums, and for all offsets: they are not known before it is."""
    weights = [[f"{offset:016d}", f"{total:016x}"] for offset, total in places]
    text = json.dumps({"key": key, "weights": weights}).encode()
    return _PREFIX.pack(_MAGIC, len(text), crc32(text)) + text


def _write(path: Path, key: dict[str, Any], packed: Sequence[_native.Weight]) -> None:
    import shutil
    import tempfile

    at = len(_header(key, [(0, 0)] * len(packed)))
    offsets = []
    for weight in packed:
        at = -(-at // _ALIGNMENT) * _ALIGNMENT
        offsets.append(at)
        at += weight.bytes
    if shutil.disk_usage(path.parent).free < 2 * at:
        raise OSError(f"it would take {at} bytes, more than half of what the disk has left")
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        try:
            sums = [weight.save(descriptor, offset) for weight, offset in zip(packed, offsets, strict=True)]
            os.pwrite(descriptor, _header(key, list(zip(offsets, sums, strict=True))), 0)
            os.fchmod(descriptor, 0o666 & ~_umask())
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    """The mask that files of this process are made with, as far as /proc tells; asking the system would change it."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))
    return 0o077


def in_background(work: Callable[[], None]) -> None:
    """Runs work beside the caller; the process doesn't end before it."""
    import threading

    threading.Thread(target=work, name="pageform-packed-cache").start()


def _log() -> Any:
    import logging

    return logging.getLogger("pageform")
