"""A cache in a file that all processes of a machine may share: SQLite, in a file of its own.

What is wrong with the file is a miss and a warning, never an error of the request: a damaged entry is dropped by its
checksum, a damaged file is put aside under another name and a new one begun. A file that is a database of something
else is left alone, and an error when the cache is made.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ParameterError
from .cache import check_ttl

T = TypeVar("T")

_APPLICATION = 0x70666331  # "pfc1": what SQLite's header calls a file of this module
_FILE = "answers.sqlite"
_PATIENCE = 5.0
"""Seconds that one process waits for another's write."""
_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What a damaged file makes the sqlite3 module raise (it decodes names and messages that it reads from the file)."""
_PASSING = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL),
}
"""Errors that are not the file's: another process holds it, or there is no room, right or memory."""
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL, expires REAL, stored REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_age ON entries (stored);
"""


class DiskCache:
    """A `Cache` in a file `answers.sqlite` in `directory`, which is made if it is not there.

    Bounded by `max_bytes` of disk: the oldest entries go first. `ttl`, in seconds, is for entries that are set without
    one. Processes may share it; times are those of the system's clock. May be pickled: the copy opens the same file.
    """

    blocking = True

    def __init__(
        self,
        directory: str | os.PathLike[str] = ".pageform_cache",
        max_bytes: int = 1 << 30,
        ttl: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_bytes < 1 << 20:
            raise ParameterError("max_bytes", max_bytes, "is too small", "Give at least 1 MiB (1 << 20).")
        self.directory, self.max_bytes, self.ttl = Path(directory), max_bytes, check_ttl("ttl", ttl)
        self.path = self.directory / _FILE
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._begin()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._lock:
                self._open()
        except (OSError, *_DAMAGE) as error:
            if _is_damage(error):
                self._put_aside(error)
            elif "locked" not in str(error):  # that passes
                remedy = "Give a directory that can be written."
                raise ParameterError("directory", str(directory), f"can't be used: {error}", remedy) from error

    def get(self, key: str) -> str | None:
        """See `Cache.get`."""

        def read(database: sqlite3.Connection) -> str | None:
            found = database.execute("SELECT value, checksum, expires FROM entries WHERE key = ?", (key,)).fetchone()
            if found is None:
                return None
            value, checksum, expires = found
            if checksum == _checksum(key, value) and (expires is None or self._clock() < expires):
                return str(value, "utf-8", "surrogatepass")
            with database:  # damaged or out of date
                database.execute("DELETE FROM entries WHERE key = ? AND checksum IS ?", (key, checksum))
            return None

        return self._do(read)

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """See `Cache.set`."""
        ttl = self.ttl if ttl is None else check_ttl("ttl", ttl)
        now, content = self._clock(), value.encode("utf-8", "surrogatepass")
        row = (key, content, _checksum(key, content), None if ttl is None else now + ttl, now)

        def write(database: sqlite3.Connection) -> None:
            if len(content) > self.max_bytes // 2:
                return
            with database:
                database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", row)
            self._shrink(database, now)

        self._do(write)

    def clear(self) -> None:
        """Forget everything, in all processes that share the file."""

        def empty(database: sqlite3.Connection) -> None:
            with database:
                database.execute("DELETE FROM entries")
            database.execute("VACUUM")

        self._do(empty)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._begin()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __len__(self) -> int:
        return self._do(lambda database: int(database.execute("SELECT count(*) FROM entries").fetchone()[0])) or 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (DiskCache, (self.directory, self.max_bytes, self.ttl))

    def _do(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Acts on the database; None where that is not possible."""
        self._begin()
        try:
            with self._lock:
                return action(self._open())
        except _DAMAGE as error:
            if _is_damage(error):
                self._put_aside(error)
            else:
                warnings.warn(f"the cache {self.path} can't be used now: {error}", RuntimeWarning, stacklevel=3)
        return None

    def _begin(self) -> None:
        """Starts anew in a process that was forked: neither SQLite's connections nor locks survive that."""
        if getattr(self, "_process", None) != os.getpid():
            self._inherited = self._connection  # kept, since closing it would touch the parent's file
            self._connection, self._lock, self._process = None, threading.Lock(), os.getpid()

    def _open(self) -> sqlite3.Connection:
        """The connection to the file that is there now: another process may have put the former one aside."""
        if self._connection is not None and self._file == _identity(self.path):
            return self._connection
        self._connection = None
        database = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        try:
            if database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                self._make(database)
            database.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a crash loses the last entries, no others
        except BaseException:
            database.close()
            raise
        finally:
            self._file = _identity(self.path)
        self._connection = database
        return database

    def _make(self, database: sqlite3.Connection) -> None:
        """Begins a new file; several processes may try to."""
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            remedy = "Give another directory."
            raise ParameterError("directory", str(self.directory), f"{_FILE} there is no cache of pageform", remedy)
        for patience in (
            0.05,
            0.1,
            0.2,
            0.4,
            0.8,
            None,
        ):  # changing the mode does not wait for other processes by itself
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(f"BEGIN IMMEDIATE; {_TABLE} PRAGMA application_id = {_APPLICATION}; COMMIT;")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or patience is None:
                    raise
                time.sleep(patience)
            else:
                return

    def _shrink(self, database: sqlite3.Connection, now: float) -> None:
        """Drops what is out of date and then the oldest tenths until the file's used pages are within the bound."""
        if self._used(database) <= self.max_bytes:
            return
        with database:
            database.execute("DELETE FROM entries WHERE expires <= ?", (now,))
        while self._used(database) > self.max_bytes * 0.9:
            with database:
                count = database.execute("SELECT count(*) FROM entries").fetchone()[0]
                oldest = "SELECT key FROM entries ORDER BY stored LIMIT ?"
                database.execute(f"DELETE FROM entries WHERE key IN ({oldest})", (max(1, count // 10),))
            if count <= 1:
                return

    def _used(self, database: sqlite3.Connection) -> int:
        """Bytes of the pages in use; free ones are written again before the file grows."""
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _put_aside(self, error: Exception) -> None:
        """Renames a damaged file and begins a new one, so that nothing of it is lost to whoever wants to look at it."""
        aside = self.path.with_name(f"{_FILE}.damaged")
        text = f"the cache {self.path} is damaged ({error}); it is put aside as {aside.name}, and a new one begun"
        warnings.warn(text, RuntimeWarning, stacklevel=4)
        with self._lock, suppress(OSError, sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            if self._file == _identity(self.path):  # else another process has done it
                self.path.replace(aside)
                for ending in ("-wal", "-shm"):
                    self.path.with_name(_FILE + ending).unlink(missing_ok=True)
            self._open()


def _is_damage(error: Exception) -> bool:
    if isinstance(error, sqlite3.DatabaseError):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF not in _PASSING
    return isinstance(error, UnicodeDecodeError)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _checksum(key: str, value: Any) -> bytes:
    """Of an entry: the value of another key is as wrong as a changed one."""
    content = value if isinstance(value, bytes) else b""
    return hashlib.blake2b(content, key=hashlib.sha256(key.encode()).digest(), digest_size=16).digest()
