"""Fails when a file names a place that exists only on one machine, such as someone's home folder."""

from __future__ import annotations

import re
import sys

from sources import tracked

# A path that starts a word: /home/<name>/…, not a URL's or a longer path's own folder of that name.
MACHINE_PATH = re.compile(rb"(?<![\w./-])/(?:home|root|work|Users)/\w")


def main() -> int:
    found = 0
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content:
            continue  # not text
        for number, line in enumerate(content.splitlines(), start=1):
            if MACHINE_PATH.search(line):
                print(f"{path}:{number}: {line.decode(errors='replace').strip()}")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
