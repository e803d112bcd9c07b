"""Lists the files of the repository; what git ignores (build products, the virtual environment) is no part of it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def tracked(*suffixes: str) -> list[Path]:
    """Paths relative to the repository's root, which must be the working folder; all files when no suffix is given.

    New files that git does not ignore count too, so that a check says before a commit what it would say after.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    paths = sorted({Path(name) for name in names if name})
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]
