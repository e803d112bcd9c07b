"""Fails when a source file exceeds its language's limit: a longer one holds two ideas and wants splitting."""

from __future__ import annotations

import sys
from pathlib import Path

from sources import tracked

LIMITS = {".py": 400, ".cpp": 600, ".h": 600, ".cu": 600}


def main() -> int:
    too_long = 0
    for path in tracked(*LIMITS):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        limit = LIMITS[Path(path).suffix]
        if lines > limit:
            print(f"{path}: {lines} lines, {limit} allowed")
            too_long += 1
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
